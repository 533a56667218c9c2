"""A compiled net: its graph, its files, and running it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lstmc.api import low_precision, running
from lstmc.api.models import ModelSource
from lstmc.api.options import CompileOptions
from lstmc.backend import Artifact, Backend, Compiled, Layer
from lstmc.drawing import drawing
from lstmc.errors import BackendError, OutputError
from lstmc.files.arrays import AnyArray, read_arrays
from lstmc.files.output import write_files
from lstmc.ir import Graph, Scan
from lstmc.nets import comparison
from lstmc.nets.session import Interpreted, Stream, by_name, check_inputs
from lstmc.numerics import device
from lstmc.ops import Array, Input
from lstmc.passes import RollUp, convex_updates, numbered, place_of
from lstmc.process.status import report_activity
from lstmc.text import did_you_mean
from lstmc.verification import native
from lstmc.weights import parameters, random_weights

if TYPE_CHECKING:
    from lstmc.api.running import On, Verification
    from lstmc.data import Data
    from lstmc.drawing.drawing import Drawing
    from lstmc.files.json_file import Shape
    from lstmc.nets.session import Arrays
    from lstmc.nets.tune import Tuning
    from lstmc.numerics.effects import NumbersReport
    from lstmc.numerics.ranges import Ranges

# what models of PyTorch and Keras have, and what it is here
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("predict", "forward"), "net.run(array), or net.run(NAME=array) for several inputs"),
    "summary": "print(net), or net.layers for a table in a notebook; lstmc report FILE is a page about a net",
    "evaluate": "net.verify()",
    "fit": "lstmc.train(model, data, out=FOLDER)",
    **dict.fromkeys(("parameters", "state_dict", "get_weights"), "net.weights"),
    "export": "net.save(FOLDER)",
}
DRAWN = "the model's parameters are drawn by seed {seed}: give the weights of the net, if it was compiled with some"
NET_SUFFIXES = (".onnx", ".prototxt", ".caffemodel")  # of paths that name a net's file, and no folder


@dataclass(frozen=True, eq=False)
class Net:
    """A model compiled for a target, the result of :func:`lstmc.compile`. In a notebook a net shows its layers.
    ``graph`` is the whole model, ``compiled`` the result of the passes, ``weights`` the values of its parameters,
    ``artifact`` has the files of the backend, ``options`` are those of compiling.

    >>> import lstmc
    >>> net = lstmc.compile("rnn", T=2, N=1, D=3, H=3)
    >>> print(net)
    rnn for caffe: 10 layers, 3 parameters, 21 weights
    """

    source: ModelSource
    graph: Graph
    backend: Backend
    compiled: Compiled
    weights: Mapping[str, Array]
    artifact: Artifact
    tuning: Tuning | None = None
    options: CompileOptions = field(default_factory=CompileOptions)

    @classmethod
    def from_compiled(
        cls,
        source: ModelSource,
        graph: Graph,
        backend: Backend,
        compiled: Compiled,
        weights: Mapping[str, Array],
        tuning: Tuning | None = None,
        options: CompileOptions | None = None,
    ) -> Net:
        """Write a compiled model by its backend, and return the net; ``weights`` may have further parameters."""
        bound = {name: weights[name] for name in parameters(compiled.model)}
        report_activity(f"writing {compiled.name} for {compiled.target}")
        artifact = backend.emit(compiled, bound)
        return cls(source, graph, backend, compiled, bound, artifact, tuning, options or CompileOptions())

    @property
    def name(self) -> str:
        """The name of its files, without suffixes."""
        return self.compiled.name

    @property
    def target(self) -> str:
        """The target that it was compiled for."""
        return self.compiled.target

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files that :meth:`save` writes: contents by file name."""
        return self.artifact.files

    @property
    def inputs(self) -> dict[str, Shape]:
        """The shapes of the inputs, by the model's names."""
        return dict(Interpreted(self.compiled, self.weights).inputs)

    @property
    def outputs(self) -> dict[str, Shape]:
        """The shapes of the outputs, by the model's names."""
        return dict(Interpreted(self.compiled, self.weights).outputs)

    @property
    def prototxt(self) -> str:
        """The net as text, in Caffe's format. Raises :class:`BackendError` for a backend that writes no prototxt.

        >>> import lstmc
        >>> lstmc.compile("rnn", T=2, N=1, D=3, H=3).prototxt.count('type: "TanH"')
        2
        """
        content = self.files.get(f"{self.name}.prototxt")
        if content is None:
            raise BackendError(f"backend {self.backend.name} writes no prototxt: found {', '.join(self.files)}")
        return content.decode()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the written net in order: name, type, bottoms, tops, and the tops' shapes.

        >>> import lstmc
        >>> layer = lstmc.compile("rnn", T=2, N=1, D=3, H=3).layers[0]
        >>> layer.name, layer.type, layer.tops, layer.shapes
        ('x', 'Input', ('x',), ((2, 1, 3),))
        """
        return self.backend.layers(self.files[self.artifact.net])

    @property
    def passes(self) -> tuple[str, ...]:
        """The names of the passes that it went through, for :meth:`after` and ``compile(passes=...)``."""
        return tuple(numbered([snapshot.pass_name for snapshot in self.compiled.history[1:]]))

    @property
    def numbers_changes(self) -> Mapping[str, int]:
        """The number of uses of each rule that rewrote the net for ``options.numbers``; empty without this option."""
        done = [snapshot.counts for snapshot in self.compiled.history if snapshot.pass_name == convex_updates.name]
        return {} if self.options.numbers is None else {rule: n for counts in done for rule, n in counts.items()}

    @property
    def rolled_up(self) -> Mapping[str, int]:
        """The scans found in steps that the model writes out one by one, with their number of steps."""
        model, *passes = self.compiled.history
        written = {node.name for node in model.graph}
        rolled = [node for each in passes if each.pass_name == RollUp.name for node in each.graph]
        scans = [node.op for node in rolled if node.name not in written and isinstance(node.op, Scan)]
        return {scan.body.name: scan.length for scan in scans}

    def save(self, folder: str | Path = ".") -> list[Path]:
        """Write its files into a folder, which is created if missing: all of them, or none if a file cannot be written.
        A path such as ``x.onnx``, for a net of ONNX, or ``x.prototxt``, for a net of Caffe, names the net's own file;
        the others are written beside it, as ``x.manifest.json``. Raises :class:`~lstmc.errors.OutputError`.

        >>> import lstmc, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(path.name for path in lstmc.compile("rnn", T=2, N=1, D=3, H=3).save(folder))
        ['rnn.caffemodel', 'rnn.manifest.json', 'rnn.prototxt']
        """
        path = Path(folder)
        if path.suffix not in NET_SUFFIXES or path.is_dir():
            return write_files(path, dict(self.files))
        if path.suffix != Path(self.artifact.net).suffix:
            other = 'compile it with backend="onnx", or ' if path.suffix == ".onnx" else ""
            raise OutputError(
                f"{path}: a net of backend {self.backend.name} is {', '.join(self.files)}",
                notes=[f"{other}give a folder"],
            )
        named = {f"{path.stem}{name.removeprefix(self.name)}": content for name, content in self.files.items()}
        return write_files(path.parent, named)

    def built(self, files: Mapping[str, bytes] | None = None) -> Mapping[str, bytes]:
        """Build the library of generated layers for this machine, and return it by file name; empty for other nets.
        ``files`` can be a variant of the net's files, such as the one for training. Raises
        :class:`~lstmc.errors.BackendError` with the missing requirement and the command to install it.

        >>> import lstmc
        >>> lstmc.compile("rnn", T=2, N=1, D=3, H=3).built()
        {}
        """
        return self.backend.built(self.files if files is None else files)

    def example(self, language: str) -> Mapping[str, bytes]:
        """Return a short program, by file name, that runs a net compiled with ``step=True`` on a stream and keeps its
        states. It does not need lstmc. ``"python"`` and ``"cpp"`` are for the runtime that reads the target's nets. For
        a net in C that reads spectra, ``"wav:rate=16000,frame=512,hop=256"`` is a program for sound. Raises
        :class:`~lstmc.errors.BackendError` for a language or a target without a program.

        >>> import lstmc
        >>> net = lstmc.compile("rnn", T=9, N=1, D=3, H=3, step=True, target="opencv")
        >>> list(net.example("python"))
        ['rnn_stream.py']
        """
        return self.backend.example(self.compiled, self.artifact, language)

    def verify(
        self,
        on: On | None = None,
        seed: int = 0,
        *,
        inputs: Data | None = None,
        fillers: bool = False,
        prove: bool = False,
        net: str | Path | None = None,
    ) -> Verification:
        """Run the net forward and backward on random inputs, and compare all results with the float64 interpreter.

        ``on`` is one runtime or several: ``interpreter``, ``caffe-cpu`` (or ``caffe``), ``caffe-gpu``, ``native``,
        which compiles generated layers for this machine, and other programs that read nets, such as ``opencv``, whose
        outputs are compared. By default all available ones of the first three run; ``verification.not_run`` has the
        reasons for the rest. A net with dropouts that is trained also runs in training mode. Parameters are random,
        distinct and not zero, unless their values were given to :func:`lstmc.compile`, or ``fillers`` requests the
        values that the net was written with. ``inputs`` are arrays by name, or a file of them; missing inputs are drawn
        from their domains. With ``prove``, ``verification.proof`` has the outputs and gradients of the compiled graph
        that are proved equal to the model's, for all real inputs. With ``net``, the path of a written net, its files
        are compared with the files of this net, by layer and by weight; if they agree, the written net is run. Raises
        :class:`BackendError` for a named runtime that cannot be used, and :class:`DataError` for inputs that do not
        fit.

        >>> import lstmc
        >>> print(lstmc.compile("rnn", T=2, N=1, D=3, H=3).verify(on=["interpreter"]))
        interpreter: all 18 agree
        >>> lstmc.compile("rnn", T=2, N=1, D=3, H=3).verify(on=["interpreter"], prove=True).proof.proved
        True
        """
        arrays = None if inputs is None else self._some_inputs(inputs)
        weights, artifact, where = self.weights, self.artifact, running.places(self.backend, on)
        if net is not None:
            files = comparison.check_files(Path(net), self.backend, self.compiled, weights)
            if self.options.weights is None and any(d.kind == "weight" and not d.passed for d in files.differences):
                files = replace(files, remarks=(*files.remarks, DRAWN.format(seed=self.options.seed)))
            if not files.passed:
                return running.Verification((files,), {"net": "files that differ are not run"})
            artifact = replace(artifact, files=dict(files.found))
        elif self.options.weights is None and not fillers:
            weights = random_weights(self.compiled.model, seed)
            artifact = self.backend.emit(self.compiled, weights)
        runs = running.verification(self.backend, self.compiled, artifact, weights, where, seed, arrays, prove)
        return runs if net is None else replace(runs, reports=(files, *runs.reports))

    def run(
        self, inputs: Arrays | NDArray[Any] | None = None, /, *, on: On | None = None, **named: NDArray[Any]
    ) -> dict[str, Array]:
        """Run one forward pass, and return the outputs by name, in the model's shapes. Inputs are given by name,
        ``net.run(X=x)``, or as a mapping; a single input may be a plain array. ``on`` is ``caffe-cpu`` (the default),
        ``caffe-gpu``, ``interpreter``, which needs no Caffe and computes in float64, or ``native``, which compiles the
        generated layers of target ``caffe-fused`` for this machine. An input with a fill may be left out. Raises
        :class:`~lstmc.errors.DataError` that names everything that does not fit.

        >>> import lstmc, numpy as np
        >>> net = lstmc.compile("rnn", T=2, N=1, D=3, H=3)
        >>> net.run(x=np.zeros((2, 1, 3)), on="interpreter")["y"].shape
        (2, 1, 3)
        """
        arrays = by_name(inputs, named, lambda: self.inputs)
        if (here := self._in_process(on)) is not None:
            return here.run(arrays)
        gpu = running.is_gpu(self.backend, on)
        with self._saved() as path:
            return self.backend.run(path, arrays, None, gpu)

    def ranges(self, data: Data, *, batch: str | None = None, snapshot: str | Path | None = None) -> Ranges:
        """Stream sequences through its net of one step in the interpreter, and return the range of every value.
        ``data`` are arrays by name, or a file of them: for each input over time [T, N, ...] with any number of steps T
        and of sequences N, a file also larger than memory if it is HDF5. ``batch`` is the dimension that counts
        sequences, by default N. With ``snapshot``, a file, the measurement is saved there from time to time, and a call
        after an interruption continues it. Raises :class:`~lstmc.errors.DataError` that names everything that does not
        fit.

        >>> import lstmc, numpy as np
        >>> net = lstmc.compile("rnn", T=2, N=1, D=3, H=3)
        >>> ranges = net.ranges({"x": np.ones((7, 5, 3), np.float32)})
        >>> ranges["x"].greatest, ranges["rnn/t000/h"].kind, ranges["rnn/h change"].percentiles[50.0] < 1
        (1.0, 'state', True)
        """
        ranges = self._streamed(data, batch).ranges(None if snapshot is None else Path(snapshot))
        assert ranges is not None, "nothing asked to stop"
        return ranges

    def verify_numbers(
        self,
        numbers: str,
        data: Data,
        *,
        calibration: Data | None = None,
        batch: str | None = None,
        reader: str | None = None,
    ) -> NumbersReport:
        """Simulate its net of one step in lower precision, and return the errors against float32 and their causes.
        ``numbers`` is ``int8``, ``a8w8``, ``a16w8``, ``int16``, ``fp16``, ``bf16``, the format of a device such as
        ``rknn-int8``, or the path of a description (docs/numbers.md). ``data`` has the form of :meth:`ranges`;
        ``calibration`` are other data, on which ranges are measured. With ``reader``, the first four sequences are also
        run in that program, by its own quantiser. Raises :class:`~lstmc.errors.BackendError` for unknown numbers and
        for a reader that is not installed or fails, and :class:`~lstmc.errors.DataError` for data that do not fit.

        >>> import lstmc, numpy as np
        >>> net = lstmc.compile("gru", T=2, N=1, D=3, H=3, target="flat")
        >>> data = {"x": np.random.default_rng(0).standard_normal((40, 2, 3))}
        >>> net.verify_numbers("fp16", data).error < net.verify_numbers("int8", data).error
        True
        """
        of = device.read_device(numbers) if reader is None else device.device_of(numbers, reader)
        streamed = self._streamed(data, batch)
        ranged = streamed if calibration is None else self._streamed(calibration, batch)
        return streamed.numbers(of, ranged, in_reader=reader is not None)

    def _streamed(self, data: Data, batch: str | None) -> low_precision.StreamedModel:
        options = replace(self.options, target=self.target)
        return low_precision.StreamedModel.from_data(self.source, self.backend, options, self.weights, data, batch)

    @contextmanager
    def stream(self, on: On | None = None) -> Iterator[Stream]:
        """Run a net compiled with ``step=True`` step by step; its states are kept between steps.

        >>> import lstmc, numpy as np
        >>> net = lstmc.compile("rnn", T=9, N=1, D=3, H=3, step=True)
        >>> with net.stream(on="interpreter") as step:
        ...     outputs = [step(x=np.ones((1, 1, 3)))["y"] for _ in range(4)]
        >>> len(outputs), outputs[0].shape
        (4, (1, 1, 3))
        """
        if (here := self._in_process(on)) is not None:
            yield Stream(here)
            return
        gpu = running.is_gpu(self.backend, on)
        with self._saved() as path, Stream(self.backend.opened(path, None, gpu)) as step:
            yield step

    def after(self, name: str) -> Graph:
        """Return the graph after a pass; ``cse:2`` is the second run of a pass that runs several times, ``cse`` the
        last. ``print_graph`` of :mod:`lstmc.ir` prints it.

        >>> import lstmc
        >>> len(lstmc.compile("rnn", T=2, N=1, D=3, H=3).after("dead:1"))
        6
        """
        history = self.compiled.history
        if name == history[0].pass_name:
            return history[0].graph
        return history[1 + place_of([snapshot.pass_name for snapshot in history[1:]], name)].graph

    def draw(self, *, rolled: bool = False, after: str | None = None, steps: int | None = None) -> Drawing:
        """Return the net as a picture: time goes across and a step's layers down. ``rolled``: the model before the
        passes, with the body of each scan once. ``after``: the graph after a pass, with a name as for :meth:`after`.
        For a scan with more than ``steps + 1`` steps (by default a few), only ``steps`` steps are drawn, half of them
        from each end. Raises :class:`~lstmc.errors.DrawingError` without Graphviz, which ``pip install 'lstmc[draw]'``
        brings.

        >>> import lstmc
        >>> drawing = lstmc.compile("rnn", T=50, N=1, D=3, H=3).draw()
        >>> [box.text for box in drawing.picture.boxes if "more steps" in box.title]
        ['t = 2 to 47, not drawn']
        >>> drawing.svg.count("<svg"), drawing.png[1:4]
        (1, b'PNG')
        """
        graph = self.compiled.model if rolled else self.compiled.expanded
        drawn, draw = graph if after is None else self.after(after), drawing.Drawing.from_graph
        return draw(drawn) if steps is None else draw(drawn, steps)

    def __str__(self) -> str:
        count = sum(array.size for array in self.weights.values())
        layers = f"{self.artifact.layers} layers, {len(self.weights)} parameters, {count:,} weights"
        return f"{self.name} for {self.target}: {layers}"

    def __repr__(self) -> str:
        return f"<lstmc.Net {self}>"

    if not TYPE_CHECKING:  # type checkers report an unknown name themselves

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property that raised an AttributeError itself
                return object.__getattribute__(self, name)
            elsewhere = ELSEWHERE.get(name)
            rest = f": write {elsewhere}" if elsewhere else did_you_mean(name, dir(self))
            raise AttributeError(f"a Net has no attribute {name!r}{rest}", name=name, obj=self)

        def __call__(self, *inputs: object, **named: object) -> NoReturn:
            raise TypeError(f"a Net is not called: write {ELSEWHERE['predict']}")

    def _repr_html_(self) -> str:
        return running.layers_html(str(self), self.layers)

    def _in_process(self, on: On | None) -> Interpreted | None:
        """Return the net as it runs in this process, or None if the backend's program runs it."""
        runtime = running.one_place(self.backend, on)
        if runtime not in running.IN_PROCESS:
            return None
        model, expanded = self.compiled.model, self.compiled.expanded
        graph = model if runtime == running.INTERPRETER else native.with_native_loops(expanded)
        return Interpreted(replace(self.compiled, model=graph), self.weights)

    def _some_inputs(self, inputs: Data) -> Mapping[str, Array]:
        """Return the arrays given for some inputs, rounded to float32. Raises :class:`DataError` for invalid ones."""
        arrays: Mapping[str, AnyArray] = read_arrays(Path(inputs)) if isinstance(inputs, str | Path) else inputs
        ops = {node.name: node.op for node in self.compiled.model if isinstance(node.op, Input)}
        shapes, values = ({name: getattr(op, fact) for name, op in ops.items()} for fact in ("shape", "values"))
        check_inputs(self.name, shapes, values, arrays, shapes, self.compiled.training_inputs)
        return {name: np.asarray(array, np.float32).astype(np.float64) for name, array in arrays.items()}

    @contextmanager
    def _saved(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="lstmc-") as folder:
            self.save(folder)
            yield Path(folder, self.artifact.net)
