"""The kernels where they are used: operators of PyTorch, with gradients, and models that run on them.

    import triptych.torch

    out = triptych.torch.attention(q, k, v, causal=True)          # by the device of q
    with triptych.torch.on_cpu("nki-sim", target="trn2"):         # tensors of the CPU: on the simulator
        triptych.torch.kernelize(model)                           # its modules, forward and backward
    print(triptych.torch.profile(model, (tokens,), target="trn2"))

Importing triptych does not import this module, nor PyTorch.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except Exception as error:  # a broken build fails in many ways
    raise ImportError(
        "triptych.torch needs PyTorch 2.6 or later (pip install 'triptych[torch]'), and importing it failed: "
        f"{type(error).__name__}: {error}"
    ) from None

from triptych.harness.functions.calls import Call, Calls, calls
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.pytorch.attention import attention, attention_decode, scaled_dot_product_attention
from triptych.harness.pytorch.blocks import cross_entropy, rms_norm, rope
from triptych.harness.pytorch.kernelize import Kernelized, kernelize
from triptych.harness.pytorch.linear import gated_mlp, linear, matmul
from triptych.harness.pytorch.places import on_cpu
from triptych.harness.pytorch.profile import Profile, profile

__all__ = [
    "Call",
    "Calls",
    "Kernelized",
    "NoKernel",
    "Place",
    "Profile",
    "attention",
    "attention_decode",
    "calls",
    "cross_entropy",
    "gated_mlp",
    "kernelize",
    "linear",
    "matmul",
    "on_cpu",
    "profile",
    "rms_norm",
    "rope",
    "scaled_dot_product_attention",
]
