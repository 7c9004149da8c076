"""`torch`: what a user would pick instead of a kernel of their own; cuBLAS and SDPA on a GPU, oneDNN on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, from_torch, to_torch
from triptych.harness.backends.base import Backend
from triptych.harness.backends.clocks import TimingBudget, time_cuda, time_host
from triptych.harness.backends.gpu import gpu_here
from triptych.harness.judge.problem import Problem
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class Torch(Backend):
    name = "torch"
    panel = family = "torch"
    promises_bits = False  # it is what a kernel is compared with

    @property
    def evidence(self) -> Evidence:
        """It runs on a GPU where there is one, else on this CPU."""
        return Evidence.DEVICE if gpu_here() else Evidence.HOST

    def missing(self) -> str | None:
        return None if find_spec("torch") else "PyTorch is not installed: pip install 'triptych[torch]'"

    def run(self, problem: Problem, target: str | None) -> Array:
        import torch

        call = prepared_call(problem)
        poison(int(np.prod(problem.reference.shape)) * problem.dtype.itemsize)
        out = call()
        return from_torch(out) if isinstance(out, torch.Tensor) else out  # the judge says what is wrong with the rest

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        call = prepared_call(problem)
        return time_cuda(call, budget) if gpu_here() else time_host(call, budget, Evidence.HOST)


def prepared_call(problem: Problem) -> Callable[[], Any]:
    """A call without arguments, inputs on the device; float32 products are not shortened to TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    function = problem.op.torch
    assert function is not None
    device = "cuda" if gpu_here() else "cpu"
    tensors = {name: to_torch(x, device) for name, x in problem.inputs.items()}
    return lambda: function(**tensors, **problem.case.params)


def poison(size: int) -> None:
    """Leave NaNs, whose bits are ones, where PyTorch will likely place an output of `size` bytes.

    What is not written is then no result of an earlier call.
    """
    import torch

    torch.full((size,), 0xFF, dtype=torch.uint8, device="cuda" if gpu_here() else "cpu")
