"""One field of a LayerParameter by its path, as ``softmax_param.axis``: reading and writing."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from lstmc.files.format import shortest

# The old names of two fields, which Caffe still reads (``slice_layer.cpp``, ``concat_layer.cpp``).
OLD_NAMES = {"concat_param.axis": "concat_dim", "slice_param.axis": "slice_dim"}


def write_setting(layer: Any, path: str, value: Any) -> None:
    """Set a field, unless the value is None or what Caffe takes for a field that is not set."""
    message, field = _field(layer, path)
    if value is None or (field.has_default_value and value == field_value(message, field.name)):
        return
    if field.enum_type is not None:
        value = field.enum_type.values_by_name[value.upper()].number
    setattr(message, field.name, value)


def read_setting(layer: Any, path: str) -> Any:
    """Return a field's value, or Caffe's default; None without a default."""
    message, field = _field(layer, path)
    old = OLD_NAMES.get(path)
    if old is not None and message.HasField(old):
        return getattr(message, old)
    return field_value(message, field.name) if message.HasField(field.name) or field.has_default_value else None


def field_value(message: Any, name: str) -> Any:
    """Return a field as a value of Python: a float as the shortest number that it is, an enum by its name."""
    value, field = getattr(message, name), message.DESCRIPTOR.fields_by_name[name]
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return shortest(value)
    return value if field.enum_type is None else field.enum_type.values_by_number[value].name


def has_other_settings(layer: Any, modelled: Container[str]) -> bool:
    """Return whether a layer has a parameter outside ``modelled``, fields by path and whole messages by name.

    A field that has the value it would have without does not count, nor what blobs are filled with. A gradient that
    is not to flow (``propagate_down``) does.
    """
    if not all(layer.propagate_down) and "propagate_down" not in modelled:
        return True
    for field, message in layer.ListFields():
        if field.name.endswith("_param") and field.name not in modelled:
            for inner, value in message.ListFields():
                path = f"{field.name}.{inner.name}"
                is_filler = inner.message_type is not None and inner.message_type.name == "FillerParameter"
                is_modelled = path in modelled or inner.name == OLD_NAMES.get(f"{field.name}.axis") or is_filler
                if not is_modelled and not (inner.has_default_value and value == inner.default_value):
                    return True
    return False


def _field(layer: Any, path: str) -> tuple[Any, Any]:
    param, _, name = path.partition(".")
    return getattr(layer, param), getattr(layer, param).DESCRIPTOR.fields_by_name[name]
