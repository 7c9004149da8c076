"""`numpy`: the reference itself, rounded to the case's dtype."""

from __future__ import annotations

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends.base import Backend
from triptych.harness.backends.clocks import TimingBudget, time_host
from triptych.harness.judge.truth import known_reference, reference_of, rounded_reference
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class Reference(Backend):
    name = "numpy"
    panel = "reference"
    evidence = Evidence.REFERENCE

    def missing(self) -> str | None:
        return None

    def run(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        return rounded_reference(case, known_reference(op, case, inputs)).copy()

    def time(self, op: Op, case: Case, inputs: Arrays, target: str | None, budget: TimingBudget) -> Timing:
        return time_host(lambda: reference_of(op, case, inputs), budget, self.evidence)
