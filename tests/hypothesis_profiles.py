"""Hypothesis profiles, each with new examples every time: ``quick``, ``ci`` (the default) and ``nightly`` (many).

Another one: ``pytest --hypothesis-profile=nightly tests/test_properties.py``. tests/conftest.py draws the seed, says
it, and takes one to repeat.
"""

from hypothesis import HealthCheck, settings

COMMON = {
    "deadline": None,  # a shared machine may be slow
    "suppress_health_check": (HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
    "print_blob": True,
}

settings.register_profile("quick", max_examples=25, **COMMON)
settings.register_profile("ci", max_examples=300, **COMMON)
settings.register_profile("nightly", max_examples=5000, **COMMON)
settings.load_profile("ci")
