"""The net of the post that this project grew from, by pycaffe's NetSpec; runs in the worker, on the worker's Python.

An LSTM (arXiv:1511.04119) unrolled by hand: one InnerProduct of x and one of h at each step, their sum cut into
i, f, o, g, activations in place, and the h of all steps joined along time.
"""

import os
import tempfile

import caffe
from caffe import layers as L
from caffe import params as P

WEIGHTS = ("w_Mxw", "w_Mxb", "w_Mhw")
SMALL = {"type": "uniform", "min": -0.05, "max": 0.05}
ZERO = {"type": "constant", "value": 0}


def constant_blob(shape):
    """A DummyData of zeros."""
    return L.DummyData(dummy_data_param={"shape": {"dim": shape}, "data_filler": ZERO})


def products(x, h, units):
    """The products of one step, with shared weights."""
    of_x = L.InnerProduct(
        x,
        inner_product_param={"num_output": 4 * units, "axis": 2, "weight_filler": SMALL, "bias_filler": ZERO},
        param=[
            {"name": WEIGHTS[0], "lr_mult": 1, "decay_mult": 1},
            {"name": WEIGHTS[1], "lr_mult": 2, "decay_mult": 0},
        ],
    )
    of_h = L.InnerProduct(
        h,
        inner_product_param={"num_output": 4 * units, "axis": 2, "bias_term": False, "weight_filler": SMALL},
        param={"name": WEIGHTS[2], "lr_mult": 1, "decay_mult": 1},
    )
    return of_x, of_h


def one_step(ns, prefix, x, h, c, units):
    """One time step; returns the next h and c."""
    of_x, of_h = products(x, h, units)
    ns.tops.update({prefix + "Mx": of_x, prefix + "Mh": of_h})
    total = L.Eltwise(of_x, of_h, eltwise_param={"operation": P.Eltwise.SUM})
    cuts = [units, 2 * units, 3 * units]
    raw = L.Slice(total, ntop=4, slice_param={"axis": 2, "slice_point": cuts})
    ns.tops.update({prefix + "Mx+Mh": total})
    ns.tops.update({prefix + "raw_" + gate: top for gate, top in zip("ifog", raw, strict=True)})
    i, f, o = (L.Sigmoid(top, in_place=True) for top in raw[:3])
    g = L.TanH(raw[3], in_place=True)
    c_f = L.Eltwise(f, c, eltwise_param={"operation": P.Eltwise.PROD})
    c_i = L.Eltwise(i, g, eltwise_param={"operation": P.Eltwise.PROD})
    c = L.Eltwise(c_f, c_i, eltwise_param={"operation": P.Eltwise.SUM})
    act_c = L.TanH(c, in_place=False)  # c must be preserved for the next step
    h = L.Eltwise(o, act_c, eltwise_param={"operation": P.Eltwise.PROD})
    tops = {"i": i, "f": f, "o": o, "g": g, "c_f": c_f, "c_i": c_i, "c": c, "act_c": act_c, "h": h}
    ns.tops.update({prefix + name: top for name, top in tops.items()})
    return h, c


def unrolled(shape, units):
    """The whole net for X of a shape [T, N, ...], as a NetSpec."""
    steps, batch = shape[:2]
    ns = caffe.NetSpec()
    ns.h0 = constant_blob([1, batch, units])
    ns.c0 = constant_blob([1, batch, units])
    ns.X = constant_blob(shape)
    xt = L.Slice(ns.X, ntop=steps, slice_param={"axis": 0, "slice_point": list(range(1, steps))})
    h, c, hs = ns.h0, ns.c0, []
    for t, x in enumerate(xt if steps > 1 else [xt]):
        h, c = one_step(ns, f"t{t}/lstm/", x, h, c, units)
        hs.append(h)
    ns.H = L.Concat(*hs, concat_param={"axis": 0})
    return ns


def run(args, arrays):
    """Forward on X with the given weights, backward from a gradient of H; everything that can be compared."""
    message = unrolled(args["shape"], args["units"]).to_proto()
    message.force_backward = True
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(str(message))
        net = caffe.Net(path, caffe.TEST)
    finally:
        os.unlink(path)
    owners = {spec.name: (layer.name, k) for layer in reversed(message.layer) for k, spec in enumerate(layer.param)}
    params = {name: net.params[layer][k] for name, (layer, k) in owners.items()}
    for name in WEIGHTS:
        params[name].data[...] = arrays[name]
        params[name].diff[...] = 0
    net.blobs["X"].data[...] = arrays["X"]
    net.forward()
    net.blobs["H"].diff[...] = arrays["dH"]
    net.backward()
    found = {"H": net.blobs["H"].data, "dX": net.blobs["X"].diff}
    for t in range(args["shape"][0]):
        for name in "hc":
            found[f"{name}{t}"] = net.blobs[f"t{t}/lstm/{name}"].data
    found.update({"d" + name: params[name].diff for name in WEIGHTS})
    types = [layer.type for layer in message.layer]
    return {"params": sorted(owners), "types": {name: types.count(name) for name in set(types)}}, found


def save(args, arrays):
    """The net as text, and its weights as a caffemodel in a folder."""
    text = str(unrolled(args["shape"], args["units"]).to_proto())
    net_path = os.path.join(args["folder"], "post.prototxt")
    with open(net_path, "w") as file:
        file.write(text)
    net = caffe.Net(net_path, caffe.TEST)
    net.save(os.path.join(args["folder"], "post.caffemodel"))
    return {}, {}
