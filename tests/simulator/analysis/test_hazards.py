"""Which event waits for which: against byte masks, and small programs by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych import simulator
from triptych.simulator.analysis.boxes import Box, box_of, meet
from triptych.simulator.analysis.hazards import _Map, hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.trace import Allocation, Event, Region, Trace

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

SHAPE = (6, 5, 8)


def region(key, buffer="sbuf", shape=SHAPE):
    """The region of a NumPy key into an allocation of float32, and the elements that it touches."""
    index = np.arange(np.prod(shape)).reshape(shape)
    view = index[key]
    strides = tuple(s // index.itemsize for s in view.strides)
    touched = np.zeros(index.size, bool)
    touched[view.ravel()] = True
    allocation = Allocation(0, "t", buffer, shape, TABLE["float32"], ("k.py", 1))
    return Region(allocation, int(view.flat[0]), view.shape, strides, TABLE["float32"]), touched


@st.composite
def keys(draw, steps=(1, 2, -1)):
    """A slice for each dimension; the partitions in steps of 1, as the hardware does."""
    key = []
    for dim, n in enumerate(SHAPE):
        start = draw(st.integers(0, n - 1))
        stop = draw(st.integers(start + 1, n))
        step = 1 if dim == 0 else draw(st.sampled_from(steps))
        key.append(slice(start, stop, step) if step > 0 else slice(stop - 1, start - 1 if start else None, step))
    return tuple(key)


@given(keys(), keys(), st.sampled_from(("sbuf", "psum", "private_hbm")))
def test_views_that_share_a_byte_meet(first, second, buffer):
    (a, mine), (b, theirs) = region(first, buffer), region(second, buffer)
    if (mine & theirs).any():
        assert meet(box_of(a), box_of(b)) and meet(box_of(b), box_of(a))


def test_what_is_never_written_has_no_hazards():
    for address in (None, (0, 64)):
        allocation = Allocation(0, "t", "sbuf", (128, 8), TABLE["int8"], ("k.py", 1), address)
        reads = (Region(allocation, 0, (128, 8), (8, 1), TABLE["int8"]),)
        event = Event("tensor_copy", "vector", reads, (), ("k.py", 1), 0, None, {})
        assert hazards(Trace(chip_of("trn2"), "trn2", [event])) == [{}]


def test_a_write_waits_for_all_that_read_the_place():
    allocation = Allocation(0, "t", "sbuf", (128, 8), TABLE["int8"], ("k.py", 1))
    tile = (Region(allocation, 0, (128, 8), (8, 1), TABLE["int8"]),)
    events = [
        Event("x", "vector", reads, writes, ("k.py", 1), 0, None, {})
        for reads, writes in (((), tile), (tile, ()), (tile, ()), ((), tile), (tile, ()))
    ]
    data, overwrite = {0: "data"}, {0: "order", 1: "overwrite", 2: "overwrite"}
    assert hazards(Trace(chip_of("trn2"), "trn2", events)) == [{}, data, data, overwrite, {3: "data"}]


def test_a_place_is_known_again():
    places = _Map()
    boxes = [Box(1, 0, 3, 0, 8), Box(1, 0, 3, 4, 12), Box(1, 0, 3, 4, 6), Box(1, 0, 3, 0, 8)]
    assert [places.place(box) for box in boxes] == [0, 1, 2, 0]
    assert places.meets == [[1, 2], [0, 2], [0, 1]] and places.hides == [[2], [2], []]
    reads, writes = {}, {}
    view, _ = region((slice(0, 4), slice(0, 1), slice(0, 2)))
    assert places.see_read(reads, view) == (0, []) and list(reads) == [view[1:]]
    for _ in range(2):
        assert places.see_written(writes, view) == (0, [1, 2], [2]) and list(writes) == [view[1:]]
    places.place(Box(1, 0, 3, 2, 3))
    assert places.sources == [[], [0], [0], [0]]


def test_places_are_found_among_their_neighbours():
    """Those of four to seven bytes stand in strips of eight, by where they begin."""
    places = _Map()
    for low in (0, 8, 17, 24, 32):
        places.place(Box(1, 0, 3, low, low + 4))
    assert [places._neighbours(low, high) for low, high in ((16, 24), (16, 25), (15, 16), (0, 33), (40, 99))] == [
        [1, 2],  # one that begins in the strip before may reach further
        [1, 2, 3],
        [0, 1],
        [0, 1, 2, 3, 4],
        [4],
    ]


@given(keys(steps=(1,)), keys(steps=(1,)))
def test_tiles_of_a_matrix_meet_only_where_they_share_a_byte(first, second):
    a, b = ((key[0], key[2]) for key in (first, second))
    for buffer in ("sbuf", "private_hbm"):
        (left, mine), (right, theirs) = (region(key, buffer, (6, 8)) for key in (a, b))
        assert meet(box_of(left), box_of(right)) == bool((mine & theirs).any())


def edges_of(program):
    """The hazards of a program that is given tiles a and b, by the names that it gives its instructions."""

    def kernel(x):
        a, b = nl.ndarray((4, 8), "float32"), nl.ndarray((4, 8), "float32")
        nisa.memset(a, 1.0, name="fill a")
        nisa.memset(b, 1.0, name="fill b")
        program(a, b)
        out = nl.ndarray((4, 8), "float32", nl.shared_hbm)
        nisa.dma_copy(out, a, name="store")
        return out

    trace = simulator.run(kernel, np.ones((2, 2), np.float32)).trace
    names = [event.name for event in trace.events]
    return {names[i]: {names[p]: why for p, why in edges.items()} for i, edges in enumerate(hazards(trace))}


def test_read_after_write():
    edges = edges_of(lambda a, b: nisa.tensor_copy(b, a, name="copy"))
    assert edges["copy"] == {"fill a": "data", "fill b": "order"}
    assert edges["store"] == {"fill a": "data"}


def test_write_after_read():
    def program(a, b):
        nisa.tensor_copy(b, a, name="copy")
        nisa.memset(a, 2.0, name="again")

    edges = edges_of(program)
    assert edges["again"] == {"copy": "overwrite", "fill a": "order"}
    assert edges["store"] == {"again": "data"}  # what it hides is implied


def test_halves_are_apart():
    def program(a, b):
        nisa.memset(a[:, 0:4], 2.0, name="left")
        nisa.memset(a[:, 4:8], 3.0, name="right")

    edges = edges_of(program)
    assert edges["left"] == edges["right"] == {"fill a": "order"}
    assert edges["store"] == {"fill a": "data", "left": "data", "right": "data"}


def test_a_write_hides_what_lies_within_it_whichever_was_there_first():
    def program(a, b):
        nisa.memset(a[:, 0:4], 2.0, name="left")
        nisa.tensor_copy(b, a, name="read")
        nisa.memset(a, 3.0, name="whole")
        nisa.memset(a[:, 2:4], 4.0, name="part")

    edges = edges_of(program)
    assert edges["whole"] == {"fill a": "order", "left": "order", "read": "overwrite"}
    assert edges["part"] == {"whole": "order"} and edges["store"] == {"whole": "data", "part": "data"}


@pytest.mark.parametrize("tile", range(7))
def test_neighbours_are_found_among_many(tile):
    """Eight tiles side by side, and the second half of one with the first half of the next."""

    def kernel(x):
        a = nl.ndarray((4, 64), "float32")
        for i in range(8):
            nisa.memset(a[:, 8 * i : 8 * i + 8], 1.0)
        nisa.memset(a[:, 8 * tile + 4 : 8 * tile + 12], 2.0)
        return x

    found = hazards(simulator.run(kernel, np.ones((2, 2), np.float32)).trace)
    assert [dict(edges) for edges in found] == [{}] * 8 + [{tile: "order", tile + 1: "order"}]


@pytest.mark.parametrize("first", range(16))
def test_neighbours_are_found_wherever_they_begin(first):
    """Four elements, and of them the last and the one behind it, by themselves."""

    def kernel(x):
        a = nl.ndarray((4, 32), "float32")
        nisa.memset(a[:, first : first + 4], 1.0)
        nisa.memset(a[:, first + 3 : first + 4], 2.0)
        nisa.memset(a[:, first + 4 : first + 5], 3.0)
        nisa.memset(a[:, first : first + 16], 4.0)
        return x

    found = hazards(simulator.run(kernel, np.ones((2, 2), np.float32)).trace)
    assert found == [{}, {0: "order"}, {}, {0: "order", 1: "order", 2: "order"}]


def test_a_core_hides_nothing_of_another_that_it_has_not_met():
    """Core 0 reads what core 1 writes, in no order; after they met, core 1 writes again and waits for both."""
    shared, touched = region((slice(0, 6), slice(0, 5), slice(0, 8)), "shared_hbm")
    assert touched.all()

    def event(core, epoch, reads, writes):
        return Event("dma_copy", "dma", reads, writes, ("k.py", 1), core, None, {"epoch": epoch})

    events = [
        event(0, 0, (shared,), ()),
        event(1, 0, (), (shared,)),
        event(1, 1, (), (shared,)),
    ]
    found = hazards(Trace(chip_of("trn2"), "trn2", events))
    assert found == [{}, {}, {0: "overwrite", 1: "order"}]


def test_a_write_hides_only_what_its_core_waits_for():
    """Cores 0 and 1 write in no order, core 0 again, and after they met core 1: what core 0 wrote first is implied."""
    shared, _ = region((slice(0, 6), slice(0, 5), slice(0, 8)), "shared_hbm")
    events = [
        Event("dma_copy", "dma", (), (shared,), ("k.py", 1), core, None, {"epoch": epoch})
        for core, epoch in ((0, 0), (1, 0), (0, 0), (1, 1))
    ]
    found = hazards(Trace(chip_of("trn2"), "trn2", events))
    assert found == [{}, {}, {0: "order"}, {1: "order", 2: "order"}]


def test_in_place_waits_for_the_last_write_alone():
    edges = edges_of(lambda a, b: nisa.tensor_scalar(a, a, nl.add, 1.0, name="in place"))
    assert edges["in place"] == {"fill a": "data"}


def test_an_edge_that_the_kernel_asks_for():
    def program(a, b):
        first = nisa.memset(a[:, 0:4], 2.0, name="left")
        nisa.memset(b, 3.0, name="b again").depends_on(first)

    assert edges_of(program)["b again"] == {"fill b": "order", "left": "data"}


@pytest.mark.parametrize(("byte", "meets"), [(0, True), (16, True), (32, False)])
def test_tensors_with_addresses_meet_where_their_bytes_do(byte, meets):
    def kernel(x):
        a = nl.ndarray((4, 8), "float32", nl.sbuf, address=(0, 0))
        b = nl.ndarray((4, 8), "float32", nl.sbuf, address=(0, byte))
        nisa.memset(a, 1.0, name="a")
        nisa.memset(b, 1.0, name="b")
        out = nl.ndarray((4, 8), "float32", nl.shared_hbm)
        nisa.dma_copy(out, b)
        return out

    found = hazards(simulator.run(kernel, np.ones((2, 2), np.float32)).trace)
    assert found[1] == ({0: "order"} if meets else {})


def test_tensors_of_one_address_lie_by_their_own_widths():
    """Row 1 of two rows of 32 bytes, at address (0, 0), and of two of 16: one in the other's partition, one beside."""
    place = ("sbuf", TABLE["float32"], ("k.py", 1), (0, 0))

    def row(width, offset):
        buffer, dtype, line, address = place
        tensor = Allocation(width, "t", buffer, (2, width), dtype, line, address)
        return Region(tensor, offset, (1, 4), (4, 1), dtype)

    regions = [row(8, 8), row(4, 4), row(4, 0), row(8, 4)]
    events = [Event("memset", "vector", (), (region,), ("k.py", 1), 0, None, {}) for region in regions]
    assert hazards(Trace(chip_of("trn2"), "trn2", events)) == [{}, {0: "order"}, {}, {}]


def test_tiles_that_one_line_allocates_share_no_access():
    def program(a, b):
        tiles = [nl.ndarray((4, 8), "float32") for _ in range(2)]
        for tile, name in zip(tiles, ("first", "second"), strict=True):
            nisa.memset(tile[:, 0:4], 1.0, name=f"{name} left")
            nisa.memset(tile, 2.0, name=f"{name} whole")
        nisa.tensor_copy(a, tiles[0], name="copy")

    edges = edges_of(program)
    assert edges["first whole"] == {"first left": "order"} and edges["second left"] == {}
    assert edges["second whole"] == {"second left": "order"}
    assert edges["copy"] == {"first whole": "data", "fill a": "order"}
