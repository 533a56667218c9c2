"""What can go wrong while Caffe is built, as errors that a user can act on."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.errors import BackendError


class InstallError(BackendError):
    """Caffe could not be installed. Nothing that looks installed is left behind."""


class MissingPackagesError(InstallError):
    """System packages are missing and cannot be installed from here.

    ``packages`` names them; ``command`` is what installs them, or ``None`` where there is no apt-get.
    """

    def __init__(
        self, message: str, packages: Sequence[str], command: str | None, *, notes: Sequence[str] = ()
    ) -> None:
        super().__init__(message, notes=notes)
        self.packages = tuple(packages)
        self.command = command
