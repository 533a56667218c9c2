"""Other programs that read Caffe nets: what each is, where it is installed, and nets run in it."""

from lstmc.on_use import modules_on_use

modules_on_use(__name__, "executor", "known")
