"""Hypothesis profiles, each with new examples every time: ``quick``, ``ci`` (the default) and ``nightly`` (many).

``quick`` and ``ci`` print a failing example as it was drawn: making it smaller took five minutes where each try is a
net in real Caffe. ``nightly`` makes it smaller, also one that another profile has saved:
``pytest --hypothesis-profile=nightly tests/test_properties.py``. tests/conftest.py draws the seed, says it, and takes
one to repeat.
"""

from hypothesis import HealthCheck, Phase, settings

COMMON = {
    "deadline": None,  # a shared machine may be slow
    "suppress_health_check": (HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
    "print_blob": True,
}

AS_DRAWN = (Phase.explicit, Phase.reuse, Phase.generate)

settings.register_profile("quick", max_examples=25, phases=AS_DRAWN, **COMMON)
settings.register_profile("ci", max_examples=50, phases=AS_DRAWN, **COMMON)
settings.register_profile("nightly", max_examples=5000, **COMMON)
settings.load_profile("ci")
