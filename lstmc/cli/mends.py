"""What can be done about an error, in the words of the command line: the option that does it."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.errors import Mend

OPTIONS: Mapping[Mend, str] = {
    Mend.NAME_MANIFEST: "name it by --manifest",
    Mend.ONE_STEP: "compile it with --step",
    Mend.OTHER_FOLDER: "give another folder by -o",
    Mend.RESUME: "go on with the run by --resume",
    Mend.START: "start one without --resume",
}
