"""Our protobuf messages are Caffe's: field by field, and side by side with Caffe's own in one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from lstmc_caffe.proto import net as schema
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.in_worker import schema as schema_of

pytestmark = pytest.mark.caffe

OURS = schema._file()
MINE = [message.name for message in OURS.message_type if message.name in schema.MESSAGES]

# Caffe's package in the default pool of a process, as `import caffe` puts it there, and ours: in either order.
BOTH = """
import sys
from google.protobuf import descriptor_pool, message_factory, text_format
def theirs():
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(open(sys.argv[1], "rb").read())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
def ours():
    from lstmc_caffe.proto.net import NetParameter
    return NetParameter
first, second = (f() for f in ORDER)
text = open(sys.argv[2]).read()
made = [text_format.Parse(text, kind()).SerializeToString(deterministic=True) for kind in (first, second)]
assert made[0] == made[1]
assert {first.DESCRIPTOR.full_name, second.DESCRIPTOR.full_name} == {"caffe.NetParameter", "lstmc_caffe.NetParameter"}
print(len(made[0]))
"""

NET = """
name: "every kind of field"
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  param { name: "W" lr_mult: 2 decay_mult: 0 }
  blobs { shape { dim: 2 dim: 1 } data: 0.5 data: -1 }
  inner_product_param {
    num_output: 2 bias_term: false axis: 2
    weight_filler { type: "msra" variance_norm: AVERAGE }
  }
}
layer { name: "e" type: "Eltwise" bottom: "y" top: "z" eltwise_param { operation: MAX coeff: 1 coeff: -1 } }
layer { name: "s" type: "Slice" bottom: "z" top: "a" top: "b" slice_param { axis: 0 slice_point: 1 } }
"""


@pytest.fixture(scope="module")
def theirs(caffe: Runner) -> Any:
    """The installed Caffe's own caffe.proto."""
    file = descriptor_pb2.FileDescriptorProto.FromString(schema_of(caffe))
    assert file.package == "caffe"
    return file


def fields_of(message: Any, package: str) -> dict[str, Any]:
    """Everything of each field that a reader or writer of the format sees."""
    return {
        field.name: {
            "number": field.number,
            "label": field.label,
            "type": field.type,
            "type name": field.type_name.removeprefix(f".{package}."),
            "default": field.default_value,
            "packed": field.options.packed,
        }
        for field in message.field
    }


@pytest.mark.parametrize("name", MINE)
def test_every_field_is_caffe_s_own(theirs: Any, name: str) -> None:
    (ours,) = (message for message in OURS.message_type if message.name == name)
    (caffes,) = (message for message in theirs.message_type if message.name == name)
    wanted, found = fields_of(caffes, "caffe"), fields_of(ours, schema.PACKAGE)
    assert found
    for field, facts in found.items():
        assert field in wanted, f"Caffe's {name} has no {field}"
        if not facts["default"]:  # an absent default is the same as zero, false or the first value
            facts["default"] = default_of_nothing(wanted[field]["default"])
        assert facts == wanted[field], field


def default_of_nothing(default: str) -> str:
    assert default in ("", "0", "false"), f"expected the default {default}"
    return default


@pytest.mark.parametrize("name", schema.ENUMS)
def test_every_enumeration_is_caffe_s_own(theirs: Any, name: str) -> None:
    owner, values, first = schema.ENUMS[name]
    (place,) = [theirs] if not owner else (message for message in theirs.message_type if message.name == owner)
    (enum,) = (enum for enum in place.enum_type if enum.name == name)
    assert [(value.name, value.number) for value in enum.value] == [(n, i) for i, n in enumerate(values, first)]


def test_the_messages_of_floats_as_bytes_have_the_same_wire_format(theirs: Any) -> None:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(theirs)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
    raw = schema.RawNet(name="n")
    blob = raw.layer.add(name="ip", type="InnerProduct").blobs.add(data=b"\0\0\0\x3f\0\0\x80\xbf")
    blob.shape.dim.extend([2, 1])
    read = kind.FromString(raw.SerializeToString())
    assert list(read.layer[0].blobs[0].data) == [0.5, -1]
    assert list(read.layer[0].blobs[0].shape.dim) == [2, 1]
    again = schema.RawNet.FromString(read.SerializeToString())
    assert again == raw


@pytest.mark.parametrize("order", ["(theirs, ours)", "(ours, theirs)"])
def test_ours_and_caffe_s_live_in_one_process(caffe: Runner, tmp_path: Path, order: str) -> None:
    (tmp_path / "caffe.proto.bin").write_bytes(schema_of(caffe))
    (tmp_path / "net.prototxt").write_text(NET)
    script = BOTH.replace("ORDER", order)
    paths = [str(tmp_path / name) for name in ("caffe.proto.bin", "net.prototxt")]
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    parsed = text_format.Parse(NET, schema.NetParameter())
    assert int(done.stdout) == len(parsed.SerializeToString())
