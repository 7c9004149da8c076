"""Matrix products, linear layers and the gated MLP as functions of JAX, with derivatives out of the same kernels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from triptych.harness.functions.choices import MOST_K
from triptych.harness.functions.places import Place
from triptych.harness.jax.derivatives import Differentiable, Given, direct
from triptych.harness.jax.operators import Operator

product = Operator("matmul", "matmul", {"lhsT": "K M", "rhs": "K N"}, {"out": "M N"})
product_mk = Operator("matmul_mk", "matmul_mk", {"lhs": "M K", "rhs": "K N"}, {"out": "M N"})
products = Operator("matmul_batched", "matmul_batched", {"lhsT": "B K M", "rhs": "B K N"}, {"out": "B M N"})
layer = Operator("linear", "linear", {"x": "M K", "w": "K N", "bias": "N"}, {"out": "M N"})
transposed = Operator(
    "linear_transposed", "linear_transposed", {"x": "M K", "w": "N K", "residual": "M N"}, {"out": "M N"}
)
mlp = Operator(
    "gated_mlp",
    "gated_mlp",
    {"x": "M K", "wg": "K F", "wu": "K F", "wd": "F N", "residual": "M N"},
    {"out": "M N"},
)
gate_backward = Operator(
    "gate_backward", "gate_backward", {"g": "M F", "u": "M F", "dh": "M F"}, {"h": "M F", "dg": "M F", "du": "M F"}
)


def times_transposed(place: Place, a: jax.Array, b: jax.Array, residual: jax.Array | None = None) -> jax.Array:
    """a[M, K] @ b[N, K].T + residual[M, N]; beyond the columns that `linear_transposed` takes, of b transposed."""
    if a.shape[1] <= MOST_K:
        return transposed(place, x=a, w=b, residual=residual)[0]
    (out,) = product_mk(place, lhs=a, rhs=b.T)
    return out if residual is None else out + residual


def product_gradient(place: Place, arrays: Given, params: Given, kept: None, dout: jax.Array) -> Given:
    lhs, rhs = arrays["lhs"], arrays["rhs"]
    return {"lhs": times_transposed(place, dout, rhs), "rhs": product(place, lhsT=lhs, rhs=dout)[0]}


def products_gradient(place: Place, arrays: Given, params: Given, kept: None, dout: jax.Array) -> Given:
    """dlhsT = rhs dout^T and drhs = lhsT dout, of each matrix of the batch."""
    lhsT, rhs = arrays["lhsT"], arrays["rhs"]
    return {
        "lhsT": products(place, lhsT=rhs.mT, rhs=dout.mT)[0],
        "rhs": products(place, lhsT=lhsT.mT, rhs=dout)[0],
    }


def layer_gradient(place: Place, arrays: Given, params: Given, kept: None, dout: jax.Array) -> Given:
    x, w = arrays["x"], arrays["w"]
    wide = jnp.promote_types(dout.dtype, jnp.float32)
    return {
        "x": times_transposed(place, dout, w),
        "w": product(place, lhsT=x, rhs=dout)[0],
        "bias": dout.sum(0, dtype=wide).astype(dout.dtype),
    }


def mlp_gradient(place: Place, arrays: Given, params: Given, kept: None, dout: jax.Array) -> Given:
    """g and u are computed again, as they are larger than what they are made of."""
    x, wg, wu, wd = (arrays[name] for name in ("x", "wg", "wu", "wd"))
    (g,), (u,) = layer(place, x=x, w=wg), layer(place, x=x, w=wu)
    h, dg, du = gate_backward(place, g=g, u=u, dh=times_transposed(place, dout, wd))
    return {
        "x": times_transposed(place, du, wu, times_transposed(place, dg, wg)),
        "wg": product(place, lhsT=x, rhs=dg)[0],
        "wu": product(place, lhsT=x, rhs=du)[0],
        "wd": product(place, lhsT=h, rhs=dout)[0],
        "residual": dout,
    }


of_matrices = Differentiable(*direct(product_mk), product_gradient)
of_batches = Differentiable(*direct(products), products_gradient)
of_layer = Differentiable(*direct(layer), layer_gradient)
of_mlp = Differentiable(*direct(mlp), mlp_gradient)


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """out[.., M, N] = a[.., M, K] @ b, of b[K, N] or b[.., K, N] with the same axes before."""
    out: jax.Array
    if b.ndim == 2 and a.ndim >= 2:
        out = of_matrices({"lhs": a.reshape(-1, a.shape[-1]), "rhs": b})
        return out.reshape(*a.shape[:-1], b.shape[1])
    if a.ndim != b.ndim or a.ndim < 3 or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(
            "matmul takes a[.., M, K] and b[K, N], or b[.., K, N] with the same axes before, got shapes "
            f"{a.shape} and {b.shape}"
        )
    left = a.reshape(-1, *a.shape[-2:]).mT
    out = of_batches({"lhsT": left, "rhs": b.reshape(-1, *b.shape[-2:])})
    return out.reshape(*a.shape[:-1], b.shape[-1])


def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """out[.., N] = x[.., K] @ weight[K, N] + bias[N].

    The weight lies as flax.linen.Dense keeps it. More columns of x than the kernel takes are multiplied by `matmul_mk`,
    and the bias is then added by JAX.
    """
    out: jax.Array
    if x.shape[-1] > MOST_K:
        out = matmul(x, weight)
        return out if bias is None else out + bias
    out = of_layer({"x": x.reshape(-1, x.shape[-1]), "w": weight, "bias": bias})
    return out.reshape(*x.shape[:-1], weight.shape[-1])


def gated_mlp(
    x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array, residual: jax.Array | None = None
) -> jax.Array:
    """out[.., N] = (silu(x @ gate) * (x @ up)) @ down + residual, of x[.., K], gate and up[K, F], down[F, N].

    One kernel computes it.
    """
    arrays = {
        "x": x.reshape(-1, x.shape[-1]),
        "wg": gate,
        "wu": up,
        "wd": down,
        "residual": None if residual is None else residual.reshape(-1, residual.shape[-1]),
    }
    out: jax.Array = of_mlp(arrays)
    return out.reshape(*x.shape[:-1], down.shape[-1])
