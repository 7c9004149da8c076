"""`numpy`: the reference itself, rounded to the case's dtype."""

from __future__ import annotations

from typing import Any

from triptych.harness.backends.base import Backend, given_back
from triptych.harness.backends.clocks import TimingBudget, time_host
from triptych.harness.judge.problem import Problem
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

    def run(self, problem: Problem, target: str | None) -> Any:
        mutates = problem.op.mutates
        found: dict[str, Any] = {name: problem.answer(name) for name in problem.evaluated}
        value = found[""] if "" in found else {name: x for name, x in found.items() if name not in mutates}
        return given_back(problem, value, found)

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        return time_host(problem.evaluate_all, budget, self.evidence)
