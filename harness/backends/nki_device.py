"""`nki`: AWS's own nki and compiler on a Neuron device, timed by the device's clock."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from warnings import WarningMessage

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends.base import Backend, KernelFault, file_of, given_back, split_kernel
from triptych.harness.backends.clocks import TimingBudget, summary
from triptych.harness.backends.neuron import parts
from triptych.harness.backends.neuron.nki_child import Call, Called
from triptych.harness.backends.neuron.processes import NkiProcess, timed
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Timing

WARM_UP_S = 5.0  # cores run up to 2.2 times slower in the first seconds after the runtime starts, as users report


class DeviceNote(UserWarning):
    """What is to be known of a run on the device, and is no fault."""


class NeuronDevice(Backend):
    name = "nki"
    panel = family = "nki"
    lacks = ("float64",)
    evidence = Evidence.DEVICE

    def __init__(self, warm_up_s: float = WARM_UP_S) -> None:
        self.process = NkiProcess()
        self.warm_up_s = warm_up_s

    def missing(self) -> str | None:
        """Not so where only nrtpy is missing, without which a kernel runs and cannot be timed by nrtpy."""
        device = parts.device()
        if not device.found:
            return device.wrong  # which every table of a laptop says
        needed = (parts.nki(), parts.compiler(), parts.chip())
        return next((part.sentence for part in needed if not part.found), None)

    def run(self, problem: Problem, target: str | None) -> Any:
        own = problem.own_inputs()
        called, said = self.process.call(self.request(problem, own))
        cached = "; it says that its cache served" if "cached neff" in said.lower() else "; it names no cache"
        note = f"nki {called.version}: compiled, loaded and run once in {called.seconds:.1f} s{cached}"
        warnings.warn(note, DeviceNote, stacklevel=2)
        return _back(problem, called, own)

    def request(self, problem: Problem, own: Arrays, clock: dict[str, Any] | None = None) -> Call:
        """The call of the op's kernel in the process that has nki."""
        path, function = split_kernel(named_kernel(problem.op.nki))
        positional, named = problem.positional(own)
        changed = [next(i for i, x in enumerate(positional) if x is own[name]) for name in problem.changed]
        return Call(str(path), function, positional, named, changed, clock, parts.target() or "")

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        """The device's own time of a launch, host and transfers left out, by nrtpy or else by nki's internals.

        Never by the host: a call of a kernel is mostly the compiler.
        """
        python, why = parts.nrtpy_python()
        if python:
            return self.by_nrtpy(problem, python, budget)
        own = problem.own_inputs()
        try:
            called, _ = self.process.call(self.request(problem, own, clock=self.asked(budget)))
        except KernelFault as error:
            raise KernelFault(
                f"no clock of the device is here: {why}; and nki's own cannot be used: {error}"
            ) from error
        budget.look(_back(problem, called, own))
        timer = f"internal clock of nki {called.version}"
        return measured(called.clock, timer, 1)

    def by_nrtpy(self, problem: Problem, python: str, budget: TimingBudget) -> Measured:
        own = problem.own_inputs()
        request = self.request(problem, own)
        called, _ = self.process.call(request)
        self.process.stop()  # the core is nrtpy's now
        if called.neff is None:
            raise KernelFault("the compiler left no NEFF in the folder of NKI_ARTIFACTS_DIR: there is nothing to time")
        before = problem.own_inputs()
        positional, named = problem.positional(before)
        values = [x for x in (*positional, *named.values()) if isinstance(x, np.ndarray)]
        if len(called.names) != len(values):
            raise KernelFault(
                f"the kernel takes {len(values)} arrays by {len(called.names)} parameters: which input of the NEFF is "
                "which cannot be known; give each array a parameter of its own"
            )
        arrays = list(zip(called.names, values, strict=True))
        answer, outputs, now = timed(python, called.neff, arrays, list(called.outputs.items()), self.asked(budget))
        changed = [now[called.names[i]] for i in request.changed]
        budget.look(_back(problem, replace(called, outputs=outputs, changed=changed), own))
        return measured(answer, "device clock, nrtpy", _cores(request.function))

    def asked(self, budget: TimingBudget) -> dict[str, Any]:
        return {
            "warmup_s": max(self.warm_up_s, budget.warmup_seconds) if self.warm_up_s else 0.0,
            "seconds": budget.seconds,
            "fewest": max(budget.fewest, 10),
            "most": budget.most,
        }

    def note(self, warning: WarningMessage) -> str:
        if isinstance(warning.message, DeviceNote):
            return str(warning.message)
        return super().note(warning)


def named_kernel(kernel: Any) -> str:
    """A kernel as "path/to/file.py:function", by which another process finds it."""
    if isinstance(kernel, str):
        return kernel
    function, grid = loading.launched(kernel)
    return f"{file_of(function)}:{function.__name__}{grid}"


def measured(answer: Mapping[str, Any], timer: str, cores: int) -> Measured:
    """The timing of an answer, whose durations count each core of a launch; of these the slowest is the launch's.

    That those of one launch stand side by side is not documented.
    """
    times, launches = answer["durations_ms"], answer["iterations"]
    each = len(times) // launches if launches else 0
    if each not in (1, cores) or each * launches != len(times):
        raise KernelFault(
            f"the device's clock gave {len(times)} durations for {launches} launches on {cores} cores: it cannot be "
            "known which belong together"
        )
    slowest = [max(times[i : i + each]) * 1e3 for i in range(0, len(times), each)]
    timing = summary(slowest, answer["warmups"], Evidence.DEVICE, timer=timer, cache="warm")
    host = answer.get("host_ms")
    return structs.replace(timing, host_us=statistics.median(host) * 1e3) if host else timing


def _cores(function: str) -> int:
    """How many cores "function[2]" is launched on."""
    return int(function.partition("[")[2].removesuffix("]") or 1)


def _back(problem: Problem, called: Called, own: Arrays) -> Any:
    """What the kernel returned, and what it made of its own inputs."""
    for name, x in zip(problem.changed, called.changed, strict=True):
        own[name][...] = x
    leaves: dict[str, Array] = called.outputs
    return given_back(problem, leaves[""] if list(leaves) == [""] else leaves, own)
