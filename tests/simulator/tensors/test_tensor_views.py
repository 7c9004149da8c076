"""Views of tensors: which elements they show, what stays two-dimensional on chip, and what is refused.

The oracle is NumPy: a tensor filled with 0, 1, 2, .. shows through any chain of views what an array would.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError, OutOfBounds, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

ON_CHIP = ("sbuf", "psum")
ANYWHERE = ("sbuf", "psum", "private_hbm", "shared_hbm")


@pytest.fixture
def c(core):
    with core("trn2") as current:
        yield current


def counted(c, shape, buffer="sbuf", dtype="int32"):
    """A tensor that holds 0, 1, 2, .., and the same array."""
    values = np.arange(np.prod(shape)).reshape(shape)
    return c.tile(values, dtype, buffer), values


def shows(view, expected):
    assert view.shape == expected.shape
    np.testing.assert_array_equal(view.array, expected)
    view.check_written()


# Indexing


@pytest.mark.parametrize("buffer", ANYWHERE)
@pytest.mark.parametrize(
    "key",
    [
        np.s_[:],
        np.s_[1:3],
        np.s_[:, 2:5],
        np.s_[:, ::2],
        np.s_[:, 1:6:3],
        np.s_[:, -3:],
        np.s_[:, :-2],
        np.s_[..., 1:3],
        np.s_[1:2, ..., 0:1],
        np.s_[:, 1:2, 0:2],
        np.s_[..., 3],
        np.s_[:, -1],
        np.s_[:, 2, 1:3],
        np.s_[:, 1:3, -4],
        np.s_[0:2, 3],
    ],
)
def test_indexing_is_numpys(c, buffer, key):
    tensor, values = counted(c, (4, 7, 5), buffer)
    shows(tensor[key], values[key])


def test_an_integer_keeps_the_partition_on_chip(c):
    for buffer in ON_CHIP:
        tensor, values = counted(c, (4, 7), buffer)
        shows(tensor[2], values[2:3])
        shows(tensor[-1], values[3:4])
        shows(tensor[:, 3], values[:, 3:4])
        shows(tensor[2, 3], values[2:3, 3:4])
        deep, values = counted(c, (4, 3, 5), buffer)
        shows(deep[1], values[1:2])
        shows(deep[:, 1], values[:, 1])
        shows(deep[:, 1, 2], values[:, 1, 2:3])
        shows(deep[2, 1, 2], values[2:3, 1, 2:3])


def test_an_integer_drops_a_dimension_in_hbm_down_to_one(c):
    tensor, values = counted(c, (4, 7), "private_hbm")
    shows(tensor[2], values[2])
    shows(tensor[:, 3], values[:, 3])
    shows(tensor[2, 3], values[2:3, 3])
    shows(tensor[2][5], values[2, 5:6])


def test_a_range_is_what_it_counts(c):
    """As AWS's compiler takes it: x[nl.affine_range(P), nl.affine_range(F)] is the whole tile (nkipy#64, on trn2)."""
    tensor, values = counted(c, (8, 9))
    shows(tensor[nl.affine_range(8), nl.affine_range(9)], values)
    shows(tensor[range(2, 6), range(1, 9, 3)], values[2:6, 1:9:3])


@pytest.mark.parametrize("make", [lambda c: nisa.register_alloc(2), lambda c: c.tile(np.ones((1, 1), np.int32))])
@pytest.mark.parametrize("key", [lambda start: nl.ds(start, 4), lambda start: start, lambda start: slice(start, 5)])
def test_an_index_that_is_known_late_says_how_it_is_written(c, make, key):
    with pytest.raises(
        NkiValidationError, match=r"test_tensor_views.py:.*scalar_offset=.*x.select.*vector_offset=.*#1328"
    ):
        c.empty((4, 7))[:, key(make(c))]


def test_ds_is_start_and_size(c):
    tensor, values = counted(c, (8, 9))
    shows(tensor[nl.ds(2, 4), nl.ds(1, 3)], values[2:6, 1:4])
    shows(tensor[:, nl.ds(np.int64(8), 1)], values[:, 8:9])


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (np.s_[:, 7], OutOfBounds, "index 7 is outside dimension 1"),
        (np.s_[:, -8], OutOfBounds, "index -8 is outside dimension 1"),
        (np.s_[4], OutOfBounds, "index 4 is outside dimension 0"),
        (np.s_[:, 0:8], OutOfBounds, "slice 0:8:1 of dimension 1 needs 0 <= start < stop <= 7"),
        (np.s_[:, 5:2], OutOfBounds, "slice 5:2:1"),
        (np.s_[:, -9:2], OutOfBounds, "slice -2:2:1"),
        (np.s_[:, ::-1], OutOfBounds, "step >= 1"),
        (np.s_[:, :, 0], OutOfBounds, "3 indices for the 2 dimensions"),
        (np.s_[..., 0, ...], OutOfBounds, "indices for the 2 dimensions"),
        (np.s_[::2], NkiValidationError, "does not stride over dimension 0"),
        (np.s_[:, 0.5], NkiValidationError, "an index must be an integer, a slice, nl.ds or ..., got float"),
        (np.s_[:, None], NkiValidationError, "an index must be an integer, a slice, nl.ds or ..., got NoneType"),
        (np.s_[:, "a":], NkiValidationError, "an index must be an integer"),
        ((slice(None), [0, 1]), NkiValidationError, "an index must be an integer, a slice, nl.ds or ..., got list"),
        (
            np.s_[np.arange(4)[:, None], 0],
            NkiValidationError,
            r"got ndarray; arrays of indices went with NKI 0.2: write",
        ),
        ((slice(None), nl.ds(5, 3)), OutOfBounds, "slice 5:8:1"),
        ((slice(None), nl.ds(8, 0)), OutOfBounds, "slice 8:8:1"),
    ],
)
def test_what_an_index_cannot_be(c, key, error, words):
    with pytest.raises(error, match=words) as e:
        c.empty((4, 7))[key]
    assert "test_tensor_views.py:" in str(e.value)


@pytest.mark.parametrize("key", [np.s_[:, 3:3], np.s_[:, 7:7:2], np.s_[0:0], (slice(None), nl.ds(0, 0))])
def test_an_empty_slice_is_an_error_when_something_uses_it(c, key):
    """Where a kernel splits work, a core may get none, and does nothing with it."""
    empty = c.tile(np.zeros((4, 7), np.float32))[key]
    assert 0 in empty.shape and empty.size == 0
    for use in (lambda: nisa.memset(empty, 0.0), lambda: nisa.tensor_copy(c.empty((4, 7)), empty), empty.f32):
        with pytest.raises(NkiValidationError):
            use()
    with pytest.raises(OutOfBounds, match=r"slice \d:\d:\d of dimension \d needs 0 <= start < stop"):
        empty.check_written()


def test_the_base_tensor_is_what_a_view_is_of(c):
    tensor, values = counted(c, (4, 6), "private_hbm")
    view = tensor[1:3].view(nl.uint8).base_tensor
    assert view.dtype == tensor.dtype
    shows(view, values)


def test_partitions_may_be_strided_in_hbm(c):
    tensor, values = counted(c, (8, 3), "private_hbm")
    shows(tensor[::3], values[::3])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_chains_of_slices(core, data):
    with core() as c:
        view, values = counted(c, (6, 9, 8), "private_hbm")
        for _ in range(3):
            key = []
            for n in view.shape:
                start = data.draw(st.integers(0, n - 1))
                key.append(slice(start, data.draw(st.integers(start + 1, n)), data.draw(st.integers(1, 3))))
            view, values = view[tuple(key)], values[tuple(key)]
        shows(view, values)


def test_a_tile_is_assigned_to_a_view(c):
    tensor, value = c.empty((4, 3, 7)), c.tile(np.arange(28, dtype=np.float32).reshape(4, 7))
    tensor[0:4, 1, 0:7] = value
    shows(tensor[:, 1], value.array)
    with pytest.raises(Uninitialized):
        tensor[:, 0].check_written()
    assert len(tensor) == 4 and c.trace.count() == {"tensor_copy": 1}
    assert c.trace.events[0].line[0].endswith("test_tensor_views.py")
    with pytest.raises(NkiValidationError, match="same partitions and elements"):
        tensor[:, 2] = value[:, 0:6]


def test_the_truth_of_a_tensor_is_that_it_is_there(c):
    tensor = c.tile(np.zeros((4, 7), np.float32))
    assert tensor and not c.trace.notes[1:]
    assert re.match(r"test_tensor_views.py:\d+: the truth of NkiTensor.* is that it is there", c.trace.notes[0])
    with pytest.raises(NkiValidationError, match="a branch on NkiTensor.*: what a tensor holds is not known"):
        while tensor[0, 0]:
            pass


# Methods


def test_slice_and_select(c):
    tensor, values = counted(c, (4, 6, 8))
    shows(tensor.slice(1, 1, 5), values[:, 1:5])
    shows(tensor.slice(2, 0, 8, 3), values[:, :, ::3])
    shows(tensor.select(1, 3), values[:, 3])
    shows(tensor.select(0, 2), values[2:3])
    with pytest.raises(OutOfBounds, match="slice 2:9:1 of dimension 2"):
        tensor.slice(2, 2, 9)
    with pytest.raises(OutOfBounds, match="dimension 3 of"):
        tensor.select(3, 0)
    assert tensor.select(1, c.tile(np.zeros((1, 1)), "int32")).is_indirect()


def test_permute(c):
    tensor, values = counted(c, (4, 2, 3, 5))
    shows(tensor.permute((0, 3, 1, 2)), values.transpose(0, 3, 1, 2))
    hbm, values = counted(c, (4, 2, 3), "shared_hbm")
    shows(hbm.permute((2, 0, 1)), values.transpose(2, 0, 1))
    with pytest.raises(NkiValidationError, match="permute keeps the partition first on chip"):
        tensor.permute((1, 0, 2, 3))
    with pytest.raises(NkiValidationError, match=r"permute needs a permutation of 0..3, got \(0, 1, 1, 2\)"):
        tensor.permute((0, 1, 1, 2))


def test_broadcast(c):
    tensor, values = counted(c, (4, 1, 3))
    wide = tensor.broadcast(1, 5)
    shows(wide, np.broadcast_to(values, (4, 5, 3)))
    assert wide.strides[1] == 0
    out = c.empty((4, 5, 3), "int32")
    nisa.tensor_copy(out, wide)
    shows(out, np.broadcast_to(values, (4, 5, 3)))
    with pytest.raises(NkiValidationError, match="broadcast needs size 1 in dimension 2"):
        tensor.broadcast(2, 5)
    with pytest.raises(NkiValidationError, match="broadcast cannot touch the partition dimension"):
        tensor[0].broadcast(0, 4)
    hbm, values = counted(c, (1, 3), "private_hbm")
    shows(hbm.broadcast(0, 4), np.broadcast_to(values, (4, 3)))


def test_expand_and_squeeze(c):
    tensor, values = counted(c, (4, 6))
    shows(tensor.expand_dim(1), values[:, None])
    shows(tensor.expand_dim(2), values[..., None])
    shows(tensor.expand_dim(1).squeeze_dim(1), values)
    with pytest.raises(NkiValidationError, match="not before the partition"):
        tensor.expand_dim(0)
    with pytest.raises(NkiValidationError, match="squeeze_dim needs size 1"):
        tensor.squeeze_dim(1)
    with pytest.raises(NkiValidationError, match="squeeze_dim cannot touch the partition"):
        tensor[0].squeeze_dim(0)
    with pytest.raises(NkiValidationError, match="would leave fewer than 2 dimensions"):
        tensor[:, 0].squeeze_dim(1)
    hbm, values = counted(c, (4, 1), "private_hbm")
    shows(hbm.expand_dim(0), values[None])
    shows(hbm.squeeze_dim(1), values[:, 0])
    with pytest.raises(NkiValidationError, match="would leave fewer than 1 dimensions"):
        hbm[0].squeeze_dim(0)


def test_reshape_dim_and_flatten(c):
    tensor, values = counted(c, (4, 24))
    shows(tensor.reshape_dim(1, (4, 6)), values.reshape(4, 4, 6))
    shows(tensor.reshape_dim(1, (2, -1, 3)), values.reshape(4, 2, 4, 3))
    shows(tensor[:, ::2].reshape_dim(1, (3, 4)), values[:, ::2].reshape(4, 3, 4))
    shows(tensor.reshape_dim(0, (4,)), values)
    shows(tensor.reshape_dim(1, (2, 3, 4)).flatten_dims(1, 2), values.reshape(4, 6, 4))
    shows(tensor.reshape_dim(1, (2, 3, 4)).flatten_dims(1, 3), values)
    for call, words in (
        (lambda: tensor.reshape_dim(0, (2, 2)), "cannot split the partition"),
        (lambda: tensor.reshape_dim(1, (5, 5)), "does not hold the 24 elements"),
        (lambda: tensor.reshape_dim(1, (5, -1)), "does not hold the 24 elements"),
        (lambda: tensor.reshape_dim(1, (-1, -1)), "does not hold the 24 elements"),
        (lambda: tensor.reshape_dim(1, (-1, 24, -1)), "does not hold the 24 elements"),
        (lambda: tensor.reshape_dim(1, (-4, -6)), "does not hold the 24 elements"),
        (lambda: tensor.reshape_dim(1, (0, -1)), "does not hold the 24 elements"),
        (lambda: tensor.flatten_dims(0, 1), "cannot touch the partition"),
        (lambda: tensor.flatten_dims(1, 2), "dimension 2 of"),
        (lambda: tensor.reshape_dim(1, (4, 6)).flatten_dims(2, 1), "ends before it starts"),
        (lambda: tensor.reshape_dim(1, (4, 6)).permute((0, 2, 1)).flatten_dims(1, 2), "would need a copy"),
        (lambda: tensor.reshape_dim(1, (4, 6))[:, :, :3].flatten_dims(1, 2), "would need a copy"),
    ):
        with pytest.raises(NkiValidationError, match=words):
            call()
    hbm, values = counted(c, (6, 4), "private_hbm")
    shows(hbm.reshape_dim(0, (2, 3)), values.reshape(2, 3, 4))
    shows(hbm.flatten_dims(0, 1), values.reshape(-1))


def test_reshape(c):
    tensor, values = counted(c, (4, 4, 6))
    shows(tensor.reshape((4, 24)), values.reshape(4, 24))
    shows(tensor.reshape((4, -1, 3)), values.reshape(4, 8, 3))
    shows(tensor.reshape((4, 1, 2, 1, 12)), values.reshape(4, 1, 2, 1, 12))
    shows(tensor[:, 1:3].reshape((4, 12)), values[:, 1:3].reshape(4, 12))
    shows(tensor[:, :, ::2].reshape((4, 2, 2, 3)), values[:, :, ::2].reshape(4, 2, 2, 3))
    repeated = tensor[:, 0, :1].broadcast(1, 6).reshape((4, 2, 3)).reshape((4, 3, 2))
    shows(repeated, np.broadcast_to(values[:, 0, :1, None], (4, 3, 2)))
    for call, words in (
        (lambda: tensor.reshape((8, 12)), "reshape keeps the partition dimension"),
        (lambda: tensor.reshape((4, 25)), "does not hold the 96 elements"),
        (lambda: tensor.permute((0, 2, 1)).reshape((4, 24)), "would need a copy"),
        (lambda: tensor[:, :, :3].reshape((4, 12)), "would need a copy"),
        (lambda: c.empty((4, 1)).reshape((4,)), "would leave fewer than 2 dimensions"),
    ):
        with pytest.raises(NkiValidationError, match=words):
            call()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_reshape_shows_what_numpy_shows_or_is_refused(core, data):
    """Where NumPy reshapes without a copy we do, and show the same; where it copies, we refuse."""
    sizes = st.sampled_from([1, 2, 3, 4])
    shape = tuple(data.draw(st.lists(sizes, min_size=1, max_size=4)))
    order = data.draw(st.permutations(range(len(shape))))
    step = data.draw(st.integers(1, 2))
    with core() as c:
        view, values = counted(c, shape, "private_hbm")
        view, values = view.permute(tuple(order)), values.transpose(order)
        view, values = view[..., ::step], values[..., ::step]
        primes = [f for n in values.shape for f in ([2, 2] if n == 4 else [n])]
        primes = data.draw(st.permutations(primes))
        cuts = sorted(data.draw(st.sets(st.integers(1, max(len(primes) - 1, 1)), max_size=3)))
        new = [int(np.prod(part)) for part in np.split(np.array(primes), cuts) if len(part)]
        expected = values.reshape(new)
        if np.shares_memory(expected, values) or values.size == 1:
            shows(view.reshape(new), expected)
        else:
            with pytest.raises(NkiValidationError, match="would need a copy"):
                view.reshape(new)


def test_rearrange(c):
    tensor, values = counted(c, (4, 24))
    split = values.reshape(4, 4, 6)
    shows(tensor.rearrange(("b", ("h", "w")), ("b", "w", "h"), {"h": 4}), split.transpose(0, 2, 1))
    shows(tensor.rearrange(("b", ("h", "w")), ("b", "h", "w"), {"w": 6}), split)
    deep, values = counted(c, (2, 3, 4, 5), "private_hbm")
    shows(deep.rearrange(("a", "b", "c", "d"), ("d", "a", ("b", "c"))), values.transpose(3, 0, 1, 2).reshape(5, 2, 12))
    shows(
        deep.rearrange(("a", ("b",), "rest", "d"), (("d",), "a", ("b", "rest"))),
        deep.rearrange("abcd", ("d", "a", ("b", "c"))).array,
    )
    shows(deep.rearrange(("rows", "b", "c", "columns"), ("columns", "rows", "c", "b")), values.transpose(3, 0, 2, 1))
    for call, words in (
        (lambda: tensor.rearrange(("b", ("h", "w")), ("b", ("w", "h")), {"h": 4}), "would need a copy"),
        (lambda: tensor.rearrange(("b", ("h", "w")), ("h", "b", "w"), {"h": 4}), "keeps the partition first"),
        (lambda: tensor.rearrange(("b", "h", "w"), ("b", "h", "w")), "names 3 of 2 dimensions"),
        (lambda: tensor.rearrange(("b", "h"), ("b", "x")), "must name the dimensions of"),
        (lambda: tensor.rearrange(("b", ("h", "w")), ("b", "h", "w")), "does not hold the 24 elements"),
    ):
        with pytest.raises(NkiValidationError, match=words):
            call()


# Access patterns


def test_ap_is_an_explicit_pattern(c):
    tensor, values = counted(c, (8, 32))
    shows(tensor.ap([[32, 8], [1, 32]]), values)
    shows(tensor.ap([[32, 8], [2, 16]]), values[:, ::2])
    shows(tensor.ap([[32, 4], [4, 8], [1, 2]]), values[:4].reshape(4, 8, 4)[:, :, :2])
    shows(tensor.ap([[32, 8], [0, 3], [1, 4]]), np.broadcast_to(values[:, None, :4], (8, 3, 4)))
    shows(tensor.ap([[32, 8], [-1, 32]], offset=31), values[:, ::-1])
    shows(tensor.ap([[32, 8], [1, 4]], 10), values[:, 10:14])
    assert tensor.ap([[32, 8], [0, 3], [1, 4]]).get_pattern() == [[32, 8], [0, 3], [1, 4]]
    hbm, values = counted(c, (8, 32), "private_hbm")
    shows(hbm.ap([[5, 3], [64, 2]]), np.add.outer(np.arange(3) * 5, np.arange(2) * 64))
    shows(hbm.ap([[1, 7]], 3), np.arange(3, 10))


def test_ap_adds_its_offset_to_the_views(c):
    """As the API's docstring says; a deep dive says otherwise."""
    tensor, values = counted(c, (8, 32))
    shows(tensor[2:4, 5:].ap([[32, 2], [1, 3]]), values[2:4, 5:8])
    shows(tensor[2:4, 5:].ap([[32, 2], [1, 3]], offset=2), values[2:4, 7:10])


def test_ap_in_another_dtype(c):
    tensor = c.tile(np.arange(16, dtype=np.float32).reshape(2, 8))
    halves = tensor.ap([[16, 2], [2, 8]], offset=1, dtype=nl.bfloat16)  # the upper half of each float32
    assert halves.dtype == nl.bfloat16
    np.testing.assert_array_equal(halves.array.astype(np.float32), np.arange(16).reshape(2, 8))


def test_a_pattern_by_the_views_own_rows_goes_by_the_tensors_with_a_remark(core):
    with core(strict=False) as c:
        tile, values = counted(c, (4, 32))
        shows(tile[:, 8:16].ap([[8, 1], [1, 8]]), values[:1, 8:16])
        assert not c.trace.notes  # one row has no stride
        shows(tile[:, 8:16].ap([[8, 4], [1, 8]]), values[:, 8:16])
        assert len(c.trace.notes) == 1 and "is the partition's, 32 elements; got 8" in c.trace.notes[0]


@pytest.mark.parametrize(
    ("pattern", "offset", "error", "words"),
    [
        ([[32, 8], [1, 33]], None, OutOfBounds, "leaves tensor"),
        ([[32, 9], [1, 4]], None, OutOfBounds, "leaves tensor"),
        ([[32, 8], [1, 32]], 1, OutOfBounds, "leaves tensor"),
        ([[32, 8], [-1, 2]], None, OutOfBounds, "leaves tensor"),
        ([[32, 8], [1, 0]], None, OutOfBounds, "leaves tensor"),
        ([[32, 8], [1, 0]], 1, OutOfBounds, "leaves tensor"),
        ([[32, 0], [1, 32]], None, OutOfBounds, "leaves tensor"),
        ([[32, 8], [1, 4]], -1, OutOfBounds, "leaves tensor"),
        ([[32, 7], [1, 4]], 31, OutOfBounds, "leaves tensor"),
        ([[64, 4], [1, 4]], None, NkiValidationError, "the first stride of an on-chip pattern is the partition's, 32"),
        ([[1, 8], [1, 4]], None, NkiValidationError, "the first stride of an on-chip pattern is the partition's, 32"),
        ([[32, 8]], None, NkiValidationError, "would leave fewer than 2 dimensions"),
        ([], None, NkiValidationError, "would leave fewer than 2 dimensions"),
        ([32, 8], [1, 32], NkiValidationError, r"a list of \[stride, count\] pairs, one a dimension; got \[32, 8\]"),
        ([[32, 8], [1]], None, NkiValidationError, r"pairs, one a dimension; got \[\[32, 8\], \[1\]\]"),
    ],
)
def test_ap_stays_inside(c, pattern, offset, error, words):
    with pytest.raises(error, match=words):
        nisa.memset(c.empty((8, 32)).ap(pattern, offset), 1.0)


def test_ap_in_hbm_ends_with_its_tensor(c):
    """There is no partition whose end would stop it before."""
    hbm, values = counted(c, (8, 32), "private_hbm")
    shows(hbm.ap([[1, 256]]), values.reshape(-1))
    shows(hbm.ap([[32, 8], [1, 31]], 1), values[:, 1:])
    shows(hbm.ap([[-1, 256]], 255), values.reshape(-1)[::-1])
    for pattern, offset in (([[1, 257]], 0), ([[32, 8], [1, 32]], 1), ([[-1, 257]], 255), ([[1, 1]], 256)):
        with pytest.raises(OutOfBounds, match="leaves tensor"):
            _ = hbm.ap(pattern, offset).array


def test_the_first_stride_of_ap_is_that_of_a_partition_unless_the_leniency_says_so(core):
    x = np.arange(8 * 32, dtype=np.float32).reshape(8, 32)
    with core("trn2") as strict, pytest.raises(NkiValidationError, match="is the partition's, 32 elements; got 16"):
        strict.tile(x)[:, 8:24].ap([[16, 8], [1, 16]])
    with core("trn2", strict=False) as lenient:
        view = lenient.tile(x)[:, 8:24]
        assert not lenient.trace.notes
        np.testing.assert_array_equal(view.ap([[16, 8], [1, 16]]).array, x[:, 8:24])
        assert (
            "the first stride of an on-chip pattern is the partition's, 32 elements; got 16" in lenient.trace.notes[0]
        )
        np.testing.assert_array_equal(view.ap([[16, 1], [1, 4]]).array, x[:1, 8:12])
        pairs = view.view(nl.uint16).ap([[32, 8], [1, 32]], dtype=nl.uint16).array
        np.testing.assert_array_equal(pairs, x[:, 8:24].copy().view(np.uint16))
        np.testing.assert_array_equal(view.ap([[32, 8], [2, 4]], 1).array, x[:, 9:17:2])
        with pytest.raises(NkiValidationError, match="is the partition's, 32 elements; got 8"):
            view.ap([[8, 8], [1, 4]])


def test_an_ap_that_nothing_uses_may_leave_its_tensor(c):
    """A kernel computes the pattern of a ragged last step, sees that nothing is left to do, and skips it."""
    tensor = c.tile(np.zeros((8, 32), np.float32))
    beyond = tensor.ap([[32, 8], [4, 8]], 4)
    assert beyond.shape == (8, 8) and "(8, 8)" in repr(beyond)
    for use in (
        lambda: nisa.tensor_copy(c.empty((8, 8)), beyond),
        lambda: nisa.memset(beyond[:, 0:1], 0.0),
        lambda: nisa.dma_copy(beyond, tensor[:, 0:8]),
        lambda: nisa.nc_transpose(c.empty((8, 8)), beyond, engine=nisa.engine.vector),
        lambda: beyond.array,
    ):
        with pytest.raises(OutOfBounds, match="leaves tensor"):
            use()


# Reinterpretation


def test_view_reads_the_same_bytes(c):
    values = np.arange(32, dtype=np.float32).reshape(4, 8)
    tensor = c.tile(values)
    shows(tensor.view(nl.uint8), values.view(np.uint8))
    shows(tensor.view(nl.int32), values.view(np.int32))
    shows(tensor[:, 2:6].view(nl.uint16), values[:, 2:6].copy().view(np.uint16))
    shows(tensor.view(nl.uint8).view(nl.float32), values)
    shows(tensor.reinterpret_cast(nl.uint32), values.view(np.uint32))
    for call in (
        lambda: tensor[:, ::2].view(nl.uint8),
        lambda: tensor.view(nl.uint8)[:, 1:5].view(nl.float32),
        lambda: tensor.view(nl.uint8)[:, :6].view(nl.float32),
        lambda: c.empty((4, 6), "uint8")[:, :4].view(nl.uint32),
    ):
        with pytest.raises(NkiValidationError, match="needs a contiguous last dimension"):
            call()


def test_writing_through_a_view_writes_the_tensor(c):
    tensor = c.empty((2, 4))
    nisa.memset(tensor.view(nl.uint8), 0)
    nisa.memset(tensor[:, 1:3].view(nl.uint32), 0x3F800000)
    shows(tensor, np.array([[0, 1, 1, 0]] * 2, np.float32))


def test_a_float32_of_half_written_bytes_is_not_written(c):
    tensor = c.empty((1, 2))
    nisa.memset(tensor.view(nl.uint16)[:, :3], 0)
    nisa.tensor_copy(c.empty((1, 1)), tensor[:, 0])
    with pytest.raises(Uninitialized, match=r"reads 1 of 2 elements .* first at \[0, 1\]"):
        nisa.tensor_copy(c.empty((1, 2)), tensor)


def test_the_mode_without_rounding_has_no_bits(core):
    with core(round_low_precision=False) as c:
        low = c.tile(np.ones((2, 4)), "bfloat16")
        for call in (lambda: low.view(nl.uint16), lambda: low.ap([[4, 2], [1, 4]], dtype=nl.uint16)):
            with pytest.raises(NkiValidationError, match="keeps no bits"):
                call()
        assert c.tile(np.ones((2, 4)), "float32").view(nl.uint32).array[0, 0] == 0x3F800000


# What a tensor says of itself


def test_attributes(c):
    tensor = c.machine.allocate((4, 3, 5), "bfloat16", nl.sbuf, "weights")
    part = tensor[:, 1:, ::2]
    assert (tensor.shape, tensor.strides, tensor.offset, tensor.ndim, tensor.size) == ((4, 3, 5), (15, 5, 1), 0, 3, 60)
    assert (part.shape, part.strides, part.offset, part.free_size) == ((4, 2, 3), (15, 5, 2), 5, 6)
    assert tensor.is_contiguous() and not part.is_contiguous() and part[:, 0:1, 0:1].is_contiguous()
    assert part.get_pattern() == [[15, 4], [5, 2], [2, 3]]
    assert part.name == "weights" and part.dtype == "bfloat16" and part.buffer is nl.sbuf
    assert repr(part) == "NkiTensor('weights', (4, 2, 3), bfloat16, sbuf)"


def test_contiguous_skips_the_partition_on_chip_only(c):
    assert c.empty((4, 8))[:, :4].is_contiguous()
    assert not c.empty((4, 8), buffer="private_hbm")[:, :4].is_contiguous()


def test_a_region_says_where_a_view_lies(c):
    tensor = c.empty((4, 8))
    region = tensor[1:3, 2:6:2].region
    assert (region.offset, region.shape, region.strides, region.free_size, region.nbytes) == (10, (2, 2), (8, 2), 2, 16)
    assert region.allocation is tensor.region.allocation
