"""bfloat16 by bits: what NumPy's casts of ml_dtypes give, for every pattern and around every rounding."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych.simulator import bfloat16
from triptych.simulator.bfloat16 import BFLOAT16, round_to_bfloat16, to_float32

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # of signaling NaN
EVERY = np.arange(1 << 16, dtype=np.uint16).view(BFLOAT16)


@pytest.fixture(autouse=True, params=["compiled", "NumPy"])
def casts(request, monkeypatch):
    if request.param == "NumPy":
        monkeypatch.setattr(bfloat16, "_casts", None)
    elif bfloat16._casts is None:
        pytest.skip("nothing is compiled: no C compiler was there, or TRIPTYCH_COMPILED=0")


def bits(a):
    return np.ascontiguousarray(a).view(f"u{a.dtype.itemsize}")


def test_every_bfloat16_in_float32():
    np.testing.assert_array_equal(bits(to_float32(EVERY)), bits(EVERY.astype(np.float32)))


@pytest.mark.parametrize("lower", [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
@pytest.mark.parametrize("with_nan", [True, False])
def test_every_float32_around_a_bfloat16(lower, with_nan):
    whole = (np.arange(1 << 16, dtype=np.uint32) << 16 | lower).view(np.float32)
    values = whole if with_nan else whole[~np.isnan(whole)]
    found, expected = np.empty(values.shape, BFLOAT16), values.astype(ml_dtypes.bfloat16)
    round_to_bfloat16(values, found)
    np.testing.assert_array_equal(bits(found), bits(expected))


def test_random_float32():
    values = np.random.default_rng(0).integers(0, 1 << 32, (1000, 300), np.uint32).view(np.float32)
    values[np.isnan(values)] = 1.5
    found = np.empty(values.shape, BFLOAT16)
    round_to_bfloat16(values, found)
    np.testing.assert_array_equal(bits(found), bits(values.astype(BFLOAT16)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (128, 16), (128, 17), (2, 3, 4000), (70000,), (1, 70000), (0, 4)])
@pytest.mark.parametrize("view", [np.array, lambda a: a.T, lambda a: a[..., ::-1], lambda a: a[..., ::2]])
def test_however_the_elements_lie(shape, view):
    values = np.random.default_rng(1).standard_normal(shape, np.float32)
    narrow = values.astype(BFLOAT16)
    wide = to_float32(view(narrow))
    np.testing.assert_array_equal(wide, view(narrow).astype(np.float32))
    assert wide.strides == view(narrow).astype(np.float32).strides
    out = np.zeros(shape, BFLOAT16)
    round_to_bfloat16(view(values), view(out) if view is not np.array else out)
    np.testing.assert_array_equal(view(out), view(narrow))


def test_other_dtypes_are_cast():
    values = np.arange(1 << 13, dtype=np.float16)
    np.testing.assert_array_equal(to_float32(values), values.astype(np.float32))


def test_an_array_that_begins_between_two_elements():
    values = np.random.default_rng(2).standard_normal((64, 64), np.float32)
    narrow = values.astype(BFLOAT16)
    odd, odd_out = (np.empty(n + 1, np.uint8)[1:] for n in (narrow.nbytes, narrow.nbytes))
    there, out = odd.view(BFLOAT16).reshape(64, 64), odd_out.view(BFLOAT16).reshape(64, 64)
    there[...] = narrow
    np.testing.assert_array_equal(to_float32(there), narrow.astype(np.float32))
    round_to_bfloat16(values, out)
    np.testing.assert_array_equal(out, narrow)


def test_casts_of_arrays_that_do_not_match(request):
    if bfloat16._casts is None:
        return
    halves, words = np.zeros((4, 6), np.uint16), np.zeros((4, 6), np.uint32)
    for wrong in [(words, words), (halves, halves), (halves[:2], words), (halves.reshape(-1), words)]:
        with pytest.raises(TypeError, match="arrays of one shape"):
            bfloat16._casts.widen(*wrong)
    words.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        bfloat16._casts.widen(halves, words)
