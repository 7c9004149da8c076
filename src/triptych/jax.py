"""The kernels where they are used: functions of JAX, with gradients, under jax.jit, jax.vmap and jax.grad.

    import triptych.jax

    out = triptych.jax.attention(q, k, v, causal=True)          # by the platform of q
    with triptych.jax.on_cpu("nki-sim", target="trn2"):         # arrays of the CPU: on the simulator
        gradients = jax.grad(loss)(params)

Importing triptych does not import this module, nor JAX.
"""

from __future__ import annotations

try:
    from jax import make_user_context as _  # noqa: F401
except Exception as error:  # a broken build fails in many ways
    raise ImportError(
        "triptych.jax needs JAX 0.7.2 or later (pip install 'triptych[jax]'), and importing it failed: "
        f"{type(error).__name__}: {error}"
    ) from None

from triptych.harness.functions.calls import Call, Calls, calls
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.jax import batching as _batching  # noqa: F401
from triptych.harness.jax import lowering as _lowering  # noqa: F401
from triptych.harness.jax.attention import attention, attention_decode
from triptych.harness.jax.blocks import cross_entropy, rms_norm, rope
from triptych.harness.jax.dot_product import dot_product_attention
from triptych.harness.jax.linear import gated_mlp, linear, matmul
from triptych.harness.jax.places import on_cpu

__all__ = [
    "Call",
    "Calls",
    "NoKernel",
    "Place",
    "attention",
    "attention_decode",
    "calls",
    "cross_entropy",
    "dot_product_attention",
    "gated_mlp",
    "linear",
    "matmul",
    "on_cpu",
    "rms_norm",
    "rope",
]
