"""The command line and the backend in NumPy, as the tests of the command line have them."""

from tests.cli.conftest import lstmc
from tests.cli.test_train import interpreter

__all__ = ["interpreter", "lstmc"]
