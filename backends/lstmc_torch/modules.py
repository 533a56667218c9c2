"""Modules of PyTorch: of a model, its parameters and a program with native code for its scans; and of written files.
Written modules are run with their files of weights, forward and backward."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstmc.api.models import AnyModel, DimensionSize, ModelSource, Weights, all_sizes, bound_weights, keep_outputs
from lstmc.backend import Artifact, Compiled, Execution, OpenShape, Parts, RunArrays
from lstmc.backend.compiled import UNKNOWN, open_inputs, open_shape
from lstmc.errors import BackendError, DataError, DimError, LstmcError, WeightsError
from lstmc.files.output import write_files
from lstmc.files.reading import read_file, reading, regular
from lstmc.ir import Graph, Ref, with_sizes
from lstmc.loops.layer import GenerateLoops
from lstmc.manifest import read_manifest
from lstmc.nets.session import NetFiles
from lstmc.ops import Array, Constant, Filler, Input, Param
from lstmc.passes import Dead, run_passes
from lstmc.pipeline import LOOP_PASSES
from lstmc.prepare import without_losses
from lstmc.text import did_you_mean
from lstmc.types import OpenSize
from lstmc.verification.differential import wanted_gradients
from lstmc.weights import parameters
from lstmc_torch.backend import LAYERS, SUFFIX, Form, TorchBackend, build_path
from lstmc_torch.loop import load_or_warn, run
from lstmc_torch.program import Program, program_of

FREE = ("T", "N")  # the dimensions that stay open in a module without sizes for them


@dataclass(frozen=True)
class Spec:
    """The definition of a module without its weights: plain data, which can be copied and pickled. Shapes have names
    for open sizes. ``constants`` are arrays that passes made; ``carried`` maps inputs to the outputs whose values they
    take in the next batch; ``sequences`` are the inputs and outputs with axes T, N, ...."""

    name: str
    program: Program
    inputs: Mapping[str, OpenShape]
    fills: Mapping[str, Filler]
    outputs: Mapping[str, OpenShape]
    params: Mapping[str, Param]
    constants: Mapping[str, Param]
    carried: Mapping[str, str]
    sequences: Collection[str] = ()


def module(
    model: AnyModel,
    /,
    *,
    outputs: Sequence[str] | None = None,
    weights: Weights | None = None,
    seed: int | None = None,
    batch_first: bool = False,
    native: bool = True,
    sizes: Mapping[str, int] | None = None,
    **dims: DimensionSize,
) -> Module:
    """Return a model as a module of PyTorch: ``lstmc_torch.module("gru", D=32, H=64)``.

    Args:
        model: A model, a cell (scanned over T steps), or the name of a library cell such as ``"gru"``.
        outputs: Keep only these outputs; by default all except losses and scores.
        weights: Values of all parameters by the model's own names, as a mapping or an ``.npz`` file. By default they
            are drawn by their fillers, with ``seed``, or without a seed by PyTorch's generator.
        batch_first: Sequences are [N, T, ...], not [T, N, ...].
        native: Compile the scans for this machine. Otherwise they run step by step in PyTorch.
        sizes: Sizes of dimensions, besides those given as arguments. T and N stay free unless they are given.

    Raises :class:`~lstmc.errors.LstmcError` of some kind: for dimensions, weights, or an op without a form in PyTorch.
    """
    fixed = all_sizes(sizes, dims, module)
    source = model if isinstance(model, ModelSource) else ModelSource.from_model(model)
    open_dims = [dim for dim in FREE if dim in source.model.dims and dim not in fixed]
    whole, graph = _open_graphs(source, open_dims, fixed, outputs)
    seed = int(torch.randint(2**31, ()).item()) if seed is None else seed
    values = bound_weights(whole, weights, seed, TorchBackend())
    spec = spec_of(whole, graph)
    if batch_first:
        spec = replace(spec, sequences=_sequences(source, fixed))
    return Module(spec, values, batch_first=batch_first, native=native)


def _open_graphs(
    source: ModelSource, open_dims: Sequence[str], fixed: Mapping[str, int], outputs: Sequence[str] | None
) -> tuple[Graph, Graph]:
    """Return a model's graph with open sizes, and it compiled. Raises :class:`DimError` if a size changes its nodes."""
    numbers = dict(zip(open_dims, (13, 17), strict=False))  # sizes at which the net is compared

    def graphs(sizes: Mapping[str, int]) -> tuple[Graph, Graph]:
        whole = source.graph({**sizes, **fixed})
        graph = without_losses(whole) if outputs is None else keep_outputs(whole, outputs)
        passes = (*LOOP_PASSES, GenerateLoops(any_batch="N" in numbers), Dead())
        return whole, run_passes(graph, passes, TorchBackend.ops)[-1].graph

    def opened(dims: Sequence[str]) -> tuple[Graph, Graph] | None:
        """Return the graphs with these dimensions open, or None if the net is then another net than at ``numbers``."""
        with suppress(*UNKNOWN):
            both = graphs({**numbers, **{dim: OpenSize(dim) for dim in dims}})
            inputs = open_inputs(both[1])
            if with_sizes(both[1], numbers) == compiled[1] and all(dim in inputs for dim in dims):
                return both
        return None

    compiled = graphs(numbers)
    written = opened(open_dims)
    if written is None:
        dim = next(dim for dim in open_dims if opened([dim]) is None)
        raise DimError(f"{compiled[0].name} is another net at each {dim}: give its size, as in module(..., {dim}=20)")
    return written


def _sequences(source: ModelSource, fixed: Mapping[str, int]) -> frozenset[str]:
    """Return the inputs and outputs whose first axes are T and N, found by changing both sizes. Raises
    :class:`DimError` for a model without such an input, or whose sizes cannot be changed."""
    sizes = {"T": 1009, "N": 2003}  # primes that differ from all other sizes
    try:
        graph = source.graph({**fixed, **{dim: size for dim, size in sizes.items() if dim in source.model.dims}})
    except LstmcError as error:
        notes = (str(error), "without batch_first sequences are [T, N, ...]")
        problem = f"batch_first: the axes of {source.name} are known at the sizes given alone"
        raise DimError(problem, notes=notes) from None
    inputs = {node.name: node.types[0].shape for node in graph if isinstance(node.op, Input)}
    shapes = inputs | {output.name: graph.type(output.ref).shape for output in graph.outputs}
    sequences = frozenset(name for name, shape in shapes.items() if shape[:2] == (*sizes.values(),))
    if sequences.isdisjoint(inputs):
        notes = ("write the sizes of a sequence as the dimensions T and N", "without batch_first it is [T, N, ...]")
        raise DimError(f"batch_first: {source.name} has no input [T, N, ...]", notes=notes)
    return sequences


def spec_of(model: Graph, graph: Graph) -> Spec:
    """Return the specification of a model's module. ``graph`` is the compiled graph, whose sizes may be open. Raises
    the errors of :func:`~lstmc_torch.program.program_of`."""
    params, ops = dict(parameters(model)), {node.name: node.op for node in graph if isinstance(node.op, Input)}
    return Spec(
        graph.name, program_of(graph, torch.cuda.is_available()),
        {name: open_shape(graph.type(Ref(name))) for name in ops},
        {name: op.fill for name, op in ops.items() if op.fill is not None},
        {output.name: open_shape(graph.type(output.ref)) for output in graph.outputs}, params,
        {name: op for name, op in parameters(graph).items() if name not in params},
        {name: output.name for name, output in graph.carried().items()},
    )  # fmt: skip


class Module(nn.Module):
    """A model of lstmc. Called with its inputs, in order or by name, it returns its outputs by name.

    Parameters have the model's names. The module computes in their type: in float32 on the CPU by native code; in other
    types, and if native code cannot be compiled, step by step in PyTorch. Inputs of other types are converted, also
    within autocast.
    """

    def __init__(self, spec: Spec, weights: Mapping[str, Array], *, batch_first: bool = False, native: bool = True):
        super().__init__()
        self.spec, self.batch_first, self.native = spec, batch_first, native
        for name, op in {**spec.params, **spec.constants}.items():
            value = torch.tensor(values_of(name, op, weights), dtype=torch.get_default_dtype())
            parent, own = _parent(self, name)
            if not op.fixed:
                parent._parameters[own] = nn.Parameter(value, requires_grad=op.lr_mult != 0)
                continue
            parent._buffers[own] = value
            if name not in spec.params:
                parent._non_persistent_buffers_set.add(own)  # an array of a pass: not in the state dict
        self._states: dict[str, Tensor] = {}  # carried input -> its value in the next call
        self._prepare()

    def _prepare(self) -> None:
        """Make the functions of the program, and load its native code; pickles and copies do not contain these."""
        functions: dict[str, Any] = {}
        exec(compile(self.spec.program.text, f"<{self.spec.name} of lstmc_torch>", "exec"), functions)
        self._forward: Any = functions["forward"]
        self._alike: Any = functions.get("alike")  # for a model without parameters
        self._loaded: dict[str, bool] = {}  # kind of device -> whether its native code is loaded
        self._load()

    def _load(self) -> None:
        """Load the native code for the CPU, and for the GPU if the parameters are there."""
        program = self.spec.program
        of_device = {"cpu": program.cpp, "cuda": program.cu}
        for device in ("cpu", *sorted({p.device.type for p in self.parameters()} - {"cpu"})):
            text = of_device.get(device, "")
            if self.native and text and device not in self._loaded:
                self._loaded[device] = load_or_warn(text, self.spec.name, device == "cuda")

    def _apply(self, fn: Any, recurse: bool = True) -> Module:
        super()._apply(fn, recurse)
        self._load()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_forward", "_alike", "_loaded")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def forward(self, /, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name. An input with a fill, and a carried input, may be left out.

        Raises :class:`~lstmc.errors.DataError` for inputs that are missing, extra, or of another shape.
        """
        numbers = self._numbers()
        arrays = self._inputs(inputs, named, next(iter(numbers.values()), None))
        some = next(iter((*numbers.values(), *arrays.values())), None)
        native = some is not None and some.dtype == torch.float32 and self._loaded.get(some.device.type, False)
        given = (numbers, *arrays.values(), self.training, native, run)
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                results = self._forward(*given)
        else:
            results = self._forward(*given)
        outputs = dict(zip(self.spec.outputs, results, strict=True))
        for name, output in self.spec.carried.items():
            self._states[name] = outputs[output].detach()
        return {name: self._swapped(name, value) for name, value in outputs.items()}

    def _numbers(self) -> dict[str, Tensor]:
        """Return the parameters and buffers by their names."""
        if self._modules:
            return {**dict(self.named_parameters(remove_duplicate=False)), **dict(self.named_buffers())}
        # the same, in a tenth of the time
        return {name: one for name, one in {**self._parameters, **self._buffers}.items() if one is not None}

    def reset(self) -> None:
        """Restart carried states."""
        self._states.clear()

    def groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return groups of parameters for an optimiser, by their multipliers of the learning rate and weight decay."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, op in self.spec.params.items():
            if not op.fixed and op.lr_mult:
                groups.setdefault((op.lr_mult, op.decay_mult), []).append(self.get_parameter(name))
        return [
            {"params": params, "lr": lr * lr_mult, "weight_decay": weight_decay * decay_mult}
            for (lr_mult, decay_mult), params in groups.items()
        ]

    def load_lstmc(self, weights: Mapping[str, Array]) -> None:
        """Take the values of all parameters by the model's names. Raises :class:`~lstmc.errors.WeightsError`."""
        params = self.spec.params
        problems = [f"extra: {name}{did_you_mean(name, params)}" for name in weights if name not in params]
        for name, op in params.items():
            if name not in weights and not op.fixed:
                problems.append(f"missing: {name} {list(op.shape)}")
            elif name in weights and weights[name].shape != op.shape:
                problems.append(f"wrong shape: {name} must be {list(op.shape)}, found {list(weights[name].shape)}")
        if problems:
            raise WeightsError(f"the weights do not fit {self.spec.name}", notes=problems)
        with torch.no_grad():
            numbers = self._numbers()
            for name, value in weights.items():
                numbers[name].copy_(torch.as_tensor(value))

    def lstmc_weights(self) -> dict[str, Array]:
        """Return the parameters by the model's names, as :func:`lstmc.compile` takes them."""
        numbers = self._numbers()
        return {name: numbers[name].detach().to("cpu", torch.float32).numpy().copy() for name in self.spec.params}

    def extra_repr(self) -> str:
        shapes = (f"{name} [{', '.join(map(str, shape))}]" for name, shape in self.spec.inputs.items())
        return f"{self.spec.name}: {', '.join(shapes)} -> {', '.join(self.spec.outputs)}"

    def _inputs(self, inputs: Sequence[Tensor], named: Mapping[str, Tensor], like: Tensor | None) -> dict[str, Tensor]:
        """Return a value for each input: given, carried or filled; sequences as [T, N, ...]; in the type of ``like``,
        or if that is None in a common type of the inputs. Raises :class:`DataError` for inputs that do not fit."""
        spec, names = self.spec, [name for name in self.spec.inputs if name not in self.spec.carried]
        tensors = {**dict(zip(names, inputs, strict=False)), **named}
        problems = [f"extra: input {at + 1} of {len(names)}" for at in range(len(names), len(inputs))]
        problems += [f"extra: {name}{did_you_mean(name, names)}" for name in named if name not in spec.inputs]
        given = {name: value for name, value in tensors.items() if name in spec.inputs and value is not None}
        if like is None and given:
            given = dict(zip(given, self._alike(*given.values()), strict=True))
            like = next(iter(given.values()))
        arrays = {name: self._swapped(name, value) for name, value in given.items()}
        arrays |= {name: _outside(state) for name, state in self._states.items() if name not in given}
        sizes: dict[str, int] = {}
        for name, value in arrays.items():
            fits = len(value.shape) == len(spec.inputs[name])
            for size, expected in zip(value.shape, spec.inputs[name], strict=False):
                fits = fits and (sizes.setdefault(expected, size) if isinstance(expected, str) else expected) == size
            if not fits:
                found = list(given.get(name, value).shape)
                again = "" if name in given else ", carried from the last call: reset() lets it begin anew"
                problems.append(f"wrong shape: {name} must be [{self._listed(name)}], found {found}{again}")
        for name, shape in spec.inputs.items():
            if name in arrays:
                continue
            if name in spec.fills and not problems:
                arrays[name] = _filled(spec.fills[name], [sizes[n] if isinstance(n, str) else n for n in shape])
            elif not problems or name not in spec.fills:
                problems.append(f"missing: {name} [{self._listed(name)}]")
        if problems:
            raise DataError(f"the inputs do not fit {spec.name}", notes=problems)
        return {name: arrays[name] if like is None else arrays[name].to(like) for name in spec.inputs}

    def _listed(self, name: str) -> str:
        shape = self.spec.inputs[name]
        swapped = self.batch_first and name in self.spec.sequences
        return ", ".join(map(str, (*shape[1::-1], *shape[2:]) if swapped else shape))

    def _swapped(self, name: str, value: Tensor) -> Tensor:
        swapped = self.batch_first and name in self.spec.sequences and value.dim() > 1
        return value.transpose(0, 1) if swapped else value


def share_parameters(of: Module, to: Module) -> None:
    """Let the module ``to`` use the parameters of the module ``of``, by their names."""
    for name, parameter in of.named_parameters():
        parent, own = _parent(to, name)
        parent._parameters[own] = parameter


def values_of(name: str, op: Param, weights: Mapping[str, Array]) -> Array:
    """Return the value of a parameter from ``weights``; a fixed parameter has the model's numbers."""
    return op.fill.draw(np.random.default_rng(0), op.shape) if op.fixed else weights[name]


def _parent(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the submodule of a parameter, and its name there: ``P.0`` is ``0`` of a submodule ``P``. Names are keys of
    the modules' dicts, because a name such as ``double`` is a method of modules too."""
    *path, own = name.split(".")
    for part in path:
        found = module._modules.setdefault(part, nn.Module())
        assert found is not None
        module = found
    return module, own


def _filled(fill: Filler, shape: Sequence[int]) -> Tensor:
    """Return the default of an input that is not given. PyTorch's generator seeds random numbers."""
    if isinstance(fill, Constant):
        return torch.full(tuple(shape), fill.value)
    rng = np.random.default_rng(int(torch.randint(2**31, ()).item()))
    return torch.from_numpy(fill.draw(rng, tuple(shape)))


def _outside(state: Tensor) -> Tensor:
    """Return a state in a form that autograd may save, even if it was made in torch.inference_mode()."""
    return state.clone() if state.is_inference() and not torch.is_inference_mode_enabled() else state


FROZEN = "it is not trained"
NO_LOOPS = "step by step, as it has no loops"
LOCAL = "it is a variable of the program"


def saved(graph: Graph, weights: Mapping[str, Array]) -> bytes:
    """Return the weights of a graph as a file that ``torch.load`` reads: same weights, same bytes."""
    content = io.BytesIO()
    arrays = {name: values_of(name, op, weights) for name, op in parameters(graph).items()}
    torch.save({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()}, content)
    return content.getvalue()


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the parameters in a state dict, in float32, and the names of parameters that it lacks."""
    shapes = {name: parameter.shape for name, parameter in read_manifest(manifest).parameters.items()}
    weights = {name: _floats(value) for name, value in _read_state(trained).items() if name in shapes}
    for name, array in weights.items():
        if array.shape != shapes[name]:
            raise BackendError(f"{trained}: expected {name} of shape {list(shapes[name])}, found {list(array.shape)}")
    return weights, [name for name in shapes if name not in weights]


def _floats(value: Tensor) -> Array:
    array: Array = value.detach().to(torch.float32).numpy()
    return array


def _read_state(path: Path) -> dict[str, Tensor]:
    with reading(path, BackendError):
        return _state(regular(path), str(path))


def _state(content: bytes | Path, path: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict, of a file or its content. Raises :class:`BackendError` for other content."""
    try:
        file = content if isinstance(content, Path) else io.BytesIO(content)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # errors of the zip, of unpickling, of storages
        reason = str(error).partition("\n")[0]
        raise BackendError(f"{path}: expected a state dict that torch.save wrote: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackendError(f"{path}: expected a state dict, of tensors by name, found {type(state).__name__}")
    return state


def weight_parts(content: bytes) -> Parts:
    """Return the tensors of a file's content. Raises :class:`BackendError` for content that is not a state dict."""
    state = _state(content, "its weights")
    return {("weight", name): {"": _floats(value), "type": str(value.dtype)} for name, value in state.items()}


class LoadedModule:
    """A written module, from its files. See :class:`lstmc.nets.session.LoadedNet`."""

    def __init__(self, files: NetFiles, gpu: bool) -> None:
        if gpu:
            raise BackendError(f"{files.net}: lstmc runs modules of PyTorch on the CPU alone")
        functions: dict[str, Any] = {"__file__": str(files.net), "__name__": files.net.stem}
        layers = files.net.with_name(f"{files.net.stem}{LAYERS}")
        try:
            exec(compile(read_file(files.net), files.net, "exec"), functions)
            cpp = layers.read_text(encoding="utf-8") if layers.is_file() else ""
            self._forward, net = functions["forward"], functions["Net"]()
        except OSError as error:
            raise BackendError(f"{error.filename}: cannot be read: {error.strerror}") from None
        except (SyntaxError, ValueError, KeyError):
            raise BackendError(f"{files.net}: expected a module that lstmc wrote for PyTorch") from None
        self._inputs, self._outputs = list(files.manifest.inputs), list(files.manifest.outputs)
        self._weights = {**net.state_dict(), **_read_state(files.weights)}
        self._native = bool(cpp) and load_or_warn(cpp, files.net.stem)

    def forward(self, blobs: Mapping[str, Array], names: Iterable[str]) -> Mapping[str, Array]:
        arrays = [torch.from_numpy(np.asarray(blobs[name], np.float32)) for name in self._inputs]
        with torch.no_grad():
            results = self._forward(self._weights, *arrays, False, self._native, run)
        by_name = dict(zip(self._outputs, results, strict=True))
        return {name: by_name[name].numpy() for name in names}


def execute(compiled: Compiled, artifact: Artifact, arrays: RunArrays, form: Form) -> Execution:
    """Run a model forward and backward, as a :class:`Module` or by its written files; return outputs and gradients."""
    graph, said = compiled.expanded, ""  # said: a remark in the report, if native code did not run
    net: Any
    if form == "module":
        _, spec = compiled.written(lambda opened: spec_of(compiled.model, opened))
        net = Module(spec, arrays.weights).eval()
        if not net._loaded.get("cpu"):
            said = "step by step, as its native code could not be made" if spec.program.cpp else NO_LOOPS
    else:
        with TemporaryDirectory(prefix="lstmc-torch-") as folder:
            net = _written(artifact, Path(folder), form == "built")
        said = NO_LOOPS if form == "built" and not hasattr(net, "build") else ""
    inputs = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.fed(graph).items()}
    results = net.forward(**inputs) if form == "module" else net(*inputs.values())
    cotangents = {name: torch.tensor(np.asarray(ct, np.float32)) for name, ct in arrays.cotangents.items()}
    trained = dict(net.named_parameters())
    leaves = {**inputs, **{name: value for name, value in trained.items() if value.requires_grad}}
    roots = [(results[name], ct) for name, ct in cotangents.items() if results[name].requires_grad]
    derivatives: Sequence[Tensor | None] = [None] * len(leaves)
    if roots:
        results_of, cotangents_of = zip(*roots, strict=True)
        derivatives = torch.autograd.grad(results_of, list(leaves.values()), cotangents_of, allow_unused=True)
    pairs = zip(leaves.items(), derivatives, strict=True)
    gradients = {name: (torch.zeros_like(leaf) if g is None else g).numpy() for (name, leaf), g in pairs}
    values = {graph.value_name(output.ref): results[output.name].detach().numpy() for output in graph.outputs}
    wanted = wanted_gradients(compiled, arrays.cotangents)
    return Execution(
        values={**{name: value.detach().numpy() for name, value in inputs.items()}, **values},
        input_gradients={name: g for name, g in gradients.items() if name in wanted},
        param_gradients={name: gradients[name] for name in trained if name in gradients},
        absent={graph.value_name(ref): LOCAL for ref in graph.readers()},
        not_available={name: FROZEN for name, op in parameters(compiled.model).items() if op.lr_mult == 0},
        device=said,
        files={"module": (), "built": artifact.run_files, "steps": artifact.run_files[:2]}[form],
    )


def _written(artifact: Artifact, folder: Path, build: bool) -> Any:
    """Return the module of written files as a user imports it; if ``build``, its native code is built."""
    write_files(folder, artifact.files)
    path = folder / artifact.net
    names: dict[str, Any] = {"__file__": str(path), "__name__": path.stem}
    exec(compile(path.read_bytes(), path, "exec"), names)
    net = names["Net"]().eval()
    net.load_state_dict(torch.load(path.with_suffix(SUFFIX)))
    if build and hasattr(net, "build"):
        before = os.environ.get("PATH", "")
        os.environ["PATH"] = build_path()  # as in an active environment, which has ninja
        try:
            net.build()
        except (OSError, RuntimeError) as error:
            notes = [line for line in str(error).splitlines() if line.strip()][:8]
            raise BackendError(f"build() of {artifact.net} failed", notes=notes) from None
        finally:
            os.environ["PATH"] = before
    return net
