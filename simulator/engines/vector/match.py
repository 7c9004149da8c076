"""Vector Engine: eight values searched for in each partition.

Both instructions pair each of the eight values with an element equal to it in float32, the first that is not yet taken.
They differ in the order in which they go through the eight: nc_find_index8 from 0 up, so that equal values get their
positions in ascending order, nc_match_replace8 from 7 down (nki/api/nki/isa/__init__.py, nc_match_replace8).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.operands.operands import describe, on_chip, put, put_bits, same_tile
from triptych.simulator.tensors.tensor import NkiTensor


@instruction(eng.vector, cost=costs.streamed, order="late")
def nc_find_index8(dst: NkiTensor, data: NkiTensor, vals: NkiTensor, name: str | None = None) -> Plan:
    """dst[P, 8] = the index of each of vals[P, 8] in data's partition, or all ones where it does not occur.

    Equal values get their positions in ascending order. A NaN equals nothing.
    """
    on_chip(dst=dst, data=data, vals=vals)
    _check_search(data, vals)
    if data.ndim > 3:
        raise NkiValidationError(f"data has at most 3 dimensions, got {data.shape}")
    _check_indices("dst", dst, data)
    return Plan(eng.vector, (data, vals), (dst,), _find, (dst, data, vals))


def _find(dst: NkiTensor, data: NkiTensor, vals: NkiTensor) -> None:
    _put_indices(dst, _pair(_rows(data), _rows(vals), range(8))[0])


@instruction(eng.vector, cost=costs.streamed)
def nc_match_replace8(
    dst: NkiTensor,
    data: NkiTensor,
    vals: NkiTensor,
    imm: float,
    dst_idx: NkiTensor | None = None,
    name: str | None = None,
) -> Plan:
    """dst[P, F] = data with the first occurrence of each of vals[P, 8] replaced by imm; dst_idx[P, 8] = their indices.

    Equal values get their positions in descending order. Silent in the documentation and taken from nc_find_index8: the
    bounds of data's size, the dtypes of dst_idx, and all ones where a value does not occur.
    """
    on_chip(dst=dst, data=data, vals=vals)
    same_tile("dst and data", dst, data)
    _check_search(data, vals)
    if isinstance(imm, bool) or not isinstance(imm, (int, float, np.integer, np.floating)):
        raise NkiValidationError(f"imm must be a float32 number, got {describe(imm)}")
    if dst_idx is not None:
        on_chip(dst_idx=dst_idx)
        _check_indices("dst_idx", dst_idx, data)
    writes = (dst,) if dst_idx is None else (dst, dst_idx)
    return Plan(eng.vector, (data, vals), writes, _replace, (dst, data, vals, imm, dst_idx))


def _replace(dst: NkiTensor, data: NkiTensor, vals: NkiTensor, imm: float, dst_idx: NkiTensor | None) -> None:
    x = _rows(data)
    found, taken = _pair(x, _rows(vals), range(7, -1, -1))
    put(dst, np.where(taken, np.float32(imm), x))
    if dst_idx is not None:
        _put_indices(dst_idx, found)


def _check_search(data: NkiTensor, vals: NkiTensor) -> None:
    if not 8 <= data.free_size <= 16384:
        raise NkiValidationError(
            f"data must have 8 to 16384 elements per partition, got {data.free_size} in {data.shape}"
        )
    if vals.shape[0] != data.shape[0] or vals.free_size != 8 or vals.ndim > 3:
        raise NkiValidationError(f"vals must be ({data.shape[0]}, 8) in at most 3 dimensions, got {vals.shape}")


def _check_indices(what: str, dst: NkiTensor, data: NkiTensor) -> None:
    if dst.shape != (data.shape[0], 8) or dst.dtype not in ("uint16", "uint32"):
        raise NkiValidationError(f"{what} must be ({data.shape[0]}, 8) in uint16 or uint32, got {dst!r}")


def _rows(t: NkiTensor) -> Array:
    return t.f32().reshape(t.shape[0], -1)


def _pair(x: Array, vals: Array, order: Iterable[int]) -> tuple[Array, Array]:
    """The position in each row of x that each value takes, -1 where none is left; and which elements are taken."""
    found = np.full(vals.shape, -1, np.int64)
    taken = np.zeros(x.shape, bool)
    for column in order:
        free = (x == vals[:, column : column + 1]) & ~taken
        rows = np.flatnonzero(free.any(axis=1))
        found[rows, column] = np.argmax(free[rows], axis=1)
        taken[rows, found[rows, column]] = True
    return found, taken


def _put_indices(dst: NkiTensor, found: Array) -> None:
    """-1 becomes all ones."""
    put_bits(dst, found.astype(dst.dtype.np))
