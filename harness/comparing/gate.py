"""The gate: which changes are regressions under `predicted:2%,median:5%`, and what could not be decided.

A predicted time regresses if it is longer by more than its limit. A measured one does if its whole interval is: a gate
that fails on noise is soon switched off. Where the median is beyond the limit and the interval reaches below it,
nothing is decided, and the case is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from triptych.harness.comma_lists import comma_list
from triptych.harness.comparing.changes import Change, Comparison, Metric
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode

LIMIT = re.compile(r"(\w+)\s*:\s*(\d+(?:\.\d*)?)\s*%")
Limits = Mapping[Metric, float]  # how much longer, as a share


@dataclass(frozen=True)
class Gate:
    """What the limits say of a comparison."""

    limits: Limits
    broken: tuple[Change, ...]  # wrong now
    regressed: tuple[Change, ...]
    undecided: tuple[Change, ...]
    vanished: tuple[Change, ...]  # had a time before and has none now
    idle: tuple[Metric, ...]  # limits that met no case

    def exit_code(self, strict: bool = False) -> ExitCode:
        """1 for what is wrong, 3 for what is slower, 5 where no limit met a case, 4 for what cannot be held to it."""
        if self.broken:
            return ExitCode.MISMATCH
        if self.regressed:
            return ExitCode.REGRESSION
        if self.limits and len(self.idle) == len(self.limits):
            return ExitCode.NOTHING_RAN
        if self.limits and (self.vanished or (strict and (self.undecided or self.idle))):
            return ExitCode.INCONCLUSIVE
        return ExitCode.OK


def limits(text: str) -> Limits:
    """`predicted:2%,median:5%` as {"predicted": 0.02, "median": 0.05}."""
    found: dict[Metric, float] = {}
    for word in comma_list(text):
        match = LIMIT.fullmatch(word.strip())
        if not match or match[1] not in get_args(Metric):
            raise UsageError(f"a limit is METRIC:N%, as predicted:2% or median:5%; got {word!r}.")
        found[cast(Metric, match[1])] = float(match[2]) / 100
    if not found:
        raise UsageError("--fail-on takes limits, as predicted:2%,median:5%.")
    return found


def gate(comparison: Comparison, limits: Limits) -> Gate:
    """Hold a comparison to limits; without any, only what is wrong now counts."""
    regressed, undecided = [], []
    for metric, limit in limits.items():
        for change in comparison.of(metric):
            assert change.ratio is not None
            if change.ratio.low > 1 + limit:
                regressed.append(change)
            elif change.ratio.value > 1 + limit:
                undecided.append(change)
    return Gate(
        limits,
        tuple(change for change in comparison.changes if change.broken),
        tuple(regressed),
        tuple(undecided),
        tuple(c for c in comparison.changes if c.vanished and c.metric in limits and not c.broken),
        tuple(metric for metric in limits if not comparison.of(metric)),
    )
