"""``python -m lstmc`` is the ``lstmc`` command."""

from lstmc.cli import main

main()
