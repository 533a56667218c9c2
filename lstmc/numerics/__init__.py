"""Low precision: the ranges of a net's values over streams of data, and the errors of a net in a device's numbers."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "device")
