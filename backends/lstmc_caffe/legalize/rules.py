"""The rules of legalisation, of this package and of others. An entry point of the group ``lstmc_caffe.rules`` names a
module with a table ``RULES``: for each op, the rule that writes it as layers. For nets that are not trained, an
optional table ``UNTRAINED_RULES`` takes precedence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import EntryPoint
from types import ModuleType

from lstmc.errors import BackendError, LstmcError, PluginError
from lstmc.ir import Builder, Node, Ref, is_weight
from lstmc.ops import Op
from lstmc.passes import Refs
from lstmc.plugins import distribution, entry_points_of, load_point, malformed, origin
from lstmc_caffe.legalize.blobs import LegalizeRule, layer_of
from lstmc_caffe.ops import CaffeOp

GROUP = "lstmc_caffe.rules"


@dataclass(frozen=True)
class RuleTable:
    """The rules of all packages, and the faults of entry points that do not load, by entry point."""

    trained: Mapping[type[Op], LegalizeRule]
    untrained: Mapping[type[Op], LegalizeRule]
    faults: Mapping[str, str]


def rules() -> RuleTable:
    """Return the rules of all packages. If an entry point is broken, only its rules are left out."""
    return _table(tuple(point for points in entry_points_of(GROUP).values() for point in points))


@cache
def _table(points: tuple[EntryPoint, ...]) -> RuleTable:
    """Return the rules of these entry points, lstmc's first. Broken ones, and second rules for an op, are faults."""
    trained: dict[type[Op], LegalizeRule] = {}
    untrained: dict[type[Op], LegalizeRule] = {}
    faults: dict[str, str] = {}
    whose: dict[type[Op], EntryPoint] = {}
    for point in sorted(points, key=lambda point: (distribution(point) != "lstmc", origin(point))):
        try:
            module = load_point(point, "rules")
            if not isinstance(module, ModuleType):
                raise malformed(point, "rules", "the name of a module with a table RULES", repr(module))
            rules_of_point = _checked(point, getattr(module, "RULES", None))
            without_training = _checked(point, getattr(module, "UNTRAINED_RULES", {}))
            for op in rules_of_point:
                if op in whose:
                    raise malformed(point, "rules", "ops that have no rule yet", f"{op.name}: see {origin(whose[op])}")
        except PluginError as error:
            faults[f"{point.name} of {distribution(point)}"] = error.message
            continue
        whose.update(dict.fromkeys(rules_of_point, point))
        trained.update(rules_of_point)
        untrained.update(rules_of_point | without_training)
    return RuleTable(trained, untrained, faults)


def _checked(point: EntryPoint, table: object) -> dict[type[Op], LegalizeRule]:
    """Return the table if it maps classes of ops to functions. Raise PluginError otherwise."""
    if not isinstance(table, dict):
        raise malformed(point, "rules", "a table RULES from ops to rules in the module", repr(table))
    for op, rule in table.items():
        if not (isinstance(op, type) and issubclass(op, Op) and callable(rule)):
            raise malformed(point, "rules", "a class of ops and a function in each entry of RULES", f"{op!r}: {rule!r}")
    return table


def used(rule: LegalizeRule, b: Builder, node: Node, args: Refs) -> Refs:
    """Apply a rule to a node and return the new values. Raises :class:`BackendError` for wrong results of the rule."""
    try:
        results = rule(b, node, args)
    except LstmcError:
        raise
    except Exception as error:
        raise BackendError(
            f"rule {rule.__name__} of {rule.__module__} failed on {node.op.name} ({type(error).__name__}: {error})",
            loc=node.loc,
        ) from error
    problem = _no_results(b, node, results) or _parameter_as_bottom(b, args, results)
    if problem is not None:
        raise BackendError(f"rule {rule.__name__} of {rule.__module__} {problem}", loc=node.loc)
    return results


def _no_results(b: Builder, node: Node, results: object) -> str | None:
    """Return the error for results of a rule that do not have the types of the node's results, or None."""
    expected = ", ".join(map(str, node.types))
    if not isinstance(results, tuple) or not all(isinstance(ref, Ref) for ref in results):
        actual = repr(results)
    elif tuple(b.type(ref) for ref in results) == node.types:
        return None
    else:
        actual = ", ".join(str(b.type(ref)) for ref in results) or "none"
    return f"must return a tuple of the values that stand for the results of {node.op.name}, {expected}: found {actual}"


def _parameter_as_bottom(b: Builder, args: Refs, results: Refs) -> str | None:
    """Return the error for a layer of a rule's results that reads a parameter as a bottom, or None."""
    seen, waiting = set(args), list(results)
    while waiting:
        ref = waiting.pop()
        op, operands = b.node(ref.node).op, b.args(ref.node)
        if ref in seen or not isinstance(op, CaffeOp):
            continue
        seen.add(ref)
        waiting += operands
        learned = op.blobs(len(operands))
        for slot, operand in enumerate(operands):
            if slot not in learned and is_weight(b, operand):
                parameter = b.node(operand.node).names[operand.out]
                return (
                    f"makes a layer {op.layer_type} that reads %{parameter}, a parameter, which no layer writes:"
                    " expected values, as lstmc_caffe.legalize.blobs.as_value and layer_of make them"
                )
    return None


def layer_rules(*layers: type[CaffeOp]) -> dict[type[Op], LegalizeRule]:
    """Return rules for layers that correspond to a core op, with its fields: ``class ELULayer(CaffeOp, Elu)``."""
    rules: dict[type[Op], LegalizeRule] = {}
    for layer in layers:
        core = core_op(layer)
        if core is None:
            raise TypeError(f"{layer.__name__} is no layer of one op: expected class {layer.__name__}(CaffeOp, AnOp)")
        rules[core] = _layer_rule(core, layer)
    return rules


def core_op(layer: type[CaffeOp]) -> type[Op] | None:
    """Return the core op that a layer corresponds to, a base class of no backend with the same fields; else None."""
    own = [field.name for field in fields(layer)]
    for base in layer.__bases__:
        if issubclass(base, Op) and "name" in vars(base) and not base.backend:
            return base if [field.name for field in fields(base)] == own else None
    return None


def _layer_rule(core: type[Op], layer: type[CaffeOp]) -> LegalizeRule:
    def op_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
        values = [getattr(node.op, field.name) for field in fields(node.op)]
        return layer_of(b, node, layer(*values), *args)

    op_to_layer.__name__ = f"{core.name}_to_layer"
    return op_to_layer
