"""Whatever a kernel writes and reads, a byte that nothing wrote is reported when it is read, and no other.

The oracle is a truth value for each byte of each memory, indexed by NumPy: a tensor is an array of the numbers of its
bytes, of which a view is sliced as the tensor's view is.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError, Uninitialized
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

DTYPES = ("float32", "bfloat16", "int8", "uint8", "int32", "uint16", "float8_e5m2")
ROW = 8192  # bytes of a partition in the oracle: more than the tests reach
BUFFERS = {"sbuf": nl.sbuf, "psum": nl.psum, "hbm": nl.private_hbm}


class Tensor:
    """A tensor of the kernel and the numbers of its bytes in a memory of the oracle."""

    def __init__(self, nki, memory, ids):
        self.nki = nki
        self.memory = memory
        self.ids = ids  # [partition, byte]


def allocate(shape, dtype, buffer, address):
    return nl.ndarray(shape, dtype, BUFFERS[buffer], address=address)


def read(dst, view):
    nisa.dma_copy(dst, view) if view.buffer is not nl.psum else nisa.tensor_copy(dst, view)


def line_of(function):
    return function.__code__.co_firstlineno + 1


class Oracle:
    """The memories: the arenas of placed tensors, and one for each other tensor."""

    def __init__(self):
        self.arenas = {name: np.zeros((128, ROW), bool) for name in ("sbuf", "psum")}
        self.covered = {name: np.zeros((128, ROW), bool) for name in self.arenas}
        self.tensors = []

    def tensor(self, shape, dtype, buffer, address):
        nki = allocate(shape, dtype, buffer, address)
        rows, width = shape[0], int(np.prod(shape[1:])) * dtype_of(dtype).itemsize
        if address is None:
            memory = np.zeros(rows * width, bool)
            ids = np.arange(rows * width).reshape(rows, width)
        else:
            first, byte = address
            part = slice(first, first + rows), slice(byte, byte + width)
            memory = self.arenas[buffer].reshape(-1)
            ids = (first + np.arange(rows))[:, None] * ROW + byte + np.arange(width)
            memory[ids[~self.covered[buffer][part]]] = False  # what an older tensor shares keeps its state
            self.covered[buffer][part] = True
        self.tensors.append(Tensor(nki, memory, ids))
        return self.tensors[-1]


@st.composite
def views(draw, tensor):
    """(the view, the bytes of its elements): of any dtype, sliced in rows and elements, maybe strided or split."""
    t = tensor.nki
    dtype = draw(st.sampled_from([d for d in DTYPES if tensor.ids.shape[1] % dtype_of(d).itemsize == 0]))
    n = dtype_of(dtype).itemsize
    view, ids = t.reshape((t.shape[0], -1)).view(dtype), tensor.ids.reshape(tensor.ids.shape[0], -1, n)
    rows, columns = ids.shape[:2]
    first = 0 if t.buffer is not nl.private_hbm else draw(st.integers(0, rows - 1))
    last = draw(st.integers(first + 1, rows))
    start = draw(st.integers(0, columns - 1))
    stop, step = draw(st.integers(start + 1, columns)), draw(st.integers(1, 3))
    key = (slice(first, last), slice(start, stop, step))
    view, ids = view[key], ids[key]
    if view.shape[1] % 2 == 0 and draw(st.booleans()):
        view = view.reshape_dim(1, (2, view.shape[1] // 2)).permute((0, 2, 1))
        ids = ids.reshape(ids.shape[0], 2, -1, n).swapaxes(1, 2)
    return view, ids


def write(draw, c, view, where):
    """Write a view by one of the ways there are."""
    ways = ["dma"] if view.buffer is nl.private_hbm else ["copy"] if view.buffer is nl.psum else ["dma", "set", "copy"]
    way = draw(st.sampled_from(ways), label=f"write {where} by")
    if way == "set":
        nisa.memset(view, 0)
    else:
        source = c.tile(np.zeros(view.shape), view.dtype)
        (nisa.dma_copy if way == "dma" else nisa.tensor_copy)(view, source)


ADDRESSES = {"sbuf": [(0, 0), (0, 4), (0, 16), (32, 0), (32, 8)], "psum": [(0, 0), (0, 2048), (32, 0)]}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reads_of_unwritten_bytes_are_reported_and_no_others(core, data):
    oracle = Oracle()
    with core("trn2") as c:
        for _ in range(data.draw(st.integers(1, 3), label="tensors")):
            buffer = data.draw(st.sampled_from(["sbuf", "psum", "hbm"]), label="buffer")
            shape = data.draw(st.sampled_from([(1, 8), (3, 4), (2, 3, 4), (4, 12), (5, 1)]), label="shape")
            places = [None, *ADDRESSES.get(buffer, [])]
            dtype = data.draw(st.sampled_from(DTYPES), label="dtype")
            oracle.tensor(shape, dtype, buffer, data.draw(st.sampled_from(places), label="address"))
        for _ in range(data.draw(st.integers(1, 8), label="steps")):
            at = data.draw(st.integers(0, len(oracle.tensors) - 1), label="tensor")
            tensor = oracle.tensors[at]
            view, ids = data.draw(views(tensor), label="view")
            if data.draw(st.booleans(), label="write"):
                write(data.draw, c, view, at)
                tensor.memory[ids] = True
                continue
            written = tensor.memory[ids].all(axis=-1)
            dst = c.empty(view.shape, view.dtype)
            if written.all():
                read(dst, view)
                continue
            with pytest.raises(Uninitialized) as e:
                read(dst, view)
            hole = np.argwhere(~written)
            message = str(e.value)
            assert f"reads {len(hole)} of {written.size} elements" in message
            assert f"first at {hole[0].tolist()} " in message
            assert f"allocated at {os.path.basename(__file__)}:{line_of(allocate)};" in message
            assert e.value.line == (__file__, line_of(read))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), target=st.sampled_from(["trn1", "trn2", "trn3"]), placed=st.booleans())
def test_accumulation_groups(core, data, target, placed):
    """What matmuls have written is written; to add where nothing has been is refused, and nothing else is."""
    with core(target) as c:
        dst = nl.ndarray((8, 16), nl.float32, nl.psum, address=(0, 2048) if placed else None)
        left, right = c.tile(np.ones((4, 8), np.float32)), c.tile(np.ones((4, 16), np.float32))
        sums = np.full(16, np.nan)  # of each column; NaN where nothing has been written
        for _ in range(data.draw(st.integers(1, 7), label="matmuls")):
            first = data.draw(st.integers(0, 15), label="from")
            last = data.draw(st.integers(first + 1, 16), label="to")
            accumulate = data.draw(st.sampled_from([False, True, None]), label="accumulate")
            part = sums[first:last]
            call = dict(dst=dst[:, first:last], stationary=left, moving=right[:, first:last], accumulate=accumulate)
            if accumulate is True and np.isnan(part).any():
                with pytest.raises(NkiValidationError):
                    nisa.nc_matmul(**call)
                continue
            nisa.nc_matmul(**call)
            part[...] = 4 + (0 if accumulate is False else np.nan_to_num(part))
            a = data.draw(st.integers(0, 15), label="read from")
            b = data.draw(st.integers(a + 1, 16), label="read to")
            got = c.empty((8, b - a))
            if np.isnan(sums[a:b]).any():
                with pytest.raises(Uninitialized, match=f"reads {8 * np.isnan(sums[a:b]).sum()} of {8 * (b - a)} elem"):
                    nisa.tensor_copy(got, dst[:, a:b])
            else:
                nisa.tensor_copy(got, dst[:, a:b])
                np.testing.assert_array_equal(got.array, np.tile(sums[a:b], (8, 1)))


def test_padding_and_ragged_edges(core):
    """A tile loaded in part, as the last of a matrix that no tile divides, is not whole."""
    with core() as c:
        source = c.tile(np.ones((100, 300), np.float32), buffer="private_hbm")
        tile, out = c.empty((128, 512)), c.empty((128, 512))
        nisa.dma_copy(tile[:100, :300], source)
        nisa.tensor_copy(out[:100, :300], tile[:100, :300])
        for part, holes in ((tile[:101, :300], 300), (tile[:100, :301], 100), (tile, 128 * 512 - 100 * 300)):
            with pytest.raises(Uninitialized, match=f"reads {holes} of"):
                nisa.tensor_copy(out[: part.shape[0], : part.shape[1]], part)
        nisa.memset(tile[:, 300:], 0.0)
        nisa.memset(tile[96:], 0.0)
        nisa.tensor_copy(out, tile)


def test_a_new_tensor_at_an_address_shows_what_an_older_one_holds_and_no_more(core):
    with core() as c:
        old = nl.ndarray((32, 4), nl.int32, address=(0, 16))
        nisa.memset(old, 7)
        del old
        kept = nl.ndarray((32, 2), nl.int32, address=(0, 0))
        nisa.memset(kept, 5)
        new = nl.ndarray((32, 8), nl.int32, address=(0, 0))
        nisa.tensor_copy(c.empty((32, 2), "int32"), new[:, 0:2])
        with pytest.raises(Uninitialized, match=r"reads 192 of 256 elements .* first at \[0, 2\]"):
            nisa.tensor_copy(c.empty((32, 8), "int32"), new)
