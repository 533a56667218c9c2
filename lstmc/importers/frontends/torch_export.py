"""Export of a live PyTorch module by ``torch.export``, with its errors in words."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from traceback import walk_tb
from typing import Any

from lstmc.importers.refusal import Refusal, RefusedError, SourceError


def exported(torch: Any, module: Any, examples: Sequence[Any], name: str) -> Any:
    """Return the exported program of a module in evaluation mode, for example arguments.

    Raises :class:`RefusedError` for packed sequences, which PyTorch does not export, and :class:`SourceError` for
    whatever else stops it.
    """
    training = module.training
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch's own recurrent layers do while they are exported
            return torch.export.export(module.eval(), tuple(examples))
    except Exception as error:  # of any class: it is raised by the module's own code too
        local_values = [value for frame, _ in walk_tb(error.__traceback__) for value in frame.f_locals.values()]
        if any(isinstance(value, torch.nn.utils.rnn.PackedSequence) for value in local_values):
            mend = (
                "give the layer the padded sequences, and in the written model write scan(..., lengths=L), which keeps"
                " states and gives zeros past each sequence's end"
            )
            refusal = Refusal(
                "pack_padded_sequence", "", "a packed sequence", "PyTorch exports no module that makes one", mend
            )
            raise RefusedError(name, [refusal]) from error
        lines = str(error).strip().splitlines() or [""]
        raise SourceError(
            f"{name}: torch.export cannot take it on these arguments: {type(error).__name__}: {lines[0][:300]}",
            notes=["call the module on them first; of what it does by their values, fix the outcome"],
        ) from error
    finally:
        module.train(training)


def decomposed(torch: Any, program: Any, supported: Collection[str]) -> Any:
    """Return the program with operators that are not in ``supported`` decomposed by PyTorch.

    What overwrites a tensor in place becomes what makes a new one. A program of known operators alone is left as it is.
    """
    calls = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    if all(call in supported or not call.startswith("aten.") for call in calls):
        return program
    table = torch.export.default_decompositions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as while it is exported
        return program.run_decompositions(
            {op: decomposition for op, decomposition in table.items() if str(op) not in supported}
        )
