"""Baselines: plain kernels of the case's dtype, whose error against the float64 reference is the judge's yardstick.

An op that names none (`honest=`) gets some that are made from its reference and know nothing else of it: four from one
in NumPy, three from one in PyTorch or JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import finfo, is_float
from triptych.harness.judge.yardstick import serial_arithmetic
from triptych.harness.ops.frameworks import framework_of, on_arrays
from triptych.harness.ops.op import Op

COARSEST = 2.0**-7  # the unit in the last place of bfloat16's 1


@dataclass(frozen=True)
class Baselines:
    """The baselines that a tolerance is derived from; the first stands for a plain kernel."""

    functions: tuple[Callable[..., Array], ...]
    from_reference: bool  # whether they are the reference in other arithmetic

    @property
    def names(self) -> list[str]:
        return [name_of(function) for function in self.functions]

    def finer(self) -> Baselines:
        """Without the last, which of those from the reference is the coarsest."""
        return Baselines(self.functions[:-1], self.from_reference)


def baselines_of(op: Op) -> Baselines:
    """The op's own, or those from its reference."""
    if op.honest:
        return Baselines(tuple(op.honest), from_reference=False)
    return Baselines(from_reference(op.reference), from_reference=True)


def name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", function))


def from_reference(reference: Callable[..., Array]) -> tuple[Callable[..., Array], ...]:
    """The reference in float32, in serial arithmetic from either end, and of inputs rounded once more.

    One in PyTorch or JAX is evaluated in the case's dtype, as it stands, in the place of serial arithmetic, which is
    NumPy's alone; where the framework lacks an operation in that dtype, in float32.

    The first three are no yardstick where the reference widens to float64 by itself in a way that cannot be seen: their
    error is then that of rounding the result alone. The last does not depend on how the reference computes. It moves
    each input by up to half a unit in the last place, as a kernel does that rounds one intermediate value per input,
    in the finest of the inputs' dtypes; kernels of 8-bit inputs keep theirs in 16 bits.
    """

    call: Callable[..., Array] = on_arrays(reference)
    framework = framework_of(reference)

    def in_the_dtype(**arguments: Any) -> Array:
        try:
            out: Array = call(**arguments)
        except (TypeError, RuntimeError):  # which it did not raise in float64
            return float32(**arguments)
        return out

    def float32(**arguments: Any) -> Array:
        out: Array = call(**change_floats(arguments, lambda x: x.astype(np.float32) if x.dtype.itemsize < 4 else x))
        return out

    def one_by_one(**arguments: Any) -> Array:
        return serial_arithmetic.evaluate(reference, arguments, backwards=False)

    def backwards(**arguments: Any) -> Array:
        return serial_arithmetic.evaluate(reference, arguments, backwards=True)

    def rounded_once_more(**arguments: Any) -> Array:
        rng = np.random.default_rng(0)
        dtypes = [x.dtype for x in arguments.values() if isinstance(x, np.ndarray) and is_float(x.dtype)]
        unit = min([float(finfo(dtype).eps) for dtype in dtypes] + [COARSEST])

        def move(x: Array) -> Array:
            return x.astype(np.float64) * (1 + unit * rng.uniform(-0.5, 0.5, x.shape))

        out: Array = call(**change_floats(arguments, move))
        return out

    if framework != "numpy":
        in_the_dtype.__name__ = framework
        return in_the_dtype, float32, rounded_once_more
    return float32, one_by_one, backwards, rounded_once_more


def change_floats(arguments: Mapping[str, Any], change: Callable[[Array], Array]) -> dict[str, Any]:
    """`arguments` with `change` applied to the arrays of a floating-point dtype."""
    return {name: change(x) if isinstance(x, np.ndarray) and is_float(x.dtype) else x for name, x in arguments.items()}
