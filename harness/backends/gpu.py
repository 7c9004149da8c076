"""Whether a CUDA or ROCm device is here."""

from __future__ import annotations

import os

from triptych.harness import extras

GPU_NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def node_here() -> bool:
    """Whether the driver of a GPU shows itself."""
    return any(os.path.exists(node) for node in GPU_NODES)


def gpu_here() -> bool:
    """Whether PyTorch sees a CUDA or ROCm device; without a device node the answer needs no import of PyTorch."""
    if not node_here() or extras.why_not("torch") is not None:
        return False
    return bool(extras.load("torch").cuda.is_available())
