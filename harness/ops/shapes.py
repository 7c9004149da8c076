"""How an op declares an input without a generator: its shape in axes, and where it needs them dtype and range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.ops.case import Case

Axis = str | int  # of a case, or a number


@dataclass(frozen=True)
class Input:
    """An input of its own dtype or range: `Input(("M",), "int32", high="N")`, `Input(("K", "N"), "int8")`.

    - `dtype` is by default the case's. Floating-point inputs are drawn in the case's regime and rounded to it.
    - `low` and `high`, numbers or axes of the case, bound what is drawn, evenly and in no regime: integers from low,
      or 0, up to but without high; floating-point numbers between both. Integers of 8 bits need none, nor do bools.
    """

    shape: Sequence[Axis]
    dtype: str = ""
    low: Axis | float | None = None
    high: Axis | float | None = None

    @property
    def bounded(self) -> bool:
        return self.low is not None or self.high is not None

    def within_bounds(self, sizes: tuple[int, ...], dtype: str, case: Case, rng: np.random.Generator) -> Array:
        """Numbers between the bounds, evenly."""
        wanted = dtype_of(dtype)
        low, high = (case.axes.get(bound) if isinstance(bound, str) else bound for bound in (self.low, self.high))
        for bound, value in ((self.low, low), (self.high, high)):
            if isinstance(bound, str) and value is None:
                raise ValueError(f"an input is bounded by axis {bound!r}, which case {case.name} does not have")
        if wanted.kind == "b":
            return rng.random(sizes) < 0.5
        if is_float(wanted):
            return np.asarray(rng.uniform(low or 0.0, 1.0 if high is None else high, sizes)).astype(wanted)
        if high is None and wanted.itemsize > 1:
            raise ValueError(f"an input of dtype {dtype} needs `high`: a number, or the axis that it is an index of")
        info = np.iinfo(wanted)
        first = (info.min if high is None else 0) if low is None else low
        return rng.integers(int(first), info.max + 1 if high is None else int(high), sizes).astype(wanted)


Shapes = Mapping[str, "Sequence[Axis] | Input"]  # {"x": ("M", 128)}: of each input, in axes of the case and numbers


def shape_of(declared: Sequence[Axis] | Input) -> Sequence[Axis]:
    return declared.shape if isinstance(declared, Input) else declared
