"""Indices of a view that are read when an instruction uses it, not when the kernel makes it.

    one index        element (i0, ..) lies at offset + index * scale + sum(strides[k] * ik)
    one for a row    element (r, ..) lies at offset + index[r] * scale + sum over k >= 1 of strides[k] * ik
    gather           element (p, i) is element (p, offsets[i]) of `base`, for every partition p

How an instruction reads them: triptych.simulator.machine.dynamic and .indirection. Source of the rules:
nki/deep-dives/nki-aps.rst; nki/api/nki/language/__init__.py, NkiTensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.memory.layout import TENSOR_API, Layout
from triptych.simulator.memory.storage import SBUF
from triptych.simulator.running import running
from triptych.simulator.tensors.views import Viewed


@dataclass(frozen=True)
class DynamicIndex:
    """An index that moves a view: one for all of it, or one for each of its rows.

    A tile with an index for each row holds them in columns that follow each other: index.T.flatten().
    """

    source: Any  # a register, a tensor of one element, or a tile of integers for the rows
    dim: int  # the dimension that it chooses from
    scale: int  # elements between two entries of that dimension
    count: int | None  # entries of that dimension; None where the index may leave it and not the tensor
    vector: bool  # one index for each row
    wide: bool = False  # a scalar of 64 bits may choose: in HBM


@dataclass(frozen=True)
class Gather:
    """Tensor indirection: a tile of offsets that chooses elements of each partition, the same for all of them."""

    source: Any  # the tile
    base: Layout  # [P, F], of which they are chosen
    vector: ClassVar[bool] = False


def check_kept(t: Viewed, index: DynamicIndex | Gather, view: Layout, other: object) -> None:
    """Raise unless a view of `t` can keep its index, with its rows or its gather, and gets no other."""
    if other is not None:
        raise NkiValidationError(f"{t!r} is indirect already, and has one dynamic index", source=TENSOR_API)
    if isinstance(index, Gather) and view != t.layout:
        raise NkiValidationError(f"{t!r} is indirect: no part or other shape of it is taken", source=TENSOR_API)
    if index.vector and view.shape[0] != t.layout.shape[0]:
        raise rows_stay(t)


def rows_stay(t: Viewed) -> NkiValidationError:
    return NkiValidationError(f"the rows of {t!r} have an index each: none is selected or left out", source=TENSOR_API)


def entry_index(source: Any, dim: int, scale: int, count: int | None, wide: bool) -> DynamicIndex:
    """One index for all of a view: a register, a scalar, or an integer tensor of one element in SBUF."""
    if _is_tensor(source) and not (source.size == 1 and source.buffer is SBUF and source.dtype.is_int):
        raise NkiValidationError(
            f"a dynamic index is a register or one integer in SBUF, got {source!r}", source=TENSOR_API
        )
    return DynamicIndex(source, dim, scale, count, False, wide)


def check_row_index(t: Viewed, source: Any, dim: int) -> None:
    """One index for each row: integers in SBUF, over dimension 0 of a tensor in HBM."""
    if t.on_chip or dim != 0:
        raise NkiValidationError(f"a vector index goes over dimension 0 of a tensor in HBM, got {dim} of {t!r}")
    fits = _is_tensor(source) and source.buffer is SBUF and source.dtype.is_int
    if not fits or source.free_size != source.layout.shape[1] or source.is_indirect():  # (P, F, 1, ..) is as good
        raise NkiValidationError(f"vector_offset must be a tile of integers in SBUF, got {source!r}", source=TENSOR_API)


def rows(t: Viewed, source: Any, dim: int) -> tuple[Layout, DynamicIndex]:
    """A view of which each row is the entry of dimension 0 that its index says."""
    check_row_index(t, source, dim)
    offset, shape, strides, dtype = t.layout
    if dtype != t.storage.allocation.dtype:
        raise NkiValidationError(
            "vector_select of a tensor seen as another dtype is not supported; copy it to a tensor of that dtype",
            source="release-notes/components/nki.rst, NKI 0.5.0, Known Issues",
        )
    found = t.layout.changed(offset, (source.shape[0], *shape[1:]), (0, *strides[1:]))
    return found, DynamicIndex(source, 0, strides[0], shape[0], True)


def gather(t: Viewed, source: Any, num_elem: int | None) -> tuple[Layout, Gather]:
    """A view [P, num_elem] of the elements that a tile of offsets chooses."""
    chip = running().chip
    if chip.generation < 4:
        raise NkiValidationError(f"indirect needs NeuronCore-v4, and the target is {chip.name}", source=TENSOR_API)
    if not t.on_chip or not t.layout.is_contiguous(1):
        raise NkiValidationError(f"indirect goes over gapless tiles in SBUF or PSUM, got {t!r}", source=TENSOR_API)
    _check_tile(source)
    offset, shape, strides, _ = t.layout
    count = source.size if num_elem is None else num_elem
    if source.shape[0] != shape[0] or not isinstance(count, int) or not 1 <= count <= source.size:
        raise NkiValidationError(
            f"index must have the {shape[0]} partitions of the tile and hold num_elem offsets, got "
            f"{source.shape} for {count!r}",
            source=TENSOR_API,
        )
    base = t.layout.changed(offset, (shape[0], math.prod(shape[1:])), (strides[0], 1))
    return t.layout.changed(offset, (shape[0], count), (strides[0], 0)), Gather(source, base)


def _check_tile(source: Any) -> None:
    fits = _is_tensor(source) and source.buffer is SBUF and source.ndim == 2 and source.dtype.is_int
    if not fits or source.is_indirect():
        raise NkiValidationError(
            f"index must be integers in SBUF, in two dimensions, got {source!r}", source=TENSOR_API
        )


def _is_tensor(value: Any) -> bool:
    return isinstance(getattr(value, "layout", None), Layout)
