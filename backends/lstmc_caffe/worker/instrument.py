"""What a loaded net gets beyond its own prototxt: ways for gradients in and out. Part of the worker, which runs it.

As the worker it needs no module of lstmc's, and runs on Python 2.7 as on 3.13.
"""

PROBE = "lstmc:probe:"  # begins the names of the reader layers that carry injected gradients
FED = "lstmc:fed:"  # begins the names of the blobs that are fed in place of inputs whose gradient is wanted


class RequestError(Exception):
    """A request that asks for something that is not there or does not fit."""


def instrument(message, request):
    """Adds to a NetParameter what a request asks for: probes, gradients (of inputs), force_backward."""
    tops = {str(top) for layer in message.layer for top in layer.top}.union(str(name) for name in message.input)
    for blob in request["probes"]:
        if blob not in tops:
            raise RequestError("cannot probe blob %s: no layer of the net makes it" % blob)
    if request["gradients"] is not None:
        _want_gradients(message, request["gradients"])
    for blob in request["probes"]:
        _add_probe(message, blob)
    if request["force_backward"]:
        message.force_backward = True


def _add_probe(message, blob):
    """Caffe overwrites the gradient of a blob that has readers, but sums those of several readers. So a probe is one
    more reader, which changes nothing; its loss weight makes Caffe go backward from it."""
    message.layer.add(name=PROBE + blob, type="Power", bottom=[blob], top=[PROBE + blob], loss_weight=[1])


def _want_gradients(message, blobs):
    """Caffe goes backward to what learned blobs go into. So a wanted input has a Bias behind it, with a zero to learn.

    Not force_backward: that asks for gradients of indices and labels too, where Caffe aborts. What lr_mult 0 would
    keep from having a gradient has one too.
    """
    wanted, layers = set(blobs), []
    for layer in message.layer:
        copy = type(layer)()
        copy.CopyFrom(layer)
        for spec in copy.param:
            if spec.lr_mult == 0:
                spec.lr_mult = 1
        layers.append(copy)
        for index, top in enumerate(layer.top):
            if str(top) in wanted and not layer.bottom:
                wanted.remove(str(top))
                copy.top[index] = FED + top
                bias = type(layer)(name=FED + top, type="Bias", bottom=[FED + top], top=[top])
                bias.bias_param.axis = bias.bias_param.num_axes = 0
                layers.append(bias)
    if wanted:
        raise RequestError("no gradient of %s: no layer without bottoms makes it" % ", ".join(sorted(wanted)))
    del message.layer[:]
    message.layer.extend(layers)
