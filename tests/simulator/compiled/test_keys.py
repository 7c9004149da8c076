"""By what a call is known, and what it marks without data: as their Python has it, also of more forms than are kept at hand."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_parts import PYTHON, by_both, needs_compiled
from shape_only_parts import story

from triptych import simulator
from triptych.simulator import ShapeDtype
from triptych.simulator.launch.import_hook import simulated_nki
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


def columns(n):
    """Slices of n columns, each once: more than have a place of their own."""
    return [slice(first, end) for first in range(n) for end in range(first + 1, n + 1)]


@pytest.mark.parametrize("buffer", ["sbuf", "psum", "private_hbm"])
def test_forms_of_calls_are_those_of_python(core, buffer):
    with core("trn2") as c:
        tiles = [c.tile(np.ones((64, 44), np.float32), dtype, buffer) for dtype in ("float32", "bfloat16")]
        target = c.empty((64, 44), "float32")
        copy = nisa.tensor_copy if buffer == "psum" else nisa.dma_copy
        for tile, rows in [(tile, rows) for tile in tiles for rows in (slice(None), slice(32, 64))] * 2:
            for key in columns(44):
                view = tile[rows, key]
                copy(dst=target[rows, key], src=view)
                assert view.form == form_of(GETITEM(tile, (rows, key))), view


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


def test_picks_are_items_by_number():
    for numbers in ([], [1], [0, 2], [2, 2, 0]):
        assert Picks(numbers).of(("a", "b", "c")) == tuple("abc"[n] for n in numbers)
