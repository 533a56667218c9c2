"""Hypothesis profiles: ``ci`` (the default; the same examples every time) and ``nightly`` (many, new every time).

``LSTMC_HYPOTHESIS_PROFILE=nightly pytest tests/test_properties.py``, or pytest's ``--hypothesis-profile=nightly``.
"""

import os

from hypothesis import HealthCheck, Verbosity, settings

COMMON = {
    "deadline": None,  # a shared machine may be slow
    "suppress_health_check": (HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
    "print_blob": True,
}

settings.register_profile("ci", max_examples=250, derandomize=True, **COMMON)
settings.register_profile("nightly", max_examples=5000, verbosity=Verbosity.normal, **COMMON)
settings.load_profile(os.environ.get("LSTMC_HYPOTHESIS_PROFILE", "ci"))
