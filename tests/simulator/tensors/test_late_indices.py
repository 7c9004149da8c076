"""Views that an index moves: the elements of random ones are NumPy's, and what is no such view is refused."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.tensors.tensor import NkiTensor

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

X = np.arange(8 * 6 * 4, dtype=np.int32).reshape(8, 6, 4)


@pytest.fixture
def c(core):
    with core("trn3") as current:
        yield current


def table(c):
    return c.machine.input(X.copy(), "table")


def read(c, view, dtype="int32"):
    """What an instruction reads of a view."""
    tile = c.empty(view.shape, dtype)
    nisa.dma_copy(tile, view)
    return tile.array


def index(c, value, how):
    if how == "register":
        return nisa.register_alloc(value)
    return NkiScalar(value) if how == "scalar" else c.tile(np.array([[value]], np.int32))


@pytest.mark.parametrize("how", ["register", "scalar", "tile"])
@pytest.mark.parametrize("seed", range(6))
def test_a_pattern_that_one_index_moves(c, how, seed):
    rng = np.random.default_rng(seed)
    for on_chip in (False, True):
        tensor = c.tile(X) if on_chip else table(c)
        dim = int(rng.integers(on_chip, 3))
        stride, at, offset = (24, 4, 1)[dim], int(rng.integers(0, X.shape[dim])), int(rng.integers(0, 4))
        pattern = [[24, 2], [1, 24 - at * stride - offset if dim and at * stride + offset < 24 else 1]]
        view = tensor[1:].ap(pattern, offset, scalar_offset=index(c, at, how), indirect_dim=dim)
        flat = 24 + offset + at * stride + np.add.outer([0, 24], np.arange(pattern[1][1]))
        if flat.max() < X.size and (not on_chip or offset + at * stride < 24):
            np.testing.assert_array_equal(read(c, view), X.ravel()[flat])
        else:
            with pytest.raises(OutOfBounds, match=f"index {at} leaves dimension {dim}"):
                read(c, view)


def test_a_pattern_in_another_dtype_counts_entries_in_its_elements(c):
    view = table(c).ap([[48, 2], [1, 48]], 48, scalar_offset=nisa.register_alloc(3), dtype=nl.uint16)
    np.testing.assert_array_equal(read(c, view, "uint16"), X.view(np.uint16).reshape(8, 48)[4:6])
    rows = table(c).ap([[48, 2], [1, 48]], vector_offset=c.tile(np.array([[5], [2]], np.int32)), dtype=nl.uint16)
    np.testing.assert_array_equal(read(c, rows, "uint16"), X.view(np.uint16).reshape(8, 48)[[5, 2]])
    odd = c.machine.input(np.zeros((4, 6), np.uint8), "odd")
    with pytest.raises(NkiValidationError, match="ap as uint32: an entry of dimension 0 ends inside an element"):
        odd.ap([[1, 2], [1, 1]], scalar_offset=nisa.register_alloc(1), dtype=nl.uint32)
    with pytest.raises(NkiValidationError, match="ap as uint16: the view begins inside an element, at 1"):
        odd[:, 1:].ap([[3, 2], [1, 2]], dtype=nl.uint16)


def test_a_pattern_in_another_dtype_takes_whole_elements_of_a_partition(c):
    with pytest.raises(NkiValidationError, match="ap as uint16: a partition of .* does not hold whole elements"):
        c.empty((4, 3), "uint8").ap([[1, 4], [1, 1]], dtype=nl.uint16)
    bytes_ = np.arange(12, dtype=np.uint8).reshape(4, 3)
    hbm = c.machine.input(bytes_.copy(), "bytes")
    np.testing.assert_array_equal(hbm.ap([[1, 6]], dtype=nl.uint16).array, bytes_.ravel().view(np.uint16))


@pytest.mark.parametrize("seed", range(4))
def test_rows_by_an_index_each(c, seed):
    """A pattern's leading stride is ignored, and its entries are of the dimension that the index goes over."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, 7, 5)
    rows = c.tile(chosen.astype(np.int32)[:, None])
    hbm = table(c)
    np.testing.assert_array_equal(read(c, hbm.vector_select(0, rows)), X[chosen])
    assert hbm.vector_select(0, rows).strides == (0, 4, 1)
    np.testing.assert_array_equal(read(c, hbm[1:].vector_select(0, rows)[:, 1:5, ::3]), X[1:][chosen][:, 1:5, ::3])
    pattern = hbm[:, 2:].ap([[7, 5], [2, 3]], 1, vector_offset=rows)
    np.testing.assert_array_equal(read(c, pattern), X.reshape(8, 24)[chosen][:, 9:15:2])
    nisa.dma_copy(hbm[:, 0].vector_select(0, c.tile(np.array([[3], [0]], np.int32))), c.tile(X[:2, 0] - 9))
    expected = X.copy()
    expected[[3, 0], 0] = X[:2, 0] - 9
    np.testing.assert_array_equal(hbm.array, expected)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("buffer", ["sbuf", "private_hbm"])
def test_one_entry_is_selected_late(c, dim, buffer):
    tensor = c.tile(X) if buffer == "sbuf" else table(c)
    if buffer == "sbuf" and dim == 0:
        with pytest.raises(NkiValidationError, match="a dynamic select cannot choose the partition on chip"):
            tensor.select(dim, nisa.register_alloc(1))
        return
    for how in ("register", "scalar", "tile"):
        last = X.shape[dim] - 1
        view = tensor[:, 1:, :].select(dim, index(c, 2, how))
        np.testing.assert_array_equal(read(c, view), np.take(X[:, 1:], 2, axis=dim))
        with pytest.raises(OutOfBounds, match=f"index {last + 1} leaves dimension {dim} .* has {last + 1} entries"):
            read(c, tensor.select(dim, index(c, last + 1, how)))


def test_a_scalar_of_64_bits_chooses_in_hbm_alone(c):
    wide = NkiScalar(2, "int64")
    np.testing.assert_array_equal(read(c, table(c).select(0, wide)), X[2])
    np.testing.assert_array_equal(read(c, table(c).ap([[24, 2], [1, 24]], scalar_offset=wide)), X.reshape(8, 24)[2:4])
    tile = c.tile(X)
    for view in (tile.select(1, wide), tile.ap([[24, 8], [1, 4]], scalar_offset=wide, indirect_dim=1)):
        with pytest.raises(NkiValidationError, match="expected a scalar of 32 bits"):
            read(c, view)


@pytest.mark.parametrize("shape, dtype, buffer", [((1, 2), "int32", "sbuf"), ((1, 1), "float32", "sbuf")])
def test_one_index_is_one_integer_in_sbuf(c, shape, dtype, buffer):
    words = "a dynamic index is a register or one integer in SBUF"
    for wrong in (c.empty(shape, dtype, buffer), c.empty((1, 1), "int32", "psum"), table(c)[0, 0, :1]):
        with pytest.raises(NkiValidationError, match=words):
            table(c).select(1, wrong)
        with pytest.raises(NkiValidationError, match=words):
            table(c).ap([[24, 2], [1, 4]], scalar_offset=wrong)


def test_an_index_is_over_a_dimension_that_there_is(c):
    one, rows = nisa.register_alloc(0), c.tile(np.zeros((2, 1), np.int32))
    with pytest.raises(OutOfBounds, match="dimension 3 of"):
        table(c).ap([[24, 2], [1, 4]], scalar_offset=one, indirect_dim=3)
    for call in (
        lambda: table(c).ap([[24, 2], [1, 4]], vector_offset=rows, indirect_dim=1),
        lambda: table(c).vector_select(1, rows),
        lambda: c.tile(X).vector_select(0, rows),
        lambda: c.tile(X).ap([[24, 2], [1, 4]], vector_offset=rows),
    ):
        with pytest.raises(NkiValidationError, match="a vector index goes over dimension 0 of a tensor in HBM"):
            call()
    with pytest.raises(NkiValidationError, match="ap takes a scalar_offset or a vector_offset, not both"):
        table(c).ap([[24, 2], [1, 4]], scalar_offset=one, vector_offset=rows)
    with pytest.raises(NkiValidationError, match="vector_select of a tensor seen as another dtype is not supported"):
        table(c).view(nl.uint16).vector_select(0, rows)


def indirect_views(c):
    return {
        "one index": table(c).select(1, nisa.register_alloc(2)),
        "rows": table(c).vector_select(0, c.tile(np.array([[3], [1], [1]], np.int32))),
        "gather": c.tile(np.zeros((16, 8), np.int32)).indirect(c.tile(np.zeros((16, 2), np.int32))),
    }


@pytest.mark.parametrize("which", ["one index", "rows", "gather"])
def test_a_view_has_one_index_and_stays_what_it_is(c, which):
    view = indirect_views(c)[which]
    rows, one = c.tile(np.zeros((view.shape[0], 1), np.int32)), nisa.register_alloc(0)
    assert view.is_indirect() and not view.plain(view.layout).is_indirect()
    for call in (
        lambda: view.view(nl.float32),
        lambda: view.ap([[1, 2], [1, 2]]),
        lambda: view.vector_select(0, rows),
        lambda: view.indirect(rows),
    ):
        with pytest.raises(NkiValidationError, match="is indirect: it gets no other dtype, pattern or index"):
            call()
    with pytest.raises(NkiValidationError, match="is indirect already, and has one|no part or other shape"):
        view.select(1, one)


def test_what_is_taken_of_a_view_with_an_index(c):
    views = indirect_views(c)
    moved = views["one index"]
    np.testing.assert_array_equal(read(c, moved[2:5, 1:]), X[2:5, 2, 1:])
    np.testing.assert_array_equal(read(c, moved.permute((1, 0))), X[:, 2].T)
    rows = views["rows"]
    expected = X[[3, 1, 1]]
    np.testing.assert_array_equal(read(c, rows.permute((0, 2, 1))), expected.transpose(0, 2, 1))
    np.testing.assert_array_equal(read(c, rows.reshape((3, 24))), expected.reshape(3, 24))
    np.testing.assert_array_equal(read(c, rows[..., 1:3]), expected[..., 1:3])
    np.testing.assert_array_equal(read(c, rows[nl.ds(0, 3), 2]), expected[:, 2])
    for key in (1, np.s_[0, :], (np.int64(1),), [0]):
        with pytest.raises(NkiValidationError, match="have an index each: none is selected or left out"):
            _ = rows[key]
    for call in (lambda: rows[0:2], lambda: rows[nl.ds(1, 2)]):
        with pytest.raises(NkiValidationError, match="have an index each: none is selected or left out"):
            call()
    for call, words in (
        (lambda: rows.permute((1, 0, 2)), "permute keeps the partition first"),
        (lambda: rows.reshape((6, 12)), "reshape keeps the partition dimension"),
        (lambda: rows.expand_dim(0), "not before the partition"),
        (lambda: rows.flatten_dims(0, 1), "cannot touch the partition"),
    ):
        with pytest.raises(NkiValidationError, match=words):
            call()
    gathered = views["gather"]
    assert gathered[:].shape == (16, 32) and gathered[:].is_indirect()
    for call in (lambda: gathered[:, 1:], lambda: gathered.reshape((16, 8, 4)), lambda: gathered.expand_dim(2)):
        with pytest.raises(NkiValidationError, match="is indirect: no part or other shape of it is taken"):
            call()


def test_a_gather_chooses_within_each_partition(c):
    x = c.tile(np.arange(16 * 8, dtype=np.int32).reshape(16, 8))
    offsets = np.zeros((16, 2), np.int32)
    offsets[:, 0], offsets[:, 1] = np.arange(16) % 8, 7 - np.arange(16) % 8
    for part, count in ((x, 32), (x, 20), (x, 1), (x[:, 2:].reshape((16, 2, 3)), 2)):
        view = part.indirect(c.tile(offsets), count)
        assert (view.shape, view.strides, view.index.base.shape) == ((16, count), (8, 0), (16, part.free_size))
        dst = c.empty((16, count), "int32")
        nisa.tensor_copy(dst, view)
        flat = part.array.reshape(16, -1)
        np.testing.assert_array_equal(dst.array, flat[:, offsets.T.reshape(-1)[:count]])
    with pytest.raises(NkiValidationError, match="index must be integers in SBUF, in two dimensions"):
        x.indirect(x.indirect(c.tile(offsets)))


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_a_gather_needs_the_fourth_generation(core, target):
    with (
        core(target) as old,
        pytest.raises(NkiValidationError, match="indirect needs NeuronCore-v4, and the target is"),
    ):
        old.empty((16, 8)).indirect(old.empty((16, 2), "int32"))


def test_the_machine_looks_for_indices_once_there_was_one(c):
    table(c)[1:].permute((1, 0, 2)).reshape((6, 7, 2, 2))
    assert not c.machine.any_dynamic
    table(c).select(0, nisa.register_alloc(1))
    assert c.machine.any_dynamic


def test_a_tensor_of_another_dtype_is_converted_where_engines_read_it(core):
    with core() as c:
        bytes_ = c.tile(np.ones((2, 2), np.float32)).view(nl.uint8)
        assert bytes_.f32().dtype == np.float32 and bytes_.f32().tolist() == [[0, 0, 128, 63] * 2] * 2
        ones = c.tile(np.full((2, 4), 0x3F80, np.uint16)).view(nl.bfloat16)
        assert ones.f32().dtype == np.float32 and (ones.f32() == 1).all()
        words = c.tile(np.full((2, 2), 0x3F800000, np.uint32)).view(nl.float32)
        assert np.shares_memory(words.f32(), words.array)
        with pytest.raises(NkiValidationError, match="is packed: its elements are bits"):
            c.empty((1, 2), "float8_e4m3fn_x4").f32()
    with core(round_low_precision=False) as c:
        wide = c.tile(np.full((2, 4), 1 + 2**-20, np.float32), "bfloat16")
        assert wide.f32().tolist() == wide.array.tolist() == [[1 + 2**-20] * 4] * 2


def test_a_tensor_is_dense_over_its_storage(c):
    assert NkiTensor([4, 2, 6], nl.int32, c.empty((4, 12), "int32").storage).strides == (12, 6, 1)
