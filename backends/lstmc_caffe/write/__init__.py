"""Writes the files of a net: prototxt, caffemodel and manifest; from a manifest, programs that stream through a net."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "program")
