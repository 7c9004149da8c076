"""Run cases of kernels and print what came of each: the parts that do not depend on a repository."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from typing import Any
from unittest.mock import patch

import numpy as np

from triptych import simulator
from triptych.simulator import NkiError, Options
from triptych.simulator.machine import machine
from triptych.simulator.options import APIS

# A named leniency for each thing that a kernel may do against the documentation, by words of the error.
LENIENCIES: dict[str, dict[str, Any]] = {
    "that nothing has written": {"check_uninitialized": False},
    "elements never written": {"check_uninitialized": False},
    " bytes of each ": {"check_capacity": False},
    " race on ": {"check_races": False},
    "accumulating onto PSUM": {"check_accumulation": False},
    "removed in NKI 0.7": {"api": "0.6"},
    "a register's value is not known": {"api": "0.6"},
}


@dataclass
class Ran:
    """What one run of a kernel gave."""

    kernel: str
    target: str
    cores: int
    seconds: float
    instructions: int
    holds: bool  # AWS's own criterion, or rtol 1e-2 and atol 1e-4 where they give none
    error: float | None  # largest |ours - reference| over largest |reference|; None where AWS's check hides its own
    note: str = ""


@dataclass(frozen=True)
class Case:
    """One call of one kernel. `run` executes and judges it; it may do so for several launches."""

    kernel: str
    label: str
    run: Callable[[Options], Sequence[Ran]]
    api: str = APIS[0]
    fails: str = ""  # why it is known not to agree
    zeros: bool = False  # the reference takes memory that nothing has written for zeros


@dataclass
class Row:
    """A line of the table."""

    case: Case
    ran: Sequence[Ran] = ()
    reported: list[str] = field(default_factory=list)  # what the kernel does against the documentation
    failure: str = ""

    @property
    def agrees(self) -> bool:
        return bool(self.ran) and not self.failure and all(r.holds for r in self.ran)

    @property
    def as_expected(self) -> bool:
        return self.agrees or bool(self.case.fails)


def attempt(case: Case) -> Row:
    """Run a case as strictly as it goes: each error that has a leniency is reported, and the run repeated with it."""
    row = Row(case)
    options = Options(api=case.api, lint=False)
    while True:
        try:
            garbage = 0 if case.zeros else machine._GARBAGE
            with redirect_stdout(StringIO()), patch.object(machine, "_GARBAGE", garbage):  # kernels print
                row.ran = case.run(options)
            if case.zeros:
                row.reported.append("the reference has zeros where nothing is written: such memory is taken for zeros")
        except NkiError as error:
            lenient = next((fields for words, fields in LENIENCIES.items() if words in str(error)), {})
            if replace(options, **lenient) != options:
                options = replace(options, **lenient)
                row.reported.append(f"{', '.join(f'{name}={value}' for name, value in lenient.items())}: {error}")
                continue
            row.failure = f"{type(error).__name__}: {error}"
        except Exception as error:  # whatever a kernel or its test does is a row of the table
            row.failure = f"{type(error).__name__}: {error}"
        return row


def execute(kernel: Any, target: str, options: Options, arguments: Any) -> tuple[Any, float, int]:
    """(outputs, seconds, instructions) of one launch, on one rank or, given a list of arguments, on as many."""
    began = time.perf_counter()
    if isinstance(arguments, list):
        runs = simulator.run_ranks(kernel, arguments, target=target, options=options)
        outputs = [run.outputs for run in runs]
    elif isinstance(arguments, dict):
        runs = [simulator.run(kernel, target=target, options=options, **arguments)]
        outputs = runs[0].outputs
    else:
        runs = [simulator.run(kernel, *arguments, target=target, options=options)]
        outputs = runs[0].outputs
    return outputs, time.perf_counter() - began, sum(len(run.trace.events) for run in runs)


def distance(out: Any, expected: Any) -> float:
    """The largest error of a finite expected element, over the largest of them; infinite where only one is finite."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (out, expected))
    finite = np.isfinite(b)
    if a.size != b.size or not np.array_equal(np.isfinite(a), finite):
        return math.inf
    if not finite.any():
        return 0.0
    return float(np.abs(a - b)[finite].max() / (np.abs(b[finite]).max() or 1.0))


def show(rows: Iterable[Row]) -> int:
    """Print rows as they come, and the count; the exit status: 1 if one that is expected to agree does not."""
    print(f"{'kernel':<34} {'target':<6} {'LNC':>3} {'error':>8} {'criterion':<9} {'seconds':>7} {'instr.':>7}  case")
    seen: list[Row] = []
    for row in rows:
        seen.append(row)
        for ran in row.ran:
            error = "-" if ran.error is None else f"{ran.error:.1e}"
            holds = "holds" if ran.holds else "fails"
            print(
                f"{ran.kernel[:34]:<34} {ran.target:<6} {ran.cores:>3} {error:>8} {holds:<9} {ran.seconds:>7.2f} "
                f"{ran.instructions:>7}  {row.case.label}{'; ' + ran.note if ran.note else ''}"
            )
        if row.failure:
            print(f"{row.case.kernel[:34]:<34} {'did not run':<52} {row.case.label}\n    {one_line(row.failure)}")
        for sentence in row.reported:
            print(f"    reported: {one_line(sentence)}")
        if row.case.fails and not row.agrees:
            print(f"    known: {row.case.fails}")
    agree = [row for row in seen if row.agrees]
    kernels = {ran.kernel for row in agree for ran in row.ran}
    lenient = sum(bool(row.reported) for row in agree)
    print("\nerror: largest |ours - reference| over the largest |reference| of an output; criterion: AWS's own")
    print(f"{len(kernels)} kernels; {lenient} of the cases that agree do so with what is reported let pass")
    print(f"{len(agree)} of {len(seen)} agree")
    return 0 if all(row.as_expected for row in seen) else 1


def one_line(text: str, limit: int = 400) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
