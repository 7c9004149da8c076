"""What somebody said about the tolerance: the command line, the environment, the op, the dtype, in this order.

The first that says something decides alone, and the result says which it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op

FACTOR = 2.0  # of the baselines' error, unless somebody asks for another
KEYS = ("rtol", "atol", "budget")
VARIABLES = {"rtol": "TRIPTYCH_RTOL", "atol": "TRIPTYCH_ATOL", "budget": "TRIPTYCH_BUDGET"}


@dataclass(frozen=True)
class Bounds:
    """What somebody said about the tolerance: rtol and atol replace the derived bound, a budget replaces its factor."""

    source: str
    rtol: float | None = None
    atol: float | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and (self.rtol is not None or self.atol is not None):
            raise ValueError(
                f"the {self.source} gives a budget and rtol or atol: a budget scales the derived tolerance, the others "
                "replace it; give one or the other"
            )
        for name in KEYS:
            value = getattr(self, name)
            if value is not None and not (value > 0 if name == "budget" else value >= 0) or value == float("inf"):
                least = "above zero" if name == "budget" else "zero or above"
                raise ValueError(f"the {self.source} gives {name} {value}: it must be a finite number {least}")

    @property
    def says_something(self) -> bool:
        return any(getattr(self, name) is not None for name in KEYS)


def requested_bounds(
    rtol: float | None = None,
    atol: float | None = None,
    budget: float | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Bounds | None:
    """The bounds of the command line, else of the environment, else None. ValueError for what makes no sense."""
    command = Bounds("command line", rtol, atol, budget)
    if command.says_something:
        return command
    values = {}
    for name, variable in VARIABLES.items():
        text = environ.get(variable, "").strip()
        if text:
            try:
                values[name] = float(text.removesuffix("x") if name == "budget" else text)
            except ValueError:
                raise ValueError(f"the environment variable {variable} must be a number, got {text!r}") from None
    return Bounds("environment", **values) if values else None


def bounds_in_force(op: Op, case: Case, wanted: Bounds | None) -> Bounds:
    """The bounds that decide: those asked for, else the op's (for this dtype, then all), the dtype's, the default."""
    if wanted is not None:
        return wanted
    own = op.tolerance.get(case.dtype) or {name: value for name, value in op.tolerance.items() if name in KEYS}
    if own:
        return Bounds("op", **own)
    if not is_float(dtype_of(case.dtype)):
        return Bounds("dtype", rtol=0.0, atol=0.0)  # integers have no rounding to forgive
    return Bounds("default", budget=FACTOR)
