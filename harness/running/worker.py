"""The worker process: performs one task after the other and reports over pipes that no kernel can reach by printing.

Messages are pickles: (Task, Settings) comes in; ("ready", pid), ("phase", what) and ("result", Result) go out, or
("last result", Result) after what leaves the process unfit for another case: a GPU fault, after which every call of
that process fails, or memory that ran out. When the parent is gone its pipe closes, and the worker ends at once, even
in the middle of a kernel.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import pickle
import queue
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import BinaryIO

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import KernelFault, located
from triptych.harness.collection import builtin
from triptych.harness.dtypes import dtype_of
from triptych.harness.judge import parity, sensitivity
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.judge.truth import OpError, SaysNothing
from triptych.harness.judge.verdict import judge
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.running import crash_location, memory_limit
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.trials import integrity, invariance, self_reference
from triptych.harness.trials.attribution import LONGEST_S, attribute
from triptych.harness.trials.integrity import digest
from triptych.harness.trials.invariance import Repeater


def main() -> None:
    """Serve until the parent goes away."""
    end_with_parent()
    requests, replies = private_pipes()
    crash_location.enable(int(sys.argv.pop()) if len(sys.argv) > 1 else None)
    own = os.getpid()
    jobs: queue.SimpleQueue[tuple[Task, Settings]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, jobs), daemon=True).start()

    def send(kind: str, value: object) -> None:
        if os.getpid() != own:  # a kernel forked, and its child came back from it: its results are nobody's
            os._exit(0)
        try:
            pickle.dump((kind, value), replies)
            replies.flush()
        except OSError:  # a kernel closed it, or the parent is gone
            os._exit(1)

    bench = Bench(lambda what: send("phase", what), lambda result: send("verdict", result))
    send("ready", os.getpid())
    while True:
        task, settings = jobs.get()
        if bench.memory is None:
            bench.memory = settings.memory or memory_limit.default()
            memory_limit.apply(bench.memory)
        result = bench.perform(task, settings)
        send("last result" if bench.unfit else "result", result)


def end_with_parent() -> None:
    """On Linux the system ends this process with its parent, even while it hangs in C with the interpreter's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent under new descriptors; standard input becomes empty, output joins the error."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _receive(requests: BinaryIO, jobs: queue.SimpleQueue[tuple[Task, Settings]]) -> None:
    try:
        while True:
            jobs.put(pickle.load(requests))
    finally:
        os._exit(0)


GPU_FAULT = re.compile(r"(CUDA|HIP) error|Triton Error \[(CUDA|HIP)\]|CUDNN_STATUS|CUBLAS_STATUS|\bNRT\b|\bnrt_")
LONGEST = 400  # characters of a message that are told
SPEAK_FOR_THEMSELVES = ("NkiError", "EmulationError")  # whose text is a sentence that names the kernel's line


@dataclass(frozen=True)
class Prepared:
    """What all backends of one case share."""

    inputs: Arrays
    digests: dict[str, int]
    expected: Expected
    seal: tuple[int, int, str]  # of what is expected
    definition: integrity.Definition
    repeater: Repeater
    outputs: dict[str, Array] = field(default_factory=dict)  # of the backends so far, by place


class Bench:
    """Where a task is performed; keeps the op and the prepared case, which the next task often shares."""

    def __init__(self, announce: Callable[[str], None], settle: Callable[[Result], None] = lambda _: None) -> None:
        self.announce = announce
        self.settle = settle  # takes a verdict before its cause is sought, which may cost this process
        self.sources: dict[str | None, dict[str, Op]] = {}
        self.prepared: tuple[str, Prepared] | None = None
        self.unfit = False  # for another case
        self.memory: int | None = None  # the limit of this process
        self.functions = integrity.Functions()
        self.repeated_though_slow: set[tuple[str, str, str | None]] = set()  # op, backend, target

    def perform(self, task: Task, settings: Settings) -> Result:
        """Check, then time if asked to; every way to fail is a status and a sentence."""
        backend, case = BACKENDS[task.backend], task.case
        try:
            op = self.op(task)
            why = backend.supports(op, case, task.target)
            if why:
                return result_without_run(task, Status.UNSUPPORTED, why, Cause.NOT_SUPPORTED)
            self.announce("preparing the inputs and the reference")
            prepared = self.prepare(op, task, settings)
        except SaysNothing as error:
            status = Status.UNSUPPORTED if error.unsuitable else Status.ERROR
            return result_without_run(task, status, str(error), error.cause)
        except OpError as error:
            return result_without_run(task, Status.ERROR, str(error), error.cause)
        except loading.OpFileError as error:
            return result_without_run(task, Status.ERROR, str(error), Cause.INVALID_OP)
        except MemoryError:
            self.unfit = True
            why = memory_limit.in_words(self.memory)
            return result_without_run(task, Status.ERROR, f"the case could not be prepared: {why}", Cause.OUT_OF_MEMORY)
        except BaseException as error:
            place = loading.at(error, Path(task.source).resolve()) if task.source else ""
            why = f"the case could not be prepared: {described(error)}{place}"
            return result_without_run(task, Status.ERROR, why, Cause.INVALID_OP)
        result = result_without_run(task, Status.ERROR, "", evidence=backend.evidence)
        result.tolerance = prepared.expected.tolerance
        try:
            self.announce("running the kernel")
            with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("default")
                started = perf_counter()
                try:
                    out = backend.run(op, case, prepared.inputs, task.target)
                finally:
                    seconds = perf_counter() - started
                    result.notes = list(dict.fromkeys(noted(warning) for warning in warned))
            self.check_untouched(prepared)
            verdict = judge(op, case, prepared.inputs, out, expected=prepared.expected)
            result.status, result.reason, result.cause = verdict.status, verdict.reason, verdict.cause
            result.metrics, result.failure = verdict.metrics, verdict.failure
            if verdict.metrics:
                result.parity = {
                    place: parity.difference(out, other, prepared.expected) for place, other in prepared.outputs.items()
                }
                prepared.outputs[result.backend_label] = out
            if result.status is Status.PASSED:
                result.reason = sensitivity.remark(prepared.expected.tolerance)
                if settings.repeat and backend.evidence is not Evidence.REFERENCE:
                    self.repeat(op, task, prepared, out, seconds, result)
            if verdict.status is Status.FAILED and seconds < LONGEST_S:
                self.settle(result)
                self.announce("finding the cause of a disagreement")
                result.attribution = attribute(backend, op, case, prepared.inputs, task.target, out, prepared.expected)
                self.unfit = bool(GPU_FAULT.search(result.attribution.text))
            if task.bench and (result.status is Status.PASSED or (settings.no_check and verdict.metrics)):
                self.announce("timing the kernel")
                with np.errstate(all="ignore"):
                    timing = backend.time(op, case, prepared.inputs, task.target, settings.budget)
                result.timing = structs.replace(timing, **work(op, case))
            elif task.bench:
                result.reason = f"{result.reason}; not timed, because its result is wrong"
        except BaseException as error:
            self.prepared = None
            self.unfit = self.unfit or self.functions.replaced() is not None
            result.status, result.reason = Status.ERROR, kernel_fault(error, op, backend.panel)
            result.cause = error.cause if isinstance(error, OpError) else Cause.KERNEL_ERROR
            if isinstance(error, MemoryError) or "can't allocate memory" in said(error):  # PyTorch's RuntimeError
                self.unfit = True
                result.cause = Cause.OUT_OF_MEMORY
                result.reason = f"the kernel ran out of memory: {memory_limit.in_words(self.memory)}"
            elif GPU_FAULT.search(f"{type(error).__name__}: {said(error)}"):
                self.unfit = True
                result.cause = Cause.DEVICE_FAULT
                result.reason += "; the next case gets a new process"
        return result

    def repeat(self, op: Op, task: Task, prepared: Prepared, out: Array, seconds: float, result: Result) -> None:
        """Run a kernel that passed again: what does it keep, whom does it call, does it repeat its bits?"""
        backend = BACKENDS[task.backend]
        self.announce("running the kernel again")

        def quietly(how: Callable[..., Array], case: Case, inputs: Arrays) -> Array:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return how(op, case, inputs, task.target)

        run = partial(quietly, backend.run)

        try:
            kernel = (task.op, task.backend, task.target)
            repeats = prepared.repeater.repeated(
                task.backend,
                out,
                run,
                partial(quietly, backend.run_again),
                seconds,
                though_slow=kernel not in self.repeated_though_slow,
            )
            if seconds > invariance.LONGEST_S:
                self.repeated_though_slow.add(kernel)
            fault = repeats.fault or self_reference.self_comparison(
                op, task.case, prepared.inputs, out, prepared.expected, lambda: run(task.case, prepared.inputs)
            )
            self.check_untouched(prepared)
        except MemoryError:
            raise
        except BaseException as error:
            why = kernel_fault(error, op, backend.panel)
            raise KernelFault(f"its first call passed, but a further one failed: {why}") from error
        result.invariance = repeats.found
        if fault:
            result.status, result.reason, result.cause = Status.ERROR, fault, Cause.KEPT_STATE
        elif repeats.broken:
            result.status, result.reason, result.cause = Status.FAILED, repeats.broken, Cause.BROKEN_PROMISE

    def op(self, task: Task) -> Op:
        if task.source not in self.sources:
            self.sources[task.source] = builtin() if task.source is None else loading.from_file(task.source)
            replaced = self.functions.replaced()
            if replaced:
                self.unfit = True
                raise OpError(f"loading {task.source} replaces {replaced}, which the judge uses: {integrity.ALIKE}")
        if task.op not in self.sources[task.source]:
            raise OpError(f"there is no op {task.op!r}; there is {', '.join(self.sources[task.source])}")
        return self.sources[task.source][task.op]

    def prepare(self, op: Op, task: Task, settings: Settings) -> Prepared:
        """Inputs, reference and tolerance of the task's case."""
        key = repr((task.source, task.op, task.case))
        if self.prepared is None or self.prepared[0] != key:
            self.prepared = None  # let go of the last case's memory first
            inputs = make_inputs(op, task.case)
            expected = expect(op, task.case, inputs, settings.wanted)
            expected = sensitivity.check(op, task.case, inputs, expected)
            digests = {name: digest(x) for name, x in inputs.items()}
            repeater = Repeater(op, task.case, inputs, expected)
            seal, definition = integrity.seal(expected), integrity.Definition(op)
            self.prepared = key, Prepared(inputs, digests, expected, seal, definition, repeater)
        return self.prepared[1]

    def check_untouched(self, prepared: Prepared) -> None:
        """A kernel that changes inputs, reference or judge would spoil its own verdict and those after it."""
        replaced = self.functions.replaced() or prepared.definition.replaced()
        if replaced:
            self.unfit = True
            raise KernelFault(f"the kernel replaced {replaced}, which it is judged with: {integrity.ALIKE}")
        if integrity.seal(prepared.expected) != prepared.seal:
            raise KernelFault("the kernel changed the reference or the tolerance that it is judged by")
        for name, x in prepared.inputs.items():
            if digest(x) != prepared.digests[name]:
                raise KernelFault(f"the kernel changed its input {name}: write to a copy of it")


def work(op: Op, case: Case) -> dict[str, int]:
    """The operations and the bytes that the case needs, for rates and rooflines."""
    counts = {}
    try:
        if op.flops is not None:
            counts["flops"] = int(op.flops(case.axes, case.params))
        if op.bytes is not None:
            counts["bytes"] = int(op.bytes(case.axes, case.params, dtype_of(case.dtype).itemsize))
    except Exception as error:
        raise OpError(f"the `flops` or `bytes` of op {op.name} cannot be computed: {described(error)}") from error
    return counts


def kernel_fault(error: BaseException, op: Op, panel: str) -> str:
    """One sentence on an exception that came out of a kernel."""
    if isinstance(error, (KernelFault, OpError)):
        return str(error)
    kernel = getattr(op, panel)
    path = located(kernel)[0] if isinstance(kernel, str) else Path(inspect.getsourcefile(kernel) or "")
    if any(cls.__name__ in SPEAK_FOR_THEMSELVES for cls in type(error).__mro__):
        return str(error)
    return f"the kernel raised {described(error)}{loading.at(error, path)}"


def noted(warning: warnings.WarningMessage) -> str:
    """A warning with its line; the simulator's remarks begin with theirs."""
    name = type(warning.message).__name__
    place = "" if name == "NoteWarning" else f"{os.path.basename(warning.filename)}:{warning.lineno}: "
    return f"{place}{warning.message}"


def said(error: BaseException) -> str:
    """The exception's message; a user's class may fail to make one."""
    try:
        return str(error)
    except Exception:
        return "(its message could not be made)"


def described(error: BaseException) -> str:
    """The exception's type and the first line that says something."""
    lines = [line.strip() for line in said(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    words = first if len(first) <= LONGEST else f"{first[:LONGEST]}..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
