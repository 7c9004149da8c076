"""What every instruction demands of the memory it touches: start partitions, access patterns, no undefined overlap."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from calls import CALLS
from calls.plan import NAMES, Plan, fill, first_choice, targets_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from triptych.simulator import INSTRUCTIONS, NkiValidationError
from triptych.simulator.analysis.regions import Rules, _relation, check_overlaps, check_regions
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.enums import engine
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Region

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

COMPUTE = [n for n in NAMES if INSTRUCTIONS[n].engines[0] not in (engine.dma, engine.sync)]
OPERANDS = [(n, o) for n in COMPUTE for o in CALLS[n](32, 8).operands]


def prepared(c, cast, name, p=5, f=6):
    """(call, tiles, values) of a call with dense operands in their first dtype and memory."""
    call = CALLS[name](p, f)
    plan = Plan(call, first_choice, 3)
    plan.layouts = dict.fromkeys(plan.layouts, "dense")
    held = plan.inputs(c, cast)
    return call, {n: view for n, (view, _, _) in plan.tiles(c, held).items()}, held


def moved(c, tile, values, first):
    """A tile with the same values on partitions from `first` on."""
    rows = tile.shape[0]
    view = c.empty((min(128, first + rows), *tile.shape[1:]), tile.dtype, tile.buffer.value)[first : first + rows]
    if values is not None:
        fill(view, values)
    return view


def issue(c, call, tiles):
    if call.before:
        call.before(c)
    return call.issue(**tiles)


@pytest.mark.parametrize(("order", "allowed"), [("stream", True), ("late", True), ("mixed", False)])
@pytest.mark.parametrize("same", [True, False])
def test_a_result_lies_where_an_operand_does_unless_elements_are_read_in_another_order(order, allowed, same):
    allocation = Allocation(0, "t", "sbuf", (8, 16), dtype_of("float32"), ("k.py", 1))
    read = Region(allocation, 0, (8, 16), (16, 1), dtype_of("float32"))
    written = read if same else Region(*read)
    event = Event("op", "vector", (read,), (written,), ("k.py", 1), 0, None, {})
    if allowed:
        check_overlaps(event, Rules(True, False, order))
    else:
        with pytest.raises(NkiValidationError, match="is read at other elements or in another order"):
            check_overlaps(event, Rules(True, False, order))


SCALES = ("dst_scale", "stationary_scale", "moving_scale")  # which have rules of their own (test_mx)


@pytest.mark.parametrize(("name", "operand"), [p for p in OPERANDS if p[1] not in SCALES])
def test_an_operand_starts_where_a_compute_engine_can(core, cast, name, operand):
    for target in targets_of(name):
        for first in (1, 8, 33):
            with core(target) as c:
                call, tiles, held = prepared(c, cast, name)
                if tiles[operand].shape[0] + first > 128:
                    continue
                tiles[operand] = moved(c, tiles[operand], held.get(operand), first)
                with pytest.raises(NkiValidationError, match="start"):
                    issue(c, call, tiles)


@pytest.mark.parametrize(
    ("rows", "allowed"), [(1, (0, 32, 64, 96)), (32, (0, 32, 64, 96)), (33, (0, 64)), (64, (0, 64)), (65, (0,))]
)
@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_where_so_many_partitions_start(core, rows, allowed, buffer, target):
    with core(target) as c:
        whole = c.tile(np.zeros((128, 2), np.float32), buffer=buffer)
        other = c.tile(np.zeros((rows, 2), np.float32))
        for first in range(129 - rows):
            part = whole[first : first + rows]
            if first in allowed:
                nisa.tensor_copy(other, part)
                nisa.tensor_copy(part, other)
                continue
            for call in (lambda: nisa.tensor_copy(other, part), lambda: nisa.tensor_copy(part, other)):  # noqa: B023
                with pytest.raises(
                    NkiValidationError, match=f"starts at partition {first}, and {rows} partitions must"
                ):
                    call()


def test_an_address_counts(core):
    with core():
        low = nl.ndarray((32, 4), nl.float32, address=(32, 0))
        nisa.memset(low, 1.0)
        nisa.memset(low[0:5], 1.0)
        for part in (low[1:5], low[16:32]):
            with pytest.raises(NkiValidationError, match=f"starts at partition {32 + part.offset // 4}"):
                nisa.memset(part, 1.0)


def test_dma_starts_anywhere(core, same):
    with core() as c:
        x = c.random(0, (128, 3))
        tile, dst = c.tile(x), c.empty((128, 3))
        nisa.dma_copy(dst[1:100], tile[29:128])
        assert same(dst[1:100], x[29:128])
        nisa.dma_transpose(flipped := c.empty((3, 5)), tile[7:12])
        assert same(flipped, x[7:12].T)
        nisa.dma_compute(dst[101:105], [tile[3:7], tile[5:9]], nl.add)
        assert same(dst[101:105], x[3:7] + x[5:9])


# Access patterns


def over(c, pattern, row, dtype="uint8", buffer="sbuf", fills=True):
    tensor = c.empty((4, row), dtype, buffer)
    if fills:
        tensor.array[...] = 0
        tensor.wrote()
    return tensor.ap([[row, 4], *pattern])


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(
    ("row", "pattern", "words"),
    [
        (99, [[32, 2], [16, 2], [8, 2], [2, 3]], None),
        (99, [[50, 2], [21, 2], [9, 2], [4, 2], [1, 2]], "at most 4 free dimensions"),
        (99, [[50, 2], [21, 2], [9, 2], [4, 2], [1, 1]], None),
        (99, [[50, 2], [21, 2], [9, 2], [2, 2], [1, 2]], None),  # no gap between the last two: one dimension
        (40000, [[32767, 2], [1, 2]], None),
        (40000, [[32768, 2], [1, 2]], "strides of 16 bits"),
        (40000, [[32768, 1], [1, 2]], None),
        (98304, [[32768, 2], [1, 32768]], None),  # no gap
        (98304, [[1, 65536]], None),
        (98304, [[1, 65537]], "65537 elements a partition, and an instruction goes over 65536"),
        (98304, [[0, 2], [1, 32769]], "65538 elements"),
    ],
)
def test_the_free_dimensions_of_a_compute_engine(core, target, row, pattern, words):
    with core(target) as c:
        size = int(np.prod([n for _, n in pattern]))
        dst = c.empty((4, size), "uint8")
        view = over(c, pattern, row)
        if words is None:
            nisa.tensor_copy(dst, view)
            return
        with pytest.raises(NkiValidationError, match=words):
            nisa.tensor_copy(dst, view)
        with pytest.raises(NkiValidationError, match=words):
            nisa.memset(view, 0)
        nisa.dma_copy(nl.ndarray((4, size), nl.uint8, nl.shared_hbm), view)  # DMA has descriptors for any pattern


@pytest.mark.parametrize(("step", "fits"), [(-32768, True), (-32769, False), (32767, True), (32768, False)])
def test_a_stride_has_a_sign_and_fifteen_bits(step, fits):
    allocation = Allocation(0, "t", "sbuf", (128, 100_000), U8, ("k.py", 1))
    region = Region(allocation, 40_000, (128, 2), (100_000, step), U8)
    event = Event("tensor_copy", "vector", (region,), (), ("k.py", 1), 0, None, {})
    with contextlib.nullcontext() if fits else pytest.raises(NkiValidationError, match="strides of 16 bits"):
        check_regions(event, Rules(True, False, "stream"))


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_how_much_of_psum_an_instruction_goes_over(core, target):
    with core(target) as c:
        for size, fine in ((4096, True), (4097, False)):
            view = over(c, [[1, size]], 8192, "bfloat16", "psum")
            if fine:
                nisa.tensor_copy(c.empty((4, size), "bfloat16"), view)
            else:
                with pytest.raises(
                    NkiValidationError, match="4097 elements a partition, and an instruction goes over 4096"
                ):
                    nisa.tensor_copy(c.empty((4, size), "bfloat16"), view)


def test_the_tensor_engine_writes_all_of_psum(core):
    with core("trn3") as c:
        dst = c.empty((4, 8192), "bfloat16", "psum")
        nisa.nc_matmul(dst, c.tile(np.zeros((2, 4)), "bfloat16"), c.tile(np.zeros((2, 8192)), "bfloat16"))


# Overlap


def pairs(name):
    """Pairs of an output and an input that have a shape and a dtype in common."""
    call = CALLS[name](32, 32)
    for out in call.outputs:
        for n in call.inputs:
            a, b = call.operands[out], call.operands[n]
            if a.shape == b.shape and set(a.dtypes) & set(b.dtypes) and set(a.buffers) & set(b.buffers):
                yield name, out, n


LATE = ("bn_stats", "bn_aggr", "max8", "nc_find_index8", "topk", "nc_transpose")  # first results need all operands


@pytest.mark.parametrize(("name", "out", "source"), [p for n in NAMES for p in pairs(n)])
@pytest.mark.parametrize("shift", [1, -1])
def test_an_output_one_element_beside_an_input_is_reported(core, cast, name, out, source, shift):
    call = CALLS[name](32, 32)
    shared = set(call.operands[out].dtypes) & set(call.operands[source].dtypes)
    kind = next(d for d in call.operands[out].dtypes if d in shared)
    plan = Plan(call, first_choice, 3)
    plan.dtypes |= {out: kind, source: kind}
    for names in call.same_dtype:
        if out in names or source in names:
            plan.dtypes |= dict.fromkeys(names, kind)
    place = next(b for b in call.operands[out].buffers if b in call.operands[source].buffers)
    plan.buffers |= {out: place, source: place}
    plan.layouts = dict.fromkeys(plan.layouts, "dense")
    with core(targets_of(name)[-1]) as c:
        held = plan.inputs(c, cast)
        tiles = {n: view for n, (view, _, _) in plan.tiles(c, held).items()}
        shape = tiles[source].shape
        whole = c.empty((*shape[:-1], shape[-1] + 1), kind, place)
        low, high = whole[..., : shape[-1]], whole[..., 1:]
        tiles[source], tiles[out] = (low, high) if shift > 0 else (high, low)
        read = np.broadcast_to(call.operands[source].read, shape)
        fill(tiles[source], held[source], read)
        if shape[-1] == 1 or name in LATE:
            issue(c, call, tiles)
            return
        with pytest.raises(NkiValidationError, match="overlaps .* read at other elements or in another order"):
            issue(c, call, tiles)


def test_the_same_elements_through_other_views_are_in_place(core, same):
    with core() as c:
        x = c.random(0, (4, 6))
        tile = c.tile(x)
        nisa.tensor_scalar(tile.reshape((4, 2, 3)), tile, nl.add, 1.0)
        assert same(tile, x + np.float32(1))
        nisa.tensor_copy(tile.view(nl.int32), tile.view(nl.int32).reshape_dim(1, (3, 2)))
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_copy(tile.reshape((4, 2, 3)), tile.reshape((4, 3, 2)).permute((0, 2, 1)))
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_copy(tile.view(nl.bfloat16)[:, 0:6], tile)
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_scalar(tile, tile[:, 0:1].broadcast(1, 6), nl.add, 1.0)


def test_other_partitions_do_not_overlap(core, same):
    with core() as c:
        x = c.random(0, (64, 6))
        tile = c.tile(x)
        nisa.tensor_copy(tile[32:64, 1:6], tile[0:32, 0:5])
        assert same(tile[32:64, 1:6], x[0:32, 0:5])


def test_addresses_overlap_as_views_do(core, same):
    def at(byte, shape, dtype="float32", partition=0):
        return nl.ndarray(shape, dtype, address=(partition, byte))

    with core():
        low, middle, copy = at(0, (32, 8)), at(16, (32, 8)), at(0, (32, 8))
        nisa.memset(low, 1.0)
        nisa.memset(middle, 2.0)
        nisa.tensor_scalar(copy, low, nl.add, 1.0)  # the same bytes
        assert same(low, np.tile([2.0] * 4 + [3.0] * 4, (32, 1)))
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_copy(middle, low)
        nisa.tensor_copy(middle[:, 0:4], low[:, 0:4])
        nisa.tensor_copy(at(16, (32, 8), partition=32), low)
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_copy(at(0, (32, 8), "bfloat16"), low)


def test_two_results_do_not_overlap(core):
    with core() as c:
        tile, x = c.empty((16, 32), "bfloat16"), c.tile(np.zeros((16, 4)), "bfloat16")
        nisa.topk(tile[:, 0:8], tile.view(nl.uint32)[:, 8:16], x, 64)
        with pytest.raises(NkiValidationError, match="two results overlap"):
            nisa.topk(tile[:, 0:8], tile.view(nl.uint32)[:, 3:11], x, 64)


def test_a_column_of_sums_may_lie_in_the_result(core):
    """Documented for activation; the accumulator is read out last (release-notes/components/nki.rst, NKI 0.6.0)."""
    with core() as c:
        x = c.random(0, (4, 6))
        dst = c.empty((4, 6))
        nisa.activation_reduce(dst, nl.square, c.tile(x), nl.add, dst[:, 3:4])
        np.testing.assert_allclose(dst.array[:, 3], np.square(x).sum(axis=1), rtol=1e-5)


F32, BF16, U8 = (dtype_of(d) for d in ("float32", "bfloat16", "uint8"))


@st.composite
def regions(draw):
    """A region of a tile of 2 x 24 bytes, and the same as a list of the bytes that it visits, element by element."""
    dtype = draw(st.sampled_from([F32, BF16, U8]))
    row = 24 // dtype.itemsize
    rank = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    strides = tuple(draw(st.integers(-3, 6)) for _ in range(rank))
    low = sum(s * (n - 1) for s, n in zip(strides, shape, strict=True) if s < 0)
    high = sum(s * (n - 1) for s, n in zip(strides, shape, strict=True) if s > 0)
    assume(high - low < row)
    first = draw(st.integers(-low, row - 1 - high))
    allocation = Allocation(0, "t", "sbuf", (2, row), dtype, ("?", 0))
    free = np.indices(shape).reshape(rank, -1).T @ np.array(strides) + first
    if draw(st.booleans()):
        region = Region(allocation, first, (2, *shape), (row, *strides), dtype)
    else:
        region = IndirectRegion(allocation, 0, (2, row), (row, 1), dtype)
        region.offsets = tuple(int(i) for i in free)
    return region, [tuple(range(i * dtype.itemsize, (i + 1) * dtype.itemsize)) for i in free]


@settings(max_examples=300, deadline=None)
@given(one=regions(), other=regions())
def test_whether_regions_overlap_and_in_which_order(one, other):
    (a, visits), (b, others) = one, other
    touched = {byte for element in visits for byte in element} & {byte for element in others for byte in element}
    expected = True if visits == others else False if touched else None
    assert _relation(a, b) is expected and _relation(b, a) is expected
