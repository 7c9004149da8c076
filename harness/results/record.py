"""The base of all typed records of a document, and the two conversions that JSON does not do by itself.

JSON has no NaN and no infinity: they are written as the strings "nan", "inf" and "-inf", and read back as numbers.
Fields that hold their default are left out of the document, except in `Result`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An immutable part of a document."""


def to_plain(value: Any) -> Any:
    """`value`, which may hold records and NumPy scalars, as what JSON can hold."""
    return name_nonfinite(msgspec.to_builtins(value, enc_hook=item))


def item(value: Any) -> Any:
    """A NumPy scalar as Python's own number."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a document holds no {type(value).__name__}")


def name_nonfinite(value: Any) -> Any:
    """`value` with each non-finite float replaced by its name."""
    if isinstance(value, Mapping):
        return {str(key): name_nonfinite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [name_nonfinite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
