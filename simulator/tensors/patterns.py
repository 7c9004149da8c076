"""`tensor.ap(..)`: an explicit access pattern over the storage, checked to stay inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from triptych.simulator.dtypes import DType
from triptych.simulator.errors import NkiError, NkiValidationError, OutOfBounds
from triptych.simulator.memory.layout import TENSOR_API, Layout, laid_out, reach
from triptych.simulator.running import running
from triptych.simulator.tensors.index import DynamicIndex, check_row_index, entry_index
from triptych.simulator.tensors.views import Viewed, check_dim, check_has_bits, check_rank, integers

_GUIDE = "nki/deep-dives/nki-aps.rst"


def access_pattern(
    t: Viewed,
    pairs: Sequence[Sequence[int]],
    offset: int,
    dtype: DType,
    scalar_offset: Any,
    vector_offset: Any,
    dim: int,
) -> tuple[Layout, DynamicIndex | None, OutOfBounds | None]:
    """The view of [stride, count] pairs, its index, and the error of using it; the last two may be None.

    offset: from the view's beginning to the pattern's, in elements of `dtype`
    scalar_offset, vector_offset: an index over `dim`, for all of the pattern or for each row; at most one is given
    """
    if scalar_offset is not None and vector_offset is not None:
        raise NkiValidationError("ap takes a scalar_offset or a vector_offset, not both", source=TENSOR_API)
    view = t.layout
    if dtype != view.dtype:
        check_has_bits(t)
    try:
        strides, shape = [int(p[0]) for p in pairs], [int(p[1]) for p in pairs]
    except (TypeError, ValueError, IndexError) as error:
        if isinstance(error, NkiError):  # a register's value is not known
            raise
        message = f"a pattern is a list of [stride, count] pairs, one a dimension; got {pairs!r}"
        raise NkiValidationError(message, source=_GUIDE) from None
    check_rank(t, len(shape), "ap")
    (begin,) = integers("ap's offset", (offset,))
    if vector_offset is not None:
        check_row_index(t, vector_offset, dim)
        strides[0] = 0  # each row has its own index: the leading stride is ignored
    start, rest = divmod(view.offset * view.dtype.itemsize, dtype.itemsize)
    if rest:
        raise NkiValidationError(f"ap as {dtype}: the view begins inside an element, at {view.offset} of {t!r}")
    start += begin
    allocation = t.storage.allocation
    total = allocation.nbytes // dtype.itemsize
    row = total // allocation.shape[0]  # elements of one partition
    if t.on_chip and allocation.nbytes // allocation.shape[0] % dtype.itemsize:
        raise NkiValidationError(f"ap as {dtype}: a partition of {allocation.name!r} does not hold whole elements")
    free_bytes = math.prod(view.shape[1:]) * view.dtype.itemsize
    own = t.on_chip and shape[0] > 1 and strides[0] != row and strides[0] * dtype.itemsize == free_bytes
    if own and not running().options.forbids("pattern-stride"):
        message = f"ap: the first stride of an on-chip pattern is the partition's, {row} elements; got {strides[0]}"
        running().remark("pattern-stride", f"{message}, the view's own", _GUIDE)
        strides[0] = row
    found = laid_out(start, shape, strides, dtype)
    if not _inside(found, total, row, t.on_chip):
        return (
            found,
            None,
            OutOfBounds(
                f"ap {list(map(list, pairs))} at offset {start} leaves tensor {allocation.name!r} "
                f"{allocation.shape} ({total} elements, {row} a row)",
                source=_GUIDE,
            ),
        )
    if scalar_offset is None and vector_offset is None:
        return found, None, None
    scale, rest = divmod(view.strides[check_dim(t, dim)] * view.dtype.itemsize, dtype.itemsize)
    if rest:
        raise NkiValidationError(f"ap as {dtype}: an entry of dimension {dim} ends inside an element")
    if vector_offset is not None:
        return found, DynamicIndex(vector_offset, dim, scale, view.shape[dim], True), None
    # The pattern starts `scale` elements further for each: no dimension bounds it (nki/deep-dives/nki-aps.rst), and
    # kernels choose on one dimension by the stride of another that is the same.
    return found, entry_index(scalar_offset, dim, scale, None, not t.on_chip), None


def _inside(found: Layout, total: int, row: int, on_chip: bool) -> bool:
    """Whether a pattern stays inside a tensor of `total` elements, and on chip inside partitions of `row` elements."""
    start, shape, strides, _ = found
    before, behind = reach(shape, strides)
    if min(shape) < 1 or start + before < 0 or start + behind >= total:
        return False
    if not on_chip:
        return True
    if shape[0] > 1 and strides[0] != row:
        raise NkiValidationError(
            f"ap: the first stride of an on-chip pattern is the partition's, {row} elements; got {strides[0]}",
            source=_GUIDE,
        )
    before, behind = reach(shape[1:], strides[1:])
    return start % row + before >= 0 and start % row + behind < row
