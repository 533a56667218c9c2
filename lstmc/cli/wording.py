"""How the command line words an error of the library: its arguments are options here, and so is what can be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lstmc.errors import Argument, LstmcError, Mend, PassError, VerifyError
from lstmc.text import did_you_mean

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

SET = (
    "only train and sweep set the options of a model. To compile it with other values, change the defaults in its file,"
    " or call lstmc.compile(model.with_options(NAME=VALUE), ...) in Python"
)


def unknown_option(unknown: str, known: Iterable[str], command: str) -> str:
    """Return what an error says of an option that the command does not have: the option meant, or what to do."""
    name = unknown.lstrip("-").replace("_", "-")
    if name == "set":
        return f": {SET}"
    training = command in ("train", "sweep")
    if training and name in ELSEWHERE:
        return f"\nWrite {ELSEWHERE[name]}."
    near = did_you_mean(name, [one.lstrip("-") for one in known]).replace("mean ", "mean --")
    if near or not training:
        return near
    return f"\nWrite --solver {name.replace('-', '_')}=VALUE for a setting of the solver, -D NAME=INT for a size."


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
