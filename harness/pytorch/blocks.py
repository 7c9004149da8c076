"""What else a block is made of: RMSNorm, rotary positions and the loss, as operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from triptych.harness.functions.places import NoKernel
from triptych.harness.pytorch.attention import statistics
from triptych.harness.pytorch.operators import operator


@operator("rms_norm", "rmsnorm", "out")
def norm(x: Tensor, gain: Tensor, eps: float = 1e-5) -> Tensor:
    """out[M, N] of x[M, N] and gain[N]."""
    return x.new_empty(x.shape)


@operator("rms_norm_backward", "rmsnorm_backward", "dx", "dgain")
def norm_backward(x: Tensor, gain: Tensor, dy: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """dx[M, N] and dgain[N]."""
    return x.new_empty(x.shape), gain.new_empty(gain.shape)


@operator("rope", "rope", "out")
def turn(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """out[S, H, D] of x[S, H, D], cos and sin[S, D/2]."""
    return x.new_empty(x.shape)


@operator("cross_entropy", "cross_entropy", "loss", "lse")
def losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """loss[M] and lse[M] of logits[M, V] and labels[M]."""
    dtype = statistics(logits.dtype)
    return logits.new_empty(logits.shape[:1], dtype=dtype), logits.new_empty(logits.shape[:1], dtype=dtype)


@operator("cross_entropy_backward", "cross_entropy_backward", "dlogits")
def losses_backward(logits: Tensor, labels: Tensor, lse: Tensor, dloss: Tensor) -> Tensor:
    """dlogits[M, V]."""
    return logits.new_empty(logits.shape)


def save_norm(ctx: Any, given: Mapping[str, Any], output: Any) -> None:
    ctx.save_for_backward(given["x"], given["gain"])
    ctx.eps = given["eps"]


def norm_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    return dict(zip(("x", "gain"), norm_backward(*ctx.saved_tensors, dout.contiguous(), ctx.eps), strict=True))


def save_turn(ctx: Any, given: Mapping[str, Any], output: Any) -> None:
    ctx.save_for_backward(given["cos"], given["sin"])
    ctx.interleaved = given["interleaved"]


def turn_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    """A turn back by the same angles."""
    if ctx.needs["cos"] or ctx.needs["sin"]:
        raise NoKernel("rope has no derivative for cos and sin; give them as .detach()")
    cos, sin = ctx.saved_tensors
    return {"x": turn(dout.contiguous(), cos, -sin, ctx.interleaved)}


def save_losses(ctx: Any, given: Mapping[str, Any], outputs: Any) -> None:
    ctx.save_for_backward(given["logits"], given["labels"], outputs[1])
    ctx.mark_non_differentiable(outputs[1])
    ctx.set_materialize_grads(False)


def losses_gradient(ctx: Any, dloss: Tensor | None, dlse: Tensor | None) -> dict[str, Any]:
    return {} if dloss is None else {"logits": losses_backward(*ctx.saved_tensors, dloss.contiguous())}


norm.differentiable(norm_gradient, save_norm, by=("rmsnorm_backward",))
turn.differentiable(turn_gradient, save_turn, by=("rope",))
losses.differentiable(losses_gradient, save_losses, by=("cross_entropy_backward",))


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """out[.., N] = x / sqrt(mean over N of x^2 + eps) * weight[N]."""
    out: Tensor = norm(x.reshape(-1, x.shape[-1]), weight, eps)
    return out.reshape(x.shape)


def rope(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False) -> Tensor:
    """x[.., H, D] with each pair of a head's numbers turned by its token's angles, cos and sin[.., D/2].

    A pair is (i, i + D/2), or (2 i, 2 i + 1) with `interleaved`. The axes before H are those of cos and sin, or
    broadcast from them.
    """
    tables = [t.expand(*x.shape[:-2], t.shape[-1]).reshape(-1, t.shape[-1]) for t in (cos, sin)]
    out: Tensor = turn(x.reshape(-1, *x.shape[-2:]), *tables, interleaved)
    return out.reshape(x.shape)


def cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """The loss of logits[.., V] and target[..], as `torch.nn.functional.cross_entropy` of such tensors without weights.

    reduction: "mean" over the targets that count, "sum", or "none". In float32, whatever the logits' dtype, as the
    kernel gives it. A target outside of 0 .. V-1 that does not stand for nothing is a ValueError on the CPU, and makes
    the loss NaN elsewhere.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if logits.shape[:-1] != target.shape:
        raise ValueError(
            f"cross_entropy takes logits[.., V] and target[..], got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    counts = target != ignore_index
    wrong = counts & ((target < 0) | (target >= logits.shape[-1]))
    has_numbers = not torch.compiler.is_compiling() and type(target) is Tensor and target.device.type == "cpu"
    if has_numbers and wrong.any():
        raise ValueError(f"targets must be 0 to {logits.shape[-1] - 1} or {ignore_index}, got {int(target[wrong][0])}")
    labels = torch.where(counts & ~wrong, target, -1).to(torch.int32).reshape(-1)
    loss: Tensor = losses(logits.reshape(-1, logits.shape[-1]), labels)[0]
    loss = loss.masked_fill(wrong.reshape(-1), float("nan"))
    if reduction == "none":
        return loss.reshape(target.shape)
    return loss.sum() if reduction == "sum" else loss.sum() / counts.sum()
