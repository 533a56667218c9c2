"""Hypothesis profiles: ``ci`` (the default; the same examples every time) and ``nightly`` (many, new every time).

Another one: ``pytest --hypothesis-profile=nightly tests/test_properties.py``.
"""

from hypothesis import HealthCheck, Verbosity, settings

COMMON = {
    "deadline": None,  # a shared machine may be slow
    "suppress_health_check": (HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
    "print_blob": True,
}

settings.register_profile("ci", max_examples=300, derandomize=True, **COMMON)
settings.register_profile("nightly", max_examples=5000, verbosity=Verbosity.normal, **COMMON)
settings.load_profile("ci")
