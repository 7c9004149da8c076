"""What a tensor holds, what is known to be written and what is allocated: as their Python has it, state by state."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from compiled_parts import PYTHON, by_both, in_python, needs_compiled
from shape_only_parts import story

from triptych import simulator
from triptych.simulator import NkiError, ShapeDtype
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral.deferred import DeferredMachine
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.shape_only import ShapeMachine
from triptych.simulator.memory.mask import Mask
from triptych.simulator.memory.storage import Storage
from triptych.simulator.tensors.tensor import NkiTensor

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

pytestmark = needs_compiled
KINDS = [("sbuf", "float32"), ("sbuf", "bfloat16"), ("psum", "float32"), ("psum", "bfloat16"), ("shared_hbm", "uint8")]


def random_view(rng, t, other_dtypes=True):
    """A function of tensors of t's shape: slices, dimensions in another order, repeats, gaps, and other dtypes."""
    free = t.shape[1:]
    kind = int(rng.integers(0, 7))
    if kind == 0:
        return lambda t: t
    if kind == 1 and len(free) == 2:
        return lambda t: t.permute((0, 2, 1))
    if kind == 2:
        step = int(rng.integers(1, 3))
        count = (t.strides[0] - 1) // step
        return lambda t: t.ap([[t.strides[0], t.shape[0]], [step, max(1, count)]])
    if kind == 3:
        return lambda t: t.ap([[t.strides[0], t.shape[0]], [0, 3], [1, 2]])
    if kind == 4 and other_dtypes:
        return lambda t: t.view(nl.uint8)
    starts = [int(rng.integers(0, n)) for n in t.shape]
    keys = tuple(slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, t.shape, strict=True))
    return lambda t: t[keys]


def known(storage):
    """What is known of the bytes of a storage."""
    masks = [m if not isinstance(m, Mask) else (m.unit, m.bits.tolist()) for m in (storage.mask, storage.started)]
    return storage.missing, *masks, dict(storage._f32)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_written_is_known_as_in_python(core, seed):
    rng = np.random.default_rng(seed)
    buffer, dtype = KINDS[seed % len(KINDS)]
    shape = (int(rng.integers(1, 6)), *[int(n) for n in rng.choice([1, 2, 3, 4, 8], rng.integers(1, 3))], 4)
    with core("trn3", strict=False) as c:
        mine, twin = c.empty(shape, dtype, buffer), c.empty(shape, dtype, buffer)
        for _ in range(30):
            view = random_view(rng, mine)
            a, b = view(mine), view(twin)
            by_matmul = buffer == "psum" and bool(rng.integers(2))
            mine.storage._f32[a.layout] = twin.storage._f32[b.layout] = 0
            if not by_matmul and rng.integers(2):
                a.wrote()
            elif rng.integers(2):
                mine.storage.wrote(a.layout, by_matmul)
            else:
                mine.storage.wrote(a.layout, by_matmul=by_matmul)
            PYTHON[Storage, "wrote"](twin.storage, b.layout, by_matmul)
            assert known(mine.storage) == known(twin.storage), (a, by_matmul)
            if buffer != "psum":
                rows = rng.integers(0, a.shape[0], rng.integers(4))
                mine.storage._f32[a.layout] = twin.storage._f32[b.layout] = 0
                mine.storage.wrote_rows(a.layout, rows)
                PYTHON[Storage, "wrote_rows"](twin.storage, b.layout, rows)
                assert known(mine.storage) == known(twin.storage), (a, rows)
            if mine.storage.missing == 0 and rng.integers(4) == 0:
                mine, twin = c.empty(shape, dtype, buffer), c.empty(shape, dtype, buffer)


def test_a_storage_is_told_what_it_takes(core):
    with core() as c:
        storage = c.empty((4, 4)).storage
        for arguments in ((), (1, 2, 3)):
            with pytest.raises(TypeError, match="wrote"):
                storage.wrote(*arguments)
        with pytest.raises(TypeError, match="unexpected keyword"):
            storage.wrote(c.empty((4, 4)).layout, by_hand=True)
        for rows in ([2], [-3]):
            with pytest.raises(IndexError, match="out of bounds"):
                storage.wrote_rows(c.empty((4, 4))[0:2].layout, np.array(rows))


@pytest.mark.parametrize("rows", [[-1], [0, 2], np.array([3, 1], np.int32), np.array([3, 1, 0, 1])[::2]])
def test_rows_may_be_numbers_of_any_kind_and_count_from_the_end(core, rows):
    with core() as c:
        mine, twin = (c.empty((4, 6), buffer="shared_hbm") for _ in range(2))
        mine.storage.wrote_rows(mine.layout, rows)
        PYTHON[Storage, "wrote_rows"](twin.storage, twin.layout, rows)
        assert known(mine.storage) == known(twin.storage)


def test_rows_may_lie_across_what_was_known_before(core):
    """Of rows of 8 bytes, 12 from one to the next, where truth values are of 8."""
    with core() as c:
        mine, twin = (c.empty((48,), "uint8", "shared_hbm") for _ in range(2))
        at, rows = mine.layout.changed(0, (4, 8), (12, 1)), np.array([1, 3])
        for tensor, wrote_rows in ((mine, Storage.wrote_rows), (twin, PYTHON[Storage, "wrote_rows"])):
            tensor[8:16].wrote()
            wrote_rows(tensor.storage, at, rows)
        assert known(mine.storage) == known(twin.storage) and mine.storage.missing == 48 - 8 - 2 * 8 + 4


def lies(array):
    """Where an array lies, and what of."""
    return array.__array_interface__, array.flags.writeable


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("buffer", "dtype"), KINDS)
@pytest.mark.parametrize("rounds", [True, False])
def test_an_array_is_what_it_is_in_python(core, buffer, dtype, seed, rounds):
    rng = np.random.default_rng(seed)
    with core("trn3", strict=False, round_low_precision=rounds) as c:
        whole = c.empty((int(rng.integers(1, 9)), 3, 4), dtype, buffer)
        view = random_view(rng, whole, other_dtypes=rounds)
        first, second = view(whole), view(whole)
        whole.storage.raw[...] = rng.integers(0, 60, whole.storage.raw.size)
        expected = PYTHON[NkiTensor, "array"].fget(second)
        assert lies(first.array) == lies(expected) and first.array is first.array
        assert lies(first.f32())[1] == lies(PYTHON[NkiTensor, "f32"](second))[1]
        np.testing.assert_array_equal(first.f32(), PYTHON[NkiTensor, "f32"](second))


HALVES = {  # views, and whether they are widened without Python
    "whole": (lambda t: t, True),
    "gaps": (lambda t: t[3:7, 2:9], True),
    "one row": (lambda t: t[2:3], False),
    "one column": (lambda t: t[:, 4:5], False),
    "every other column": (lambda t: t.ap([[12, 8], [2, 6]]), False),
    "three dimensions": (lambda t: t.reshape((8, 3, 4)), False),
    "another dtype": (lambda t: t.view(nl.float16), False),
}
ODD = 0x7F80, 0xFF80, 0x7FC1, 0x8000, 1  # infinities, a NaN, -0.0 and the smallest


@pytest.mark.parametrize("buffer", ["sbuf", "shared_hbm"])
@pytest.mark.parametrize("what", HALVES)
def test_halves_are_widened_as_in_python(core, what, buffer):
    view, alone = HALVES[what]
    with core("trn2") as c:
        tile = c.tile(np.arange(96, dtype=np.float32).reshape(8, 12) * -1.5, "bfloat16", buffer)
        tile.storage.raw.view(np.uint16)[:5] = ODD
        kept = tile.storage._f32
        expected = PYTHON[NkiTensor, "f32"](view(tile))
        keeps = dict(kept)
        kept.clear()
        called = []
        sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == "call" else None)
        try:
            found = view(tile).f32()
        finally:
            sys.setprofile(None)
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
        assert found.strides == expected.strides and kept.keys() == keeps.keys()
        assert (PYTHON[NkiTensor, "f32"].__code__ not in called) == (alone and buffer == "sbuf")
        assert (view(tile).f32() is found) == bool(keeps)
        tile.wrote()
        assert view(tile).f32() is not found


def test_halves_that_are_no_tile_s_own_are_seen_as_in_python(core):
    """Of a tile of another dtype, which keeps nothing, and of one that holds float32 in the mode without rounding."""
    for dtype, rounds in (("float16", True), ("bfloat16", False)):
        with core("trn2", round_low_precision=rounds) as c:
            tile = c.tile(np.arange(96, dtype=np.float32).reshape(8, 12) * -1.5, dtype)
            view = tile.view(nl.bfloat16)[:, 0:6] if rounds else tile[:, 0:6]
            found, kept = view.f32(), dict(tile.storage._f32)
            np.testing.assert_array_equal(found, PYTHON[NkiTensor, "f32"](view))
            assert not kept and not tile.storage._f32


def helper(shape):
    return nl.ndarray(shape, nl.bfloat16, buffer=nl.psum)


def allocating(x):
    """Names from variables, from the caller's, from none and from the kernel, in each memory, over and over."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tiles = []
    for i in range(4):
        tile = nl.ndarray((32, 16), nl.float32)
        given = nl.ndarray((32, 16), nl.float32, name=f"given{i}")
        low = helper((32, 16))
        tiles.append(nl.ndarray((32, 4, 4), nl.float32, nl.sbuf))
        nisa.dma_copy(dst=tile, src=x)
        nisa.tensor_copy(dst=given, src=tile)
        nisa.tensor_copy(dst=low, src=given)
        nisa.tensor_copy(dst=tiles[-1][:, 0:2, :], src=tile[:, 0:8].reshape((32, 2, 4)))
        nisa.tensor_copy(dst=tiles[-1][:, 2:4, :], src=low[:, 8:16].reshape((32, 2, 4)))
        nisa.dma_copy(dst=out, src=tiles[-1].reshape((32, 16)))
    return out


def held(run):
    return run.trace.allocations, story(run.trace), simulator.memory_use(run.trace)


@pytest.mark.parametrize("data", [True, False])
def test_what_is_allocated_is_what_is_in_python(data):
    x = np.arange(512, dtype=np.float32).reshape(32, 16)
    argument = x if data else ShapeDtype(x.shape, x.dtype)

    def run():
        return simulator.run(allocating, argument, target="trn2")

    with in_python():
        expected = run()
    found = run()
    assert held(found) == held(expected)
    assert [a.name for a in found.trace.allocations][:6] == ["x", "out", "tile", "given0", "low", "t5"]
    if data:
        np.testing.assert_array_equal(found.outputs, expected.outputs)


REFUSED = {
    "no memory": lambda: nl.ndarray((4, 4), nl.float32, buffer="sbuf"),
    "no dtype": lambda: nl.ndarray((4, 4), "float31"),
    "no shape": lambda: nl.ndarray(4, nl.float32),
    "of nothing": lambda: nl.ndarray((4, 0), nl.float32),
    "too tall": lambda: nl.ndarray((129, 4), nl.float32),
    "one dimension": lambda: nl.ndarray((4,), nl.float32),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_allocation_says_what_it_says_in_python(core, what):
    def said():
        with core(), pytest.raises(NkiError) as e:
            for _ in range(2):
                REFUSED[what]()
        return type(e.value), str(e.value)

    with in_python():
        expected = said()
    assert said() == expected


def test_what_is_held_is_counted_until_it_is_gone(core):
    with core() as c:

        def kernel():
            for _ in range(3):
                tile = nl.ndarray((128, 64), nl.float32)
            return tile

        last = kernel()
        assert (c.machine.held["sbuf"].bytes, c.machine.held["sbuf"].peak) == (256, 512)
        del last
        gc.collect()
        assert (c.machine.held["sbuf"].bytes, c.machine.held["sbuf"].peak) == (0, 512)


def test_bytes_go_to_the_next_of_their_size_when_nobody_refers_to_them(core):
    with core() as c:
        first = nl.ndarray((32, 16), nl.float32)
        place = first.array.ctypes.data
        kept = first.array
        del first
        second = nl.ndarray((32, 16), nl.float32)
        assert second.array.ctypes.data != place
        del kept
        third = nl.ndarray((32, 16), nl.float32)
        assert third.array.ctypes.data == place and len(c.machine.pool._live) == 2


def test_nothing_is_kept_of_tensors(core):
    with core("trn2") as c:

        def work():
            for _ in range(200):
                a = nl.ndarray((32, 16), nl.float32)
                b = nl.ndarray((32, 16), nl.float32, name="b")
                sums = nl.ndarray((32, 32), nl.float32, buffer=nl.psum)
                nisa.memset(a, 1.0)
                nisa.tensor_copy(b[:, 0:8], a[:, 0:8])
                nisa.tensor_copy(b[:, 8:16], a[:, 8:16])
                nisa.nc_matmul(sums[0:16, 0:16], a, b, accumulate=False)
                nisa.nc_matmul(sums[0:16, 16:32], a, b)
                nisa.activation_reduce(b, nl.exp, a, nl.add, a[:, 0:1])
                assert a.f32() is a.array
            c.machine.trace.events.clear()
            c.machine.trace.allocations.clear()
            gc.collect()

        work()
        held = [
            nl.sbuf,
            nl.psum,
            nl.float32,
            "b",
            Storage,
            NkiTensor,
            Mask,
            c.machine.pool,
            c.machine.trace,
            None,
            True,
            False,
        ]
        held += [c.machine.held["sbuf"], c.machine.pool._live, c.machine.pool._unused, *c.machine.pool._free.values()]
        before = sys.getallocatedblocks(), [sys.getrefcount(one) for one in held]
        for _ in range(5):
            work()
        assert sys.getallocatedblocks() - before[0] < 500, "of 3,000 tensors"
        more = [sys.getrefcount(one) - count for one, count in zip(held, before[1], strict=True)]
        assert max(more) < 500, more


@pytest.mark.filterwarnings("ignore:outer-state:triptych.simulator.LintWarning")
def test_an_error_ends_the_trust_in_who_computes():
    """That values which wait may be looked at where they lie holds only while an instruction computes."""
    said = []

    def kernel(x):
        out, ones = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm), nl.ndarray((32, 16), nl.float32)
        tile, sums = nl.ndarray(x.shape, x.dtype), nl.ndarray((16, 16), nl.float32, buffer=nl.psum)
        nisa.memset(dst=ones, value=1.0)
        for value in (1.0, 2.0):
            nisa.memset(dst=ones, value=value)
            nisa.dma_copy(dst=tile, src=x)  # which waits
            try:
                nisa.nc_matmul(dst=sums, stationary=ones, moving=ones, is_moving_onezero=True, accumulate=False)
            except NkiError as e:
                said.append((e.message, machine().book.waiting != {}, machine().book.trusts))
        nisa.dma_copy(dst=out, src=tile)
        return out

    x = np.arange(512, dtype=np.float32).reshape(32, 16)
    np.testing.assert_array_equal(simulator.run(kernel, x, target="trn2").outputs, x)
    assert len(said) == 1 and "ones and zeros only" in said[0][0] and said[0][1:] == (True, False)


@pytest.mark.parametrize(("of", "data"), [(DeferredMachine, True), (ShapeMachine, False)])
def test_the_frequent_case_does_not_ask_the_machine(of, data):
    """Of instructions whose plans are known, and of tensors that were allocated there before."""

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, x.dtype)
        nisa.dma_copy(dst=tile, src=x)
        for _ in range(10):
            low = helper(x.shape)
            nisa.tensor_scalar(dst=low, data=tile, op0=nl.add, operand0=1.0)
        nisa.dma_copy(dst=out, src=tile)
        return out

    called = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == "call" else None)
    try:
        simulator.run(kernel, np.ones((32, 16), np.float32) if data else ShapeDtype((32, 16), "float32"), target="trn2")
    finally:
        sys.setprofile(None)
    assert called.count(of.compute.__code__) <= 4 and called.count(PYTHON[Machine, "allocate"].__code__) <= 3


def test_more_steps_of_a_product_are_not_handed_to_python():
    """Of operands that were multiplied before; and the sum has the bits that it has in Python."""

    def kernel(a, b):
        out = nl.ndarray((64, 96), a.dtype, buffer=nl.shared_hbm)
        left, right = nl.ndarray((128, 4, 64), a.dtype), nl.ndarray((128, 4, 96), b.dtype)
        nisa.dma_copy(dst=left, src=a.reshape((4, 128, 64)).permute((1, 0, 2)))
        nisa.dma_copy(dst=right, src=b.reshape((4, 128, 96)).permute((1, 0, 2)))
        result = nl.ndarray((64, 96), a.dtype)
        for _ in range(3):
            sums = nl.ndarray((64, 96), nl.float32, buffer=nl.psum)
            for k in range(4):
                nisa.nc_matmul(dst=sums, stationary=left[:, k, :], moving=right[:, k, :])
            nisa.tensor_copy(dst=result, src=sums)
        nisa.dma_copy(dst=out, src=result)
        return out

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((512, 64), np.float32), rng.standard_normal((512, 96), np.float32)
    found, expected, called = by_both(lambda: simulator.run(kernel, a, b, target="trn2"))
    np.testing.assert_array_equal(found.outputs, expected.outputs)
    assert story(found.trace) == story(expected.trace)
    assert called.count(DeferredMachine._multiplied.__code__) <= 3 + 3  # the first steps, and each pair's first time
