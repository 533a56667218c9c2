"""What goes into the bundle, and the tools it is looked up with, which only pretend here."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lstmc_caffe.install.system import InstallError
from tests.tools.bundle.programs import Programs
from tools.bundle import boost_python, libraries, packages, python312


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path / "programs", monkeypatch)


# the Python ----------------------------------------------------------------------------------------------------------


def test_the_first_python_3_12_that_runs_is_taken(programs: Programs, tmp_path: Path) -> None:
    shim, other = programs.add("shim", "exit 127"), programs.add("python3.11", "echo 3.11")
    right = programs.add("python3.12", "echo 3.12")
    assert python312.find(None, [tmp_path / "absent", shim, other, right]) == right
    assert python312.find(str(right), []) == right
    assert python312.candidates()[0] == right


def test_without_a_python_3_12(programs: Programs) -> None:
    with pytest.raises(InstallError) as caught:
        python312.find(None, [programs.add("python3.12", "exit 127")])
    assert str(caught.value) == (
        "InstallError: the bundle is for Python 3.12, and there is none here\n"
        "  give the path of one, with its headers: --python /path/to/python3.12"
    )


@pytest.mark.parametrize(("body", "found"), [("echo 3.13", "3.13"), ("exit 1", "none that runs")])
def test_a_given_python_must_be_one(programs: Programs, body: str, found: str) -> None:
    python = programs.add("python", body)
    with pytest.raises(InstallError) as caught:
        python312.find(str(python), [programs.add("python3.12", "echo 3.12")])
    assert str(caught.value) == f"InstallError: --python {python}: expected a Python 3.12, found {found}"


def test_a_python_without_headers_is_refused(programs: Programs, tmp_path: Path) -> None:
    answer = f'{{"executable": "/python", "version": "3.12", "includes": ["{tmp_path}/include"]}}'
    own = programs.add("own", f"test \"$1\" = -m || echo '{answer}'")  # -m is pip's
    python = programs.add("python3.12", f'mkdir -p "$3/bin" && cp {own} "$3/bin/python"')
    with pytest.raises(InstallError) as caught:
        python312.prepare(python, tmp_path / "environment")
    assert str(caught.value) == f"InstallError: {python} has no headers: expected Python.h in {tmp_path}/include"


# Boost.Python --------------------------------------------------------------------------------------------------------


def test_the_source_package_is_that_of_the_installed_boost(programs: Programs) -> None:
    programs.add("dpkg-query", "echo 'not-installed boost1.81=1.81-1'; echo 'installed boost1.83=1.83.0-4'")
    assert boost_python.source_package() == "boost1.83=1.83.0-4"
    programs.add("dpkg-query", "echo 'not-installed ='")
    with pytest.raises(InstallError) as caught:
        boost_python.source_package()
    assert str(caught.value) == "InstallError: Boost.Python is not installed: expected libboost-python-dev"


def test_source_packages_come_from_where_binary_ones_do(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/debian.sources").write_text("Types: deb\nURIs: mirror\n\nTypes: deb\nURIs: other\n")
    log, folder = tmp_path / "log", tmp_path / "boost"
    programs.add("apt-get", f'echo "$@" >> {log}; case "$*" in *source*) touch boost_1.orig.tar.xz ;; esac')
    folder.mkdir()
    assert boost_python.fetch("boost1.83=1", folder, tmp_path / "etc") == folder / "boost_1.orig.tar.xz"
    assert (folder / "sources/debian.sources").read_text() == (
        "Types: deb-src\nURIs: mirror\n\nTypes: deb-src\nURIs: other\n"
    )
    update, source = log.read_text().splitlines()
    assert update.endswith(f"-o Dir::State::Lists={folder}/lists -o APT::Sandbox::User=root -qq update")
    assert source.endswith("source --download-only boost1.83=1")


def test_a_source_package_without_an_archive(programs: Programs, tmp_path: Path) -> None:
    programs.add("apt-get", "exit 0")
    with pytest.raises(InstallError) as caught:
        boost_python.fetch("boost1.83=1", tmp_path, tmp_path)
    assert str(caught.value) == (f"InstallError: expected one source archive of boost1.83=1 in {tmp_path}, found 0")


def archive(folder: Path, *names: str) -> Path:
    path = folder / "boost.orig.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len("int one;")
            tar.addfile(member, io.BytesIO(b"int one;"))
    return path


def test_only_boost_python_itself_is_unpacked(tmp_path: Path) -> None:
    inside = "boost/libs/python/src"
    names = [f"{inside}/list.cpp", f"{inside}/object/class.cpp", boost_python.LICENCE]
    unwanted = [f"{inside}/numpy/dtype.cpp", f"{inside}/fabscript", "boost/libs/regex/src/regex.cpp"]
    found = boost_python.unpack(archive(tmp_path, *names, *unwanted), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == names[:2]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "boost").rglob("*.*")) == sorted(names)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InstallError) as caught:
        boost_python.unpack(archive(tmp_path, "other/file"), tmp_path)
    assert str(caught.value) == "InstallError: boost.orig.tar.xz holds no sources of Boost.Python"


def test_boost_python_is_compiled_against_the_other_python(programs: Programs, tmp_path: Path) -> None:
    programs.add("g++", f'echo "$@" >> {tmp_path}/log')
    found = boost_python.compile_sources([Path("a/list.cpp"), Path("b/list.cpp")], ["/3.12"], tmp_path / "o", 1)
    assert [path.name for path in found] == ["00-list.o", "01-list.o"]  # two sources may have one name
    first = (tmp_path / "log").read_text().splitlines()[0]
    assert first.endswith(f"-DBOOST_PYTHON_STATIC_LIB -I/3.12 -c a/list.cpp -o {tmp_path}/o/00-list.o")


# shared libraries ----------------------------------------------------------------------------------------------------

LDD = """cat <<'E'
	linux-vdso.so.1 (0x00007ffd)
	libglog.so.1 => /usr/lib/libglog.so.1 (0x00007f01)
	libcudart.so.13 => /build/cuda/libcudart.so.13 (0x00007f02)
	libcublas.so.13 => /build/cuda/libcublas.so.13 (0x00007f03)
	libstdc++.so.6 => /usr/lib/libstdc++.so.6 (0x00007f04)
	libc.so.6 => /usr/lib/libc.so.6 (0x00007f05)
	libcrypto.so.3 => /usr/lib/libcrypto.so.3 (0x00007f06)
	/lib64/ld-linux-x86-64.so.2 (0x00007f07)
E"""


def test_libraries_that_every_system_has_and_nvidia_s_large_ones_are_left_out(programs: Programs) -> None:
    programs.add("ldd", LDD)
    assert libraries.needed(Path("libcaffe.so")) == {
        "libglog.so.1": Path("/usr/lib/libglog.so.1"),
        "libcudart.so.13": Path("/build/cuda/libcudart.so.13"),
        "libcrypto.so.3": Path("/usr/lib/libcrypto.so.3"),
    }


def test_a_library_that_is_not_there(programs: Programs) -> None:
    programs.add("ldd", "echo '  libglog.so.1 => not found'")
    with pytest.raises(InstallError) as caught:
        libraries.needed(Path("libcaffe.so"))
    assert str(caught.value) == "InstallError: libcaffe.so needs libglog.so.1, which is not found"


def test_libraries_are_copied_under_the_name_they_are_looked_for_by(tmp_path: Path) -> None:
    (tmp_path / "libopenblasp-r0.so").write_text("blas")
    (tmp_path / "libopenblas.so.0").symlink_to("libopenblasp-r0.so")
    (tmp_path / "lib").mkdir()
    libraries.copy({"libopenblas.so.0": tmp_path / "libopenblas.so.0"}, tmp_path / "lib")
    assert not (tmp_path / "lib/libopenblas.so.0").is_symlink()
    assert (tmp_path / "lib/libopenblas.so.0").read_text() == "blas"


def test_a_library_without_a_licence_is_not_carried(programs: Programs, tmp_path: Path) -> None:
    programs.add("dpkg-query", "echo 'no-such-package:amd64: /usr/lib/libone.so.1'")
    with pytest.raises(InstallError) as caught:
        libraries.copy_licences([Path("/usr/lib/libone.so.1")], tmp_path)
    assert str(caught.value) == (
        "InstallError: no-such-package, which libone.so.1 is from, has no /usr/share/doc/no-such-package/copyright"
    )


def test_the_newest_glibc_that_is_needed_counts(programs: Programs, tmp_path: Path) -> None:
    programs.add(
        "readelf", 'case "$3" in *new*) echo "Name: GLIBC_2.39 Flags"; echo GLIBC_2.4 ;; *) echo GLIBC_2.9 ;; esac'
    )
    assert libraries.check_glibc([tmp_path / "old.so", tmp_path / "new.so"]) == "2.39"
    programs.add("readelf", "echo GLIBC_2.41; echo GLIBCXX_3.4.40")
    with pytest.raises(InstallError) as caught:
        libraries.check_glibc([tmp_path / "new.so"])
    assert str(caught.value) == "InstallError: new.so needs glibc 2.41: expected at most 2.39"


# packages ------------------------------------------------------------------------------------------------------------


def test_the_project_is_the_checkout_that_makes_the_bundle() -> None:
    assert (packages.project_folder() / "tools/bundle/packages.py").is_file()


def test_an_installed_package_makes_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "tools/bundle/packages.py"))
    with pytest.raises(InstallError) as caught:
        packages.project_folder()
    assert str(caught.value) == (
        f"InstallError: the bundle is made in a checkout of lstmc: there is no pyproject.toml in {tmp_path}"
    )


def test_only_what_the_check_imports_is_carried(tmp_path: Path, programs: Programs) -> None:
    wheel = tmp_path / "lstmc-1.0-py3-none-any.whl"
    metadata = "Name: lstmc\n" + "".join(
        f"Requires-Dist: {text}\n"
        for text in ("numpy>=1", "networkx<4,>=3.2", "jinja2", "pydantic>=2", "rich", 'jinja2-x; extra == "x"')
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lstmc-1.0.dist-info/METADATA", metadata)
    python = programs.add("python", f'echo "$@" >> {tmp_path}/log; mkdir -p {tmp_path}/site/bin {tmp_path}/site/jinja2')
    packages.install_into(tmp_path / "site", wheel, python)
    alone, whole = (tmp_path / "log").read_text().splitlines()
    assert alone.endswith(f"--target {tmp_path}/site --no-deps {wheel} networkx<4,>=3.2 jinja2 markupsafe six")
    assert whole.endswith(f"--target {tmp_path}/site pydantic>=2")
    assert "--no-deps" not in whole  # its core is of one version
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["jinja2"]


@pytest.mark.slow
def test_the_check_imports_nothing_that_the_bundle_lacks() -> None:
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "before = set(sys.modules)\n"
        "import tools.gpu_check.__main__, lstmc_caffe.train.net\n"  # the latter is imported when a net is trained
        "found = {name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names\n"
        "print(*sorted(name for name in found if not name.startswith('_')))"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    ours, there = {"lstmc", "lstmc_caffe", "tools"}, {"numpy", "google", "cython_runtime"}
    theirs = {"markupsafe", "annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"}
    assert set(found) - ours - there == {*packages.NEEDED, *theirs}
