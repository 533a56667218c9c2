"""The Caffe layers that lstmc writes, each an op with its own meaning: ``CAFFE_OPS``. ``HOST_OPS`` are not layers but
actions of the host, for targets whose blobs have other shapes than the model's values."""

from lstmc.ops.base import ops_in
from lstmc_caffe.ops.base import *
from lstmc_caffe.ops.images import *
from lstmc_caffe.ops.inputs import *
from lstmc_caffe.ops.pointwise import *
from lstmc_caffe.ops.product import *
from lstmc_caffe.ops.recurrent import *
from lstmc_caffe.ops.shape import *

CAFFE_OPS = tuple(op for op in ops_in(__name__) if issubclass(op, CaffeOp))
HOST_OPS = tuple(op for op in ops_in(__name__) if not issubclass(op, CaffeOp))
