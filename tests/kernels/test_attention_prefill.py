"""The NKI attention of many new tokens behind a cache, of which each sequence fills another part."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.reference.attention_decode import attention_decode as reference

KERNEL = simulator.load(Path(__file__).parents[2] / "kernels" / "nki" / "attention.py").attention_prefill
TARGETS = ("trn1", "trn2", "trn3")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def draw(lengths, capacity, tokens, heads=(2, 1), d=64, dtype=BFLOAT16):
    rng = np.random.default_rng(0)
    b, (h, hkv) = len(lengths), heads
    shapes = {"q": (h, tokens), "k_new": (hkv, tokens), "v_new": (hkv, tokens)}
    shapes |= {"k_cache": (hkv, capacity), "v_cache": (hkv, capacity)}
    drawn = {name: rng.standard_normal((b, *shape, d)).astype(dtype) for name, shape in shapes.items()}
    return drawn | {"lengths": np.array(lengths, np.int32)}


def agrees(arguments, target="trn2", factor=4.0):
    """The output and both caches are right; returns how many tiles of 128 queries were computed again."""
    given = {name: array.copy() for name, array in arguments.items()}
    ran = simulator.on(target).run(KERNEL, **given)
    defined = {name: array.copy() for name, array in arguments.items()}
    with np.errstate(invalid="ignore"):
        expected = reference(**defined)
    for name in ("k_cache", "v_cache"):
        assert given[name].tobytes() == defined[name].tobytes() != arguments[name].tobytes()
    unit = factor * float(ml_dtypes.finfo(ran.outputs.dtype).eps)
    np.testing.assert_allclose(ran.outputs.astype(np.float64), expected, rtol=unit, atol=unit)
    moved = [e.reads[0] for e in ran.trace.events if e.op == "dma_transpose"]
    return sum(r.allocation.buffer == "sbuf" and r.shape[1:] == (1,) for r in moved)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float16])
def test_new_tokens_see_what_their_sequence_has_filled_and_those_before_them(dtype, target):
    arguments = draw([0, 37, 150], 290, 130, heads=(1, 1), dtype=dtype)
    again = agrees(arguments, target, factor=16.0 if dtype == np.float32 else 4.0)
    assert again == 0 or dtype == np.float16


@pytest.mark.parametrize(
    ("lengths", "capacity", "tokens", "heads", "d"),
    [
        ([0], 1, 1, (1, 1), 1),
        ([128], 256, 128, (4, 2), 128),
        ([5, 500], 1100, 600, (1, 1), 40),
        ([127], 400, 3, (6, 3), 200),
    ],
)
def test_other_shapes(lengths, capacity, tokens, heads, d):
    assert agrees(draw(lengths, capacity, tokens, heads, d)) == 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "odd"), [("k_cache", np.nan), ("v_cache", np.inf)])
def test_what_lies_behind_the_tokens_of_a_cache_does_not_matter(name, odd, target):
    arguments = draw([10, 60], 100, 20)
    arguments[name][0, :, 40:] = odd
    assert agrees(arguments, target) > 0


@pytest.mark.parametrize("target", ["trn1", "trn2"])
@pytest.mark.parametrize("name", ["q", "k_new", "k_cache", "v_new", "v_cache"])
@pytest.mark.parametrize("odd", [np.nan, 1e4])
def test_inputs_out_of_range_are_computed_again_and_right(name, odd, target):
    arguments = draw([30], 60, 20)
    arguments[name][0, 0, 7, 3] = odd
    assert agrees(arguments, target, factor=8.0) > 0 or (name, odd) in (("v_new", 1e4), ("v_cache", 1e4))


def test_what_does_not_fit():
    arguments = draw([0], 10, 11)
    with pytest.raises(AssertionError, match="room for 11 tokens"):
        simulator.on("trn2").run(KERNEL, **arguments)
