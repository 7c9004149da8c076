"""By what a call is known, and what it marks without data: as in Python, also of more forms than are kept at hand."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from compiled_parts import PYTHON, by_both, in_python, needs_compiled
from shape_only_parts import story

from triptych import simulator
from triptych.simulator import NkiError, ShapeDtype
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine import dynamic
from triptych.simulator.machine.forms import form_of
from triptych.simulator.machine.plan import Picks
from triptych.simulator.memory.layout import TUPLES
from triptych.simulator.memory.shapes import ShapeStorage
from triptych.simulator.tensors.tensor import NkiTensor

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

pytestmark = needs_compiled
GETITEM = PYTHON[NkiTensor, "__getitem__"]
MEMORIES = "sbuf", "psum", "private_hbm"


def columns(n):
    """Slices of n columns, each once: more than have a place of their own."""
    return [slice(first, end) for first in range(n) for end in range(first + 1, n + 1)]


def test_forms_of_calls_are_those_of_python(core):
    with core("trn2") as c:
        tiles = [c.tile(np.ones((64, 44)), dtype, where) for dtype in ("float32", "bfloat16") for where in MEMORIES]
        target = c.empty((64, 44), "float32")
        for tile, rows in [(tile, rows) for tile in tiles for rows in (slice(None), slice(32, 64))] * 2:
            copy = nisa.tensor_copy if tile.buffer is nl.psum else nisa.dma_copy
            for key in columns(44):
                view = tile[rows, key]
                copy(dst=target[rows, key], src=view)
                assert view.form == form_of(GETITEM(tile, (rows, key))), view


def test_forms_that_differ_in_where_they_are_alone_are_told_apart(core):
    with core("trn2") as c:
        tiles = [c.tile(np.ones((128, 16384)), "bfloat16"), c.tile(np.ones((128, 128)), "bfloat16")]
        for partition, byte in ((0, 65536), (32, 65536), (64, 0)):
            tiles.append(nl.ndarray((32, 128), nl.bfloat16, address=(partition, byte)))
            nisa.memset(tiles[-1], 1.0)
        tiles += [nl.ndarray((128, 1024), nl.float32, buffer=nl.psum, address=(0, bank)) for bank in (0, 4096, 8192)]
        target = c.empty((32, 128), "bfloat16")
        for _ in range(2):
            for tile in tiles:
                for first in range(0, tile.shape[0], 32):
                    rows, key = slice(first, first + 32), slice(0, 128)
                    view = tile[rows, key]
                    nisa.memset(view, 0.0)
                    nisa.tensor_copy(dst=target, src=view)
                    assert view.form == form_of(GETITEM(tile, (rows, key))), view
                for first in range(tile.shape[0]):
                    view = tile[first : first + 1, 3:4]
                    if tile.buffer is not nl.psum:
                        nisa.dma_copy(dst=target[0:1, 0:1], src=view)
                        assert view.form == form_of(GETITEM(tile, (slice(first, first + 1), slice(3, 4)))), view


def test_sizes_of_slices_are_the_tuples_that_all_have(core):
    with core("trn2") as c:
        tile = c.empty((8, 5, 44), "float32")
        for _ in range(2):
            for key in columns(44):
                for middle in (slice(None), slice(1, 4), 2):
                    view = tile[:, middle, key]
                    assert view.layout == GETITEM(tile, (slice(None), middle, key)).layout
                    assert TUPLES[view.shape] is view.shape
                    assert middle != 2 or TUPLES[view.strides] is view.strides


def test_the_collector_does_not_walk_over_what_is_in_no_cycle(core):
    with core("trn2") as c:
        for _ in range(2):  # of which the second is like one before
            tile = nl.ndarray((8, 44), nl.float32)
        view = tile[:, 3:5]
        nisa.memset(view, 0.0)
        event = c.machine.trace.events[-1]
        assert event.writes == (view.region,)
        assert not any(gc.is_tracked(one) for one in (tile.storage.allocation, view.layout, view.region))


def parts(x):
    """Tiles that are written in parts, twice, in parts that overlap and by matmuls, and read before they are whole."""
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    for i in range(3):
        tile, low = nl.ndarray((32, 4, 16), nl.float32), nl.ndarray((32, 64), nl.bfloat16)
        psum = nl.ndarray((64, 64), nl.float32, buffer=nl.psum)
        for first in (0, 2, i):
            nisa.memset(tile[:, first : first + 2, 0:8], 1.0)
            nisa.memset(tile[:, :, 8 + first : 14 + first], 1.0)
            nisa.tensor_copy(low[:, 16 * first : 16 * first + 16], tile[:, first, :])
        nisa.tensor_copy(low, tile.reshape((32, 64)))
        nisa.nc_matmul(psum[:, 0:32], low, low[:, 0:32], accumulate=False)
        nisa.nc_matmul(psum[:, 16:64], low, low[:, 16:64], accumulate=False)
        nisa.nc_matmul(psum[:, 0:32], low, low[:, 0:32])
        nisa.tensor_copy(psum[0:32, 0:8], low[:, 0:8])
        nisa.nc_matmul(psum[:, 0:8], low, low[:, 0:8], accumulate=False)
        nisa.dma_copy(out[:, 20 * i : 20 * i + 24], low[:, 0:24])
    return out


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_parts_are_marked_as_in_python():
    found, expected, called = by_both(lambda: simulator.run(parts, ShapeDtype((32, 64), "bfloat16"), target="trn2"))
    assert story(found.trace) == story(expected.trace) and found.trace.notes == expected.trace.notes
    assert ShapeStorage._mark_started.__code__ in called and found.trace.notes


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16])
def test_rows_by_their_entries_are_where_they_are_in_python(kind):
    spread_in_python, rng = PYTHON[dynamic, "spread"], np.random.default_rng(0)
    for n in (0, 1, 2, 7, 128, 600):
        for reach in (1, 100, 2**15, 2**31, 2**40) if kind is np.int64 else (1, 100):
            entries = rng.integers(0 if kind is np.uint16 else -reach, reach, n).astype(kind)
            for offset, scale in ((0, 1), (7, 4096), (100, -3), (5, 0), (0, 2**33)):
                found = dynamic.spread(entries, offset, scale)
                assert found == spread_in_python(entries, offset, scale) and type(found[2]) is list
    assert dynamic.spread(np.arange(9)[::2], 1, 2) == (0, 8, [1, 5, 9, 13, 17], False)
    for wrong in ((), (entries, 1), ([1, 2], 0, 1), (entries, "a", 1)):
        with pytest.raises((TypeError, AttributeError)):
            dynamic.spread(*wrong)


def test_picks_are_items_by_number():
    for numbers in ([], [1], [0, 2], [2, 2, 0]):
        assert Picks(numbers).of(("a", "b", "c")) == tuple("abc"[n] for n in numbers)


def test_results_beside_operands_in_known_calls(core):
    """Tensors with addresses, which a call like one before may find on one another; and such in two memories."""

    def said():
        lines = []
        with core("trn2") as c:
            for t, other in ((0, 1024), (0, 64), (64, 64), (128, 96), (512, 0)):
                tile, data = (nl.ndarray((32, 32), nl.float32, address=(0, byte)) for byte in (t, other))
                sums = nl.ndarray((32, 32), nl.float32, buffer=nl.psum, address=(0, 0))
                nisa.memset(data, 1.0)
                for copied in ((tile, data), (sums, data), (data, sums)):
                    try:
                        nisa.tensor_copy(dst=copied[0], src=copied[1])
                    except NkiError as error:
                        lines.append((t, other, error.message))
            return lines, len(c.machine.trace.events)

    with in_python():
        expected = said()
    assert said() == expected and [line[:2] for line in expected[0]] == [(0, 64), (128, 96)]
