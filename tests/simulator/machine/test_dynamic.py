"""Addresses that are known only when the kernel runs: gathers, scatters and single indices."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf, register_of

from triptych import simulator
from triptych.simulator import NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.dynamic import Rows

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((20, 6)).astype(np.float32)


def gather(table, index, oob_mode=nisa.oob_mode.error):
    p, f = index.shape[0], table.shape[1]
    rows = nl.ndarray((p, f), table.dtype)
    nisa.memset(dst=rows, value=-1.0)
    view = table.ap(pattern=[[f, p], [1, f]], vector_offset=in_sbuf(index), indirect_dim=0)
    nisa.dma_copy(dst=rows, src=view, oob_mode=oob_mode)
    return in_hbm(rows)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_gather_rows(dtype):
    index = np.array([[3], [0], [19], [3], [7]], dtype)
    run = simulator.run(gather, TABLE, index)
    np.testing.assert_array_equal(run.outputs, TABLE[index[:, 0]])
    (event,) = [e for e in run.trace.events if e.attributes.get("gathered")]
    assert len(event.reads) == 6 and event.reads[-1].shape == (5, 1)  # five rows and the index


def test_rows_are_gathered_in_place_where_the_tile_takes_all_of_them_as_they_are(core):
    with core() as c:
        index = np.array([[3], [0], [19]], np.int32)
        rows = Rows(c.tile(TABLE, buffer="private_hbm").ap([[6, 3], [1, 6]], vector_offset=c.tile(index)))
        fits, wide = c.empty((3, 6)), c.empty((3, 12))
        assert rows.read(fits) is fits.array and rows.kept is None and not rows.repeat
        rows.check_reads(None)  # all is written, and nobody is asked
        for other in (None, c.empty((3, 6), "bfloat16"), wide[:, ::2], c.empty((3, 2, 3)), c.empty((2, 6))):
            found = rows.read(other)
            assert other is None or not np.shares_memory(found, other.array)
            np.testing.assert_array_equal(found, TABLE[index[:, 0]])
        index[1] = 20
        some = Rows(c.tile(TABLE, buffer="private_hbm").ap([[6, 3], [1, 6]], vector_offset=c.tile(index)), skip=True)
        np.testing.assert_array_equal(some.read(fits), TABLE[[3, 19]])
        assert some.kept.tolist() == [0, 2]


@pytest.mark.parametrize("step", [0, 1, 2, -1])
def test_rows_are_those_of_a_view_whatever_its_step(core, step):
    """Rows 7, 7 + step, ..: of a row that is broadcast all are one."""
    with core() as c:
        table, index = c.tile(TABLE, buffer="private_hbm"), np.array([[3], [0], [6]], np.int32)
        view = table.ap([[6 * step, 7], [1, 6]], offset=42)
        rows = Rows(view.ap([[6, 3], [1, 6]], vector_offset=c.tile(index)))
        np.testing.assert_array_equal(rows.read(), TABLE[7 + step * index[:, 0]])
        assert rows.at.min() == 0 and rows.at.max() == len(rows.table.array) - 1
        assert rows.repeat == (step == 0)


def selected(table, index):
    rows = nl.ndarray((index.shape[0], 6), table.dtype)
    view = table.vector_select(0, in_sbuf(index))
    assert view.is_indirect() and view.shape == rows.shape
    nisa.dma_copy(dst=rows, src=view[:, 0:6])
    return in_hbm(rows)


def test_gather_by_vector_select():
    index = RNG.integers(0, 20, (128, 1)).astype(np.int32)
    np.testing.assert_array_equal(simulator.run(selected, TABLE, index).outputs, TABLE[index[:, 0]])


def test_an_index_out_of_bounds():
    index = np.array([[3], [20], [-1]], np.int32)
    for kernel in (gather, selected):
        with pytest.raises(OutOfBounds, match="row 1 has index 20 leaves dimension 0 .* 20 entries"):
            simulator.run(kernel, TABLE, index)
    skipped = simulator.run(lambda t, i: gather(t, i, oob_mode=nisa.oob_mode.skip), TABLE, index).outputs
    np.testing.assert_array_equal(skipped, [TABLE[3], [-1] * 6, [-1] * 6])


def test_scatter_rows():
    def kernel(rows, index, out):
        tile = in_sbuf(rows)
        view = out.ap(pattern=[[6, rows.shape[0]], [1, 6]], vector_offset=in_sbuf(index), indirect_dim=0)
        nisa.dma_copy(dst=view, src=tile)
        return out

    index = np.array([[5], [2], [19]], np.int32)
    expected = np.zeros((20, 6), np.float32)
    expected[index[:, 0]] = TABLE[:3]
    np.testing.assert_array_equal(
        simulator.run(kernel, TABLE[:3], index, np.zeros((20, 6), np.float32)).outputs, expected
    )


@pytest.mark.parametrize("how", ["tensor", "register"])
def test_one_index_for_all_partitions(how):
    def kernel(table, index):
        at = in_sbuf(index) if how == "tensor" else register_of(index)
        out = nl.ndarray((4, 6), table.dtype, nl.shared_hbm)
        tile = nl.ndarray((4, 6), table.dtype)
        nisa.dma_copy(dst=tile, src=table.ap([[6, 4], [1, 6]], scalar_offset=at, indirect_dim=0))
        nisa.dma_copy(dst=out, src=tile)
        return out

    np.testing.assert_array_equal(simulator.run(kernel, TABLE, np.array([[7]], np.int32)).outputs, TABLE[7:11])
    with pytest.raises(OutOfBounds, match="index 17"):
        simulator.run(kernel, TABLE, np.array([[17]], np.int32))


def test_a_pattern_may_start_beyond_the_dimension_whose_stride_it_counts():
    """Dimension 1 has one entry and the stride of dimension 0: the tensor bounds `ap`, dimension 1 `select`."""

    def kernel(table, index, how):
        at, out = register_of(index), nl.ndarray((4, 6), table.dtype, nl.shared_hbm)
        rows = table.reshape((20, 1, 6))
        view = rows.ap([[6, 4], [1, 6]], scalar_offset=at, indirect_dim=1) if how == "ap" else rows.select(1, at)[0:4]
        nisa.dma_copy(dst=out, src=view)
        return out

    index = np.array([[7]], np.int32)
    np.testing.assert_array_equal(simulator.run(kernel, TABLE, index, "ap").outputs, TABLE[7:11])
    with pytest.raises(OutOfBounds, match="index 17 leaves dimension 1 of 'table'; the device stops"):
        simulator.run(kernel, TABLE, index + 10, "ap")
    with pytest.raises(OutOfBounds, match="index 7 leaves dimension 1 of 'table', which has 1 entries"):
        simulator.run(kernel, TABLE, index, "select")


def test_select_and_compute_engines():
    def kernel(x, index):
        tile, at = in_sbuf(x), in_sbuf(index)
        out = nl.ndarray((4, 3), x.dtype, nl.shared_hbm)
        result = nl.ndarray((4, 3), x.dtype)
        nisa.tensor_copy(dst=result, src=tile.select(1, at))
        nisa.dma_copy(dst=out, src=result)
        return out

    x = RNG.standard_normal((4, 5, 3)).astype(np.float32)
    run = simulator.run(kernel, x, np.array([[3]], np.int32))
    np.testing.assert_array_equal(run.outputs, x[:, 3])
    (copy,) = [e for e in run.trace.events if e.op == "tensor_copy"]
    assert [r.shape for r in copy.reads] == [(4, 3), (1, 1)]
    with pytest.raises(OutOfBounds, match="index 5 leaves dimension 1"):
        simulator.run(kernel, x, np.array([[5]], np.int32))


def test_the_index_is_read_when_the_instruction_runs():
    def kernel(table):
        at = nl.ndarray((1, 1), nl.int32)
        nisa.memset(dst=at, value=1)
        view = table.ap([[6, 1], [1, 6]], scalar_offset=at)
        nisa.memset(dst=at, value=4)
        return in_hbm(view)

    np.testing.assert_array_equal(simulator.run(kernel, TABLE).outputs, TABLE[4:5])


def test_a_scatter_of_rows_with_one_index_is_noted(core, same):
    with core() as c:
        out = c.tile(np.zeros((4, 6)), "float32", "private_hbm")
        index = c.tile(np.array([[2], [2]], np.int32))
        nisa.dma_copy(dst=out.ap([[6, 2], [1, 6]], vector_offset=index), src=c.tile(TABLE[:2]))
        assert "in which order they are written is not documented" in c.trace.notes[0]


def test_views_of_a_gather_keep_its_rows(core, same):
    x = RNG.standard_normal((9, 2, 3, 4)).astype(np.float32)
    chosen = [8, 0, 3]
    with core() as c:
        view = c.tile(x, buffer="private_hbm").vector_select(0, c.tile(np.array(chosen, np.int32)[:, None]))
        assert view.shape == (3, 2, 3, 4) and view.is_indirect() and view[:, 1].is_indirect()
        for part, expected in (
            (view[..., 1:3], x[chosen][..., 1:3]),
            (view.slice(2, 0, 3, 2), x[chosen][:, :, ::2]),
            (view.select(1, 1), x[chosen][:, 1]),
            (view.permute((0, 3, 1, 2)), x[chosen].transpose(0, 3, 1, 2)),
            (view.expand_dim(1).squeeze_dim(1), x[chosen]),
            (view.flatten_dims(1, 3), x[chosen].reshape(3, -1)),
            (view.reshape((3, 6, 4)), x[chosen].reshape(3, 6, 4)),
            (view.reshape_dim(3, (2, 2)), x[chosen].reshape(3, 2, 3, 2, 2)),
        ):
            dst = c.empty(part.shape)
            nisa.dma_copy(dst, part)
            assert same(dst, expected)


GATHERED = (
    ("a row selected", lambda v: v[0], "none is selected or left out"),
    ("a row selected, the next as long", lambda v: v.permute((0, 2, 1, 3))[1], "none is selected or left out"),
    ("rows sliced", lambda v: v[0:2], "none is selected or left out"),
    ("every other row", lambda v: v[::2], "none is selected or left out"),
    ("rows by nl.ds", lambda v: v[nl.ds(1, 2)], "none is selected or left out"),
    ("slice", lambda v: v.slice(0, 0, 2), "none is selected or left out"),
    ("select", lambda v: v.select(0, 1), "none is selected or left out"),
    ("permute", lambda v: v.permute((1, 0, 2, 3)), "keeps the partition first"),
    ("expand_dim", lambda v: v.expand_dim(0), "not before the partition"),
    ("squeeze_dim", lambda v: v.squeeze_dim(0), "cannot touch the partition"),
    ("broadcast", lambda v: v.broadcast(0, 3), "cannot touch the partition"),
    ("reshape_dim", lambda v: v.reshape_dim(0, (3, 1)), "cannot split the partition"),
    ("flatten_dims", lambda v: v.flatten_dims(0, 1), "cannot touch the partition"),
    ("reshape", lambda v: v.reshape((6, 3, 4)), "keeps the partition dimension"),
    ("view", lambda v: v.view(nl.int32), "no other dtype"),
    ("reinterpret_cast", lambda v: v.reinterpret_cast(nl.int32), "no other dtype"),
    ("ap", lambda v: v.ap([[24, 3], [1, 24]]), "no other dtype, pattern"),
    ("a second index", lambda v: v.select(1, nisa.register_alloc(0)), "indirect already"),
    ("a second vector", lambda v: v.vector_select(0, v.index.source), "no other dtype, pattern or index"),
)


@pytest.mark.parametrize(("call", "words"), [r[1:] for r in GATHERED], ids=[r[0] for r in GATHERED])
def test_what_a_gather_does_not_become(core, call, words):
    with core() as c:
        view = c.empty((9, 2, 3, 4), buffer="private_hbm").vector_select(0, c.tile(np.zeros((3, 1)), "int32"))
        with pytest.raises(NkiValidationError, match=words):
            call(view)


def test_views_of_a_selected_entry(core, same):
    x = RNG.standard_normal((5, 4, 6)).astype(np.float32)
    with core() as c:
        entry = c.tile(x, buffer="private_hbm").select(0, nisa.register_alloc(3))
        assert entry.shape == (4, 6)
        nisa.dma_copy(dst := c.empty((2, 3)), entry[1:3, ::2])
        assert same(dst, x[3, 1:3, ::2])
        with pytest.raises(NkiValidationError, match="no other dtype"):
            entry.view(nl.int32)


def test_the_scale_of_an_index_is_of_the_tensor_and_not_of_the_pattern(core, same):
    x = RNG.standard_normal((8, 10)).astype(np.float32)
    with core() as c:
        table, at = c.tile(x, buffer="private_hbm"), nisa.register_alloc(3)
        row = table.ap([[20, 2], [2, 4]], offset=1, scalar_offset=at, indirect_dim=0)
        nisa.dma_copy(dst := c.empty((2, 4)), row)
        assert same(dst, [x[3, 1:9:2], x[5, 1:9:2]])
        column = table.ap([[10, 2], [1, 4]], scalar_offset=at, indirect_dim=1)
        nisa.dma_copy(dst, column)
        assert same(dst, x[:2, 3:7])
        halves = table.ap([[40, 2], [1, 6]], scalar_offset=at, indirect_dim=0, dtype=nl.bfloat16)
        nisa.dma_copy(dst := c.empty((2, 6), "bfloat16"), halves)
        assert same(dst.view(nl.uint32), x[[3, 5], :3].view(np.uint32))
        gathered = table.ap([[999, 2], [1, 4]], vector_offset=c.tile(np.array([[6], [1]], np.int32)))
        nisa.dma_copy(dst := c.empty((2, 4)), gathered)  # the leading stride is ignored
        assert same(dst, x[[6, 1], :4])


def test_skipping_an_index_out_of_bounds_leaves_dst(core, same):
    with core() as c:
        table, dst = c.tile(TABLE, buffer="private_hbm"), c.tile(np.ones((2, 6), np.float32))
        view = table.ap([[6, 2], [1, 6]], scalar_offset=nisa.register_alloc(19))
        with pytest.raises(OutOfBounds, match="index 19"):
            nisa.dma_copy(dst, view)
        nisa.dma_copy(dst, view, oob_mode=nisa.oob_mode.skip)
        assert same(dst, np.ones((2, 6)))
        nisa.dma_transpose(flipped := c.tile(np.ones((6, 2), np.float32)), view, oob_mode=nisa.oob_mode.skip)
        assert same(flipped, np.ones((6, 2)))
        nisa.dma_copy(view, dst, oob_mode=nisa.oob_mode.skip)
        assert same(table, TABLE) and c.trace.events[-1].writes == () and c.trace.events[-1].attributes["scattered"]


def test_an_index_that_nothing_has_written(core):
    with core() as c:
        table = c.tile(TABLE, buffer="private_hbm")
        for view in (
            table.ap([[6, 2], [1, 6]], scalar_offset=c.empty((1, 1), "int32")),
            table.ap([[6, 2], [1, 6]], vector_offset=c.empty((2, 1), "int32")),
        ):
            with pytest.raises(NkiValidationError, match="nothing has written"):
                nisa.dma_copy(c.empty((2, 6)), view)
    with core(check_uninitialized=False) as c:
        index = c.empty((1, 1), "int32")
        index.array[...] = 2
        nisa.dma_copy(c.empty((1, 6)), c.tile(TABLE, buffer="private_hbm").ap([[6, 1], [1, 6]], scalar_offset=index))


def refusals():
    """(what a kernel does with a table in HBM, an index tile and a register, what the error says)"""
    ap = [[6, 2], [1, 6]]
    yield "both offsets", lambda t, i, r: t.ap(ap, scalar_offset=r, vector_offset=i), "not both"
    yield "twice", lambda t, i, r: t.select(0, r).select(0, r), "indirect already"
    yield "on-chip partition", lambda t, i, r: i.select(0, r), "cannot choose the partition"
    yield "vector in SBUF", lambda t, i, r: i.ap([[1, 2], [1, 1]], vector_offset=i), "tensor in HBM"
    yield "vector_select in SBUF", lambda t, i, r: i.vector_select(0, i), "tensor in HBM"
    yield "vector over columns", lambda t, i, r: t.ap(ap, vector_offset=i, indirect_dim=1), "dimension 0"
    yield "vector_select of columns", lambda t, i, r: t.vector_select(1, i), "dimension 0"
    yield (
        "a register as vector",
        lambda t, i, r: t.vector_select(0, r),
        "vector_offset must be a tile of",
    )
    yield "vector in HBM", lambda t, i, r: t.vector_select(0, t), "vector_offset must be a tile of"
    yield (
        "float vector",
        lambda t, i, r: t.vector_select(0, i.view(nl.float32)),
        "vector_offset must be a tile of",
    )
    yield "float index", lambda t, i, r: t.select(0, i.view(nl.float32)[0:1]), "one integer in SBUF"
    yield "two indices", lambda t, i, r: t.select(0, i), "one integer in SBUF"
    yield "reinterpreted", lambda t, i, r: t.view(nl.int32).vector_select(0, i), "seen as another dtype is not supp"
    narrow = lambda: nl.ndarray((4, 3), nl.int16, nl.shared_hbm)  # noqa: E731
    yield "half elements", lambda t, i, r: narrow().ap([[1, 1]], scalar_offset=r, dtype=nl.int32), "inside an element"
    yield "too few indices", lambda t, i, r: nisa.dma_copy(t, t.ap([[6, 4], [1, 6]], vector_offset=i)), "must be .4, 1"
    yield (
        "two indices a row",
        lambda t, i, r: nisa.dma_copy(t[0:2], t.ap(ap, vector_offset=i.broadcast(1, 2))),
        "vector_offset must be .2, 1",
    )
    yield "both sides", lambda t, i, r: nisa.dma_copy(dst=t.select(0, r), src=t.select(0, r)), "only one of src and dst"


@pytest.mark.parametrize(("act", "message"), [row[1:] for row in refusals()], ids=[row[0] for row in refusals()])
def test_what_is_refused(core, act, message):
    with core() as c:
        index = c.tile(np.zeros((2, 1)), "int32")
        table = nl.ndarray((4, 6), nl.float32, nl.shared_hbm)
        nisa.dma_copy(dst=table, src=c.tile(TABLE[:4]))
        with pytest.raises(NkiValidationError, match=message):
            act(table, index, nisa.register_alloc(1))


def test_compute_engines_take_no_vector_of_indices(core):
    with core() as c:
        index = c.tile(np.zeros((2, 1)), "int32")
        table = nl.ndarray((4, 6), nl.float32, nl.shared_hbm)
        view = table.ap([[6, 2], [1, 6]], vector_offset=index)
        with pytest.raises(NkiValidationError, match="src has one index a row, which only DMA takes"):
            nisa.tensor_copy(dst=c.empty((2, 6)), src=view)
        with pytest.raises(NkiValidationError, match="dma_copy at .* takes dge_mode swdge or unknown"):
            nisa.dma_copy(c.empty((2, 6)), view, dge_mode=nisa.dge_mode.none)


def test_rows_are_gathered_from_neuroncore_v3_on(refused):
    def gathered(c, scatter):
        table, rows = nl.ndarray((4, 6), nl.float32, nl.shared_hbm), c.tile(TABLE[:2])
        view = table.ap([[6, 2], [1, 6]], vector_offset=c.tile(np.zeros((2, 1)), "int32"))
        nisa.dma_copy(*((view, rows) if scatter else (rows, view)))

    refused(lambda c: gathered(c, True), "needs NeuronCore-v3 or newer, and the target is", ("trn1",), ("trn2", "trn3"))
    refused(lambda c: gathered(c, False), "needs NeuronCore-v3 or newer, and the target is", ("trn1",))


def test_a_kernel_without_dynamic_views_does_not_look_for_them(core):
    with core() as c:
        assert not c.machine.any_dynamic
        c.empty((4, 6)).select(1, nisa.register_alloc(0))
        assert c.machine.any_dynamic


# A transpose of gathered rows


@pytest.mark.parametrize(
    ("shape", "pattern", "axes"),
    [
        ((9, 128), lambda n: [[128, n], [1, 128]], (1, 0)),
        ((9, 40), lambda n: [[40, n], [1, 40]], (1, 0)),
        ((9, 5, 24), lambda n: [[120, n], [24, 5], [1, 24]], (2, 1, 0)),
        ((9, 1, 5, 24), lambda n: [[120, n], [120, 1], [24, 5], [1, 24]], (3, 1, 2, 0)),
        ((9, 5, 1, 24), lambda n: [[120, n], [24, 5], [24, 1], [1, 24]], (3, 1, 2, 0)),
    ],
)
@pytest.mark.parametrize(("indices", "rows"), [((16, 1), 16), ((48, 1), 32), ((128, 2), 256), ((128, 2), 144)])
def test_gathered_rows_are_transposed(core, same, cast, shape, pattern, axes, indices, rows):
    x = cast(RNG.standard_normal(shape), "bfloat16")
    chosen = RNG.integers(0, shape[0], indices).astype(np.uint32)
    with core() as c:
        table, index = c.tile(x, "bfloat16", "private_hbm"), c.tile(chosen)
        view = table.ap(pattern(rows), vector_offset=index, indirect_dim=0)
        dst = c.empty([view.shape[a] for a in axes], "bfloat16")
        nisa.dma_transpose(dst, view, axes)
        assert same(dst, x[chosen.T.flatten()[:rows]].transpose(axes))


def test_a_transpose_skips_rows_out_of_bounds(core, same):
    x = np.arange(64, dtype=np.uint16).reshape(16, 4)
    with core() as c:
        index = np.arange(16, dtype=np.uint32)[:, None]
        index[5] = 2**32 - 1
        view = c.tile(x, buffer="private_hbm").vector_select(0, c.tile(index))
        dst = c.tile(np.full((4, 16), 99, np.uint16))
        with pytest.raises(OutOfBounds, match="row 5 has index 4294967295"):
            nisa.dma_transpose(dst, view)
        nisa.dma_transpose(dst, view, oob_mode=nisa.oob_mode.skip)
        expected = x.T.copy()
        expected[:, 5] = 99
        assert same(dst, expected)


def _gathered(c, shape=(9, 128), rows=16, dtype="bfloat16", indices=(16, 1), kind="uint32", **more):
    table = c.tile(np.zeros(shape), dtype, "private_hbm")
    index = c.tile(np.zeros(indices), kind)
    sizes = (rows, *shape[1:])
    view = table.ap([[s, n] for s, n in zip(table.strides, sizes, strict=True)], vector_offset=index)
    axes = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}[len(shape)]
    nisa.dma_transpose(c.empty([sizes[a] for a in axes], dtype), view, axes, **more)


TRANSPOSES = [
    (lambda c: _gathered(c), "a gathering transpose needs NeuronCore-v3", ("trn1",), ("trn2", "trn3")),
    (lambda c: _gathered(c, dge_mode=nisa.dge_mode.swdge), "needs NeuronCore-v3", ("trn1",), ("trn2", "trn3")),
    (lambda c: _gathered(c, dge_mode=nisa.dge_mode.hwdge), "takes dge_mode unknown or swdge", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, dge_mode=nisa.dge_mode.none), "takes dge_mode unknown or swdge", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, dtype="float32"), "needs a two-byte dtype", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, rows=15), "a multiple of 16 rows", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, (9, 2, 3, 4)), "dimension 1 or 2 .* must have size 1", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, kind="int32"), "must be uint32", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, indices=(8, 2)), "in 16 to 128 partitions", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, indices=(24, 1)), "a multiple of 16 of them", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, indices=(64, 2)), "128 if there is more than one column", ("trn2", "trn3"), ()),
    (lambda c: _gathered(c, rows=32), "indices of 32 rows must be", ("trn2", "trn3"), ()),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), TRANSPOSES)
def test_limits_of_a_gathering_transpose(refused, call, words, on, fine):
    refused(call, words, on, fine)
