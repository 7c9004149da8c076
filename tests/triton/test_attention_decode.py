"""Decode attention split among programs, in pages, and at the end of a cache, against the definition."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import KernelRaised, interpret
from triptych.kernels.triton import attention_decode as module
from triptych.reference.attention_decode import attention_decode as reference

CACHES = ("k_cache", "v_cache")


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
