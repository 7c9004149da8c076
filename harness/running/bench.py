"""Where a task is performed: prepare, choose, execute, judge, confirm, attribute, time; a failure is a status."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array
from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.backends.base import KernelFault
from triptych.harness.backends.sealed import Sealed
from triptych.harness.backends.triton_device import TritonDevice
from triptych.harness.collection import builtin
from triptych.harness.judge import parity, sensitivity
from triptych.harness.judge.kept import preparing as kept
from triptych.harness.judge.prepared import PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.case import restored
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.naming import Outputs, in_words
from triptych.harness.ops.work import work_of
from triptych.harness.results.measures import OneOutput
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Status
from triptych.harness.running.configurations.choosing import choose
from triptych.harness.running.faults import GPU_FAULT, NotSupported, explain_preparation, explain_run, kernel_fault
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.trials import invariance, self_reference
from triptych.harness.trials.attribution import LONGEST_S, attribute
from triptych.harness.trials.integrity import Functions, Integrity
from triptych.harness.trials.invariance import Repeater
from triptych.harness.trials.timed_outputs import TimedOutputs


@dataclass(frozen=True)
class Shared:
    """What all backends of one case share."""

    prepared: PreparedCase
    sealed: Sealed
    repeater: Repeater
    integrity: Integrity | None  # of what the kernel is judged with; only if asked for
    outputs: dict[str, dict[str, Array]] = field(default_factory=dict)  # what was compared of each backend, by label


@dataclass
class Trial:
    """One task on its way through the stages."""

    task: Task
    settings: Settings
    backend: Backend
    result: Result
    shared: Shared | None = None  # from `prepare` on
    out: Outputs | None = None  # from `execute` on
    seconds: float = 0.0  # that the kernel ran

    @property
    def ready(self) -> Shared:
        assert self.shared is not None
        return self.shared

    @property
    def problem(self) -> Problem:
        return self.ready.prepared.problem

    def run(self, problem: Problem) -> Outputs:
        """The kernel on a problem, without its warnings."""
        return self.quietly(self.backend.run, problem)

    def run_again(self, problem: Problem) -> Outputs:
        return self.quietly(self.backend.run_again, problem)

    def quietly(self, how: Callable[[Problem, str | None], Any], problem: Problem) -> Outputs:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.problem.named(how(problem, self.task.target))


class Bench:
    """Performs tasks; keeps the op and the prepared case, which the next task often shares.

    announce: takes each phase as it begins.
    settle: takes a verdict before its cause is sought, which may cost this process.
    """

    def __init__(self, announce: Callable[[str], None], settle: Callable[[Result], None] = lambda _: None) -> None:
        self.announce = announce
        self.settle = settle
        self.sources: dict[str | None, dict[str, Op]] = {}
        self.shared: tuple[str, Shared] | None = None  # by the case that it is of
        self.unfit = False  # for another case
        self.memory: int | None = None  # the limit of this process
        self.functions: Functions | None = None  # as they were; only if asked for
        self.repeated_though_slow: set[tuple[str, str, str | None]] = set()  # op, backend, target

    def perform(self, task: Task, settings: Settings) -> Result:
        """Check, then time if asked to."""
        if settings.paranoid and self.functions is None:
            self.functions = Functions()
        trial = Trial(task, settings, BACKENDS[task.backend], result_without_run(task, Status.ERROR, ""))
        try:
            for stage in (self.prepare, self.choose, self.execute, self.judge, self.confirm, self.attribute, self.time):
                stage(trial)
        except BaseException as error:
            self.explain(trial, error)
        return trial.result

    def prepare(self, trial: Trial) -> None:
        """Load the op; draw its inputs, evaluate its reference and derive its tolerance, unless the last task did."""
        task = trial.task
        op = self.op(task)
        case = restored(task.case, op.declared_sets)
        why = trial.backend.supports(op, case, task.target)
        if why:
            raise NotSupported(why)
        self.announce("preparing the inputs and the reference")
        key = repr((task.source, task.op, task.case))
        if self.shared is None or self.shared[0] != key:
            self.shared = None  # let go of the last case's memory first
            keep = not trial.settings.paranoid
            prepared = kept.prepared(Problem.of(op, case), trial.settings.wanted, keep)
            integrity = Integrity(self.functions, prepared) if self.functions else None
            self.shared = key, Shared(prepared, Sealed(prepared.problem.inputs), Repeater(prepared, keep), integrity)
        trial.shared = self.shared[1]
        trial.result.tolerance = trial.shared.prepared.first.expected.tolerance

    def choose(self, trial: Trial) -> None:
        """Let a launcher on a GPU find the fastest of its configurations first, if that is asked for."""
        seconds, backend = trial.settings.tune_s, trial.backend
        if seconds is None or not trial.task.bench or not isinstance(backend, TritonDevice):
            return
        self.announce("choosing a configuration")
        with np.errstate(all="ignore"), warnings.catch_warnings(), trial.ready.sealed:
            warnings.simplefilter("ignore")
            said = choose(backend, trial.ready.prepared, seconds)
        trial.result.notes += [said] if said else []

    def op(self, task: Task) -> Op:
        """The task's op, from its file, which is loaded once."""
        if task.source not in self.sources:
            self.sources[task.source] = builtin() if task.source is None else loading.from_file(task.source)
            if self.functions:
                self.functions.check_after_loading(task.source)
        if task.op not in self.sources[task.source]:
            raise InvalidOp(f"there is no op {task.op!r}; there is {', '.join(self.sources[task.source])}")
        return self.sources[task.source][task.op]

    def execute(self, trial: Trial) -> None:
        """Run the kernel, and note what it warns of."""
        self.announce("running the kernel")
        shared = trial.ready
        with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as caught, shared.sealed:
            warnings.simplefilter("default")
            started = perf_counter()
            try:
                with trial.backend.launches() as launched:
                    trial.result.launched = launched
                    returned = trial.backend.run(trial.problem, trial.task.target)
            finally:
                trial.seconds = perf_counter() - started
                trial.result.notes += dict.fromkeys(trial.backend.note(warning) for warning in caught)
        trial.out = trial.problem.named(returned)
        if shared.integrity:
            shared.integrity.check()

    def judge(self, trial: Trial) -> None:
        """Compare the output with the reference, and with those of the backends before."""
        result, shared, out = trial.result, trial.ready, trial.out
        assert out is not None
        verdict = shared.prepared.judge(out)
        result.status, result.reason, result.cause = verdict.status, verdict.reason, verdict.cause
        result.metrics, result.failure, result.output = verdict.metrics, verdict.failure, verdict.output
        result.tolerance = verdict.tolerance or result.tolerance
        result.outputs = {
            name: OneOutput(passed=one.status is Status.PASSED, metrics=one.metrics, tolerance=one.tolerance)
            for name, one in verdict.each.items()
        }
        if all(one.metrics for one in verdict.each.values() or [verdict]):
            compared, others = shared.prepared.all_compared(out), shared.outputs.items()
            result.parity = {name: parity.of_outputs(compared, other, shared.prepared) for name, other in others}
            shared.outputs[result.backend_label] = compared

    def confirm(self, trial: Trial) -> None:
        """Run a kernel that passed again: what does it keep, whom does it call, does it repeat its bits?"""
        result, out = trial.result, trial.out
        if result.status is not Status.PASSED or out is None:
            return
        shared = trial.ready
        result.reason = remark(shared.prepared)
        if not trial.settings.repeat or trial.backend.is_reference:
            return
        self.announce("running the kernel again")
        try:
            with shared.sealed:
                repeats = self.repeat(trial, out)
                fault = repeats.fault
                if shared.integrity and not fault:
                    fault = self_reference.self_comparison(shared.prepared, out, lambda: trial.run(trial.problem))
            if shared.integrity:
                shared.integrity.check()
        except MemoryError:
            raise
        except BaseException as error:
            why = kernel_fault(error, trial.problem.op, trial.backend)
            raise KernelFault(f"its first call passed, but a further one failed: {why}") from error
        result.invariance = repeats.found
        if fault:
            result.status, result.reason, result.cause = Status.ERROR, fault, Cause.KEPT_STATE
        elif repeats.broken:
            result.status, result.reason, result.cause = Status.FAILED, repeats.broken, Cause.BROKEN_PROMISE

    def repeat(self, trial: Trial, out: Outputs) -> invariance.Repeats:
        """The further runs; of a slow kernel, in one case alone."""
        kernel = (trial.task.op, trial.task.backend, trial.task.target)
        shared = trial.ready
        # who is out to deceive must not find the second reference in memory
        repeater = Repeater(shared.prepared) if trial.settings.paranoid else shared.repeater
        repeats = repeater.repeat(
            trial.backend,
            out,
            trial.run,
            trial.run_again,
            trial.seconds,
            though_slow=trial.task.though_slow and kernel not in self.repeated_though_slow,
        )
        if trial.seconds > invariance.LONGEST_S:
            self.repeated_though_slow.add(kernel)
        return repeats

    def attribute(self, trial: Trial) -> None:
        """Find out why an output is wrong."""
        result, out = trial.result, trial.out
        if result.cause is not Cause.MISMATCH or out is None or trial.seconds >= LONGEST_S:
            return
        self.settle(result)
        self.announce("finding the cause of a disagreement")
        result.attribution = attribute(trial.backend, trial.ready.prepared, trial.task.target, out, result.output)
        self.unfit = self.unfit or bool(GPU_FAULT.search(result.attribution.text))

    def time(self, trial: Trial) -> None:
        """Time a kernel that is right; one that is wrong only if that was asked for."""
        result, task = trial.result, trial.task
        if not task.bench:
            return
        if result.status is not Status.PASSED and not (trial.settings.no_check and result.metrics):
            result.reason = f"{result.reason}; not timed, because its result is wrong"
            return
        self.announce("timing the kernel")
        budget = trial.settings.budget
        if result.status is Status.PASSED and trial.out is not None and not trial.backend.is_reference:
            budget = replace(budget, look=TimedOutputs(trial.ready.prepared, trial.out))
        with np.errstate(all="ignore"):
            timing = trial.backend.time(trial.problem, task.target, budget)
        result.timing = structs.replace(timing, **work_of(trial.problem.op, trial.problem.case))

    def explain(self, trial: Trial, error: BaseException) -> None:
        """Put what an exception means into the result."""
        if trial.shared is None:
            ended = explain_preparation(error, trial.task.source, self.memory)
        else:
            self.shared = None  # what the kernel may have changed
            ended = explain_run(error, trial.problem.op, trial.backend, self.memory)
        trial.result.status, trial.result.cause, trial.result.reason = ended.status, ended.cause, ended.reason
        replaced = self.functions is not None and self.functions.find_replaced() is not None
        self.unfit = self.unfit or ended.unfit or replaced


def remark(prepared: PreparedCase) -> str | None:
    """What to say of a pass under tolerances that accept wrong outputs."""
    said = {name: sensitivity.remark(one.expected.tolerance) for name, one in prepared.outputs.items()}
    found = [f"{in_words(name)}: {words}" if name else words for name, words in said.items() if words]
    return "; ".join(found) or None
