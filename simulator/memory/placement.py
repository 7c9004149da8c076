"""Tensors at addresses of their own: `nl.ndarray(..., address=(partition, byte))`.

All such tensors of a core lie in one arena per memory, 128 partitions of bytes, so tensors that share an address share
its bytes, whatever their shapes and dtypes. What has been written is known per byte of the arena; a new tensor poisons
its bytes but those of older ones that are still held, whose data it may be meant to show. So a tensor that was once
found to be full stays so, and is not asked again. Whether a matmul that
leaves `accumulate` open is the first on its place is a question about its own tensor: the compiler answers it from the
program, and kernels give one bank to one tensor after another.

The second number is in bytes: the migration guide says elements, but every example that computes one computes bytes
(nki/migration/index.rst).
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.bfloat16 import to_float32
from triptych.simulator.chip.record import Chip
from triptych.simulator.dtypes import F32
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.memory.layout import Layout, Shape
from triptych.simulator.memory.mask import Mask, keep, put_back
from triptych.simulator.memory.storage import PSUM, MemoryRegion, Storage
from triptych.simulator.trace import Allocation

Array = NDArray[Any]
Box = tuple[tuple[int, int], tuple[int, int]]  # partitions and bytes of an arena, each from and to


_STRETCH = 1024  # bytes; places are looked for by the stretches that they reach into
_SPARE = 4096  # bytes behind a partition: without them those of a tile would fall on the same few lines of a cache


class Places:
    """Where tensors of an arena lie that are held. Kernels have thousands of them, and many at one place."""

    def __init__(self) -> None:
        self._held: dict[Box, int] = {}  # how many tensors lie in a box
        self._near: dict[int, dict[Box, None]] = {}  # the boxes that reach into a stretch of bytes

    def take(self, box: Box) -> list[Box]:
        """Hold a place. Returns what of it nothing else holds."""
        self._held[box] = self._held.get(box, 0) + 1
        if self._held[box] > 1:
            return []
        others: dict[Box, None] = {}
        for stretch in _stretches(box):
            near = self._near.setdefault(stretch, {})
            others.update(near)
            near[box] = None
        free = [box]
        for other in others:
            free = [part for one in free for part in _without(one, other)]
        return free

    def leave(self, box: Box) -> None:
        self._held[box] -= 1
        if not self._held[box]:
            del self._held[box]
            for stretch in _stretches(box):
                del self._near[stretch][box]


def _stretches(box: Box) -> range:
    return range(box[1][0] // _STRETCH, (box[1][1] - 1) // _STRETCH + 1)


def _without(box: Box, other: Box) -> list[Box]:
    """What of a box lies outside another, in boxes."""
    ((a, b), (c, d)), ((top, bottom), (left, right)) = box, other
    rows, columns = (max(a, top), min(b, bottom)), (max(c, left), min(d, right))
    if rows[0] >= rows[1] or columns[0] >= columns[1]:
        return [box]
    parts = (((a, top), (c, d)), ((bottom, b), (c, d)), (rows, (c, left)), (rows, (right, d)))
    return [part for part in parts if part[0][0] < part[0][1] and part[1][0] < part[1][1]]


class Arena:
    """One on-chip memory of one core."""

    def __init__(self, chip: Chip, buffer: MemoryRegion) -> None:
        self.rows, self.row = self.size_of(chip, buffer)
        self.row += _SPARE
        self.bytes: Array = np.empty(self.rows * self.row, np.uint8)
        self.written = Mask(self.rows * self.row, False)
        self.started = Mask(self.rows * self.row, False)  # last written by a matmul
        self.places = Places()
        self.any_started = False
        self.full: weakref.WeakSet[PlacedStorage] = weakref.WeakSet()  # tensors whose every byte has been written
        self.worlds: Any = None  # what unwritten bytes are tried with (triptych.simulator.memory.worlds)

    def doubt(self) -> None:
        """Note that bytes which were written may count as unwritten again."""
        for storage in self.full:
            storage.missing = storage.nbytes
        self.full.clear()

    @staticmethod
    def size_of(chip: Chip, buffer: MemoryRegion) -> tuple[int, int]:
        """Partitions, and bytes of each."""
        fact = chip.psum_partition_bytes if buffer is PSUM else chip.sbuf_partition_bytes
        return int(chip.partitions.value), int(fact.value)


class PlacedStorage(Storage):
    """Storage at (partition, byte) of an arena. Views keep the offsets and strides of a dense tensor."""

    __slots__ = ("arena", "asked", "base", "height", "mine", "width")

    def __init__(self, allocation: Allocation, arena: Arena, partition: int, byte: int) -> None:
        super().__init__(allocation, False, raw=arena.bytes)
        # Which bytes were written through this tensor: none, all, or a mask. It is asked of PSUM alone.
        self.mine: Mask | bool = allocation.buffer != PSUM.value  # in this tensor's own bytes
        self._lie(arena, partition, byte)

    def _lie(self, arena: Arena, partition: int, byte: int) -> None:
        """Take the place, whose bytes nothing has written unless an older tensor shows them."""
        self.arena = arena
        self.base = partition * arena.row + byte
        self.height, self.width = self.allocation.shape[0], self.allocation.nbytes // self.allocation.shape[0]
        self.row, self.partition = self.width, partition
        self.missing = self.nbytes  # until it is known to be full: other tensors write these bytes, too
        self.asked = 0  # how often a part of it was read before that
        self._poison(arena.places.take(self._box()))

    def _poison(self, boxes: list[Box]) -> None:
        row = self.arena.row
        for (top, bottom), (left, right) in boxes:
            self.arena.written.runs(top * row + left, (bottom - top,), (row,), right - left)[...] = False

    def _box(self) -> Box:
        partition, byte = divmod(self.base, self.arena.row)
        return (partition, partition + self.height), (byte, byte + self.width)

    def __del__(self) -> None:
        super().__del__()
        self.arena.places.leave(self._box())

    def place(self, at: Layout) -> tuple[int, Shape, Shape, int]:
        """Where a view that is given for a dense tensor lies in the arena."""
        offset, shape, strides, dtype = at
        itemsize = dtype.itemsize
        row = self.width // itemsize  # elements of one partition
        partition, column = divmod(offset, row)
        steps = strides[0] // row * self.arena.row, *[s * itemsize for s in strides[1:]]
        return self.base + partition * self.arena.row + column * itemsize, shape, steps, itemsize

    def _is_full(self) -> None:
        self.missing = 0
        self.arena.full.add(self)

    def array_of(self, raw: Array, at: Layout) -> Array:
        offset, shape, steps, _ = self.place(at)
        return np.ndarray(shape, at.dtype.np, raw, offset, steps)

    @property
    def bytes_owner(self) -> Any:
        return self.arena

    def f32(self, at: Layout) -> Array:
        array = self.array(at)
        return array if array.dtype == F32 else to_float32(array)

    def wrote(self, at: Layout, by_matmul: bool = False) -> None:
        place, arena, whole = self.place(at), self.arena, self.covers(at)
        if self.missing:
            arena.written.runs(*place)[...] = True
            if whole:
                self._is_full()
        if by_matmul or arena.any_started:
            arena.any_started = True
            arena.started.runs(*place)[...] = by_matmul
        if whole:
            self.mine = True
        elif self.mine is not True:
            self._mine().runs(*super().place(at))[...] = True

    def wrote_where(self, at: Layout, chosen: Array, by_matmul: bool = False) -> None:
        place, arena = self.place(at), self.arena
        if self.missing:
            arena.written.units(*place)[chosen] = True
        if by_matmul or arena.any_started:
            arena.any_started = True
            arena.started.units(*place)[chosen] = by_matmul
        if self.mine is not True:
            self._mine().units(*super().place(at))[chosen] = True

    def wrote_rows(self, at: Layout, rows: Array) -> None:
        chosen = np.isin(np.arange(at.shape[0]), rows)
        self.wrote_where(at, np.broadcast_to(chosen.reshape((-1,) + (1,) * (len(at.shape) - 1)), at.shape))

    def _mine(self) -> Mask:
        if isinstance(self.mine, bool):
            self.mine = Mask(self.height * self.width, self.mine)
        return self.mine

    def started_at(self, at: Layout) -> Array | bool:
        return self.arena.started.at(*self.place(at))

    def written_at(self, at: Layout) -> Array | bool:
        return self.arena.written.at(*self.place(at))

    def through_this(self, at: Layout) -> tuple[Array | bool, Array | bool]:
        mine = self.mine if isinstance(self.mine, bool) else self.mine.at(*super().place(at))
        return both(mine, self.started_at(at)), both(mine, self.written_at(at))

    def check_written(self, at: Layout) -> None:
        if not self.missing:
            return
        super().check_written(at)
        self.asked += 1
        # That parts have been written says little of the whole, which is looked at ever more rarely.
        if self.covers(at) or (self.asked & (self.asked - 1) == 0 and self._all_written()):
            self._is_full()

    def _all_written(self) -> bool:
        return bool(self.arena.written.runs(self.base, (self.height,), (self.arena.row,), self.width).all())

    def snapshot(self, at: Layout, is_made: bool = False) -> Any:
        place, started = self.place(at), self.arena.started if self.allocation.buffer == PSUM.value else None
        kept = keep(self.arena.written, place), keep(started, place), keep(self.mine, super().place(at))
        return at, self.array(at).copy(), kept

    def restore(self, snapshot: Any) -> None:
        at, values, (written, started, mine) = snapshot
        self.array(at)[...] = values
        self.arena.doubt()
        put_back(written, self.place(at))
        put_back(started, self.place(at))
        self.mine = put_back(mine, super().place(at))

    def forget(self, at: Layout, chosen: Array) -> None:
        self.arena.doubt()
        self.arena.written.units(*self.place(at))[chosen] = False


def both(a: Array | bool, b: Array | bool) -> Array | bool:
    """Where both masks are true, each as True, False or an array."""
    if a is False or b is False:
        return False
    return b if a is True else a if b is True else np.logical_and(a, b)


START_RULE = "nki/guides/architecture/trainium_inferentia2_arch.rst, NeuronCore-v2 SBUF and PSUM data access"


def allowed_starts(partitions: int) -> range:
    """The partitions that a tensor of so many may start from."""
    return range(0, 128, 128 if partitions > 64 else 64 if partitions > 32 else 32)


def check_address(
    chip: Chip, buffer: MemoryRegion, shape: tuple[int, ...], nbytes: int, address: Any
) -> tuple[int, int]:
    """`address` as (partition, byte), checked to be a place where a tensor of `nbytes` a partition may lie."""
    if not (isinstance(address, (tuple, list)) and len(address) == 2 and all(isinstance(a, int) for a in address)):
        raise NkiValidationError(f"address is (partition, byte), two integers; got {address!r}")
    partition, byte = address
    if partition not in allowed_starts(shape[0]):
        allowed = ", ".join(map(str, allowed_starts(shape[0])))
        raise NkiValidationError(
            f"a tensor of {shape[0]} partitions starts at partition {allowed}; got {partition}", source=START_RULE
        )
    fact = chip.psum_partition_bytes if buffer is PSUM else chip.sbuf_partition_bytes
    if byte < 0 or byte + nbytes > fact.value:
        raise NkiValidationError(
            f"bytes {byte} to {byte + nbytes} leave the {fact.value:.0f} bytes of a {buffer.value} partition",
            source=fact.source,
        )
    if buffer is PSUM and byte % chip.psum_bank_bytes.value:
        raise NkiValidationError(
            f"a PSUM address starts at a bank, a multiple of {chip.psum_bank_bytes.value:.0f} bytes; got {byte}",
            source="nki/migration/index.rst",
        )
    return partition, byte
