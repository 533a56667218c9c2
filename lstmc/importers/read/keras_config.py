"""The configuration of a Keras model, read as data: the JSON of ``to_json``, the YAML of Keras 1 and 2."""

from __future__ import annotations

import json
from typing import Any

from lstmc.extras import need
from lstmc.importers.refusal import SourceError

LIMIT = 64 * 2**20  # bytes
_MOST = 1_000_000  # values, each counted where it stands: YAML lets one stand in many places


def read_config(origin: str, text: bytes | str) -> Any:
    """JSON or YAML, told apart by the first character. Raises :class:`SourceError`."""
    if len(text) > LIMIT:
        raise SourceError(f"{origin}: its configuration has {len(text):,} bytes; {LIMIT:,} are the most")
    start = text[:100].lstrip()[:1]
    try:
        if start not in (b"{", b"[", b"", "{", "[", ""):
            return _yaml(origin, text)
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{origin}: its configuration is no JSON: {str(error)[:100]}") from None


def _yaml(origin: str, text: bytes | str) -> Any:
    yaml = need("yaml", "PyYAML", "keras", SourceError)

    class Plain(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """What makes no objects, but knows the tuples that Keras wrote."""

    Plain.add_constructor(
        "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node, deep=True)
    )
    Plain.add_constructor("tag:yaml.org,2002:python/unicode", lambda loader, node: loader.construct_scalar(node))
    try:
        found = yaml.load(text, Plain)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise SourceError(f"{origin}: its configuration is neither JSON nor YAML: {told[:100]}") from None
    if _count(found, {}) > _MOST:
        raise SourceError(f"{origin}: its configuration has more than {_MOST:,} values")
    return found


def _count(thing: Any, known: dict[int, int]) -> int:
    """How many values there are, written out. One that is within itself counts as too many."""
    if not isinstance(thing, dict | list):
        return 1
    if id(thing) not in known:
        known[id(thing)] = _MOST + 1
        known[id(thing)] = 1 + sum(_count(one, known) for one in (thing.values() if isinstance(thing, dict) else thing))
    return known[id(thing)]
