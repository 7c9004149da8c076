"""Decode attention split among programs, in pages, and at the end of a cache, against the definition."""

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import KernelRaised, interpret
from triptych.kernels.triton import attention_decode as module
from triptych.reference.attention_decode import attention_decode as reference

CACHES = ("k_cache", "v_cache")
FLOAT8 = np.dtype(ml_dtypes.float8_e4m3)
TARGETS = ("sm_80", "sm_90", "gfx942")  # the second converts float8, the others read its bits


def inputs(B, H, Hkv, T, S, D, lengths, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = {"q": (B, H, T, D)}
    shapes |= dict.fromkeys(("k_new", "v_new"), (B, Hkv, T, D)) | dict.fromkeys(CACHES, (B, Hkv, S, D))
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return arrays | {"lengths": np.array(lengths, np.int32)}


def in_pages(arrays, size):
    """The same caches in pages that lie in no order, and the table that finds them."""
    B, Hkv, S, D = arrays["k_cache"].shape
    table = np.random.default_rng(1).permutation(B * (S // size)).reshape(B, S // size).astype(np.int32)
    found = dict(arrays)
    for name in CACHES:
        found[name] = np.empty((table.size, Hkv, size, D), arrays[name].dtype)
        found[name][table] = arrays[name].reshape(B, Hkv, S // size, size, D).swapaxes(1, 2)
    return found | {"page_table": table}


def in_float8(arrays):
    """The same with caches of float8 by a scale for each head, which clips a few numbers of the new tokens."""
    rng, found = np.random.default_rng(2), dict(arrays)
    for name in ("k", "v"):
        cache = arrays[f"{name}_cache"]
        found[f"{name}_scale"] = scale = rng.uniform(0.008, 0.01, cache.shape[1]).astype(np.float32)
        scaled = cache.astype(np.float32) / scale[:, None, None]
        found[f"{name}_cache"] = np.clip(scaled, -240, 240).astype(FLOAT8)
    return found


def as_bytes(arrays):
    """What a launcher gets of float8."""
    return {name: x.view(np.uint8) if x.dtype == FLOAT8 else x for name, x in arrays.items()}


def decoded(arrays, splits, monkeypatch):
    """(out, the caches afterwards) in so many splits."""
    monkeypatch.setattr(module, "splits_of", lambda programs, places, processors: splits)
    own = {name: x.copy() for name, x in arrays.items()}
    out = np.full(arrays["q"].shape, np.nan, arrays["q"].dtype)
    interpret(module.attention_decode, own, out, CACHES)
    return out, [own[name] for name in CACHES]


@pytest.mark.parametrize("splits", [1, 2, 7])
@pytest.mark.parametrize("page", [0, 25])
def test_any_number_of_splits(page, splits, monkeypatch):
    """Among them are some without tokens: seven of 33 in tiles of 16, and those of a sequence that has none."""
    arrays = inputs(3, 2, 1, 2, 150, 16, [148, 0, 33])
    arrays = in_pages(arrays, page) if page else arrays
    expected = {name: x.copy() for name, x in arrays.items()}
    right = reference(**expected)
    out, caches = decoded(arrays, splits, monkeypatch)
    assert np.allclose(out, right, rtol=2e-5, atol=2e-5)
    for name, cache in zip(CACHES, caches, strict=True):
        assert np.array_equal(cache, expected[name])
        assert not np.array_equal(cache, arrays[name])


def test_splits_fill_the_processors_and_share_long_caches():
    assert module.splits_of(programs=32, places=8192, processors=132) == 9  # 288 programs, two a processor and some
    assert module.splits_of(programs=1, places=1024, processors=132) == 8  # no fewer than 128 places each
    assert module.splits_of(programs=1024, places=8192, processors=132) == 2  # no more than 4096
    assert module.splits_of(programs=1, places=1, processors=132) == 1


@pytest.mark.parametrize("splits", [1, 3])
def test_what_lies_behind_the_tokens_is_not_read(splits, monkeypatch):
    arrays = inputs(2, 2, 1, 2, 100, 16, [40, 97], ml_dtypes.bfloat16)
    for name in CACHES:
        arrays[name][0, :, 40:], arrays[name][1, :, 97:] = np.nan, np.inf
    right = reference(**{name: x.copy() for name, x in arrays.items()})
    out, _ = decoded(arrays, splits, monkeypatch)
    assert np.isfinite(right).all() and np.allclose(out.astype(float), right, rtol=2e-2, atol=2e-2)


def test_a_new_token_does_not_see_the_infinity_of_the_next(monkeypatch):
    arrays = inputs(1, 2, 1, 3, 64, 16, [20])
    arrays["v_new"][0, 0, 1, 5] = np.inf
    out, _ = decoded(arrays, 2, monkeypatch)
    assert np.isfinite(out[:, :, 0]).all() and np.isposinf(out[:, :, 1:, 5]).all()


def test_rows_of_a_large_group_take_several_programs(monkeypatch):
    arrays = inputs(1, 48, 1, 3, 40, 16, [30])
    right = reference(**{name: x.copy() for name, x in arrays.items()})
    for splits in (1, 2):
        out, _ = decoded(arrays, splits, monkeypatch)
        assert np.allclose(out, right, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("page", [0, 16])
def test_tokens_that_do_not_fit_are_not_written(page, monkeypatch):
    arrays = inputs(2, 1, 1, 4, 32, 16, [30, 40])
    arrays = in_pages(arrays, page) if page else arrays
    _, caches = decoded(arrays, 1, monkeypatch)
    for name, cache in zip(CACHES, caches, strict=True):
        changed = np.argwhere((cache != arrays[name]).any((1, 3)))
        assert [list(place) for place in changed] == (
            [[arrays["page_table"][0, 1], 14], [arrays["page_table"][0, 1], 15]] if page else [[0, 30], [0, 31]]
        )


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("q", (2, 3, 1, 16), "H a multiple of Hkv"),
        ("k_new", (2, 2, 2, 16), "attention_decode's sizes disagree"),
        ("v_cache", (2, 2, 31, 16), "attention_decode's sizes disagree"),
        ("lengths", (3,), r"lengths must be int32 \[B\] = \(2,\), got \(3,\) of"),
        ("page_table", (3, 2), r"page_table must be \[B, pages of a sequence\] with B = 2, got \(3, 2\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, shape, says):
    arrays = inputs(2, 4, 2, 1, 32, 16, [3, 4])
    arrays[name] = np.zeros(shape, np.int32 if name in ("lengths", "page_table") else np.float32)
    with pytest.raises(KernelRaised, match=says):
        interpret(module.attention_decode, arrays, np.empty_like(arrays["q"]), CACHES)


def test_lengths_of_64_bits_are_refused():
    arrays = inputs(1, 1, 1, 1, 32, 16, [3])
    arrays["lengths"] = arrays["lengths"].astype(np.int64)
    with pytest.raises(KernelRaised, match="lengths must be int32"):
        interpret(module.attention_decode, arrays, np.empty_like(arrays["q"]), CACHES)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("page", "tokens", "splits"), [(0, 1, 1), (0, 3, 3), (25, 2, 2)])
def test_a_float8_cache_stands_for_its_numbers_times_the_scale_of_its_head(
    page, tokens, splits, target, told, monkeypatch
):
    told(target)
    arrays = inputs(3, 4, 2, tokens, 150, 16, [147, 0, 33], ml_dtypes.bfloat16)
    arrays = in_float8(in_pages(arrays, page) if page else arrays)
    assert (np.abs(arrays["k_new"].astype(float)) > 240 * arrays["k_scale"][:, None, None]).any()
    expected = {name: x.copy() for name, x in arrays.items()}
    right = reference(**expected)
    out, caches = decoded(as_bytes(arrays), splits, monkeypatch)
    assert np.allclose(out.astype(float), right, rtol=2e-2, atol=2e-2)
    for name, cache in zip(CACHES, caches, strict=True):
        assert np.array_equal(cache, expected[name].view(np.uint8))


@pytest.mark.parametrize("target", TARGETS)
def test_every_byte_of_a_cache_is_read_as_float8_e4m3(target, told, monkeypatch):
    """A token that sees one key alone gets its value: infinities and NaN as what they are in this float8."""
    told(target)
    arrays = in_float8(inputs(1, 1, 1, 1, 2, 256, [1]))
    held = np.arange(256, dtype=np.uint8)
    arrays["v_cache"][0, 0, 0], arrays["v_scale"][:] = held.view(FLOAT8), 1
    arrays["q"][:] = arrays["k_cache"][0, 0, 0].astype(np.float32) / 10  # e^98 times the weight of the new token
    arrays["k_new"][:] = -arrays["q"]
    out, _ = decoded(as_bytes(arrays), 1, monkeypatch)
    assert np.array_equal(out[0, 0, 0], held.view(FLOAT8).astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("target", TARGETS)
def test_a_new_token_is_rounded_to_nearest_even_and_clipped(target, told, monkeypatch):
    told(target)
    finite = np.arange(0, 0x78, dtype=np.uint8).view(FLOAT8).astype(np.float32)
    ties = (finite[1:] + finite[:-1]) / 2
    beside = [np.nextafter(ties, np.float32(side)) for side in (0, np.inf)]
    numbers = np.concatenate([finite, ties, *beside, np.float32([241, 1e9, np.inf, 0, 1e-9])])
    numbers = np.concatenate([numbers, -numbers, np.zeros(-2 * len(numbers) % 256, np.float32)])
    arrays = in_float8(inputs(1, 1, 1, len(numbers) // 256, 8, 256, [2]))
    arrays["k_new"][:] = numbers.reshape(arrays["k_new"].shape)
    arrays["k_scale"][:] = 1
    _, (cache, _) = decoded(as_bytes(arrays), 1, monkeypatch)
    found = cache[0, 0, 2 : 2 + len(numbers) // 256].view(FLOAT8).astype(np.float32).ravel()
    assert np.array_equal(found, np.clip(numbers, -240, 240).astype(FLOAT8).astype(np.float32))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["k_new", "v_new"])
def test_a_nan_in_a_new_token_is_one_in_a_float8_cache(name, target, told, monkeypatch):
    told(target)
    arrays = in_float8(inputs(1, 1, 1, 1, 8, 16, [3]))
    arrays[name][0, 0, 0, 5] = np.nan
    out, caches = decoded(as_bytes(arrays), 1, monkeypatch)
    assert np.isnan(out[..., 5]).all() and np.isnan(out).all() == (name == "k_new")
    stored = caches[CACHES.index(name.replace("new", "cache"))][0, 0, 3].view(FLOAT8).astype(np.float32)
    assert np.array_equal(np.isnan(stored), np.arange(16) == 5)


FAULTS = {  # what is written, and what is written wrongly in its place
    "the scale of another head": ("k_unit = tl.load(k_scale + h_kv", "k_unit = tl.load(k_scale + 1 - h_kv"),
    "no scale of the values": ("acc *= v_unit", "acc *= 1.0"),
    "no scale of the keys": ("scale *= k_unit", "scale *= 1.0"),
    "new tokens not divided": ("tl.div_rn(k_token, k_unit)", "k_token"),
    "new tokens that count as they were": ("k_token = _numbers(k_stored, E4NV)", "k_token = k_token / k_unit"),
    "new tokens not clipped": ("tl.where(tl.abs(x) > 240.0, 240.0, tl.abs(x))", "tl.abs(x)"),
    "new tokens cut off": ("wide + 0x7FFFF + (wide >> 20 & 1)", "wide"),
    "the sign lost": ("(bits & 0x80) << 8 | ", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_what_is_done_with_float8_is_seen(fault, tmp_path, told):
    told("sm_80")
    right, wrong = FAULTS[fault]
    text = Path(module.__file__).read_text()
    assert right in text
    (tmp_path / "wrong.py").write_text(text.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("wrong", tmp_path / "wrong.py")
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    arrays = in_float8(inputs(1, 2, 2, 8, 20, 16, [11]))
    expected = {name: x.copy() for name, x in arrays.items()}
    right_out = reference(**expected)
    own, out = as_bytes({name: x.copy() for name, x in arrays.items()}), np.empty_like(arrays["q"])
    interpret(changed.attention_decode, own, out, CACHES)
    same = all(np.array_equal(own[name], expected[name].view(np.uint8)) for name in CACHES)
    assert not (same and np.allclose(out, right_out, rtol=1e-4, atol=1e-4))


def test_what_float8_caches_come_with():
    whole = as_bytes(in_float8(inputs(1, 1, 1, 1, 32, 16, [3])))
    for changed, says in (
        ({"k_scale": None, "v_scale": None}, "caches have q's dtype, or are bytes of float8"),
        ({"v_scale": None}, r"must both be float32 \[Hkv\] = \(1,\), got .* and None"),
        ({"k_scale": np.ones(2, np.float32)}, r"must both be float32 \[Hkv\] = \(1,\), got \(\(2,\)"),
        ({name: np.zeros((1, 1, 32, 16), np.float32) for name in CACHES}, "caches with scales are bytes"),
    ):
        arrays = {name: x for name, x in (whole | changed).items() if x is not None}
        with pytest.raises(KernelRaised, match=says):
            interpret(module.attention_decode, arrays, np.empty_like(whole["q"]), CACHES)
