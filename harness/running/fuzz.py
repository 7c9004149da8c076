"""`check --fuzz SECONDS`: search for a case that fails, shrink it, and print the command that repeats it.

Hypothesis draws the op, its sizes (small ones, and those around its tiles, within its limits), its params, dtype,
regime and seed; every chosen backend runs the case. The first disagreement is shrunk to the smallest case that ends in
the same way on the same backend. The sequence of cases depends on --seed alone, its length on the time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from triptych.harness.ops.case import Case, case_name
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import REGIMES, around
from triptych.harness.ops.selection import Selection, UsageError, targets_of
from triptych.harness.results.result import Result
from triptych.harness.results.status import BAD, Cause, Status
from triptych.harness.running.runner import Settings, Task, Worker

if TYPE_CHECKING:
    from triptych.harness.backends import Backend

NO_HYPOTHESIS = "--fuzz searches with hypothesis, which is not installed: pip install 'triptych[fuzz]'."
COMMON_TILES = (16, 32, 64, 128, 256, 512)  # of an op that names none
SMALL = 40  # half of the sizes are at most this
FEW = 3  # of what no tile concerns, as batches and heads: they show what many do
MOST_WORK = 2**22  # operations of one case: quick in every backend
MOST_BYTES = 2**22
UNTELLING = (Cause.REFUSED_INPUTS, Cause.UNINFORMATIVE_CASE)  # no kernel is to blame


class TimeUp(BaseException):
    """Leaves hypothesis's loop, which takes an Exception for a failure of the case."""


class Disagreement(Exception):
    """What hypothesis shrinks."""


@dataclass
class Search:
    """What a search found."""

    cases: int = 0
    compared: int = 0  # pairs of a case and a backend that ran; the reference counts if it is alone
    failure: Result | None = None
    first: Case | None = None  # the case that failed first
    smallest: Case | None = None
    shrinks: int = 0
    whole: bool = True  # whether shrinking came to its end
    away: dict[str, str] = field(default_factory=dict)  # backend -> why it is not here


def search(
    selection: Selection,
    ops: Mapping[str, Op],
    backends: Sequence[Backend],
    *,
    seconds: float,
    timeout_s: float,
    settings: Settings,
    on_case: Callable[[Search], None] = lambda _: None,
) -> Search:
    """Draw and run cases for `seconds`; a failure is shrunk for at most as long again, or ten seconds."""
    if find_spec("hypothesis") is None:
        raise UsageError(NO_HYPOTHESIS)
    import hypothesis
    from hypothesis import HealthCheck, Phase, Verbosity

    found = Search(away={b.name: why for b in backends if (why := b.missing())})
    here = [backend for backend in backends if backend.name not in found.away]
    if not here:
        return found
    end = time.monotonic() + seconds
    kind: tuple[str, str, str | None, Status] | None = None

    def tasks(op: Op, case: Case) -> list[Task]:
        return [
            Task(op.name, selection.source, case, backend.name, target)
            for backend in here
            for target in targets_of(backend, selection.targets)
            if kind is None or (op.name, backend.name, target) == kind[:3]
        ]

    with Worker() as worker:

        def run(case: Case) -> None:
            nonlocal kind, end
            if time.monotonic() > end:
                found.whole = False
                raise TimeUp
            op = ops[case.op]
            found.cases += kind is None
            for task in tasks(op, case):
                result = worker.perform(task, settings, timeout_s)
                if result.status is Status.UNSUPPORTED or result.cause in UNTELLING:
                    continue
                found.compared += kind is None and (task.backend != "numpy" or len(here) == 1)
                this = (op.name, task.backend, task.target, result.status)
                if result.status in BAD and kind in (None, this):
                    if kind is None:
                        kind, end, found.first = this, time.monotonic() + max(seconds, 10.0), case
                    found.shrinks += case != found.smallest and found.smallest is not None
                    backend = next(backend for backend in here if backend.name == task.backend)
                    result.repro = selection.repro(op, "", case, backend, task.target)
                    found.failure, found.smallest = result, case
                    raise Disagreement
            on_case(found)

        drawn = drawing(ops, selection)
        given: Any = hypothesis.given(drawn)
        seeded: Any = hypothesis.seed(selection.seed)
        test: Any = hypothesis.settings(
            max_examples=10**7,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )(seeded(given(run)))
        try:
            test()
        except (TimeUp, Disagreement):
            pass
        except hypothesis.errors.FlakyFailure:  # seen once and not again: the case itself is kept and told
            found.whole = False
    return found


def drawing(ops: Mapping[str, Op], selection: Selection) -> Any:
    """A strategy of cases, simplest first in everything that it draws."""
    from hypothesis import strategies as st

    def sizes(op: Op, axis: str) -> Any:
        if axis in selection.axes:
            return st.sampled_from(list(selection.axes[axis]))
        if op.tiles and axis not in op.tiles:
            return st.integers(1, min(FEW, op.limits.get(axis, FEW)))
        most = op.limits.get(axis, max(around(op.tiles.get(axis, COMMON_TILES))))
        tiles = [size for size in around(op.tiles.get(axis, COMMON_TILES)) if size <= most]
        small = st.integers(1, min(SMALL, most))
        return st.one_of(small, st.sampled_from(tiles)) if tiles else small

    @st.composite
    def case(draw: Any) -> Case:
        op = draw(st.sampled_from(list(ops.values())))
        times = {axis: draw(st.integers(1, FEW)) for axis in op.multiples if axis not in selection.axes}
        axes = {axis: draw(sizes(op, axis)) for axis in op.axes if axis not in times}
        params = draw(st.sampled_from(params_seen(op)))
        wanted = [dtype for dtype in op.dtypes if dtype in selection.dtypes or not selection.dtypes]
        dtype, regime = draw(st.sampled_from(wanted)), draw(st.sampled_from(REGIMES))
        axes = within_bounds(op, axes, times, params, selection.axes)
        return Case(
            op.name, case_name(axes, params, regime), axes, dtype, params, regime, seed=draw(st.integers(0, 99))
        )

    return case()


def params_seen(op: Op) -> list[dict[str, Any]]:
    """The different params of the op's cases, in their order."""
    seen: list[dict[str, Any]] = []
    for cases in op.case_sets.values():
        seen += [dict(case.params) for case in cases if dict(case.params) not in seen]
    return seen


def within_bounds(
    op: Op,
    axes: dict[str, int],
    times: Mapping[str, int],
    params: Mapping[str, Any],
    fixed: Mapping[str, Sequence[int]],
) -> dict[str, int]:
    """`axes`, with each that is a multiple of another; the largest that is free is halved until the case is small."""

    def whole() -> dict[str, int]:
        return {axis: axes[op.multiples[axis]] * times[axis] if axis in times else axes[axis] for axis in op.axes}

    free = [axis for axis in axes if axis not in fixed]
    while free and work(op, whole(), params) > 1 and max(axes[axis] for axis in free) > 1:
        axes[max(free, key=lambda axis: axes[axis])] //= 2
    return whole()


def work(op: Op, axes: Mapping[str, int], params: Mapping[str, Any]) -> float:
    """The case's operations and bytes as a share of the bounds, the larger of the two."""
    elements = math.prod(axes.values())
    operations = op.flops(axes, params) if op.flops else elements
    size = op.bytes(axes, params, 4) if op.bytes else 4 * elements
    return max(operations / MOST_WORK, size / MOST_BYTES)


def told(found: Search, ops: Mapping[str, Op], seconds: float, seed: int) -> str:
    """The last line: how much was tried, and what came of it."""
    tried = f"{found.cases} case{'s' * (found.cases != 1)}, {found.compared} comparison{'s' * (found.compared != 1)}"
    if not found.compared:
        return (
            f"fuzz: {found.cases} cases of {', '.join(ops)}, and nothing could be compared: no chosen backend runs them"
        )
    if found.failure is None:
        return f"fuzz: {tried} of {', '.join(ops)} in {seconds:g} s, and none fails · seed {seed}"
    assert found.first is not None and found.smallest is not None
    if found.first == found.smallest:
        how = "which is as small as it gets" if found.whole else "which was not shrunk in the time"
    else:
        how = f"shrunk from {found.first.name}" + ("" if found.whole else ", not to the end for lack of time")
    return f"fuzz: a failure after {tried}, {how} · seed {seed}"


def progress(seconds: float, quiet: bool) -> Callable[[Search], None]:
    """One line on a terminal; nothing elsewhere."""
    start = time.monotonic()

    def show(found: Search) -> None:
        if sys.stderr.isatty() and not quiet:
            what = "shrinking" if found.failure else f"{found.cases} cases"
            sys.stderr.write(f"\r\x1b[K[{time.monotonic() - start:.0f} of {seconds:g} s] {what}\r")
            sys.stderr.flush()

    return show
