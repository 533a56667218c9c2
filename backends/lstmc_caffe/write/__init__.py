"""Writes a net and its weights as files: prototxt, caffemodel and manifest. From a manifest it writes programs that
stream through a net of one step."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "program")
