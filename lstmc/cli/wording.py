"""How the command line words an error of the library: its arguments are options here, and so is what can be done."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.errors import Argument, LstmcError, Mend, PassError, VerifyError

MENDS: Mapping[Mend, str] = {
    Mend.NAME_MANIFEST: "name it with --manifest",
    Mend.ONE_STEP: "compile it with --step",
    Mend.OTHER_FOLDER: "choose another folder with -o",
    Mend.OVERWRITE: "begin again in this folder with --overwrite",
    Mend.RESUME: "resume it with --resume",
    Mend.START: "start one without --resume",
}
# options that are called otherwise than their argument; a flag takes no value
OPTIONS = {"out": "-o", "sizes": "-D", "outputs": "--keep", "shapes": "--shape", "language": "--example"}
FLAGS = ("resume", "overwrite", "step", "gpu", "tune", "recurrent_only")


# what other programs call something, and what lstmc has instead
ELSEWHERE: Mapping[str, str] = {
    "lr": "--solver base_lr=NUMBER",
    "learning-rate": "--solver base_lr=NUMBER",
    "batch-size": "-D N=INT",
    "iterations": "--solver max_iter=INT",
    "steps": "--solver max_iter=INT",
    "optimizer": "--solver type=Adam",
    "hidden-size": "-D H=INT",
    "device": "--gpu",
    "cuda": "--gpu",
}


def instead(unknown: str) -> str:
    """Return the line of an error that says what `train` and `sweep` have instead of an unknown option."""
    name = unknown.lstrip("-").replace("_", "-")
    other = f"--solver {name.replace('-', '_')}=VALUE for a setting of the solver, -D NAME=INT for a size"
    return f"Write {ELSEWHERE.get(name) or other}.\n"


def option(argument: Argument) -> str:
    """``--test-split 0.5`` for ``test_split=0.5``, ``-D T=3`` for the size ``T=3``."""
    name = OPTIONS.get(argument.name, f"--{argument.name.replace('_', '-')}")
    if argument.name == "sizes":  # of several dimensions
        return " ".join(f"{name} {size}" for size in argument.value.split())
    return name if argument.name in FLAGS or not argument.value else f"{name} {argument.value}"


def error_text(error: LstmcError, verbose: bool = False) -> str:
    """What is said of an error: its text, with options for arguments. ``verbose`` adds the notes that were added to it,
    as where the compiler was; so does a fault of the compiler's own, which is for who mends it."""
    notes = getattr(error, "__notes__", ()) if verbose or isinstance(error, PassError | VerifyError) else ()
    return "\n".join((error.text(MENDS, option), *notes))
