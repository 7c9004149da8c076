"""Matrix products, linear layers and the gated MLP as operators, with their derivatives out of the same kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from triptych.harness.functions.choices import MOST_K
from triptych.harness.pytorch.operators import operator


@operator("matmul", "matmul", "out")
def product(lhsT: Tensor, rhs: Tensor) -> Tensor:
    """out[M, N] of lhsT[K, M] and rhs[K, N]."""
    return rhs.new_empty((lhsT.shape[1], rhs.shape[1]))


@operator("matmul_mk", "matmul_mk", "out")
def product_mk(lhs: Tensor, rhs: Tensor) -> Tensor:
    """out[M, N] of lhs[M, K] and rhs[K, N]."""
    return rhs.new_empty((lhs.shape[0], rhs.shape[1]))


@operator("matmul_batched", "matmul_batched", "out")
def products(lhsT: Tensor, rhs: Tensor) -> Tensor:
    """out[B, M, N] of lhsT[B, K, M] and rhs[B, K, N]."""
    return rhs.new_empty((lhsT.shape[0], lhsT.shape[2], rhs.shape[2]))


@operator("linear", "linear", "out")
def linear_in_out(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[M, N] of x[M, K], w[K, N] and bias[N]."""
    return x.new_empty((x.shape[0], w.shape[1]))


@operator("linear_transposed", "linear_transposed", "out")
def linear_out_in(x: Tensor, w: Tensor, residual: Tensor | None = None) -> Tensor:
    """out[M, N] of x[M, K], w[N, K] and residual[M, N]."""
    return x.new_empty((x.shape[0], w.shape[0]))


@operator("gated_mlp", "gated_mlp", "out")
def mlp(x: Tensor, wg: Tensor, wu: Tensor, wd: Tensor, residual: Tensor | None = None) -> Tensor:
    """out[M, N] of x[M, K], wg and wu[K, F], wd[F, N] and residual[M, N]."""
    return x.new_empty((x.shape[0], wd.shape[1]))


@operator("gate_backward", "gate_backward", "h", "dg", "du")
def gate_backward(g: Tensor, u: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h, dg and du[M, F]."""
    return g.new_empty(g.shape), g.new_empty(g.shape), g.new_empty(g.shape)


def times_transposed(a: Tensor, b: Tensor, residual: Tensor | None = None) -> Tensor:
    """a[M, K] @ b[N, K].T + residual[M, N]; beyond the columns that `linear_transposed` takes, of a copy of b."""
    out: Tensor
    if a.shape[1] <= MOST_K:
        out = linear_out_in(a, b, residual)
        return out
    out = product_mk(a, b.t().contiguous())
    return out if residual is None else out + residual


def summed(x: Tensor) -> Tensor:
    """The sum over the rows of x[M, N], for a bias."""
    return x.sum(0, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)


def saving(*names: str) -> Callable[..., None]:
    """What keeps these arguments for the backward pass."""

    def save(ctx: Any, given: Mapping[str, Any], output: Any) -> None:
        ctx.save_for_backward(*(given[name] for name in names))

    return save


def product_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    lhs, rhs = ctx.saved_tensors
    dout = dout.contiguous()
    return {
        "lhs": times_transposed(dout, rhs) if ctx.needs["lhs"] else None,
        "rhs": product(lhs, dout) if ctx.needs["rhs"] else None,
    }


def products_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    lhsT, rhs = ctx.saved_tensors
    return {  # dlhsT = rhs dout^T, drhs = lhsT dout
        "lhsT": products(turned(rhs), turned(dout)) if ctx.needs["lhsT"] else None,
        "rhs": products(turned(lhsT), dout.contiguous()) if ctx.needs["rhs"] else None,
    }


def turned(x: Tensor) -> Tensor:
    """x[B, N, M] of x[B, M, N]."""
    return x.transpose(1, 2).contiguous()


def in_out_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    x, w = ctx.saved_tensors
    dout = dout.contiguous()
    return {
        "x": times_transposed(dout, w) if ctx.needs["x"] else None,
        "w": product(x, dout) if ctx.needs["w"] else None,
        "bias": summed(dout) if ctx.needs["bias"] else None,
    }


def out_in_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    x, w = ctx.saved_tensors
    dout = dout.contiguous()
    return {
        "x": product_mk(dout, w) if ctx.needs["x"] else None,
        "w": product(dout, x) if ctx.needs["w"] else None,
        "residual": dout if ctx.needs["residual"] else None,
    }


def mlp_gradient(ctx: Any, dout: Tensor) -> dict[str, Any]:
    """g and u are computed again, as they are larger than what they are made of."""
    x, wg, wu, wd = ctx.saved_tensors
    dout = dout.contiguous()
    g, u = linear_in_out(x, wg), linear_in_out(x, wu)
    h, dg, du = gate_backward(g, u, times_transposed(dout, wd))
    return {
        "x": times_transposed(du, wu, times_transposed(dg, wg)) if ctx.needs["x"] else None,
        "wg": product(x, dg) if ctx.needs["wg"] else None,
        "wu": product(x, du) if ctx.needs["wu"] else None,
        "wd": product(h, dout) if ctx.needs["wd"] else None,
        "residual": dout if ctx.needs["residual"] else None,
    }


product_mk.differentiable(product_gradient, saving("lhs", "rhs"), by=("matmul", "linear_transposed"))
products.differentiable(products_gradient, saving("lhsT", "rhs"), by=("matmul_batched",))
linear_in_out.differentiable(in_out_gradient, saving("x", "w"), by=("matmul", "linear_transposed"))
linear_out_in.differentiable(out_in_gradient, saving("x", "w"), by=("matmul", "matmul_mk"))
mlp.differentiable(
    mlp_gradient,
    saving("x", "wg", "wu", "wd"),
    by=("linear", "gate_backward", "linear_transposed", "matmul"),
)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """out[.., M, N] = a[.., M, K] @ b, of b[K, N] or b[.., K, N] with the same axes before."""
    if b.dim() == 2 and a.dim() >= 2:
        out: Tensor = product_mk(a.reshape(-1, a.shape[-1]), b)
        return out.reshape(*a.shape[:-1], b.shape[1])
    if a.dim() != b.dim() or a.dim() < 3 or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(
            "matmul takes a[.., M, K] and b[K, N], or b[.., K, N] with the same axes before, got shapes "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
    left = a.transpose(-1, -2).reshape(-1, a.shape[-1], a.shape[-2])
    out = products(left, b.reshape(-1, *b.shape[-2:]))
    return out.reshape(*a.shape[:-1], b.shape[-1])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """out[.., N] = x[.., K] @ weight[N, K].T + bias[N], as `torch.nn.functional.linear`.

    A weight whose transpose lies dense in memory is read as [K, N] and one that is dense itself as [N, K]; neither is
    copied. `kernelize` lays a model's weights out the first way: of few tokens that takes 0.7 of the time. More
    columns of x than these kernels take are multiplied by `matmul_mk`.
    """
    rows_of = x.reshape(-1, x.shape[-1])
    out: Tensor
    if x.shape[-1] > MOST_K:
        out = product_mk(rows_of, weight.t().contiguous())
        out = out if bias is None else out + bias
    elif weight.t().is_contiguous() and not weight.is_contiguous():
        out = linear_in_out(rows_of, weight.t(), bias)
    else:
        residual = None if bias is None else bias.expand(rows_of.shape[0], -1).contiguous()
        out = linear_out_in(rows_of, weight, residual)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def gated_mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor, residual: Tensor | None = None) -> Tensor:
    """out[.., N] = (silu(x @ gate.T) * (x @ up.T)) @ down.T + residual, of gate and up[F, K] and down[N, F].

    One kernel computes it. The weights are those of three `torch.nn.Linear`. The kernel wants them as [in, out]: one
    whose transpose is not dense in memory is copied at each call.
    """
    flat = None if residual is None else residual.reshape(-1, residual.shape[-1])
    weights = [w.t().contiguous() for w in (gate, up, down)]
    out: Tensor = mlp(x.reshape(-1, x.shape[-1]), *weights, flat)
    return out.reshape(*x.shape[:-1], down.shape[0])
