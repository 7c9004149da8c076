"""Whether a CUDA or ROCm device is here."""

from __future__ import annotations

import os
from importlib.util import find_spec

GPU_NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def gpu_here() -> bool:
    """Whether PyTorch sees a CUDA or ROCm device; without a device node the answer needs no import of PyTorch."""
    if not any(os.path.exists(node) for node in GPU_NODES) or find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
