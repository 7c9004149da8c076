"""Attention in JAX with all that its kernels take, and decoding with caches that are handed out anew."""

from __future__ import annotations

from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import triptych.jax as tj  # noqa: E402

from jax_functions import attention  # isort: skip  # noqa: E402


def heads(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("backend", ["numpy", "nki-sim"])
def test_a_mask_sinks_and_packed_sequences(backend: str) -> None:
    q, k, v = heads((2, 2, 6, 4), (2, 2, 6, 4), (2, 2, 6, 4))
    segments = jnp.asarray([[0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 1, 1]], jnp.int32)
    same = segments[:, None, :, None] == segments[:, None, None, :]
    mask = jnp.asarray(np.random.default_rng(1).standard_normal((1, 1, 6, 6)), jnp.float32)
    (sinks,) = heads((2,))
    scores = q @ k.mT / 2
    with_sink = jnp.concatenate([scores, jnp.broadcast_to(sinks[:, None, None], (2, 2, 6, 1))], -1)
    expected = {
        "segments": jax.nn.softmax(jnp.where(same, scores, -jnp.inf)) @ v,
        "mask": jax.nn.softmax(scores + mask) @ v,
        "sinks": jax.nn.softmax(with_sink)[..., :-1] @ v,
        "softcap": jax.nn.softmax(3 * jnp.tanh(scores / 3)) @ v,
    }
    asked = {"segments": segments, "mask": mask, "sinks": sinks, "softcap": 3.0}
    target = {"target": "trn2"} if backend == "nki-sim" else {}
    with tj.on_cpu(backend, **target):
        for name, value in asked.items():
            np.testing.assert_allclose(
                tj.attention(q, k, v, **{name: value}), expected[name], rtol=2e-5, atol=2e-5, err_msg=name
            )


@pytest.mark.parametrize("place", [("numpy", None), ("nki-sim", "trn2"), ("triton-cpu", None)])
def test_a_step_of_decoding_hands_out_new_caches(place: tuple[str, str | None]) -> None:
    q, k_new, k_cache, v_cache = heads((2, 2, 1, 4), (2, 1, 1, 4), (2, 1, 8, 4), (2, 1, 8, 4))
    lengths = jnp.asarray([5, 2], jnp.int32)
    before = np.asarray(k_cache)
    with tj.on_cpu(place[0], target=place[1]):
        out, k_after, v_after = jax.jit(tj.attention_decode)(q, k_new, 2 * k_new, k_cache, v_cache, lengths)
    assert (np.asarray(k_cache) == before).all()
    for b, length in enumerate((5, 2)):
        assert (k_after[b, :, length] == k_new[b, :, 0]).all() and (v_after[b, :, length] == 2 * k_new[b, :, 0]).all()
        assert (k_after[b, :, :length] == k_cache[b, :, :length]).all()
        k, v = (x[b : b + 1, :, : length + 1] for x in (k_after, v_after))
        seen = jnp.concatenate([jnp.zeros((1, 2, length, 4)), q[b : b + 1]], 2)  # the query stands last
        np.testing.assert_allclose(out[b, :, 0], attention(seen, k, v)[0, :, -1], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda x: tj.attention(x, x[:, :, :3], x),
            r"attention takes q\[B, H, Sq, D\], .*; got q \(1, 2, 6, 4\), k \(1, 2, 3, 4\), v",
        ),
        (lambda x: tj.attention(x[0], x, x), r"attention takes q\[B, H, Sq, D\], "),
        (lambda x: tj.matmul(x, x[0]), r"matmul takes a\[.., M, K\] and b\[K, N\], .* got shapes \(1, 2, 6, 4\) and"),
        (lambda x: tj.linear(x, x[0, 0]), r"linear takes x\[M, K\], w\[K, N\], bias\[N\]; got x \(12, 4\), w \(6, 4\)"),
        (lambda x: tj.rope(x, x[0, 0], x[0, 0]), r"rope takes x\[.., H, D\], cos and sin\[.., D/2\], got "),
        (
            lambda x: tj.cross_entropy(x, jnp.zeros((3,), int)),
            r"cross_entropy takes logits\[.., V\] and labels\[..\] of",
        ),
        (lambda x: tj.cross_entropy(x, jnp.full((1, 2, 6), 4)), r"labels must be 0 to 3 or -100, got 4"),
        (
            lambda x: tj.cross_entropy(x, x[..., 0], reduction="all"),
            "reduction must be 'mean', 'sum' or 'none', got 'all'",
        ),
    ],
)
def test_what_does_not_go_together_is_an_error_that_says_so(call: Any, sentence: str) -> None:
    (x,) = heads((1, 2, 6, 4))
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call(x)


def test_a_label_that_is_wrong_within_a_compiled_function_makes_the_loss_nan() -> None:
    (x,) = heads((3, 4))
    losses = jax.jit(lambda labels: tj.cross_entropy(x, labels, reduction="none"))(jnp.asarray([1, 4, -100]))
    assert jnp.isnan(losses).tolist() == [False, True, False] and losses[2] == 0
    total = tj.cross_entropy(x, jnp.asarray([1, -100, 2]), reduction="sum")
    assert float(total) == pytest.approx(2 * float(tj.cross_entropy(x, jnp.asarray([1, -100, 2]))), rel=1e-6)


BIAS = np.random.default_rng(2).standard_normal((1, 4, 5, 7)).astype(np.float32)
SEEN = np.random.default_rng(3).random((2, 1, 5, 7)) < 0.7
SEEN[..., 0] = True  # every query sees one key


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.3},
        {"is_causal": True, "local_window_size": (2, 0)},
        {"mask": jnp.asarray(SEEN)},
        {"bias": jnp.asarray(BIAS), "mask": jnp.asarray(SEEN), "is_causal": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_jax_own_signature(options: dict[str, Any]) -> None:
    q, k, v = heads((2, 5, 4, 4), (2, 7, 2, 4), (2, 7, 2, 4))
    wanted = (0, 1, 2) if not {"bias", "mask"} & options.keys() else ()

    def both(function: Any) -> Any:
        def scalar(*arrays: Any) -> Any:
            return (function(*arrays, **options) ** 2).sum()

        return jax.jit(lambda *a: (function(*a, **options), jax.grad(scalar, wanted)(*a) if wanted else ()))

    for ours, theirs in zip(
        jax.tree.leaves(both(tj.dot_product_attention)(q, k, v)),
        jax.tree.leaves(both(jax.nn.dot_product_attention)(q, k, v)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda x: tj.dot_product_attention(x[0], x[0], x[0]),
            r"the kernels take four axes \[B, T, N, H\], got query \(5",
        ),
        (
            lambda x: tj.dot_product_attention(x, x[:, :3], x[:, :3], is_causal=True),
            "is_causal with more queries, 5, than",
        ),
        (
            lambda x: tj.dot_product_attention(x, x, x, local_window_size=2),
            "the kernels have a window with is_causal=True",
        ),
    ],
)
def test_what_no_kernel_does_of_jax_own_signature(call: Any, sentence: str) -> None:
    (x,) = heads((1, 5, 2, 4))
    with pytest.raises(tj.NoKernel, match=f"^dot_product_attention: {sentence}"):
        call(x)
