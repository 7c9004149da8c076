"""A problem with what is expected of it: all that a kernel's outputs are judged by, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.judge import sensitivity
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.judge.verdict import Verdict, judge
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.ops.outputs.kinds import Codes, Exact, MalformedOutput, Output, Points
from triptych.harness.ops.outputs.naming import Outputs, in_words
from triptych.harness.precision import round_to
from triptych.harness.results.measures import Fixed
from triptych.harness.results.status import Cause, Status

WORST_FIRST = (Status.ERROR, Status.FAILED, Status.PASSED)


@dataclass(frozen=True, eq=False)
class Prepared:
    """One output: its problem, and what is expected of it."""

    problem: Problem
    expected: Expected

    def judge(self, out: Any) -> Verdict:
        """The verdict on what a kernel returned for it."""
        return judge(self.problem, out, self.expected)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """What all backends of one case share, and what all further runs of a kernel are compared with.

    problem: the whole one.
    outputs: each output by its name.
    """

    problem: Problem
    outputs: Mapping[str, Prepared]

    @property
    def first(self) -> Prepared:
        return next(iter(self.outputs.values()))

    def judge(self, outputs: Outputs) -> Verdict:
        """The worst of the verdicts on the outputs, which names its own; the rest is beside it."""
        verdicts = {name: self.judge_one(name, outputs.get(name)) for name in self.outputs}
        for name, value in outputs.items():
            if name not in verdicts and value is not None:
                left_out = f"the kernel returns {in_words(name)}, which the reference leaves out (None)"
                verdicts[name] = Verdict(Status.ERROR, left_out, Cause.MALFORMED_OUTPUT)
        if list(verdicts) == [""]:
            return verdicts[""]
        worst = min(verdicts, key=lambda name: (WORST_FIRST.index(verdicts[name].status), -verdicts[name].share))
        found = verdicts[worst]
        reason = found.reason and f"{in_words(worst, self.problem.op.mutates)}: {found.reason}"
        return replace(found, reason=reason, output=worst, each=verdicts)

    def judge_one(self, name: str, value: Any) -> Verdict:
        prepared = self.outputs[name]
        try:
            return prepared.judge(self.compared(name, value))
        except MalformedOutput as error:
            return Verdict(Status.ERROR, str(error), Cause.MALFORMED_OUTPUT, tolerance=prepared.expected.tolerance)

    def compared(self, name: str, value: Any) -> Any:
        """What is compared of a kernel's output: mostly the array itself. MalformedOutput where there is no such."""
        kind, expected = self.problem.kind(name), self.outputs[name].expected
        if expected.reference.ndim == 0 and isinstance(value, (int, float, np.generic)):
            value = np.asarray(value).astype(expected.rounded.dtype)  # a number of the host has no dtype of its own
        if type(value) is not np.ndarray or value.shape != np.shape(self.problem.evaluated[name]):
            return value
        if not kind.dtype and expected.rounded.dtype != self.problem.dtype and not isinstance(kind, Points):
            value = held(value, expected.rounded.dtype)
        elif kind.dtype and value.dtype.name != kind.dtype:
            raise MalformedOutput(f"the output has a wrong dtype: expected {kind.dtype}, got {value.dtype}")
        kind.check(value, self.problem.given)
        seen = np.asarray(kind.seen(value, self.problem.given))
        return round_to(seen, expected.rounded.dtype) if isinstance(kind, Points) else seen

    def all_compared(self, outputs: Outputs) -> dict[str, Array]:
        """What is compared of outputs that were judged to be well-formed."""
        return {name: self.compared(name, outputs[name]) for name in self.outputs}


def held(value: Array, dtype: np.dtype[Any]) -> Array:
    """Whole numbers in the dtype of a reference of integers or bools, whichever dtype they came in."""
    if value.dtype == dtype or dtype.kind not in "iub" or value.dtype.kind == "c":
        return value
    with np.errstate(invalid="ignore"):
        found = value.astype(dtype)
    return found if (found.astype(np.float64) == value.astype(np.float64)).all() else value


def prepare(problem: Problem, wanted: Bounds | None = None) -> PreparedCase:
    """The problem with a tolerance for each output, which refuses wrong ones. Raises InvalidOp where none can be had.

    Of several outputs some may be zero throughout, which then must be so exactly; not all.
    """
    found: dict[str, Prepared] = {}
    uninformative: UninformativeCase | None = None
    for name, one in problem.outputs.items():
        try:
            found[name] = Prepared(one, expected_of(one, problem.kind(name), wanted))
        except InvalidOp as error:
            if name:
                error.args = (f"{in_words(name, problem.op.mutates)}: {error}",)
            if not isinstance(error, UninformativeCase) or one.rounded.astype(np.float64).any():
                raise
            uninformative = uninformative or error
            zeros = Fixed(source="dtype", regime=one.case.regime, rtol=0.0, atol=0.0)
            found[name] = Prepared(one, Expected(one.reference, one.rounded, zeros))
    if uninformative is not None and not any(p.expected.rounded.astype(np.float64).any() for p in found.values()):
        raise uninformative
    return PreparedCase(problem, found)


def expected_of(problem: Problem, kind: Output, wanted: Bounds | None) -> Expected:
    """What is expected of one output; the bounds that somebody asks for are not for what is compared exactly."""
    exact = isinstance(kind, (Exact, Codes, Points))
    return sensitivity.check(problem, expect(problem, None if exact else wanted))
