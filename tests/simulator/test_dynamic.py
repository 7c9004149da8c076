"""Addresses that are known only when the kernel runs: gathers, scatters and single indices."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, OutOfBounds
from triptych.simulator.lend import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((20, 6)).astype(np.float32)


def in_sbuf(x):
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def register_of(x):
    register = nisa.register_alloc()
    nisa.register_load(register, in_sbuf(x))
    return register


def gather(table, index, **options):
    p, f = index.shape[0], table.shape[1]
    rows = nl.ndarray((p, f), table.dtype)
    nisa.memset(dst=rows, value=-1.0)
    view = table.ap(pattern=[[f, p], [1, f]], vector_offset=in_sbuf(index), indirect_dim=0)
    nisa.dma_copy(dst=rows, src=view, **options)
    out = nl.ndarray((p, f), table.dtype, nl.shared_hbm)
    nisa.dma_copy(dst=out, src=rows)
    return out


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_gather_rows(dtype):
    index = np.array([[3], [0], [19], [3], [7]], dtype)
    run = simulator.run(gather, TABLE, index)
    np.testing.assert_array_equal(run.outputs, TABLE[index[:, 0]])
    (event,) = [e for e in run.trace.events if e.attributes.get("gathered")]
    assert len(event.reads) == 6 and event.reads[-1].shape == (5, 1)  # five rows and the index


def test_gather_by_vector_select():
    def kernel(table, index):
        rows = nl.ndarray((index.shape[0], 6), table.dtype)
        view = table.vector_select(0, in_sbuf(index))
        assert view.is_indirect() and view.shape == rows.shape
        nisa.dma_copy(dst=rows, src=view[:, 0:6])
        out = nl.ndarray(rows.shape, table.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=rows)
        return out

    index = RNG.integers(0, 20, (128, 1)).astype(np.int32)
    np.testing.assert_array_equal(simulator.run(kernel, TABLE, index).outputs, TABLE[index[:, 0]])


def test_an_index_out_of_bounds():
    index = np.array([[3], [20], [-1]], np.int32)
    with pytest.raises(OutOfBounds, match="partition 1 has index 20 leaves dimension 0 .* 20 entries"):
        simulator.run(gather, TABLE, index)
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
        out = nl.ndarray((1, 6), table.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=view)
        return out

    np.testing.assert_array_equal(simulator.run(kernel, TABLE).outputs, TABLE[4:5])


def refusals():
    """(what a kernel does with a table in HBM, an index tile and a register, what the error says)"""
    ap = [[6, 2], [1, 6]]
    yield "both offsets", lambda t, i, r: t.ap(ap, scalar_offset=r, vector_offset=i), "not both"
    yield "twice", lambda t, i, r: t.select(0, r).select(0, r), "indirect already"
    yield "on-chip partition", lambda t, i, r: i.select(0, r), "cannot choose the partition"
    yield "vector in SBUF", lambda t, i, r: i.ap([[1, 2], [1, 1]], vector_offset=i), "tensor in HBM"
    yield "vector over columns", lambda t, i, r: t.ap(ap, vector_offset=i, indirect_dim=1), "dimension 0"
    yield "too few indices", lambda t, i, r: t.ap([[6, 3], [1, 6]], vector_offset=i), "must be integers"
    yield "static skip", lambda t, i, r: nisa.dma_copy(dst=t, src=t, oob_mode=nisa.oob_mode.skip), "dynamic address"


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
        with pytest.raises(NkiValidationError, match="nisa.dma_copy does"):
            nisa.dma_transpose(dst=c.empty((6, 2)), src=view)
