"""Transposed copies, compiled and by NumPy: NumPy's own, whatever the sizes and however rows lie."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import transposing
from triptych.simulator.transposing import copy_transposed


@pytest.fixture(autouse=True, params=["compiled", "NumPy"])
def by(request, monkeypatch):
    if request.param == "NumPy":
        monkeypatch.setattr(transposing, "_casts", None)
    elif transposing._casts is None:
        pytest.skip("nothing is compiled: no C compiler was there, or TRIPTYCH_COMPILED=0")
    return request.param


def drawn(shape, dtype):
    return np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8).view(dtype)[..., 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (16, 16), (15, 17), (33, 40), (128, 128), (65, 100), (0, 4)])
def test_it_is_the_transpose(shape, dtype):
    values, out = drawn(shape, dtype), np.zeros(shape[::-1], dtype)
    copy_transposed(out, values)
    np.testing.assert_array_equal(out, values.T)


@pytest.mark.parametrize("view", [lambda a: a[3:20, 5:39], lambda a: a[::2, :], lambda a: a[::-1], lambda a: a[:, ::3]])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_only_the_view_is_read_and_written(view, dtype):
    values = view(drawn((40, 48), dtype))
    whole = np.ones((60, 64), dtype)
    out = whole[2 : 2 + values.shape[1], 9 : 9 + values.shape[0]]
    copy_transposed(out, values)
    np.testing.assert_array_equal(out.view(f"u{out.itemsize}"), values.T.view(f"u{out.itemsize}"))
    out[...] = 1
    assert (whole == 1).all()


@pytest.mark.parametrize("shift", [0, 3, 40])
def test_they_may_share_bytes(shift):
    memory = drawn((40 * 40,), np.float32).copy()
    values, out = memory[: 36 * 36].reshape(36, 36), memory[shift : shift + 36 * 36].reshape(36, 36)
    expected = values.T.copy()
    copy_transposed(out, values)
    np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))


def test_matrices_that_do_not_fit(by):
    """C says what it takes; NumPy's error is one of broadcasting."""
    with pytest.raises((TypeError, ValueError), match="transposed shape" if by == "compiled" else "broadcast"):
        copy_transposed(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.float32))
