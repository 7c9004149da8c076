"""How `--fuzz` draws a case: small sizes and those around an op's tiles, its params, dtypes and regimes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from triptych.harness.ops.case import Case, case_name
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import REGIMES, around
from triptych.harness.ops.selection import Selection

SMALL = 40  # half of the sizes are at most this
FEW = 3  # of what no tile concerns, as batches and heads: they show what many do
MOST_WORK = 2**22  # operations of one case: quick in every backend
MOST_BYTES = 2**22


def drawing(ops: Mapping[str, Op], selection: Selection) -> Any:
    """A strategy of cases, simplest first in everything that it draws."""
    from hypothesis import strategies as st

    def sizes(op: Op, axis: str) -> Any:
        if axis in selection.axes:
            return st.sampled_from(list(selection.axes[axis]))
        if op.tiles and axis not in op.tiles:
            return st.integers(1, min(FEW, op.limits.get(axis, FEW)))
        tiles = around(op.tiles_along(axis))
        most = op.limits.get(axis, max(tiles))
        tiles = [size for size in tiles if size <= most]
        small = st.integers(1, min(SMALL, most))
        return st.one_of(small, st.sampled_from(tiles)) if tiles else small

    @st.composite
    def case(draw: Any) -> Case:
        op = draw(st.sampled_from(list(ops.values())))
        times = {axis: draw(st.integers(1, FEW)) for axis in op.multiples if axis not in selection.axes}
        axes = {axis: draw(sizes(op, axis)) for axis in op.axes if axis not in times}
        params = draw(st.sampled_from(params_seen(op)))
        wanted = [dtype for dtype in op.dtypes if dtype in selection.dtypes or not selection.dtypes]
        regimes = [regime for regime in REGIMES if regime != "strided" or op.triton is not None]
        dtype, regime = draw(st.sampled_from(wanted)), draw(st.sampled_from(regimes))
        axes = within_bounds(op, axes, times, params, selection.axes)
        return Case(
            op.name, case_name(axes, params, regime), axes, dtype, params, regime, seed=draw(st.integers(0, 99))
        )

    return case()


def params_seen(op: Op) -> list[dict[str, Any]]:
    """The different params of the op's cases, in their order."""
    seen: list[dict[str, Any]] = []
    for cases in op.case_sets.values():
        seen += [dict(case.params) for case in cases if dict(case.params) not in seen]
    return seen


def within_bounds(
    op: Op,
    axes: dict[str, int],
    times: Mapping[str, int],
    params: Mapping[str, Any],
    fixed: Mapping[str, Sequence[int]],
) -> dict[str, int]:
    """`axes`, with each that is a multiple of another; the largest that is free is halved until the case is small."""

    def whole() -> dict[str, int]:
        return {axis: axes[op.multiples[axis]] * times[axis] if axis in times else axes[axis] for axis in op.axes}

    free = [axis for axis in axes if axis not in fixed]
    while free and work(op, whole(), params) > 1 and max(axes[axis] for axis in free) > 1:
        axes[max(free, key=lambda axis: axes[axis])] //= 2
    return whole()


def work(op: Op, axes: Mapping[str, int], params: Mapping[str, Any]) -> float:
    """The case's operations and bytes as a share of the bounds, the larger of the two."""
    elements = math.prod(axes.values())
    operations = op.flops(axes, params) if op.flops else elements
    size = op.bytes(axes, params, 4) if op.bytes else 4 * elements
    return max(operations / MOST_WORK, size / MOST_BYTES)
