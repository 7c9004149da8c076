"""What the check of an instruction can see of a call: the forms of its tensors, and its other arguments.

Calls that are alike in this have one plan. A call has no key, and is checked each time, if one of its arguments is of
no known kind (a register, whose value changes) or a view that one index moves.
"""

from __future__ import annotations

import enum
import functools
from typing import Any

import numpy as np

from triptych.simulator.dtypes import DType
from triptych.simulator.memory.layout import Shape
from triptych.simulator.memory.storage import PSUM
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.tensor import NkiTensor

PLAIN = frozenset((int, str, DType, bool, type(None), range, Op))  # kinds whose values are known by being equal
_NUMBERS: dict[tuple[Any, ...], int] = {}  # of forms
_MOST_VALUES = 4096  # of an array that is an argument, as a mask of lanes is


def form_of(t: NkiTensor) -> int:
    """A number for shape, strides, dtype and memory; on chip also the bytes of a partition, and the first partition.

    In PSUM also the first byte within a partition, because a tile lies in one bank. A tensor keeps its form. Numbers
    are negative, so that none is the id of a member of an enumeration.
    """
    storage = t.storage
    row = storage.row
    offset = t.offset if row else 0
    t.form = form = number_of(offset, t.shape, t.strides, t.dtype, row, storage.partition, id(t.buffer))
    return form


@functools.lru_cache(1 << 16)
def number_of(offset: int, shape: Shape, strides: Shape, dtype: DType, row: int, first: int, buffer: int) -> int:
    partition, column = divmod(offset * dtype.itemsize, row) if row else (0, 0)
    form = (shape, strides, dtype, row, first + partition, column if buffer == id(PSUM) else 0, buffer)
    return _NUMBERS.setdefault(form, ~len(_NUMBERS))


def describe(value: Any, key: list[Any], tensors: list[NkiTensor]) -> bool:
    """Add an argument to the key of a call, and its tensors to `tensors`; False if it has no key."""
    kind = type(value)
    if kind in PLAIN:
        key += (kind, value)
    elif kind is float:
        key += (kind, value or str(value))  # 0.0 and -0.0 are equal, and not the same
    elif kind is NkiTensor and (value.index is None or value.index.vector):
        key.append(value.form or form_of(value))
        tensors.append(value)
        if value.index is not None:
            key.append(type(value.index))
            return describe(value.index.source, key, tensors)
    elif issubclass(kind, enum.Enum):
        key.append(id(value))
    elif kind is tuple or kind is list:
        key += (kind, len(value))
        return all([describe(v, key, tensors) for v in value])
    elif issubclass(kind, np.generic):
        key += (kind, value.tobytes())
    elif kind is np.ndarray and value.size <= _MOST_VALUES:
        key += (kind, value.shape, value.dtype, value.tobytes())
    else:
        return False
    return True
