"""A problem with what is expected of it: all that an output is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.harness.judge import sensitivity
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.judge.verdict import Verdict, judge


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all backends of one case share, and what all further runs of a kernel are compared with."""

    problem: Problem
    expected: Expected

    def judge(self, out: Any) -> Verdict:
        """The verdict on what a kernel returned."""
        return judge(self.problem, out, self.expected)


def prepare(problem: Problem, wanted: Bounds | None = None) -> Prepared:
    """The problem with its tolerance, which refuses wrong outputs. Raises InvalidOp where none can be had."""
    return Prepared(problem, sensitivity.check(problem, expect(problem, wanted)))
