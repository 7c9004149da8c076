"""What else a block is made of: RMSNorm, rotary positions and the loss, as functions of JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from triptych.harness.functions.places import Place
from triptych.harness.jax.derivatives import Differentiable, Given, direct
from triptych.harness.jax.operators import Operator

norm = Operator("rms_norm", "rmsnorm", {"x": "M N", "gain": "N"}, {"out": "M N"})
norm_backward = Operator(
    "rms_norm_backward", "rmsnorm_backward", {"x": "M N", "gain": "N", "dy": "M N"}, {"dx": "M N", "dgain": "N"}
)
turn = Operator("rope", "rope", {"x": "S H D", "cos": "S half", "sin": "S half"}, {"out": "S H D"})
losses = Operator("cross_entropy", "cross_entropy", {"logits": "M V", "labels": "M"}, {"loss": "M", "lse": "M"})
losses_backward = Operator(
    "cross_entropy_backward",
    "cross_entropy_backward",
    {"logits": "M V", "labels": "M", "lse": "M", "dloss": "M"},
    {"dlogits": "M V"},
)


def norm_gradient(place: Place, arrays: Given, params: Given, kept: None, dout: jax.Array) -> Given:
    return dict(zip(("x", "gain"), norm_backward(place, **arrays, dy=dout, **params), strict=True))


def halves(x: jax.Array, interleaved: bool) -> tuple[jax.Array, jax.Array]:
    """The first and the second number of each pair: [S, H, D/2] each."""
    return (x[..., ::2], x[..., 1::2]) if interleaved else tuple(jnp.split(x, 2, axis=-1))


def turn_gradient(place: Place, arrays: Given, params: Given, kept: None, dout: jax.Array) -> Given:
    """x by a turn back by the same angles; the tables by sums over heads, which JAX makes where they are wanted."""
    x, cos, sin = arrays["x"], arrays["cos"], arrays["sin"]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    (x1, x2), (d1, d2) = (halves(one.astype(wide), params["interleaved"]) for one in (x, dout))
    return {
        "x": turn(place, x=dout, cos=cos, sin=-sin, **params)[0],
        "cos": (d1 * x1 + d2 * x2).sum(1).astype(cos.dtype),
        "sin": (d2 * x1 - d1 * x2).sum(1).astype(sin.dtype),
    }


def losses_alone(place: Place, arrays: Given, params: Given) -> jax.Array:
    return losses(place, **arrays)[0]


def losses_with_sums(place: Place, arrays: Given, params: Given) -> tuple[jax.Array, jax.Array]:
    loss, lse = losses(place, **arrays)
    return loss, lse


def losses_gradient(place: Place, arrays: Given, params: Given, lse: jax.Array, dloss: jax.Array) -> Given:
    return {"logits": losses_backward(place, **arrays, lse=lse, dloss=dloss)[0]}


of_norm = Differentiable(*direct(norm), norm_gradient)
of_turn = Differentiable(*direct(turn), turn_gradient)
of_losses = Differentiable(losses_alone, losses_with_sums, losses_gradient)


def rms_norm(x: jax.Array, weight: jax.Array, eps: float = 1e-5) -> jax.Array:
    """out[.., N] = x / sqrt(mean over N of x^2 + eps) * weight[N]."""
    out: jax.Array = of_norm({"x": x.reshape(-1, x.shape[-1]), "gain": weight}, eps=eps)
    return out.reshape(x.shape)


def rope(x: jax.Array, cos: jax.Array, sin: jax.Array, *, interleaved: bool = False) -> jax.Array:
    """x[.., H, D] with each pair of a head's numbers turned by its token's angles, cos and sin[.., D/2].

    A pair is (i, i + D/2), or (2 i, 2 i + 1) with `interleaved`. The axes before H are those of cos and sin, or
    broadcast from them.
    """
    half = x.shape[-1] // 2
    if x.ndim < 2 or x.shape[-1] % 2 or {cos.shape[-1], sin.shape[-1]} != {half}:
        raise ValueError(f"rope takes x[.., H, D], cos and sin[.., D/2], got {x.shape}, {cos.shape} and {sin.shape}")
    tables = [jnp.broadcast_to(t, (*x.shape[:-2], half)).reshape(-1, half) for t in (cos, sin)]
    arrays = {"x": x.reshape(-1, *x.shape[-2:]), "cos": tables[0], "sin": tables[1]}
    out: jax.Array = of_turn(arrays, interleaved=interleaved)
    return out.reshape(x.shape)


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, ignore_index: int = -100, reduction: str = "mean"
) -> jax.Array:
    """loss = logsumexp(logits[.., V]) - logits[.., label] of labels[..], in float32, whatever the logits' dtype.

    A label `ignore_index` counts for nothing. reduction: "mean" over the labels that count, "sum", or "none", which
    gives a loss for each. Any other label outside of 0 .. V-1 is a ValueError, and within jax.jit makes the loss NaN.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if logits.shape[:-1] != labels.shape or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"cross_entropy takes logits[.., V] and labels[..] of integers, got {logits.shape} and {labels.dtype} "
            f"{labels.shape}"
        )
    counts = labels != ignore_index
    wrong = counts & ((labels < 0) | (labels >= logits.shape[-1]))
    if not isinstance(wrong, jax.core.Tracer) and np.any(wrong):
        first = int(np.asarray(labels)[np.asarray(wrong)][0])
        raise ValueError(f"labels must be 0 to {logits.shape[-1] - 1} or {ignore_index}, got {first}")
    one = jnp.where(counts & ~wrong, labels, -1).astype(jnp.int32).reshape(-1)
    loss: jax.Array = of_losses({"logits": logits.reshape(-1, logits.shape[-1]), "labels": one})
    loss = jnp.where(wrong.reshape(-1), jnp.nan, loss)
    if reduction == "none":
        return loss.reshape(labels.shape)
    return loss.sum() if reduction == "sum" else loss.sum() / counts.sum()
