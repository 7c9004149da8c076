"""`torch`: what a user would pick instead of a kernel of their own; cuBLAS and SDPA on a GPU, oneDNN on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from triptych.harness import extras
from triptych.harness.arrays import from_torch, to_torch
from triptych.harness.backends.base import Backend, given_back
from triptych.harness.backends.clocks import TimingBudget, time_cuda, time_host
from triptych.harness.backends.gpu import gpu_here
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class Torch(Backend):
    name = "torch"
    panel = family = "torch"
    imports = ("torch",)
    promises_bits = False  # it is what a kernel is compared with

    @property
    def evidence(self) -> Evidence:
        """It runs on a GPU where there is one, else on this CPU."""
        return Evidence.DEVICE if gpu_here() else Evidence.HOST

    def missing(self) -> str | None:
        return None if find_spec("torch") else "PyTorch is not installed: pip install 'triptych[torch]'"

    def supports(self, op: Op, case: Case, target: str | None) -> str | None:
        """Asked where the op is to run, so that PyTorch may be imported to see whether it can be."""
        return super().supports(op, case, target) or extras.why_not("torch")

    def run(self, problem: Problem, target: str | None) -> Any:
        tensors = tensors_of(problem)
        for name in problem.outputs.keys() - set(problem.op.mutates):
            shape, dtype = problem.memory_of(name)
            poison(int(np.prod(shape)) * dtype.itemsize)
        return outputs_of(problem, tensors, call_of(problem, tensors)())  # the judge says what is wrong with no tensor

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        tensors = tensors_of(problem)
        call, restore = call_of(problem, tensors), restoring(problem, tensors)
        budget = budget.looking_at(lambda returned: outputs_of(problem, tensors, returned))
        if gpu_here():
            return time_cuda(call, budget, restore)
        return time_host(call, budget, Evidence.HOST, restore)


def outputs_of(problem: Problem, tensors: dict[str, Any], returned: Any) -> Any:
    """What a function returned and, of one that changes inputs, what these are now, as arrays."""
    return given_back(problem, from_tensors(returned), {name: from_torch(tensors[name]) for name in problem.changed})


def from_tensors(returned: Any) -> Any:
    """What a function returned, with an array for each tensor."""
    import torch

    if isinstance(returned, torch.Tensor):
        return from_torch(returned)
    if isinstance(returned, (tuple, list)):
        return tuple(map(from_tensors, returned))
    return {key: from_tensors(x) for key, x in returned.items()} if isinstance(returned, dict) else returned


def tensors_of(problem: Problem) -> dict[str, Any]:
    """The inputs on the device, those that are changed as copies."""
    device = "cuda" if gpu_here() else "cpu"
    return {name: to_torch(x, device) for name, x in problem.own_inputs().items()}


def restoring(problem: Problem, tensors: dict[str, Any]) -> Callable[[], None]:
    """What makes tensors that a call changes again what they are now."""
    before = {name: tensors[name].clone() for name in problem.changed}

    def restore() -> None:
        for name, tensor in before.items():
            tensors[name].copy_(tensor)

    return restore


def call_of(problem: Problem, tensors: dict[str, Any]) -> Callable[[], Any]:
    """A call without arguments; float32 products are not shortened to TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    function = problem.op.torch
    assert function is not None
    return lambda: function(**tensors, **problem.case.params)


def poison(size: int) -> None:
    """Leave NaNs, whose bits are ones, where PyTorch will likely place an output of `size` bytes.

    What is not written is then no result of an earlier call.
    """
    import torch

    torch.full((size,), 0xFF, dtype=torch.uint8, device="cuda" if gpu_here() else "cpu")
