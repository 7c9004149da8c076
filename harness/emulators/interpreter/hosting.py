"""PyTorch's tensors on the CPU for the time of a session; asked for where PyTorch is installed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from triptych.harness.emulators import devices
from triptych.harness.emulators.interpreter.language import Patches
from triptych.harness.emulators.memory import Memory


@contextmanager
def on_the_host(memory: Memory, device: devices.Device = devices.INTERPRETER, place: str = "cpu") -> Iterator[Any]:
    """Tensors lie on the CPU within, or nowhere ("meta"), and say that they are on a GPU."""
    import torch

    from triptych.harness.emulators.interpreter.torch_tensors import HostTensors, cuda_names

    with ExitStack() as stack:
        patches = Patches(stack)
        for name, value in cuda_names(device).items():
            patches.put(torch.cuda, name, value)
        operators = getattr(torch._library, "triton", None)
        if operators is not None:  # PyTorch 2.6 and later: `wrap_triton` then launches as Triton does
            stack.enter_context(operators.set_wrap_triton_enabled(False))
        host = HostTensors(memory, place)
        patches.put(torch.autograd, "_engine_run_backward", host.running_backward(torch.autograd._engine_run_backward))
        with host:
            yield host
