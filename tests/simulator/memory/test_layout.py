"""Layouts against the numbers of the bytes that they name, an array with one more axis for the bytes of an element."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.dtypes import dtype_of, float32
from triptych.simulator.memory.layout import Layout, overlaps, reach, row_major

KINDS = [dtype_of(name) for name in ("uint8", "bfloat16", "float32")]
SIZES = (1, 1, 2, 3, 4, 6)


def bytes_of(at):
    """The numbers of the bytes of a view."""
    n = at.dtype.itemsize
    found = np.full(at.shape, at.offset * n)
    for dim, (size, stride) in enumerate(zip(at.shape, at.strides, strict=True)):
        found = found + (np.arange(size) * stride * n).reshape([-1 if d == dim else 1 for d in range(len(at.shape))])
    return found[..., None] + np.arange(n)


def draw(rng):
    """A dense tensor, or a part of one with its dimensions in any order."""
    shape = tuple(int(n) for n in rng.choice(SIZES, rng.integers(1, 5)))
    at = Layout(int(rng.integers(0, 3)) * 4, shape, row_major(shape), KINDS[rng.integers(3)])
    if rng.random() < 0.5:
        offset, shape, strides = at.offset, list(at.shape), list(at.strides)
        for d, n in enumerate(at.shape):
            first, step = int(rng.integers(0, n)), int(rng.integers(1, 3))
            offset += first * strides[d]
            shape[d], strides[d] = (n - first + step - 1) // step, strides[d] * step
        at = at.changed(offset, shape, strides)
    return at.permute([int(d) for d in rng.permutation(len(at.shape))]) if rng.random() < 0.3 else at


def sizes_of(rng, count):
    """Sizes whose product is `count`, with ones among them."""
    sizes = []
    while count > 1:
        size = int(rng.choice([d for d in range(2, count + 1) if count % d == 0]))
        sizes.append(size)
        count //= size
    for _ in range(rng.integers(0, 3)):
        sizes.insert(int(rng.integers(0, len(sizes) + 1)), 1)
    return tuple(sizes or [1])


@pytest.mark.parametrize("seed", range(30))
def test_a_view_of_a_view_names_the_bytes_that_numpys_would(seed):
    rng = np.random.default_rng(seed)
    for _ in range(30):
        at = draw(rng)
        ids, ndim = bytes_of(at), len(at.shape)
        dim = int(rng.integers(0, ndim + 1))
        np.testing.assert_array_equal(bytes_of(at.expand_dim(dim)), np.expand_dims(ids, dim))
        dim = int(rng.integers(0, ndim))
        order = [int(d) for d in rng.permutation(ndim)]
        np.testing.assert_array_equal(bytes_of(at.permute(order)), ids.transpose(*order, ndim))
        sizes = sizes_of(rng, at.shape[dim])
        split = ids.reshape(*at.shape[:dim], *sizes, *at.shape[dim + 1 :], -1)
        np.testing.assert_array_equal(bytes_of(at.split_dim(dim, sizes)), split)
        if at.shape[dim] == 1:
            np.testing.assert_array_equal(bytes_of(at.squeeze_dim(dim)), ids.squeeze(dim))
            wide = np.repeat(ids, 3, axis=dim)
            np.testing.assert_array_equal(bytes_of(at.broadcast(dim, 3)), wide)
            assert at.broadcast(dim, 3).strides[dim] == 0
        else:
            with pytest.raises(NkiValidationError, match=f"squeeze_dim needs size 1 in dimension {dim}"):
                at.squeeze_dim(dim)
            with pytest.raises(NkiValidationError, match=f"broadcast needs size 1 in dimension {dim}"):
                at.broadcast(dim, 3)


@pytest.mark.parametrize("seed", range(30))
def test_a_reshape_names_the_same_bytes_in_order_or_numpy_copies(seed):
    rng = np.random.default_rng(seed)
    memory = np.zeros(1 << 13, np.uint8)
    for _ in range(40):
        at = draw(rng)
        n = at.dtype.itemsize
        array = np.ndarray(at.shape, f"V{n}", memory, at.offset * n, [s * n for s in at.strides])
        sizes = sizes_of(rng, at.size) if rng.random() < 0.9 else at.shape
        found = at.reshape(sizes)
        if np.may_share_memory(array.reshape(sizes), memory):
            np.testing.assert_array_equal(bytes_of(found), bytes_of(at).reshape(*sizes, n))
        else:
            assert found is None


@pytest.mark.parametrize("seed", range(30))
def test_the_same_bytes_as_another_dtype(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        at, dtype = draw(rng), KINDS[rng.integers(3)]
        ids, n = bytes_of(at).reshape(*at.shape[:-1], -1), dtype.itemsize
        whole = ids.shape[-1] % n == 0
        together = ids.reshape(*at.shape[:-1], -1, n) if whole else ids
        whole = whole and (together == together[..., :1] + np.arange(n)).all() and (together[..., 0] % n == 0).all()
        whole = whole and (ids == ids[..., :1] + np.arange(ids.shape[-1])).all()
        found = at.as_dtype(dtype)
        if whole:
            np.testing.assert_array_equal(bytes_of(found), together)
            assert found.dtype is dtype and found.strides[-1] == 1
        else:
            assert found is None


@pytest.mark.parametrize("seed", range(30))
def test_what_is_said_of_a_view_is_so_of_its_bytes(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        at = draw(rng)
        first = bytes_of(at)[..., 0] // at.dtype.itemsize
        assert at.size == first.size
        for dim in range(len(at.shape)):
            inner = first[(0,) * dim].ravel()
            assert at.is_contiguous(dim) == bool((inner == inner[0] + np.arange(inner.size)).all())
        assert not overlaps(at.shape, at.strides)  # of views that index and permute a dense tensor none does
        strides = tuple(int(s) for s in rng.integers(-4, 9, len(at.shape)))
        every = bytes_of(Layout(0, at.shape, strides, float32))[..., 0] // 4
        assert reach(at.shape, strides) == (every.min(), every.max())
        assert overlaps(at.shape, strides) or len(np.unique(every)) == every.size


def test_dimensions_of_one_element_keep_a_dense_layout_dense():
    """Regions and patterns show their strides, and a row of a partition is told by them."""
    at = Layout(0, (4, 6), (6, 1), float32)
    assert [at.expand_dim(d).strides for d in range(3)] == [(24, 6, 1), (6, 6, 1), (6, 1, 1)]
    for sizes in ((1, 4, 6), (4, 1, 6), (4, 6, 1), (2, 1, 12), (1, 24, 1, 1), (8, 3)):
        assert at.reshape(sizes).strides == row_major(sizes)
    assert at.reshape((4, 6)) is at
    assert Layout(0, (1, 1), (5, 3), float32).reshape((1,)).strides == (1,)
