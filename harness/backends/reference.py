"""`numpy`: the reference itself, rounded to the case's dtype."""

from __future__ import annotations

from triptych.harness.arrays import Array
from triptych.harness.backends.base import Backend
from triptych.harness.backends.clocks import TimingBudget, time_host
from triptych.harness.judge.problem import Problem, widen
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class Reference(Backend):
    name = "numpy"
    panel = "reference"
    family = "numpy"
    evidence = Evidence.REFERENCE
    is_reference = True
    promises_bits = False
    slow_clock = True

    def missing(self) -> str | None:
        return None

    def run(self, problem: Problem, target: str | None) -> Array:
        return problem.rounded.copy()

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        return time_host(lambda: problem.evaluate(widen(problem.inputs)), budget, self.evidence)
