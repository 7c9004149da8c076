"""Functions of JAX and their gradients: by finite differences, and on the simulator against those of jax.numpy."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import triptych.jax as tj  # noqa: E402
from triptych.harness.functions.rows import rows  # noqa: E402
from triptych.harness.testing.agreement import assert_agree  # noqa: E402

from jax_functions import FUNCTIONS, Function  # isort: skip  # noqa: E402

NAMES = [one.name for one in FUNCTIONS]


def objective(function: Any) -> Any:
    """A scalar whose gradient differs from element to element."""

    def scalar(*arrays: Any) -> Any:
        out = function(*arrays)
        return (out * np.random.default_rng(1).standard_normal(out.shape).astype(out.dtype)).sum()

    return scalar


@pytest.mark.parametrize("one", FUNCTIONS, ids=NAMES)
def test_derivatives_are_those_of_finite_differences(one: Function) -> None:
    with jax.enable_x64(True):
        arrays = one.inputs(jnp.float64)
        out = one.ours(*arrays)
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(out, jax.jit(one.theirs)(*arrays), rtol=1e-12, atol=1e-12)
        check_grads(jax.jit(one.ours), arrays, order=1, modes=("rev",))


@pytest.mark.parametrize("one", FUNCTIONS, ids=NAMES)
def test_on_the_simulator_and_compiled_they_are_those_of_jax(one: Function) -> None:
    arrays = one.inputs(jnp.float32)
    wanted = tuple(range(len(arrays)))

    def both(function: Any) -> Any:
        return jax.jit(lambda *arrays: (function(*arrays), *jax.grad(objective(function), wanted)(*arrays)))

    with tj.on_cpu("nki-sim", target="trn2"), tj.calls() as made:
        found = jax.block_until_ready(both(one.ours)(*arrays))
    for ours, meant in zip(found, both(one.theirs)(*arrays), strict=True):
        assert ours.dtype == meant.dtype
        np.testing.assert_allclose(ours, meant, rtol=2e-5, atol=2e-5)
    assert made.count() > 1 and made.count(backend="nki-sim") == made.count()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes_are_rounded_once_by_the_reference(dtype: str) -> None:
    x, weight = FUNCTIONS[NAMES.index("rms_norm")].inputs(dtype)
    out = tj.rms_norm(x, weight)
    wide = rows()["rmsnorm"].reference(np.asarray(x, np.float64).reshape(-1, 4), np.asarray(weight, np.float64))
    assert out.dtype == dtype and (np.asarray(out).reshape(-1, 4) == wide.astype(out.dtype)).all()
    with tj.on_cpu("nki-sim", target="trn2"):
        assert_agree(tj.rms_norm(x, weight), out)


def test_more_columns_than_a_kernel_takes_go_to_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.harness.jax import linear

    monkeypatch.setattr(linear, "MOST_K", 3)
    (one,) = (one for one in FUNCTIONS if one.name == "linear")
    arrays = one.inputs(jnp.float32)
    with tj.calls() as made:
        found = jax.grad(lambda *arrays: one.ours(*arrays).sum(), (0, 1, 2))(*arrays)
    for ours, theirs in zip(found, jax.grad(lambda *a: one.theirs(*a).sum(), (0, 1, 2))(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert {call.operator for call in made.made} == {"matmul_mk", "matmul"}


def test_a_gradient_that_no_kernel_computes_is_an_error() -> None:
    q, k, v = FUNCTIONS[0].inputs(jnp.float32)
    tj.attention(q, k, v, softcap=20.0)
    with pytest.raises(tj.NoKernel, match="^attention has no backward kernel with softcap; "):
        jax.grad(lambda q: tj.attention(q, k, v, softcap=20.0).sum())(q)
    with pytest.raises(tj.NoKernel, match="^rms_norm cannot be differentiated: .* a second derivative is"):
        jax.hessian(lambda x: tj.rms_norm(x, v[0, 0, 0]).sum())(k[0, 0])
    with pytest.raises(tj.NoKernel, match="^attention_decode cannot be differentiated: it has no backward kernel"):
        lengths = jnp.zeros(1, jnp.int32)
        jax.grad(lambda new: tj.attention_decode(q, new, new, k, v, lengths)[0].sum())(k)
