"""The readers that lstmc brings, each by an entry point of the group ``lstmc_caffe.readers``, and how any is found."""

from __future__ import annotations

from lstmc.plugins import load_point, malformed, offered, the_one
from lstmc_caffe.readers.reader import PROGRAMS, Reader, Stage

GROUP = "lstmc_caffe.readers"

OPENCV = Reader(
    name="opencv",
    title="OpenCV 4 DNN",
    target="opencv",
    stages=(Stage(PROGRAMS / "opencv.py"),),
    install="python -m pip install 'lstmc[opencv]'",
)
MNN = Reader(
    name="mnn",
    title="MNN",
    target="mnn",
    stages=(Stage(PROGRAMS / "mnn.py"),),
    install="python -m pip install 'lstmc[mnn]'",
)


def reader_names() -> tuple[str, ...]:
    """The names of all readers that are offered."""
    return tuple(offered(GROUP))


def load_reader(name: str) -> Reader:
    """A reader by its name. Raises :class:`PluginError` if there is none of that name, or two, or it is none."""
    point = the_one(GROUP, name, "reader")
    found = load_point(point, "reader")
    if not isinstance(found, Reader):
        raise malformed(point, "reader", "a lstmc_caffe.readers.reader.Reader", repr(found))
    if found.name != name:
        raise malformed(point, "reader", f"one of that name, {name}", f"one called {found.name}")
    return found
