"""`triton`: the op's Triton launcher on a CUDA or ROCm device."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, from_torch, to_torch
from triptych.harness.backends import guarded
from triptych.harness.backends.base import Backend
from triptych.harness.backends.clocks import TimingBudget, time_cuda
from triptych.harness.backends.gpu import gpu_here
from triptych.harness.backends.sealed import Sealed
from triptych.harness.backends.triton_launcher import LACKS, NO_TRITON, launcher_of, output_of
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import layouts
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class TritonDevice(Backend):
    name = "triton"
    panel = family = "triton"
    lacks = LACKS
    evidence = Evidence.DEVICE

    def missing(self) -> str | None:
        if find_spec("triton") is None:
            return NO_TRITON
        if find_spec("torch") is None:
            return "PyTorch is not installed, which hands Triton its device memory: pip install 'triptych[torch]'"
        return None if gpu_here() else "there is no CUDA or ROCm device here that PyTorch can use"

    def run(self, problem: Problem, target: str | None) -> Array:
        import torch

        inputs, shape, dtype = problem.inputs, problem.reference.shape, problem.dtype
        buffers = {name: guarded.guarded_copy(x)[0] for name, x in inputs.items()}
        buffers["out"] = guarded.pattern_buffer(shape, dtype)
        tensors = {name: _signed(flat).to("cuda") for name, flat in buffers.items()}
        views = {
            name: _between(tensors[name], (-1,), x.dtype).as_strided(x.shape, layouts.strides_of(x))
            for name, x in inputs.items()
        }
        torch.cuda.synchronize()
        with launcher_of(problem) as (launcher, takes_out):
            if takes_out:
                views["out"] = _between(tensors["out"], shape, dtype)
            returned = launcher(**views, **problem.case.params)
        guarded.check_streams(torch.cuda, lambda: tensors["out"].cpu().numpy())
        back = {name: t.cpu().numpy().view(buffers[name].dtype) for name, t in tensors.items()}
        for name in inputs:
            guarded.check_margins(back[name], f"input {name}")
        Sealed(inputs).check({name: guarded.inside_like(back[name], x) for name, x in inputs.items()})
        guarded.check_margins(back["out"], "the output")
        written = guarded.inside(back["out"], shape, dtype)
        given = from_torch(returned) if isinstance(returned, torch.Tensor) else returned
        return output_of(given, written if takes_out else None)

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        tensors = {name: to_torch(x, "cuda") for name, x in problem.inputs.items()}
        with launcher_of(problem) as (launcher, takes_out):
            if takes_out:
                tensors["out"] = to_torch(np.zeros(problem.reference.shape, problem.dtype), "cuda")

            def call() -> Any:
                returned = launcher(**tensors, **problem.case.params)
                return tensors["out"] if returned is None else returned

            return time_cuda(call, budget)


def _signed(flat: Array) -> Any:
    import torch

    return torch.from_numpy(flat.view(f"i{flat.itemsize}"))


def _between(tensor: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The tensor between the margins of a patterned buffer on the device."""
    import torch

    return tensor[guarded.MARGIN : tensor.numel() - guarded.MARGIN].view(getattr(torch, dtype.name)).reshape(shape)
