"""The C++ and the CUDA of a net's generated layers, and the files that have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc_caffe.fused.code import Source, layer_code, source
from lstmc_caffe.fused.op import FusedScan
from lstmc_caffe.fused.plan import plan_of
from lstmc_caffe.fused.plan_text import memory_text, plan_text
from lstmc_caffe.fused.rows import batch_of

SUFFIX, GPU_SUFFIX = ".layers.cpp", ".layers.cu"


def layers_source(graph: Graph) -> Source | None:
    """The source of all generated layers of a net's graph; None where it has none."""
    layers = [layer_code(plan_of(node.op, node.op.initial)) for node in graph if isinstance(node.op, FusedScan)]
    return source(graph.name, layers) if layers else None


def layers_files(name: str, graph: Graph) -> dict[str, bytes]:
    """``NAME.layers.cpp`` and ``NAME.layers.cu``; nothing where a net's graph has no generated layers."""
    made = layers_source(graph)
    if made is None:
        return {}
    assert made.cu is not None
    return {f"{name}{SUFFIX}": made.cpp.encode(), f"{name}{GPU_SUFFIX}": made.cu.encode()}


def read_sources(files: Mapping[str, bytes]) -> dict[str, Source]:
    """The sources among some files, by the NAME of each."""
    names = [name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)]
    found = {}
    for name in names:
        gpu = files.get(f"{name}{GPU_SUFFIX}")
        found[name] = Source(files[f"{name}{SUFFIX}"].decode(), None if gpu is None else gpu.decode())
    return found


def stored_source(path: Path) -> Source:
    """``NAME.layers.cpp`` with what is beside it for GPUs. Raises :class:`BackendError` where they cannot be read."""
    for_gpus = path.with_suffix(".cu")
    return Source(_read(path), _read(for_gpus) if for_gpus.exists() else None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BackendError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None


def layers_text(graph: Graph) -> str:
    """What each generated layer of a net's graph does, for people; empty where it has none."""
    texts = []
    for node in graph:
        if isinstance(node.op, FusedScan):
            plan = plan_of(node.op, node.op.initial)
            texts.append(plan_text(plan) + memory_text(plan, node.op.length, batch_of(node.op)))
    return "\n".join(texts)
