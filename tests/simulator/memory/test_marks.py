"""Random programs of writes, on storage of every kind, against a truth value for each byte.

What is asked after every step is all that a storage knows: its bytes, what of a view was written, what of it a matmul
wrote last, the error of reading it, and the first gap.
"""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import Uninitialized
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.memory.worlds import fill, remember

DTYPES = [dtype_of(name) for name in ("uint8", "bfloat16", "float32")]
ROW = 4096  # bytes of a partition in the model: more than is used
PLACES = {"sbuf": [(0, 0), (0, 16), (32, 4)], "psum": [(0, 0), (0, 2048), (32, 2048)], "private_hbm": []}
KINDS = [("sbuf", False), ("sbuf", True), ("psum", False), ("psum", True), ("private_hbm", False)]


class Modelled:
    """A tensor, and where its bytes are in the model: which are written, by a matmul last, and through this tensor."""

    def __init__(self, tensor, memory, ids, itemsize):
        self.tensor, self.storage, self.memory, self.ids = tensor, tensor.storage, memory, ids
        self.itemsize = itemsize  # of the dtype that every view has; None if any will do
        self.mine = np.zeros(memory["written"].size, bool)

    def view(self, rng):
        """A layout, the bytes of its elements, and whether it names an element more than once."""
        rows, width = self.ids.shape
        n = self.itemsize or int(rng.choice([d.itemsize for d in DTYPES if width % d.itemsize == 0]))
        dtype = self.tensor.dtype if self.itemsize else next(d for d in DTYPES if d.itemsize == n)
        ids, columns = self.ids.reshape(rows, -1, n), width // n
        if rng.random() < 0.2:
            return Layout(0, (rows, columns), (columns, 1), dtype), ids, False
        (top, left), step = (int(rng.integers(0, size)) for size in ids.shape[:2]), int(rng.integers(1, 3))
        bottom, right = int(rng.integers(top + 1, rows + 1)), int(rng.integers(left + 1, columns + 1))
        ids = ids[top:bottom, left:right:step]
        offset, shape, strides = top * columns + left, ids.shape[:2], (columns, step)
        if rng.random() < 0.2:
            ids = np.repeat(ids[:, :1, None], 3, axis=2)
            return Layout(offset, (shape[0], 1, 3), (columns, step, 0), dtype), ids, True
        if shape[1] % 2 == 0 and rng.random() < 0.5:
            half = shape[1] // 2
            ids = ids.reshape(shape[0], 2, half, n).swapaxes(1, 2)
            return Layout(offset, (shape[0], half, 2), (columns, step, step * half), dtype), ids, False
        return Layout(offset, shape, strides, dtype), ids, False

    def write(self, rng, by_matmul):
        at, ids, repeats = self.view(rng)
        kind, chosen = rng.integers(5), np.ones(at.shape, bool)
        more = self.storage.has_data and self.tensor.buffer is not MemoryRegion.psum
        if kind in (0, 1) and not repeats:
            chosen = rng.random(at.shape) < rng.choice([0.0, 0.4, 1.0])
        elif kind == 2 and more:
            rows = rng.integers(0, at.shape[0], 2)
            chosen = np.isin(np.arange(at.shape[0]), rows).reshape(-1, *[1] * (len(at.shape) - 1)) & chosen
        if kind == 1 and more and not repeats:
            self.storage.forget(at, chosen)
            self.memory["written"][ids[chosen]] = False
            return
        if self.storage.has_data:
            patterns = self.put(rng, at, ids, chosen)
            self.memory["bytes"][ids[chosen]] = patterns[chosen]
        if kind in (0, 1) and not repeats:
            self.storage.wrote_where(at, chosen, by_matmul)
        elif kind == 2 and more:
            self.storage.wrote_rows(at, rows)
        else:
            self.storage.wrote(at, by_matmul)
        for marks, value in ((self.memory["written"], True), (self.memory["started"], by_matmul), (self.mine, True)):
            marks[ids[chosen]] = value

    def put(self, rng, at, ids, chosen):
        """Random bits in the chosen elements of a view; those of all, in bytes."""
        patterns = rng.integers(0, 256, ids.shape, np.uint8)
        if 0 in at.strides:
            patterns[...] = patterns[:, :, :1]
        array = self.storage.array(at)
        array[chosen] = patterns.view(array.dtype)[..., 0][chosen]
        return patterns

    def try_something(self, rng):
        """A write that is taken back."""
        at, ids, _ = self.view(rng)
        before = self.storage.snapshot(at)
        self.put(rng, at, ids, np.ones(at.shape, bool))
        self.storage.wrote(at, self.tensor.buffer is MemoryRegion.psum)
        self.storage.f32(at)
        self.storage.restore(before)

    def check(self, rng):
        at, ids, _ = self.view(rng)
        written = self.memory["written"][ids].all(axis=-1)
        if self.storage.has_data:
            array, known = self.storage.array(at), self.memory["written"][ids]
            np.testing.assert_array_equal(array[..., None].view(np.uint8)[known], self.memory["bytes"][ids][known])
            np.testing.assert_array_equal(self.storage.f32(at), array.astype(np.float32))
        np.testing.assert_array_equal(np.broadcast_to(self.storage.written_at(at), at.shape), written)
        if self.tensor.buffer is MemoryRegion.psum:
            started = self.memory["started"][ids].all(axis=-1) & written
            np.testing.assert_array_equal(self.storage.started_at(at) & written, started)
            mine = self.mine[ids].all(axis=-1) if self.tensor.address else True
            through = self.storage.through_this(at)
            for got, expected in zip(through, (started, written), strict=True):
                np.testing.assert_array_equal(np.broadcast_to(got & written, at.shape), mine & expected)
        if written.all():
            self.storage.check_written(at)
            return
        with pytest.raises(Uninitialized) as error:
            self.storage.check_written(at)
        gap = np.argwhere(~written)
        said = f"reads {len(gap)} of {written.size} elements that nothing has written, first at {gap[0].tolist()} "
        assert said in str(error.value)

    def check_missing(self):
        """What is known of the whole of a tensor that has no address."""
        itemsize, missing = self.storage.itemsize, np.count_nonzero(~self.memory["written"])
        assert self.storage.missing == missing
        whole = self.memory["written"].reshape(-1, itemsize).all(axis=-1)
        if missing:
            count = np.count_nonzero(~whole) if self.storage.has_data else -(-missing // itemsize)
            assert self.storage.first_missing() == (np.argmin(whole), count)


def memory_of(nbytes):
    return {**{name: np.zeros(nbytes, bool) for name in ("written", "started")}, "bytes": np.zeros(nbytes, np.uint8)}


def allocated(c, rng, buffer, placed, arena, covered):
    shape = ((4, 6), (3, 2, 8), (2, 1))[rng.integers(3)]
    dtype = DTYPES[rng.integers(3)]
    address = PLACES[buffer][rng.integers(3)] if placed else None
    tensor = c.machine.allocate(shape, dtype, MemoryRegion[buffer], "t", address)
    widened = tensor.storage.widened
    width = int(np.prod(shape[1:])) * (4 if widened else dtype.itemsize)
    if address is None:
        ids = np.arange(shape[0] * width).reshape(shape[0], width)
        return Modelled(tensor, memory_of(ids.size), ids, 4 if widened else None)
    ids = (address[0] + np.arange(shape[0]))[:, None] * ROW + address[1] + np.arange(width)
    arena["written"][ids[~covered[ids]]] = False
    covered[ids] = True
    return Modelled(tensor, arena, ids, None)


@pytest.mark.parametrize(
    "buffer, placed, data, rounds",
    [
        *[(buffer, placed, data, True) for buffer, placed in KINDS for data in (True, False)],
        *[(buffer, False, True, False) for buffer in PLACES],
    ],
)
@pytest.mark.parametrize("seed", range(8))
def test_what_is_known_is_what_was_written(core, buffer, placed, data, rounds, seed):
    rng = np.random.default_rng(seed)
    arena, covered = memory_of(64 * ROW), np.zeros(64 * ROW, bool)
    with core(data=data, round_low_precision=rounds) as c:
        tensors = []
        for _ in range(30):
            if len(tensors) < (3 if placed else 1) or rng.random() < 0.05:
                tensors.append(allocated(c, rng, buffer, placed, arena, covered))
            one = tensors[rng.integers(len(tensors))]
            one.write(rng, buffer == "psum" and bool(rng.integers(2)))
            if data and rng.random() < 0.2:
                one.try_something(rng)
            for each in tensors:
                each.check(rng)
                if each.memory is not arena:
                    each.check_missing()


@pytest.mark.parametrize("address", [None, (32, 64)])
def test_what_unwritten_elements_are_in_each_world(core, address):
    with core() as c:
        tensor = c.machine.allocate((4, 6), "bfloat16", MemoryRegion.sbuf, "t", address)
        storage, whole, array = tensor.storage, tensor.layout, tensor.array.view(np.uint16)
        for expected in (np.ones((4, 6), bool), np.ones((4, 6), bool) & (np.arange(6) // 2 != 1)):
            array[...] = 7
            fill(storage, whole, 0, 0x11, np.logical_not(storage.written_at(whole)))
            np.testing.assert_array_equal(array, np.where(expected, 0x1111, 7))
            storage.wrote(tensor[:, 2:4].layout)
        chosen = np.eye(4, 6, dtype=bool)
        there, elsewhere = (np.nonzero(c) for c in (chosen, ~chosen))
        first = [[(there, np.full(4, n, np.uint16))] for n in (5, 9)]
        first[1].append((tuple(index[:2] for index in there), np.full(2, 6, np.uint16)))  # a later part counts
        first[1].append((tuple(index[2:] for index in there), np.full(2, 6, np.uint16)))
        remember(storage, whole, chosen, first)
        for world, (value, byte) in enumerate([(5, 0x11), (6, 0x22)]):
            array[...] = 7
            fill(storage, whole, world, byte, np.logical_not(storage.written_at(whole)))
            unknown = np.where(chosen, value, 0x101 * byte)
            np.testing.assert_array_equal(array, np.where(np.arange(6) // 2 == 1, 7, unknown))
        remember(storage, whole, ~chosen, [[(elsewhere, np.full(20, n, np.uint16))] for n in (6, 5)])
        storage.wrote(whole)
        fill(storage, whole, 0, 0, np.logical_not(storage.written_at(whole)))
        np.testing.assert_array_equal(array, np.where(np.arange(6) // 2 == 1, 7, unknown))  # all is written
        storage.forget(whole, np.ones((4, 6), bool))
        fill(storage, whole, 0, 0, np.logical_not(storage.written_at(whole)))
        np.testing.assert_array_equal(array, np.where(chosen, 5, 6))
