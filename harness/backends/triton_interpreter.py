"""`triton`: the op's Triton launcher on a CUDA or ROCm device. `triton-cpu`: the same in Triton's interpreter."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends import guarded
from triptych.harness.backends.base import Backend, check_call, located, member
from triptych.harness.backends.clocks import TimingBudget, time_cuda, time_host
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing

GPU_NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
NO_TRITON = "Triton is not installed; it has wheels for Linux alone"


NOT_OF_TRITON = ("float8_e4m3", "float8_e3m4", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")


def gpu_here() -> bool:
    """Whether PyTorch sees a CUDA or ROCm device; without a device node the answer needs no import of PyTorch."""
    if not any(os.path.exists(node) for node in GPU_NODES) or find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def output_shape(op: Op, case: Case, inputs: Arrays) -> tuple[int, ...]:
    """The shape that a launcher's `out` must have: the reference's."""
    from triptych.harness.judge.truth import known_reference

    return tuple(known_reference(op, case, inputs).shape)


def launcher_of(op: Op, case: Case, inputs: Arrays) -> Any:
    """The op's launcher, which takes inputs, out= and params by keyword."""
    path, function = located(op.triton)
    launcher = member(loading.load(path), function, path)
    check_call(launcher, path, (), (*inputs, "out", *case.params))
    return launcher


def to_torch(x: Array, device: str) -> Any:
    """A NumPy array, ml_dtypes' bfloat16 included, as a tensor on `device`."""
    import torch

    if x.dtype.kind == "V":
        return torch.from_numpy(x.view(f"i{x.dtype.itemsize}")).view(getattr(torch, x.dtype.name)).to(device)
    return torch.from_numpy(x).to(device)


class Interpreter(Backend):
    name = "triton-cpu"
    panel = "triton"
    lacks = NOT_OF_TRITON
    evidence = Evidence.INTERPRETED

    def missing(self) -> str | None:
        if find_spec("triton") is None:
            return NO_TRITON
        from triptych.harness.emulators import version_support

        return version_support()

    def run(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        return self._interpret(op, case, inputs, output_shape(op, case, inputs))

    def run_again(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        """With the programs of each launch in reverse order: a result that depends on their order is a race."""
        return self._interpret(op, case, inputs, output_shape(op, case, inputs), backwards=True)

    def time(self, op: Op, case: Case, inputs: Arrays, target: str | None, budget: TimingBudget) -> Timing:
        """Wall time of the interpreter: it says how long a test takes, nothing about a GPU."""
        shape = output_shape(op, case, inputs)
        # An interpreter's time tells of the interpreter, and a call may take many seconds: one sample says enough.
        once = replace(budget, warmup_seconds=0.0, seconds=0.0, fewest=1)
        return time_host(lambda: self._interpret(op, case, inputs, shape), once, self.evidence)

    def replay(self, op: Op, case: Case, inputs: Arrays) -> Array:
        """The output of the kernel without low-precision rounding, but that of its stores."""
        return self._interpret(op, case, inputs, output_shape(op, case, inputs), wide=True)

    def _interpret(
        self,
        op: Op,
        case: Case,
        inputs: Arrays,
        shape: tuple[int, ...],
        backwards: bool = False,
        wide: bool = False,
    ) -> Array:
        from triptych.harness.dtypes import dtype_of
        from triptych.harness.emulators import interpret, interpret_backwards, replay

        launcher = launcher_of(op, case, inputs)
        dtype = dtype_of(case.dtype)
        flat = guarded.patterned(shape, dtype)
        out = guarded.inside(flat, shape, dtype)
        if backwards and not interpret_backwards(launcher, inputs, out, **case.params):
            return self._interpret(op, case, inputs, shape)
        if not backwards:
            (replay if wide else interpret)(launcher, inputs, out, **case.params)
        guarded.check_written(flat, shape)
        return out


class TritonDevice(Backend):
    name = "triton"
    panel = "triton"
    lacks = NOT_OF_TRITON
    evidence = Evidence.DEVICE

    def missing(self) -> str | None:
        if find_spec("triton") is None:
            return NO_TRITON
        if find_spec("torch") is None:
            return "PyTorch is not installed, which hands Triton its device memory: pip install 'triptych[torch]'"
        return None if gpu_here() else "there is no CUDA or ROCm device here that PyTorch can use"

    def run(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        import torch

        from triptych.harness.dtypes import dtype_of

        shape, dtype = output_shape(op, case, inputs), dtype_of(case.dtype)
        buffers = {name: guarded.guarded_copy(x)[0] for name, x in inputs.items()}
        buffers["out"] = guarded.patterned(shape, dtype)
        tensors = {name: _signed(flat).to("cuda") for name, flat in buffers.items()}
        views = {name: _between(tensors[name], x.shape, x.dtype) for name, x in inputs.items()}
        torch.cuda.synchronize()
        launcher_of(op, case, inputs)(**views, out=_between(tensors["out"], shape, dtype), **case.params)
        guarded.check_streams(torch.cuda, lambda: tensors["out"].cpu().numpy())
        back = {name: t.cpu().numpy().view(buffers[name].dtype) for name, t in tensors.items()}
        for name, x in inputs.items():
            guarded.check_margins(back[name], f"input {name}")
            guarded.check_unchanged(x, guarded.inside(back[name], x.shape, x.dtype), name)
        guarded.check_margins(back["out"], "the output")
        guarded.check_written(back["out"], shape)
        return guarded.inside(back["out"], shape, dtype)

    def time(self, op: Op, case: Case, inputs: Arrays, target: str | None, budget: TimingBudget) -> Timing:
        from triptych.harness.dtypes import dtype_of

        launcher = launcher_of(op, case, inputs)
        tensors = {name: to_torch(x, "cuda") for name, x in inputs.items()}
        out = to_torch(np.zeros(output_shape(op, case, inputs), dtype_of(case.dtype)), "cuda")
        return time_cuda(lambda: launcher(**tensors, out=out, **case.params), budget)


def _signed(flat: Array) -> Any:
    import torch

    return torch.from_numpy(flat.view(f"i{flat.itemsize}"))


def _between(tensor: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The tensor between the margins of a patterned buffer on the device."""
    import torch

    return tensor[guarded.MARGIN : tensor.numel() - guarded.MARGIN].view(getattr(torch, dtype.name)).reshape(shape)
