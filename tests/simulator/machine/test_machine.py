"""A machine's memory, remarks and events, on one core that a test drives itself."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, Options, Uninitialized
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.dynamic import Rows, same_view
from triptych.simulator.machine.unwritten import Origin, leave_padding, pass_on, read_whole, require_written

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

X = np.arange(8 * 3 * 4, dtype=np.float32).reshape(8, 3, 4)


@pytest.mark.parametrize("data", [True, False])
def test_what_is_allocated(core, data):
    with core("trn2", data=data) as c:
        plain = c.machine.allocate([np.int64(4), 8], nl.bfloat16, nl.sbuf, "plain")
        again = c.machine.allocate((4, 8), "bfloat16", nl.sbuf)
        shared = c.machine.allocate((4,), "int32", nl.shared_hbm, "shared")
        placed = c.machine.allocate((4, 8), "bfloat16", nl.psum, "placed", (32, 2048))
        assert [a.id for a in c.trace.allocations] == [0, 1, 2, 3]
        assert [a.name for a in c.trace.allocations] == ["plain", "again", "shared", "placed"]
        assert [a.buffer for a in c.trace.allocations] == ["sbuf", "sbuf", "shared_hbm", "psum"]
        assert [a.address for a in c.trace.allocations] == [None, None, None, (32, 2048)]
        assert plain.shape == again.shape == (4, 8) and all(type(n) is int for n in plain.shape)
        assert (c.machine.shared, c.machine.shared_seen) == ([shared], 1) and placed.strides == (8, 1)
        assert c.machine.arenas["psum"] is placed.storage.arena and list(c.machine.arenas) == ["psum"]


@pytest.mark.parametrize(
    "shape, buffer, words",
    [
        ((4, 1.5), "sbuf", r"a shape is integers, got \(4, 1.5\)"),
        ((), "private_hbm", "at least one dimension and sizes of 1 or more"),
        ((4, 0), "private_hbm", "sizes of 1 or more"),
        ((4,), "sbuf", r"a partition and a free dimension, got \(4,\); write \(4, 1\) or \(1, 4\)"),
        ((129, 1), "psum", "dimension 0 of a psum tensor is the partition, at most 128"),
        ((1, 4097), "psum", "takes 16388 bytes of each psum partition, and NeuronCore-v3 has 16384; split"),
        ((1, 2, 28673), "sbuf", "takes 229384 bytes of each sbuf partition, and NeuronCore-v3 has 229376; split"),
    ],
)
def test_what_no_memory_holds(core, shape, buffer, words):
    with core("trn2") as c, pytest.raises(NkiValidationError, match=words):
        c.empty(shape, buffer=buffer)


def test_a_capacity_that_is_not_checked(core):
    with core("trn2", check_capacity=False) as c:
        assert c.empty((1, 4097), buffer="psum").shape == (1, 4097)
    with core("trn2") as c:
        assert c.empty((128, 4096), buffer="psum").shape == (128, 4096)
        assert c.empty((128, 57344)).shape == (128, 57344)


def test_cores_have_the_same_shared_tensors(core):
    with core() as first, core() as second:
        shared = first.empty((4, 8), buffer="shared_hbm")
        second.machine.shared = first.machine.shared
        assert second.empty((4, 8), buffer="shared_hbm") is shared and second.machine.shared_seen == 1
        for shape, dtype in (((4, 9), "float32"), ((4, 8), "int32")):
            second.machine.shared_seen = 0
            with pytest.raises(
                NkiValidationError, match="the cores allocate different shared tensors: .* on the other"
            ):
                second.empty(shape, dtype, "shared_hbm")


@pytest.mark.parametrize("rounds", [True, False])
def test_an_argument_is_the_callers_bytes_where_it_is_dense(core, rounds):
    with core(round_low_precision=rounds) as c:
        dense, read_only = X.copy(), X.copy()
        read_only.flags.writeable = False
        tensor, turned, fixed = (
            c.machine.input(array, name) for array, name in ((dense, "a"), (dense.T, "b"), (read_only, "c"))
        )
        for each, expected in ((tensor, X), (turned, X.T), (fixed, X)):
            np.testing.assert_array_equal(each.array, expected)
            each.check_written()
            assert each.buffer is nl.private_hbm and each.strides == c.empty(each.shape, buffer="private_hbm").strides
        tensor.array[0, 0, 0] = -1
        assert dense[0, 0, 0] == -1 and turned.array[0, 0, 0] == 0
        fixed.array[0, 0, 0] = -1
        assert read_only[0, 0, 0] == 0
        wide = c.machine.input(np.arange(3), "indices")
        assert wide.dtype == "int64" and wide.array.tolist() == [0, 1, 2]
        low = c.machine.input(np.ones((2, 4), dtype_of("bfloat16").np), "low")
        assert low.array.dtype == (dtype_of("bfloat16").np if rounds else np.float32) and (low.array == 1).all()
        c.machine.cores = 2
        assert c.machine.input(dense, "shared").buffer is nl.shared_hbm


def test_remarks_are_notes_or_errors(core):
    with core(strict=False) as c:
        c.machine.line = ("/tmp/kernel.py", 7)
        c.machine.note("one")
        c.machine.note("two", ("/tmp/other.py", 9))
        for _ in range(2):
            c.machine.note_once("three")
            c.machine.remark("pattern-stride", "four", "a page")
        c.machine.note_values("five")
        assert c.trace.notes == [
            "kernel.py:7: one",
            "other.py:9: two",
            "kernel.py:7: three",
            "kernel.py:7: four [a page]",
            "kernel.py:7: five",
        ]
    with core(strict=True) as c, pytest.raises(NkiValidationError, match="four"):
        c.machine.remark("pattern-stride", "four", "a page")


def test_events_carry_the_attributes_of_the_blocks_that_are_open(core):
    with core() as c:
        x, dst = c.tile(np.ones((4, 8), np.float32)), c.empty((4, 8))
        assert [c.machine.opened(), c.machine.opened()] == [1, 2]
        with c.machine.scoped(block=1):
            first = nisa.memset(dst, 2.0)
            with c.machine.scoped(loop=2):
                second = nisa.memset(dst, 2.0)
        third = nisa.tensor_copy(dst, x)
        assert (first.attributes["block"], "loop" in first.attributes) == (1, False)
        assert (second.attributes["block"], second.attributes["loop"], second.attributes["value"]) == (1, 2, 2.0)
        assert not {"block", "loop", "epoch", "registers"} & set(third.attributes)
        assert c.trace.events == [first, second, third] and third.core == 0
        assert (third.reads, third.writes) == ((x.region,), (dst.region,))
        assert c.machine.issue("tensor_copy", dst=dst, src=x).op == "tensor_copy"


def test_rows_that_an_index_each_chooses(core):
    with core("trn2") as c:
        table, tile = c.machine.input(X.copy(), "table"), c.tile(np.array([[6], [2], [6]], np.int32))
        rows = Rows(table.vector_select(0, tile))
        assert (rows.kept, rows.repeat, rows.at.tolist()) == (None, True, [4, 0, 4])
        assert rows.table.shape == (5, 3, 4) and [r.offset for r in rows.touched()] == [72, 24, 72]
        assert {r.shape for r in rows.touched()} == {(1, 3, 4)}
        same, split, low = c.empty((3, 3, 4)), c.empty((3, 12)), c.empty((3, 3, 4), "bfloat16")
        assert rows.read(same) is same.array
        for other in (split, low, None):
            got = rows.read(other)
            assert got.dtype == np.float32 and (other is None or got is not other.array)
            np.testing.assert_array_equal(got, X[[6, 2, 6]])
        np.testing.assert_array_equal(same.array, X[[6, 2, 6]])
        gaps = c.empty((3, 3, 8))[:, :, ::2]
        assert rows.read(gaps) is not gaps.array
        strided = Rows(table[:, :, 1:3].vector_select(0, tile))
        np.testing.assert_array_equal(strided.read(), X[[6, 2, 6]][:, :, 1:3])
        one = Rows(table.vector_select(0, c.tile(np.array([[5]], np.int32))))
        assert (one.repeat, one.at.tolist(), one.table.shape) == (False, [0], (1, 3, 4))
        with pytest.raises(NkiValidationError, match="5 rows need an index each, and the tile of indices holds 3"):
            Rows(table.ap([[12, 5], [1, 12]], vector_offset=tile))


def test_rows_are_shown_to_an_observer_as_tensors(core):
    with core("trn2", observe=lambda *shown: None) as c:
        table = c.machine.input(X.copy(), "table")
        shown = Rows(table.vector_select(0, c.tile(np.array([[6], [2]], np.int32)))).touched()
        assert [row.array.tolist() for row in shown] == [X[6:7].tolist(), X[2:3].tolist()]


def test_rows_out_of_bounds_are_left_out(core):
    with core("trn2") as c:
        table, tile = c.machine.input(X.copy(), "table"), c.tile(np.array([[7], [-1], [8], [0]], np.int32))
        rows = Rows(table.vector_select(0, tile), skip=True)
        assert rows.kept.tolist() == [0, 3] and rows.at.tolist() == [7, 0]
        values, into = c.tile(np.full((4, 3, 4), -5, np.float32)), c.empty((4, 3, 4))
        np.testing.assert_array_equal(rows.read(into), X[[7, 0]])
        rows.put(into, rows.read(into))
        assert np.broadcast_to(into.storage.written_at(into.layout), (4, 3, 4))[:, 0, 0].tolist() == [1, 0, 0, 1]
        np.testing.assert_array_equal(into.array[[0, 3]], X[[7, 0]])
        rows.write(rows.of(values))
        expected = X.copy()
        expected[[7, 0]] = -5
        np.testing.assert_array_equal(table.array, expected)
        none = Rows(table.vector_select(0, c.tile(np.array([[9]], np.int32))), skip=True)
        none.write(none.of(values[:1]))
        none.put(into, none.read())
        assert none.kept.size == 0 and none.touched() == [] and not none.repeat
        np.testing.assert_array_equal(table.array, expected)


def test_two_views_are_one(core):
    with core("trn2") as c:
        table, tile, register = (
            c.machine.input(X.copy(), "t"),
            c.tile(np.ones((1, 1), np.int32)),
            nisa.register_alloc(1),
        )
        other = c.machine.input(X.copy(), "o")
        for make in (lambda t: t[1:], lambda t: t.select(1, tile), lambda t: t.select(1, register)):
            assert same_view(make(table), make(table)) and not same_view(make(table), make(other))
            assert not same_view(make(table), make(table)[1:])
        assert not same_view(table.select(1, tile), table.select(1, register))
        assert not same_view(table.select(1, tile), table.select(1, c.tile(np.ones((1, 1), np.int32))))
        assert not same_view(table.select(1, register), table[:, 0])
        assert same_view(table.select(1, tile[:, 0:1]), table.select(1, tile[0:1]))


def test_what_is_handed_on_counts_as_unwritten_where_it_was(core):
    with core(strict=False) as c:
        source, target = c.empty((4, 6)), c.tile(np.ones((4, 2, 3), np.float32))
        nisa.memset(source[:, 0:2], 1.0)
        c.machine.line = ("k.py", 3)
        found = read_whole(c.machine, "nisa.sendrecv", source)
        expected = np.broadcast_to(np.arange(6) >= 2, (4, 6))
        np.testing.assert_array_equal(found[0], expected)
        assert found[1] == Origin("nisa.sendrecv", ("k.py", 3), source.storage.allocation)
        assert len(c.trace.notes) == 1 and "nisa.sendrecv reads sbuf tensor 't0' (4, 6)" in c.trace.notes[0]
        pass_on(c.machine, None, target)
        assert target.storage.missing == 0
        pass_on(c.machine, found, target)
        np.testing.assert_array_equal(target.storage.written_at(target.layout), ~expected.reshape(4, 2, 3))
        assert c.machine.origins == {target.storage.allocation.id: found[1]}
        assert read_whole(c.machine, "again", target)[1] == found[1]
        assert read_whole(c.machine, "nisa.sendrecv", source[:, 0:2]) is None
        require_written(c.machine, (source[:, 0:2],))
        with pytest.raises(Uninitialized, match="reads 16 of 24 elements"):
            require_written(c.machine, (source,))
        with pytest.raises(
            Uninitialized, match="what 'around' holds comes from memory that nothing .* at k.py:3 reads"
        ):
            require_written(c.machine, (target,))
        c.machine.tries = "dry"
        require_written(c.machine, (source,))
    with core(strict=True) as c, pytest.raises(Uninitialized):
        read_whole(c.machine, "nisa.sendrecv", c.empty((4, 6)))
    with core(check_uninitialized=False) as c:
        assert read_whole(c.machine, "nisa.sendrecv", c.empty((4, 6))) is None
        require_written(c.machine, (c.empty((4, 6)),))


def test_padding_counts_as_zeros_where_it_is_read_before_anything_wrote_it(core):
    with core(strict=False) as c:
        tile, chosen, more = c.empty((4, 6), "uint8"), np.zeros((4, 6), bool), np.zeros((4, 6), bool)
        chosen[2:, :4], more[0, 5] = True, True
        leave_padding(c.machine, tile, chosen)
        leave_padding(c.machine, tile, more)
        tile.array[...] = 9
        nisa.memset(tile[:, 0:2], 5)
        c.machine.reads_unwritten(tile[2:, 0:4])
        assert tile.array.tolist() == [[5, 5, 9, 9, 9, 9]] * 2 + [[5, 5, 0, 0, 9, 9]] * 2
        written = np.broadcast_to(tile.storage.written_at(tile.layout), (4, 6))
        assert written.tolist() == [[1, 1, 0, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2
        assert len(c.trace.notes) == 1 and "taken for zeros" in c.trace.notes[0]


def test_an_event_of_one_core_knows_of_no_other(core):
    with core() as c:
        t = c.empty((2, 2))
        assert "epoch" not in nisa.memset(t, 1.0).attributes and "written" not in nisa.tensor_copy(t, t).attributes


def test_a_tensor_is_called_by_the_kernels_variable_and_no_other():
    def made(buffer=nl.shared_hbm):
        return nl.ndarray((2, 2), nl.float32, buffer)

    def handed_on():
        return made()

    def kernel(x):
        first = made()
        second = handed_on()
        print(made(), first, second)
        return handed_on()

    x, lenient = np.zeros((2, 2), np.float32), Options(check_uninitialized=False)
    trace = simulator.run(kernel, x, options=lenient).trace
    assert [a.name for a in trace.allocations] == ["x", "first", "second", "t3", "t4"]
    trace = simulator.run(lambda x: nl.ndarray((2, 2), nl.float32, nl.shared_hbm), x, options=lenient).trace
    assert [a.name for a in trace.allocations] == ["x", "t1"]
    on_two = nki.jit(lambda x: nl.ndarray((2, 2), nl.float32, nl.shared_hbm))[2]
    trace = simulator.run(on_two, x, options=lenient).trace
    assert [a.name for a in trace.allocations] == ["x", "t1"]  # nor by a variable of the simulator's


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3", "float16"])
@pytest.mark.parametrize("address", [None, (0, 64)])
def test_what_nothing_wrote_is_a_number_like_any_where_reading_it_is_allowed(core, dtype, address):
    with core(check_uninitialized=False):
        held = nl.ndarray((2, 8), getattr(nl, dtype), address=address).array.astype(np.float32)
        assert np.isfinite(held).all() and (held != 0).all() and len(np.unique(held)) == 1
