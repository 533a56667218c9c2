"""Constant folding in a program of torch.export, by PyTorch, for masks and indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstmc.ops import Array

_UNDEFINED = ("aten.empty", "aten.new_empty")  # what these hold is not defined: zeros, by their own rules


class Constants:
    """The arrays of nodes that depend on no input and on no parameter."""

    def __init__(self, torch: Any, buffers: Mapping[str, Any], lifted: Mapping[str, Any]) -> None:
        """Buffers, and the tensors that the model's code has written, by the names of their nodes."""
        self.torch = torch
        self.buffers, self.placeholders = set(buffers), {**buffers, **lifted}
        self.tensors: dict[Any, Any] = {}

    def take(self, node: Any) -> Array | int | None:
        """Return a node's constant result; None if it depends on an input, or is a stored weight.

        Of buffers alone only what tells places or is a mask is numbers: the others stay weights with names. A size, of
        a program with open ones, is that of its example.
        """
        size = node.meta.get("val")
        if isinstance(size, int | self.torch.SymInt):
            self.tensors[node] = int(size)
            return int(size)
        tensor = self._tensor(node)
        if tensor is None:
            return None
        self.tensors[node] = tensor
        if node.name in self.buffers or (tensor.is_floating_point() and self._of_buffers(node)):
            return None
        array: Array = np.array(tensor.detach().cpu().numpy())
        return array

    def add(self, node: Any, array: Array) -> None:
        """Record the result of a node that depends only on the shapes of its operands."""
        self.tensors[node] = self.torch.as_tensor(np.array(array), dtype=node.meta["val"].dtype)

    def _tensor(self, node: Any) -> Any:
        if node.op == "placeholder":
            return self.placeholders.get(node.name)
        random = self.torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if random or not str(node.target).startswith("aten.") or str(node.target).startswith(_UNDEFINED):
            return None
        if not all(one in self.tensors for one in node.all_input_nodes):
            return None
        arguments, options = self.torch.fx.map_arg((node.args, node.kwargs), self.tensors.__getitem__)
        try:
            with self.torch.no_grad():
                result = node.target(*arguments, **options)
        except (RuntimeError, TypeError, ValueError, IndexError):  # of a damaged file: refused as an operator
            return None
        return result if isinstance(result, self.torch.Tensor) else None

    def _of_buffers(self, node: Any) -> bool:
        return node.name in self.buffers or any(self._of_buffers(one) for one in node.all_input_nodes)
