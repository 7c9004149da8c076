"""What is run: one case on one backend, and what holds for every such task of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.judge.bounds import Bounds
from triptych.harness.ops.case import Case
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status

TIMEOUT_S = 120.0  # of each phase of a task, unless another limit is asked for


@dataclass(frozen=True)
class Task:
    """One case on one backend, to be checked and, with `bench`, timed."""

    op: str
    source: str | None  # the user's file that declares the op; None for an op of this repository
    case: Case
    backend: str
    target: str | None
    bench: bool = False
    though_slow: bool = True  # run the kernel again even if it takes long
    left_out: str = ""  # why it is not run at all; empty: it is
    repro: str = ""  # the command line that runs this task alone, carried into the result


@dataclass(frozen=True)
class Settings:
    """What holds for every task of a run."""

    no_check: bool = False  # time a kernel even if its check fails
    wanted: Bounds | None = None  # the tolerance that the command line or the environment asks for
    budget: TimingBudget = field(default_factory=TimingBudget)
    tune_s: float | None = None  # for each timed case, to choose among a launcher's configurations; None: do not
    memory: int | None = None  # bytes that the worker may take; None: a share of what is free
    repeat: bool = True  # run what passed again, on other inputs and on these
    paranoid: bool = False  # guard against kernels that deceive the judge
    cluster: str | None = None  # the address of the one that it runs on; None: this machine


Key = tuple[str, str, str, str, "str | None"]  # op, case, dtype, backend, target


def key(of: Task | Result) -> Key:
    """What tells the results of one run apart."""
    case, dtype = (of.case.name, of.case.dtype) if isinstance(of, Task) else (of.case, of.dtype)
    return of.op, case, dtype, of.backend, of.target


def result_without_run(
    task: Task, status: Status, reason: str, cause: Cause | None = None, evidence: Evidence | None = None
) -> Result:
    """The result of a task that has no numbers."""
    if evidence is None:
        evidence = BACKENDS[task.backend].evidence
    return Result(
        op=task.op,
        case=task.case.name,
        dtype=task.case.dtype,
        regime=task.case.regime,
        backend=task.backend,
        target=task.target,
        evidence=evidence,
        status=status,
        reason=reason,
        cause=cause,
        repro=task.repro,
    )
