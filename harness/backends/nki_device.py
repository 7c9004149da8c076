"""`nki`: AWS's own nki and compiler on a Neuron device."""

from __future__ import annotations

import importlib
import os
from importlib.machinery import PathFinder
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Arrays
from triptych.harness.backends.base import Backend, given_back, kernel_of
from triptych.harness.backends.clocks import TimingBudget, time_host
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.outputs.naming import flatten
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing

DEVICE = "/dev/neuron0"


class NeuronDevice(Backend):
    name = "nki"
    panel = family = "nki"
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

    def run(self, problem: Problem, target: str | None) -> Any:
        own = problem.own_inputs()
        return given_back(problem, self.call(problem, own), own)

    def call(self, problem: Problem, inputs: Arrays) -> Any:
        """The kernel on inputs of a problem, and its results on the host."""
        kernel, _ = kernel_of(problem.op.nki, loading.load)
        positional, named = problem.positional(inputs)
        returned = kernel(*positional, **named)
        leaves = flatten(returned)
        return np.asarray(returned) if list(leaves) == [""] else {name: np.asarray(x) for name, x in leaves.items()}

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        """Wall time of the whole call: it holds the copies to and from the device."""
        own = problem.own_inputs()
        timing = time_host(lambda: self.call(problem, own), budget, self.evidence, problem.restoring(own))
        return structs.replace(timing, timer="host clock, with transfers")
