"""The NKI decode attention: contiguous and paged caches, what is appended, and inputs that its certificate refuses."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.reference.attention_decode import attention_decode as reference

KERNEL = simulator.load(Path(__file__).parents[2] / "kernels" / "nki" / "attention_decode.py").attention_decode
TARGETS = ("trn1", "trn2", "trn3")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def draw(lengths, capacity, heads=(4, 2), tokens=1, d=64, page=None, dtype=BFLOAT16, is_float8=False):
    """Arguments of the kernel by name; with `page` the capacity is that of whole pages, scattered over the cache.

    With `is_float8` caches of up to 240 with a scale for each head, which clips a few numbers of the new tokens.
    """
    rng = np.random.default_rng(0)
    b, h, hkv = len(lengths), *heads

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    each = -(-capacity // (page or capacity))
    cache = (b * each + 2, hkv, page, d) if page else (b, hkv, capacity, d)
    arguments = {
        "q": normal(b, h, tokens, d),
        "k_new": normal(b, hkv, tokens, d),
        "v_new": normal(b, hkv, tokens, d),
        "k_cache": normal(*cache),
        "v_cache": normal(*cache),
        "lengths": np.array(lengths, np.int32),
    }
    if page:
        arguments["page_table"] = rng.permutation(b * each + 2)[: b * each].reshape(b, each).astype(np.int32)
    if is_float8:
        for name in ("k", "v"):
            arguments[f"{name}_scale"] = scale = rng.uniform(0.008, 0.01, hkv).astype(np.float32)
            scaled = arguments[f"{name}_cache"].astype(np.float32) / scale[:, None, None]
            arguments[f"{name}_cache"] = np.clip(scaled, -240, 240).astype(ml_dtypes.float8_e4m3)
    return arguments


def run(arguments, target="trn2"):
    """The output, the caches afterwards, and how many maxima of (b, g) were looked for."""
    given = {name: array.copy() for name, array in arguments.items()}
    ran = simulator.on(target).run(KERNEL, **given)
    turned = [e.reads[0] for e in ran.trace.events if e.op == "dma_transpose"]
    again = [r for r in turned if r.allocation.buffer == "sbuf" and r.shape[1:] == (1,)]
    return ran.outputs, given["k_cache"], given["v_cache"], len(again)


def agrees(arguments, target="trn2", again=0):
    out, *caches, found = run(arguments, target)
    defined = {name: array.copy() for name, array in arguments.items()}
    expected = reference(**defined)
    for cache, name in zip(caches, ("k_cache", "v_cache"), strict=True):
        assert cache.tobytes() == defined[name].tobytes() != arguments[name].tobytes()
    unit = float(ml_dtypes.finfo(out.dtype).eps)
    np.testing.assert_allclose(out.astype(np.float64), expected, rtol=4 * unit, atol=4 * unit)
    assert found == again
    return out


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("page", [None, 16])
def test_each_sequence_sees_its_own_length_and_is_appended_to(page, target):
    agrees(draw([0, 1, 130, 319], 320, page=page), target)


@pytest.mark.parametrize("page", [None, 7, 64])
@pytest.mark.parametrize(
    ("dtype", "d", "tokens"), [(np.float32, 80, 1), (np.float16, 128, 3), (BFLOAT16, 200, 8), (BFLOAT16, 1, 2)]
)
def test_new_tokens_see_those_before_them(dtype, d, tokens, page):
    agrees(draw([5, 56], 70, heads=(6, 2), tokens=tokens, d=d, page=page, dtype=dtype))


@pytest.mark.parametrize("capacity", [1, 127, 128, 129, 2049, 2300])
def test_capacities_around_tiles_and_runs(capacity):
    agrees(draw([capacity - 1, 0], capacity, heads=(2, 1), d=128))


def test_a_head_of_128_queries_and_no_more():
    agrees(draw([77], 90, heads=(16, 1), tokens=8))
    with pytest.raises(AssertionError, match="at most 128 queries, got 16 heads of 9 tokens"):
        run(draw([77], 90, heads=(16, 1), tokens=9))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("page", [None, 16])
def test_what_lies_behind_the_tokens_of_a_cache_does_not_matter(page, target):
    arguments = draw([40, 100], 128, page=page)
    expected = agrees(arguments, target)
    for name, odd in (("k_cache", np.nan), ("v_cache", np.inf)):
        if page:
            behind = arguments["page_table"][0, 3]
            arguments[name][behind] = odd
            assert behind not in arguments["page_table"][1]
            arguments["page_table"][1, 7:] = -1  # 100 tokens and a new one end in page 6
        else:
            arguments[name][0, :, 41:] = odd
    out = agrees(arguments, target, again=2)
    np.testing.assert_allclose(out.astype(np.float32), expected.astype(np.float32), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["q", "k_new", "k_cache", "v_new", "v_cache"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e4])
def test_inputs_out_of_range_are_computed_again_and_right(name, odd, target):
    arguments = draw([30, 60], 64, tokens=2)
    arguments[name][0, 0, 1, 3] = odd
    out, *_ = run(arguments, target)
    expected = reference(**arguments)
    np.testing.assert_allclose(out.astype(np.float64), expected, rtol=0.02, atol=0.02)


def test_only_the_key_head_that_fails_is_computed_again():
    arguments = draw([30, 60], 64)
    arguments["q"][1, 3] *= 100
    agrees(arguments, again=1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("page", "tokens", "d"), [(None, 1, 128), (16, 3, 64), (None, 8, 200)])
def test_a_float8_cache_stands_for_its_numbers_times_the_scale_of_its_head(page, tokens, d, target):
    arguments = draw([0, 60, 311], 319, tokens=tokens, d=d, page=page, is_float8=True)
    agrees(arguments, target)
    assert (np.abs(arguments["k_new"].astype(np.float32)) > 240 * arguments["k_scale"][:, None, None]).any()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "odd"), [("q", 1e4), ("k_cache", np.nan), ("v_cache", -np.inf), ("k_new", np.inf)])
def test_float8_inputs_out_of_range_are_computed_again_and_right(name, odd, target):
    arguments = draw([30, 60], 70, tokens=2, is_float8=True)
    arguments[name][0, 0, 1, 3] = odd
    out, *_ = run(arguments, target)
    np.testing.assert_allclose(out.astype(np.float64), reference(**arguments), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("d", "is_float8", "transposes", "products"), [(128, False, 2, 2), (64, False, 1, 1), (128, True, 1, 2)]
)
def test_the_tensor_engine_takes_two_tiles_of_narrow_keys_at_once(d, is_float8, transposes, products):
    events = simulator.on("trn2").run(KERNEL, **draw([255], 256, heads=(2, 1), d=d, is_float8=is_float8)).trace.events
    tiles = [e for e in events if e.op == "nc_matmul" and e.reads[0].shape == (128, 128)]
    turned = [e for e in events if e.op == "nc_transpose" and e.writes[0].shape == (128, 128)]
    values = 2 if d == 128 else 0  # v is multiplied as it lies, a tile of it as large as one of k
    assert (len(turned), len(tiles) - values) == (transposes, products)


def test_what_float8_caches_come_with():
    arguments = draw([30], 70, is_float8=True)
    with pytest.raises(AssertionError, match="caches have the dtype of q"):
        run({name: x for name, x in arguments.items() if name not in ("k_scale", "v_scale")})
    with pytest.raises(AssertionError, match=r"must be \[Hkv = 2\], got \(2,\) and None"):
        run({name: x for name, x in arguments.items() if name != "v_scale"})
