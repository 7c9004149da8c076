"""GpSimd Engine: index patterns and what they select. It reads and writes SBUF only.

Both instructions generate, for partition p and the free indices w, z, y, x of a pattern of [step, num] pairs,

    value = offset + p * channel_multiplier + w * step_w + z * step_z + y * step_y + x * step_x

in 32-bit integers; iota writes it, affine_select compares it with 0. The offset may be a register, which is read when
the instruction runs (release notes of NKI 0.4.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32, Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.registers import VirtualRegister, bound_value
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.operands import bits, describe, in_buffer, put, put_bits, same_tile, stored
from triptych.simulator.operands.operators import OPS, Op
from triptych.simulator.tensors.tensor import NkiTensor

_COMPARE = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
INT32 = np.iinfo(np.int32)


@instruction(eng.gpsimd, cost=costs.gpsimd)
def iota(
    dst: NkiTensor,
    pattern: Sequence[Sequence[int]],
    offset: int | VirtualRegister = 0,
    channel_multiplier: int = 0,
    name: str | None = None,
) -> Plan:
    """dst[p, w, z, y, x] = offset + p * channel_multiplier + the pattern's steps, int32 cast to dst's dtype."""
    in_buffer(MemoryRegion.sbuf, dst=dst)
    _check_arithmetic(dst=dst)
    return Plan(eng.gpsimd, (), (dst,), _write, (dst, *_checked(dst, pattern, offset, channel_multiplier)))


def _write(dst: NkiTensor, start: int, step: int, *pairs: tuple[int, int]) -> None:
    row, column = _affine(dst, start, step, pairs)
    values = row + column
    put(dst, values.astype(F32) if dst.dtype.is_float else values)


@instruction(eng.gpsimd, cost=costs.gpsimd)
def affine_select(
    dst: NkiTensor,
    pattern: Sequence[Sequence[int]],
    channel_multiplier: int,
    on_true_tile: NkiTensor,
    on_false_value: float,
    cmp_op: Op = OPS["equal"],
    offset: int | VirtualRegister = 0,
    name: str | None = None,
) -> Plan:
    """dst = on_true_tile where the affine value <cmp_op> 0, else on_false_value.

    The affine value is iota's: offset + p * channel_multiplier + the pattern's steps.
    """
    in_buffer(MemoryRegion.sbuf, dst=dst, on_true_tile=on_true_tile)
    same_tile("dst and on_true_tile", dst, on_true_tile)
    _check_arithmetic(dst=dst, on_true_tile=on_true_tile)
    if not isinstance(cmp_op, Op) or cmp_op.name not in _COMPARE:
        raise NkiValidationError(f"cmp_op must be one of nl.{', nl.'.join(_COMPARE)}, got {cmp_op!r}")
    if isinstance(on_false_value, bool) or not isinstance(on_false_value, (int, float, np.integer, np.floating)):
        raise NkiValidationError(f"on_false_value must be a float32 number, got {describe(on_false_value)}")
    affine = _checked(dst, pattern, offset, channel_multiplier)
    operands = (dst, on_true_tile, on_false_value, getattr(np, cmp_op.name), *affine)
    return Plan(eng.gpsimd, (on_true_tile,), (dst,), _select, operands, op=cmp_op.name)


def _select(
    dst: NkiTensor, on_true: NkiTensor, on_false: float, compare: Any, start: int, step: int, *pairs: tuple[int, int]
) -> None:
    row, column = _affine(dst, start, step, pairs)
    mask = compare(row, -column)
    if dst.dtype == on_true.dtype:
        fill = stored(dst, np.array([on_false], F32)).view(bits(dst).dtype)
        put_bits(dst, np.where(mask, bits(on_true).reshape(mask.shape), fill))
    else:
        put(dst, np.where(mask, on_true.f32().reshape(mask.shape), F32.type(on_false)))


def _checked(dst: NkiTensor, pattern: Sequence[Sequence[int]], offset: Any, multiplier: int) -> tuple[Any, ...]:
    """The offset, the multiplier and each [step, num] of an affine pattern over dst.

    What a value beyond int32 does is not documented, so it raises.
    """
    pairs = _pairs(pattern)
    count = math.prod([n for _, n in pairs])
    if count != dst.free_size:
        raise NkiValidationError(
            f"pattern generates {count} elements per partition, and dst {dst.shape} has {dst.free_size}"
        )
    # The page of 0.6 takes a register; that a scalar, the counter of 0.7, is as good is not shown.
    late = isinstance(offset, (VirtualRegister, NkiScalar))
    start = bound_value(offset) if late else int32("offset", offset)
    step = int32("channel_multiplier", multiplier)
    first = start + sum(min(0, s * (n - 1)) for s, n in pairs), start + sum(max(0, s * (n - 1)) for s, n in pairs)
    down, up = min(0, step * (dst.shape[0] - 1)), max(0, step * (dst.shape[0] - 1))
    low, high = first[0] + down, first[1] + up
    if min(low, -up) < INT32.min or max(high, -down) > INT32.max:
        raise NkiValidationError(f"the pattern is computed in int32 and reaches from {low} to {high}")
    return start, step, *pairs


def _affine(dst: NkiTensor, start: int, step: int, pairs: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """The affine value as a row [1, F] and a column [P, 1] whose sum it is."""
    row = np.full(1, start, np.int64)
    for s, n in pairs:
        row = np.add.outer(row, s * np.arange(n, dtype=np.int64)).reshape(-1)
    column = step * np.arange(dst.shape[0], dtype=np.int64)
    return row.astype(np.int32)[None, :], column.astype(np.int32)[:, None]


def _pairs(pattern: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    try:
        pairs = [(step, num) for step, num in pattern]
    except (TypeError, ValueError):
        raise NkiValidationError(f"pattern must be a list of 1 to 4 [step, num] pairs, got {pattern!r}") from None
    if not 1 <= len(pairs) <= 4:
        raise NkiValidationError(f"pattern must be a list of 1 to 4 [step, num] pairs, got {len(pairs)} of them")
    checked = [(int32("a step of pattern", step), int32("a num of pattern", num)) for step, num in pairs]
    if any(num < 1 for _, num in checked):
        raise NkiValidationError(f"every num of pattern must be at least 1, got {pattern!r}")
    return checked


def int32(what: str, value: Any) -> int:
    """`value`, checked to be an integer that int32 holds."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise NkiValidationError(f"{what} must be an int32, got {describe(value)}")
    if not INT32.min <= int(value) <= INT32.max:
        raise NkiValidationError(f"{what} must be an int32, got {value!r}")
    return int(value)


def _check_arithmetic(**tiles: NkiTensor) -> None:
    """A packed x4 element has no value of its own."""
    for what, t in tiles.items():
        if t.dtype.kind == "x":
            raise NkiValidationError(f"{what} cannot be a packed dtype, got {t!r}")
