"""What is in the archive as it is: the script that is run on the other machine, and what it looks for there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.lstmc_caffe.runtime.pythons import script
from tools.bundle.make import CARRIED

CHECK, FIND = CARRIED / "gpu_check.sh", CARRIED / "find_cuda.py"


def run(*command: object, path: str = "/usr/bin:/bin") -> tuple[int, str]:
    ended = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={"PATH": path, "LD_LIBRARY_PATH": "/theirs"},
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_check_runs_lstmc_and_names_the_bundle_s_caffe(tmp_path: Path) -> None:
    body = f'case "$1" in {FIND}) echo /cuda/lib ;; *) echo "$@"; env | grep -E "^(LSTMC|LD_|PYTHON)" | sort ;; esac'
    python = script(tmp_path / "python", body)
    status, output = run(CHECK, python, "-o", "a page.md")
    assert (status, output.splitlines()) == (
        0,
        [
            "-m tools.gpu_check -o a page.md",
            "LD_LIBRARY_PATH=/theirs",
            f"LSTMC_BUNDLE_LIBRARIES={CARRIED}/lib:/cuda/lib",
            f"LSTMC_BUNDLE_PYTHON={python}",
            f"LSTMC_CAFFE_PYTHON={CARRIED}/pycaffe_python.sh",
            f"LSTMC_CAFFE_PYTHONPATH={CARRIED}/python:{CARRIED}/placeholders:{CARRIED}/site",
            "PYTHONDONTWRITEBYTECODE=1",
            f"PYTHONPATH={CARRIED}/site",
        ],
    )


def test_pycaffe_alone_has_the_bundle_s_libraries_before_the_system_s(tmp_path: Path) -> None:
    python = script(tmp_path / "python", 'echo "$LD_LIBRARY_PATH" "$@"')
    bundle = {"LSTMC_BUNDLE_LIBRARIES": "/bundle/lib:/cuda", "LSTMC_BUNDLE_PYTHON": str(python)}
    command = [str(CARRIED / "pycaffe_python.sh"), "worker.py", "4242"]
    for theirs, expected in (({}, ""), ({"LD_LIBRARY_PATH": "/theirs"}, ":/theirs")):
        ended = subprocess.run(command, env={"PATH": "/bin", **bundle, **theirs}, capture_output=True, text=True)
        assert ended.stdout == f"/bundle/lib:/cuda{expected} worker.py 4242\n"


def test_its_exit_code_is_the_check_s(tmp_path: Path) -> None:
    assert run(CHECK, script(tmp_path / "python", 'test "$1" != -m')) == (1, "")


def test_python_3_12_is_looked_for(tmp_path: Path) -> None:
    script(tmp_path / "python3.12", 'test "$1" = -m && echo found || echo /cuda/lib')
    assert run(CHECK, path=f"{tmp_path}:/usr/bin:/bin") == (0, "found\n")


def test_no_python_3_12(tmp_path: Path) -> None:
    assert run(CHECK, tmp_path / "absent") == (
        2,
        f"gpu_check.sh: there is no {tmp_path}/absent: give the path of a Python 3.12,"
        " as in ./gpu_check.sh /opt/python3.12/bin/python3\n",
    )


def test_what_the_machine_lacks_is_said_and_nothing_is_run(tmp_path: Path) -> None:
    body = 'test "$1" = -m && echo checked; echo "it lacks: all"; exit 2'
    assert run(CHECK, script(tmp_path / "python", body)) == (2, "it lacks: all\n")


def find_cuda(version: tuple[int, int], *folders: Path) -> tuple[int, str]:
    """find_cuda.py as a Python of that version runs it, which has its own library and ``folders`` alone."""
    own = [entry for entry in sys.path if entry and "site-packages" not in entry and not entry.startswith(os.getcwd())]
    code = (
        f"import runpy, sys\n"
        f"sys.version_info, sys.version = {(*version, 0)}, '{version[0]}.{version[1]}.0 of'\n"
        f"sys.executable, sys.path[:] = 'python', {[*map(str, folders), *own]}\n"
        f"runpy.run_path({str(FIND)!r}, run_name='__main__')"
    )
    return run(sys.executable, "-S", "-c", code)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages with all that is needed."""
    for name in ("numpy/__init__.py", "google/protobuf/__init__.py", "nvidia/cu13/lib/libcublas.so.13"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "nvidia/cu13/lib/libcublasLt.so.13").touch()
    (tmp_path / "nvidia/curand/lib").mkdir(parents=True)
    (tmp_path / "nvidia/curand/lib/libcurand.so.10").touch()
    return tmp_path


def test_the_folders_of_cuda_s_libraries(site: Path) -> None:
    assert find_cuda((3, 12), site) == (0, f"{site}/nvidia/cu13/lib:{site}/nvidia/curand/lib\n")


def test_an_emulated_device_brings_its_libraries(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "lib").mkdir()
    (site / "lib/libcublas.so.13").touch()
    (site / "find_cuda.py").write_text(FIND.read_text())
    shutil.rmtree(site / "nvidia")
    monkeypatch.setattr("tests.tools.bundle.test_bundle_carried.FIND", site / "find_cuda.py")
    assert find_cuda((3, 12), site) == (0, "\n")


def test_what_is_missing_is_named_with_the_command_that_brings_it(tmp_path: Path) -> None:
    assert find_cuda((3, 12), tmp_path) == (
        2,
        "python lacks:\n"
        "  numpy: pip install numpy\n"
        "  google.protobuf: pip install protobuf\n"
        "  libcublas.so.13: pip install 'nvidia-cublas==13.*'\n"
        "  libcublasLt.so.13: pip install 'nvidia-cublas==13.*'\n"
        "  libcurand.so.10: pip install 'nvidia-curand==10.4.*'\n",
    )


def test_another_python_is_refused(site: Path) -> None:
    assert find_cuda((3, 13), site) == (2, "python is Python 3.13.0: expected 3.12, which pycaffe is built for here\n")
