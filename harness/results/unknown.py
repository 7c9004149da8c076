"""Fields that a document has and this version does not know: found when it is read, put back when it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def unknown_fields(given: Any, known: Any) -> Any:
    """What `given` holds beyond `known`, its own content as this version writes it; None where that is nothing.

    A list says what is unknown of each of its elements.
    """
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        found = {key: value for key, value in given.items() if key not in known}
        for key in given.keys() & known.keys():
            inner = unknown_fields(given[key], known[key])
            if inner is not None:
                found[key] = inner
        return found or None
    if isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        each = [unknown_fields(a, b) for a, b in zip(given, known, strict=True)]
        return each if any(inner is not None for inner in each) else None
    return None


def put_back(plain: Any, unknown: Any) -> Any:
    """`plain` with the fields that `unknown_fields` found; what `plain` says itself goes first."""
    if isinstance(plain, Mapping) and isinstance(unknown, Mapping):
        extra = {key: value for key, value in unknown.items() if key not in plain}
        return {**{key: put_back(value, unknown.get(key)) for key, value in plain.items()}, **extra}
    if isinstance(plain, list) and isinstance(unknown, list) and len(plain) == len(unknown):
        return [put_back(a, b) for a, b in zip(plain, unknown, strict=True)]
    return plain
