"""What a declaration may leave out: input generators from shapes, and honest baselines from the reference.

A baseline stands for a correct kernel of the case's dtype; its error against the float64 reference is the yardstick of
the judge. An op that has no hand-written baseline gets four that know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from triptych.harness.arrays import Array, Arrays
    from triptych.harness.ops.case import Case
    from triptych.harness.ops.op import Inputs

COARSEST = 2.0**-7  # the unit in the last place of bfloat16's 1
FIRST_ALONE = ("one-hot", "subnormal")


def drawn(shapes: Mapping[str, Sequence[str | int]]) -> Inputs:
    """A generator of one array per entry of {"x": ("M", "N")}, drawn in the case's regime.

    One-hot and subnormal are the first input alone: products of two such are mostly zero.
    """

    def inputs(case: Case, rng: np.random.Generator) -> Arrays:
        from triptych.harness.ops.regimes import in_regime, normal, rounded

        arrays: Arrays = {}
        for name, sizes in sized(shapes, case).items():
            regime = "normal" if arrays and case.regime in FIRST_ALONE else case.regime
            arrays[name] = in_regime(normal(rng, *sizes), regime, case.dtype)
        return rounded(arrays, case.dtype)

    return inputs


def sized(shapes: Mapping[str, Sequence[str | int]], case: Case) -> dict[str, tuple[int, ...]]:
    """{"x": ("M", "N")} in the sizes of a case."""
    found = {}
    for name, shape in shapes.items():
        for axis in shape:
            if isinstance(axis, str) and axis not in case.axes:
                raise ValueError(f"input {name} has axis {axis!r}, which case {case.name} does not give a whole number")
        found[name] = tuple([case.axes[axis] if isinstance(axis, str) else axis for axis in shape])
    return found


def baselines(reference: Callable[..., Array]) -> tuple[Callable[..., Array], ...]:
    """The reference in float32, in the arithmetic of plain kernels (`stepwise`), and of inputs rounded once more.

    The first three are no yardstick where the reference widens to float64 by itself in a way that cannot be seen: their
    error is then that of rounding the result alone. The last does not depend on how the reference computes. It moves
    each input by up to half a unit in the last place, as a kernel does that rounds one intermediate value per input,
    in the finest of the inputs' dtypes; kernels of 8-bit inputs keep theirs in 16 bits.
    """

    def float32(**arguments: Any) -> Array:
        return reference(**_each(arguments, lambda x: x.astype(np.float32) if x.dtype.itemsize < 4 else x))

    def one_by_one(**arguments: Any) -> Array:
        from triptych.harness.judge import serial_arithmetic

        return serial_arithmetic.evaluated(reference, arguments, backwards=False)

    def backwards(**arguments: Any) -> Array:
        from triptych.harness.judge import serial_arithmetic

        return serial_arithmetic.evaluated(reference, arguments, backwards=True)

    def rounded_once_more(**arguments: Any) -> Array:
        from triptych.harness.dtypes import finfo, is_float

        rng = np.random.default_rng(0)
        dtypes = [x.dtype for x in arguments.values() if isinstance(x, np.ndarray) and is_float(x.dtype)]
        unit = min([float(finfo(dtype).eps) for dtype in dtypes] + [COARSEST])

        def move(x: Array) -> Array:
            return x.astype(np.float64) * (1 + unit * rng.uniform(-0.5, 0.5, x.shape))

        return reference(**_each(arguments, move))

    return float32, one_by_one, backwards, rounded_once_more


def _each(arguments: Mapping[str, Any], change: Callable[[Array], Array]) -> dict[str, Any]:
    """`arguments` with `change` applied to the arrays of a floating-point dtype."""
    from triptych.harness.dtypes import is_float

    return {name: change(x) if isinstance(x, np.ndarray) and is_float(x.dtype) else x for name, x in arguments.items()}
