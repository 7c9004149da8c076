"""Views of a tensor that its shape and strides decide alone: reshaped, permuted, broadcast, seen as another dtype.

Each function returns the layout of the view, or raises NkiValidationError where the language has no such view: on chip
dimension 0, the partition, stays first and whole, and so do rows that each have an index.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Protocol

from triptych.simulator.dtypes import DType
from triptych.simulator.errors import NkiError, NkiValidationError, OutOfBounds
from triptych.simulator.memory.layout import TENSOR_API, Layout, Shape
from triptych.simulator.memory.storage import Storage


class Viewed(Protocol):
    """What the rules of views ask of a tensor. Errors call it by its repr."""

    @property
    def layout(self) -> Layout: ...

    @property
    def storage(self) -> Storage: ...

    @property
    def on_chip(self) -> bool: ...

    @property
    def keeps_rows(self) -> bool: ...


def permute(t: Viewed, dims: Sequence[int]) -> Layout:
    ndim, order = len(t.layout.shape), integers("permute", dims)
    if sorted(order) != list(range(ndim)):
        raise NkiValidationError(f"permute needs a permutation of 0..{ndim - 1}, got {dims}", source=TENSOR_API)
    if t.keeps_rows and order[0] != 0:
        raise NkiValidationError(f"permute keeps the partition first on chip, got {dims}", source=TENSOR_API)
    return t.layout.permute(order)


def broadcast(t: Viewed, dim: int, size: int) -> Layout:
    (count,) = integers("broadcast", (size,))
    if count < 1:
        raise NkiValidationError(f"broadcast repeats a dimension once or more, got {size}", source=TENSOR_API)
    return t.layout.broadcast(_free_dim(t, dim, "broadcast"), count)


def expand_dim(t: Viewed, dim: int) -> Layout:
    (at,) = integers("expand_dim", (dim,))
    if not 0 <= at <= len(t.layout.shape) or (t.keeps_rows and at == 0):
        raise NkiValidationError(f"expand_dim({dim}) of {t!r}: not before the partition", source=TENSOR_API)
    return t.layout.expand_dim(at)


def squeeze_dim(t: Viewed, dim: int) -> Layout:
    found = t.layout.squeeze_dim(_free_dim(t, dim, "squeeze_dim"))
    check_rank(t, len(found.shape), "squeeze_dim")
    return found


def reshape_dim(t: Viewed, dim: int, shape: Sequence[int]) -> Layout:
    at = check_dim(t, dim)
    size = t.layout.shape[at]
    sizes = _inferred(integers("reshape_dim", shape), size, "reshape_dim")
    if t.keeps_rows and at == 0 and sizes != (size,):
        raise NkiValidationError("reshape_dim cannot split the partition dimension", source=TENSOR_API)
    return t.layout.split_dim(at, sizes)


def flatten_dims(t: Viewed, start_dim: int, end_dim: int) -> Layout:
    first, last = _free_dim(t, start_dim, "flatten_dims"), check_dim(t, end_dim)
    if last < first:
        raise NkiValidationError(f"flatten_dims({start_dim}, {end_dim}) ends before it starts", source=TENSOR_API)
    shape = t.layout.shape
    return reshape(t, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def reshape(t: Viewed, shape: Sequence[int]) -> Layout:
    sizes = _inferred(integers("reshape", shape), t.layout.size, "reshape")
    check_rank(t, len(sizes), "reshape")
    if t.keeps_rows and sizes[0] != t.layout.shape[0]:
        raise NkiValidationError(
            f"reshape keeps the partition dimension on chip: {t.layout.shape} cannot become {sizes}", source=TENSOR_API
        )
    found = t.layout.reshape(sizes)
    if found is None:
        raise NkiValidationError(
            f"reshape of {t.layout.shape} with strides {t.layout.strides} to {sizes} would need a copy",
            source=TENSOR_API,
        )
    return found


def as_dtype(t: Viewed, dtype: DType) -> Layout:
    found = t.layout.as_dtype(dtype)
    if found is None:
        raise NkiValidationError(
            f"view({dtype}) needs a contiguous last dimension that {dtype.itemsize} bytes divide, got {t!r}",
            source=TENSOR_API,
        )
    check_has_bits(t)
    return found


def check_dim(t: Viewed, dim: int) -> int:
    """`dim`, which is a dimension of the tensor."""
    (at,) = integers("a dimension", (dim,))
    if not 0 <= at < len(t.layout.shape):
        raise OutOfBounds(f"dimension {dim} of {t!r}", source=TENSOR_API)
    return at


def integers(what: str, values: Any) -> Shape:
    """Integers of any kind as Python's own."""
    try:
        return tuple([operator.index(n) for n in values])
    except TypeError as error:
        if isinstance(error, NkiError):  # a register's value is not known
            raise
        raise NkiValidationError(f"{what} takes integers, got {values!r}", source=TENSOR_API) from None


def check_rank(t: Viewed, ndim: int, what: str) -> None:
    """A view has two dimensions at least on chip, and one elsewhere."""
    least = 2 if t.on_chip else 1
    if ndim < least:
        raise NkiValidationError(f"{what} of {t!r} would leave fewer than {least} dimensions", source=TENSOR_API)


def check_has_bits(t: Viewed) -> None:
    """The tensor's bytes are those of its dtype, and can be seen as another."""
    if t.storage.widened:
        raise NkiValidationError(f"{t!r}: the mode without rounding keeps no bits to see as another dtype")


def _free_dim(t: Viewed, dim: int, what: str) -> int:
    """`dim`, which is not the one that stays as it is."""
    at = check_dim(t, dim)
    if at == 0 and t.keeps_rows:
        raise NkiValidationError(f"{what} cannot touch the partition dimension of {t!r}", source=TENSOR_API)
    return at


def _inferred(shape: Shape, size: int, what: str) -> Shape:
    """`shape` with one -1 replaced, checked to hold `size` elements."""
    if shape.count(-1) == 1:
        rest = math.prod(s for s in shape if s != -1)
        shape = tuple(size // rest if s == -1 else s for s in shape) if rest else shape
    if math.prod(shape) != size or any(s < 1 for s in shape):
        raise NkiValidationError(f"{what} to {shape} does not hold the {size} elements there are", source=TENSOR_API)
    return shape
