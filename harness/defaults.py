"""What a declaration may leave out: input generators from shapes, and honest baselines from the reference.

A baseline stands for a correct kernel of the case's dtype; its error against the float64 reference is the yardstick of
the judge. An op that has no hand-written baseline gets two that know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from triptych.harness.records import Array, Arrays, Case, Inputs


def drawn(shapes: Mapping[str, Sequence[str | int]]) -> Inputs:
    """A generator of one array per entry of {"x": ("M", "N")}, drawn in the case's regime."""

    def inputs(case: Case, rng: np.random.Generator) -> Arrays:
        from triptych.harness.regimes import in_regime, normal, rounded

        arrays = {}
        for name, sizes in sized(shapes, case).items():
            arrays[name] = in_regime(normal(rng, *sizes), case.regime, case.dtype)
        return rounded(arrays, case.dtype)

    return inputs


def sized(shapes: Mapping[str, Sequence[str | int]], case: Case) -> dict[str, tuple[int, ...]]:
    """{"x": ("M", "N")} in the sizes of a case."""
    found = {}
    for name, shape in shapes.items():
        for axis in shape:
            if isinstance(axis, str) and axis not in case.axes:
                raise ValueError(f"input {name} has axis {axis!r}, which case {case.name} does not give a size")
        found[name] = tuple([case.axes[axis] if isinstance(axis, str) else axis for axis in shape])
    return found


def baselines(reference: Callable[..., Array]) -> tuple[Callable[..., Array], ...]:
    """The reference evaluated in float32, and the reference of inputs that were rounded once more.

    The first is no yardstick where the reference widens to float64 by itself: its error is then that of rounding the
    result alone. The second does not depend on how the reference computes. It moves each input by up to half a unit in
    the last place, as a kernel does that rounds one intermediate value per input.
    """

    def float32(**arguments: Any) -> Array:
        return reference(**_each(arguments, lambda x: x.astype(np.float32)))

    def rounded_once_more(**arguments: Any) -> Array:
        from triptych.harness.regimes import finfo

        rng = np.random.default_rng(0)

        def move(x: Array) -> Array:
            unit = float(finfo(x.dtype).eps)
            return x.astype(np.float64) * (1 + unit * rng.uniform(-0.5, 0.5, x.shape))

        return reference(**_each(arguments, move))

    return float32, rounded_once_more


def _each(arguments: Mapping[str, Any], change: Callable[[Array], Array]) -> dict[str, Any]:
    """`arguments` with `change` applied to the arrays of a floating-point dtype."""
    from triptych.harness.regimes import is_float

    return {name: change(x) if isinstance(x, np.ndarray) and is_float(x.dtype) else x for name, x in arguments.items()}
