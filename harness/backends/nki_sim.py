"""`nki-sim`: our simulator of a NeuronCore. `nki`: AWS's own nki and compiler on a Neuron device."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends.base import Backend, check_call, located, member
from triptych.harness.backends.clocks import TimingBudget, time_host
from triptych.harness.measured.timing_accuracy import known_error
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import KnownError, Predicted, Timing

DEVICE = "/dev/neuron0"
HARNESS = str(Path(loading.__file__).parents[1])


class Simulator(Backend):
    name = "nki-sim"
    panel = "nki"
    lacks = ("float64",)
    evidence = Evidence.SIMULATED
    targets = ("trn1", "inf2", "trn2", "trn3")
    default_targets = ("trn2",)

    def missing(self) -> str | None:
        return None

    def run(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        out: Array = self.simulate(op, case, inputs, target).outputs
        return out

    def time(self, op: Op, case: Case, inputs: Arrays, target: str | None, budget: TimingBudget) -> Timing:
        """A prediction from the trace, by the timing model with what a compiler's scheduler would overlap."""
        simulator = importlib.import_module("triptych.simulator")
        predicted = simulator.predict_trace(self.simulate(op, case, inputs, target).trace)
        return Predicted(
            timer="timing model",
            evidence=Evidence.PREDICTED,
            predicted_us=predicted.total_us,
            known_error=KnownError(**known_error()),
            mfu=predicted.mfu,
            busy_share=predicted.busy,
        )

    def simulate(self, op: Op, case: Case, inputs: Arrays, target: str | None, options: Any = None) -> Any:
        """The simulator's `Run`, with its outputs and its trace."""
        simulator = importlib.import_module("triptych.simulator")
        path, function = located(op.nki)
        kernel = member(_simulated(path), function, path)
        check_call(kernel, path, inputs, case.params)
        target = target or self.default_targets[0]
        with called_by_us(kernel):
            return simulator.run(kernel, *inputs.values(), target=target, options=options, **case.params)


@contextmanager
def called_by_us(kernel: Any) -> Iterator[None]:
    """Errors of the call itself, whose line would be one of ours, name that of the kernel's definition."""
    errors = importlib.import_module("triptych.simulator.errors")
    try:
        yield
    except errors.NkiError as error:
        code = getattr(inspect.unwrap(kernel), "__code__", None)
        if error.line[0].startswith(HARNESS) and code is not None:
            error.line = (code.co_filename, code.co_firstlineno)
        raise


@cache
def _simulated(path: Path) -> ModuleType:
    return loading.load_simulated(path)


class Device(Backend):
    name = "nki"
    panel = "nki"
    lacks = ("float64",)
    evidence = Evidence.DEVICE

    def missing(self) -> str | None:
        """Looks past the `nki` that triptych lends, and past PyPI's placeholder, which raises when it is imported."""
        if not os.path.exists(DEVICE):
            return f"there is no Neuron device here ({DEVICE})"
        for package, what in (("nki", "AWS's nki"), ("neuronxcc", "AWS's compiler neuronx-cc")):
            if PathFinder.find_spec(package) is None:
                return f"{what} is not installed"
        try:
            importlib.import_module("nki")
        except ImportError as error:
            return f"the installed nki is not AWS's: {str(error).splitlines()[0]}"
        return None

    def run(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        path, function = located(op.nki)
        return np.asarray(member(loading.load(path), function, path)(*inputs.values(), **case.params))

    def time(self, op: Op, case: Case, inputs: Arrays, target: str | None, budget: TimingBudget) -> Timing:
        """Wall time of the whole call: it holds the copies to and from the device."""
        timing = time_host(lambda: self.run(op, case, inputs, target), budget, self.evidence)
        return structs.replace(timing, timer="host clock, with transfers")
