"""Verdicts on outputs, piece by piece, by the judge of `triptych check`: in processes without a GPU, while that works.

The yardstick of a piece is derived once for all contenders. An output of which no piece holds anything is not judged,
nor is a piece that takes the judge more than SECONDS of processor time; the row then says so.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from triptych.harness.arrays import Array, Arrays
from triptych.harness.collection import builtin
from triptych.harness.judge.bounds import Bounds
from triptych.harness.judge.prepared import Prepared, PreparedCase, prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.judge.verdict import Verdict
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.outputs.kinds import Codes, Exact, Output, Points
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.results.measures import Fixed
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status

SECONDS = 30.0  # of a processor, for a piece


class TooLong(Exception):
    """A piece took the judge all of its time."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TooLong, raised within, once this process has computed for so long."""

    def over(number: int, frame: object) -> None:
        raise TooLong(f"more than {seconds:g} s of a processor")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def verdicts(
    op: str, case: Case, inputs: Arrays, outputs: Sequence[Mapping[str, Array]], wanted: Sequence[Bounds | None]
) -> list[Verdict] | None:
    """The verdict on each contender's outputs of one piece; None if the judge takes too long.

    wanted: bounds of their own for some, as for a contender that computes in another precision.
    """
    try:
        with at_most(SECONDS):
            return each(op, case, inputs, outputs, wanted)
    except TooLong:
        return None


def each(
    op: str, case: Case, inputs: Arrays, outputs: Sequence[Mapping[str, Array]], wanted: Sequence[Bounds | None]
) -> list[Verdict]:
    """The verdict on each contender's outputs of one piece."""
    problem = Problem(builtin()[op], case, inputs)
    prepared: dict[tuple[Bounds | None, frozenset[str]], PreparedCase] = {}
    found = []
    for outs, bounds in zip(outputs, wanted, strict=True):
        key = bounds, frozenset(outs)
        try:
            if key not in prepared:
                prepared[key] = prepared_for(problem, outs, bounds)
            found.append(prepared[key].judge(dict(outs)))
        except InvalidOp as error:
            found.append(Verdict(Status.ERROR, str(error), error.cause))
    return found


def prepared_for(problem: Problem, names: Mapping[str, Any], wanted: Bounds | None) -> PreparedCase:
    """What is expected of those of the outputs that are named."""
    found = {}
    for name, one in problem.outputs.items():
        if name in names:
            found[name] = Prepared(one, expected_of(one, problem.kind(name), wanted))
    return PreparedCase(problem, found)


def expected_of(one: Problem, kind: Output, wanted: Bounds | None) -> Expected:
    """What is expected of one output; what is compared exactly needs no yardstick, which would take long."""
    if isinstance(kind, Exact):
        nothing = Fixed(source="op", regime=one.case.regime, rtol=0.0, atol=0.0)
        return Expected(one.reference, one.rounded, nothing)
    return expect(one, None if isinstance(kind, (Codes, Points)) else wanted)


def checked(op: str, case: Case, outputs: Outputs) -> Verdict:
    """The verdict on a whole small case, whose inputs the op's own generator draws; its tolerance must have teeth."""
    try:
        return prepare(Problem.of(builtin()[op], case)).judge(outputs)
    except InvalidOp as error:
        return Verdict(Status.ERROR, str(error), error.cause)


def unjudged(pieces: Sequence[Mapping[str, Any]], outputs: Mapping[str, Any]) -> list[str]:
    """The outputs of which no piece has anything, in words."""
    seen = {name for piece in pieces for name in piece}
    return [name or "the output" for name in outputs if name not in seen]


def worst(found: Sequence[Verdict]) -> Verdict | None:
    """The verdict that counts, of all pieces: the first that is none to pass with, else the nearest to its bound."""
    bad = [verdict for verdict in found if verdict.status is not Status.PASSED]
    return bad[0] if bad else max(found, key=lambda verdict: verdict.share, default=None)


def put(verdict: Verdict, result: Result) -> None:
    """Write a verdict into its row."""
    result.status, result.reason, result.cause = verdict.status, verdict.reason, verdict.cause
    result.metrics, result.tolerance, result.output = verdict.metrics, verdict.tolerance, verdict.output


def refuse(result: Result, reason: str, cause: Cause = Cause.KERNEL_ERROR) -> None:
    """A row whose call cannot be had, judged or timed."""
    result.status, result.reason, result.cause, result.timing = Status.ERROR, reason, cause, None


def sentence(error: BaseException) -> str:
    """The first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
