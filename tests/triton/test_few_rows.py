"""With fewer tiles than processors work is divided among them: the same results, and always the same bits."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import interpret, interpret_backwards
from triptych.harness.emulators.compilation import launches_of
from triptych.kernels.triton.cross_entropy import cross_entropy
from triptych.kernels.triton.linear import linear, rmsnorm_linear
from triptych.kernels.triton.matmul import matmul, matmul_batched, matmul_mk
from triptych.kernels.triton.mlp import gated_mlp
from triptych.kernels.triton.rmsnorm import rmsnorm_backward

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
RNG = np.random.default_rng(0)
M, K, N = 5, 2100, 70


def normal(*shape):
    return (RNG.standard_normal(shape) / shape[-2 if len(shape) > 1 else 0] ** 0.25).astype(BFLOAT16)


X, W = normal(M, K), normal(K, N)
PRODUCTS = {
    "matmul": (matmul, {"lhsT": np.ascontiguousarray(X.T), "rhs": W}, {}),
    "matmul_mk": (matmul_mk, {"lhs": X, "rhs": W}, {}),
    "matmul_batched": (matmul_batched, {"lhsT": normal(2, K, M), "rhs": normal(2, K, N)}, {}),
    "linear": (linear, {"x": X, "w": W, "bias": normal(N), "residual": normal(M, N)}, {"activation": "silu"}),
    "rmsnorm_linear": (rmsnorm_linear, {"x": X, "gain": normal(K), "w": W}, {}),
    "gated_mlp": (
        gated_mlp,
        {"x": normal(M, 64), "wg": normal(64, K), "wu": normal(64, K), "wd": W, "residual": normal(M, N)},
        {},
    ),
}


def silu(y):
    return y / (1 + np.exp(-y))


def expected(name, a):
    a = {key: x.astype(np.float64) for key, x in a.items()}
    if name == "gated_mlp":
        h = (silu(a["x"] @ a["wg"]) * (a["x"] @ a["wu"])).astype(BFLOAT16).astype(np.float64)
        return h @ a["wd"] + a["residual"]
    if name == "linear":
        return silu(a["x"] @ a["w"] + a["bias"]) + a["residual"]
    if name == "rmsnorm_linear":
        root = np.sqrt(np.mean(a["x"] ** 2, axis=1, keepdims=True) + 1e-5)
        return (a["x"] / root * a["gain"]).astype(BFLOAT16).astype(np.float64) @ a["w"]
    return a["lhs"] @ a["rhs"] if name == "matmul_mk" else a["lhsT"].swapaxes(-1, -2) @ a["rhs"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_split_product_agrees_and_repeats_its_bits(name, told):
    launcher, arrays, params = PRODUCTS[name]
    right = expected(name, arrays)
    tensors = {key: (x.shape, x.dtype) for key, x in arrays.items()} | {"out": (right.shape, BFLOAT16)}
    split = [given for _, given, _ in launches_of(launcher, tensors, "sm_90", **params) if given.get("SPLIT", 1) > 1]
    assert len(split) == 2, "a product in parts and their sum"
    told("sm_90")
    out, again = np.empty(right.shape, BFLOAT16), np.empty(right.shape, BFLOAT16)
    interpret(launcher, arrays, out, **params)
    interpret_backwards(launcher, arrays, again, **params)
    assert out.tobytes() == again.tobytes()
    assert np.abs(out.astype(np.float64) - right).max() <= 2.0**-8 * np.abs(right).max()


@pytest.mark.parametrize("launcher", [matmul, linear])
def test_with_tiles_for_every_processor_nothing_is_split(launcher):
    names = ("lhsT", "rhs") if launcher is matmul else ("x", "w")
    tensors = {name: ((4096, 4096), BFLOAT16) for name in (*names, "out")}
    ((_, given, _),) = launches_of(launcher, tensors, "sm_90")
    assert given.get("SPLIT", 1) == 1


def test_no_part_of_a_split_is_empty():
    """Every part of K that a program takes has a first step: what an empty one wrote would still be added."""
    from triptych.kernels.triton.matmul import CONFIGURATIONS, config

    for k in range(1, 9000, 61):
        c = config(CONFIGURATIONS["sm_90"][0], 1, 4096, k, 2, "cuda", 132, 227 << 10)
        steps = -(-k // c["BLOCK_K"])
        assert (c["SPLIT"] - 1) * -(-steps // c["SPLIT"]) < steps


def test_the_gradient_of_a_gain_is_summed_by_many_programs(told):
    told("sm_90")
    x, gain, dy = normal(1700, 48), normal(48), normal(1700, 48)
    found = []
    for how in (interpret, interpret_backwards):
        dx, dgain = np.empty(x.shape, BFLOAT16), np.empty(48, np.float32)
        how(rmsnorm_backward, {"x": x, "gain": gain, "dy": dy, "dx": dx, "dgain": dgain}, None, ("dx", "dgain"))
        found.append(dgain)
    wide, above = x.astype(np.float64), dy.astype(np.float64)
    terms = above * wide / np.sqrt(np.mean(wide**2, axis=1, keepdims=True) + 1e-5)
    assert np.abs(found[0] - terms.sum(0)).max() <= 1e-6 * np.abs(terms).sum(0).max()
    assert found[0].tobytes() == found[1].tobytes()


def logits_of(rows, vocabulary):
    logits = RNG.standard_normal((rows, vocabulary)).astype(np.float32)
    logits[0, : vocabulary // 2] = -np.inf  # whole parts of nothing but minus infinity
    logits[1, 5] = np.nan
    logits[2, -1] = np.inf
    logits[3] = -np.inf
    return logits


@pytest.mark.parametrize("target", ["", "sm_90"])
def test_a_row_of_logits_is_joined_from_its_parts(target, told):
    if target:
        told(target)
    logits, labels = logits_of(6, 40_000), np.array([39_999, 3, 4, 5, -100, 6], np.int32)
    loss, lse = np.empty(6, np.float32), np.empty(6, np.float32)
    given = {"logits": logits, "labels": labels, "loss": loss, "lse": lse}
    interpret(cross_entropy, given, None, ("loss", "lse"))
    top = logits[[0, 4, 5]].max(axis=1, keepdims=True).astype(np.float64)
    right = (top + np.log(np.exp(logits[[0, 4, 5]] - top).sum(axis=1, keepdims=True)))[:, 0]
    assert np.allclose(lse[[0, 4, 5]], right, rtol=1e-6)
    assert np.isnan(lse[1:4]).all() and np.isnan(loss[1:4]).all()
    assert loss[4] == 0 and np.allclose(loss[[0, 5]], right[[0, 2]] - logits[[0, 5], [39_999, 6]], rtol=1e-6)
