"""Storage behind tensors: raw bytes, and which of them have been written.

Memory that nothing has written is poisoned: it has no value, and reading it is an error that names the allocation. The
written state is one integer while a tensor is empty or full, and a mask only in between.
"""

from __future__ import annotations

import enum
import functools
import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.bfloat16 import to_float32
from triptych.simulator.dtypes import F32, DType
from triptych.simulator.errors import Uninitialized, show_line
from triptych.simulator.memory.layout import Layout, Shape, overlaps, row_major
from triptych.simulator.memory.mask import Mask, keep, put_back
from triptych.simulator.memory.pool import Pool
from triptych.simulator.trace import Allocation

Array = NDArray[Any]


class MemoryRegion(enum.Enum):
    """Where a tensor lives (nki.language.MemoryRegion)."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"

    @property
    def on_chip(self) -> bool:
        return self in _ON_CHIP


# Held outside the class: in Python 3.10 and 3.11 an enumeration's members are slow to reach through it.
SBUF, PSUM = MemoryRegion.sbuf, MemoryRegion.psum
_ON_CHIP = frozenset((SBUF, PSUM))


class Storage:
    """The bytes of one allocation.

    `widened` storage keeps a low-precision dtype in float32 (the mode without rounding); its element size is then 4.
    `missing` counts the bytes that were never written. `row` is the bytes of a partition, 0 in HBM, and `partition` the
    first.
    """

    __slots__ = (
        "__weakref__",
        "_f32",
        "_raw",
        "allocation",
        "dense",
        "held",
        "holder",
        "itemsize",
        "mask",
        "missing",
        "nbytes",
        "np",
        "padding",
        "partition",
        "pending",
        "pool",
        "row",
        "started",
        "widened",
        "worlds",
    )

    has_data: ClassVar[bool] = True
    held: int  # bytes of a partition, of what the holder counts

    def __init__(self, allocation: Allocation, widen: bool, pool: Pool | None = None, raw: Array | None = None) -> None:
        self.holder: Any = None  # who counts it while it is held (triptych.simulator.memory.held)
        self.allocation = allocation
        self.widened, self.np, self.itemsize, self.nbytes, self.dense, self.row = sizes_of(*allocation[2:5], widen)
        self.partition = 0
        self.pool = pool
        self.missing = self.nbytes if raw is None else 0
        self._raw = raw
        self.mask: Mask | None = None
        self.padding: Mask | None = None  # what is read as zeros before anything wrote it
        self.started: Mask | bool = False  # PSUM: where the last to write was a matmul, so that the next may accumulate
        self._f32: dict[Layout, Array] = {}
        self.worlds: Any = None  # what of it rests on what nothing wrote (triptych.simulator.memory.worlds)
        self.pending: Any = None  # what of it was put off (triptych.simulator.machine.deferral.pending)

    @property
    def raw(self) -> Array:
        """The bytes, taken when somebody asks for them first: of what is only passed on nobody does."""
        if self._raw is None:
            self._raw = self.pool.take(self.nbytes) if self.pool else np.empty(self.nbytes, np.uint8)
        return self._raw

    @raw.setter
    def raw(self, value: Array) -> None:
        self._raw = value

    def __del__(self) -> None:
        if self.holder is not None:
            self.holder.bytes -= self.held

    def array(self, at: Layout) -> Array:
        """The elements of a view, as a NumPy view of the raw bytes."""
        if self.pending is not None:
            self.pending.open(self)
        return self.array_of(self.raw, at)

    def array_of(self, raw: Array, at: Layout) -> Array:
        """The elements of a view, of other bytes that lie as these do."""
        offset, shape, strides, dtype = at
        kind = self.np if self.widened else dtype.np
        n = kind.itemsize
        return np.ndarray(shape, kind, raw, offset * n, _in_bytes(strides, n))

    def seen(self, at: Layout) -> Array:
        """The elements of a view where they are now, not to be written to; those of a load that waits lie in HBM."""
        there: Array | None = None if self.pending is None else self.pending.read(at)
        return self.array(at) if there is None else there

    def f32(self, at: Layout) -> Array:
        """The elements of a view as the engines see them: in float32, not to be written to.

        A low-precision view on chip is converted once.

        HBM is only read by DMA, once a transfer, and two arguments may share its bytes: nothing of it is kept.
        """
        seen = self._f32.get(at)
        if seen is not None:
            return seen
        there = self.seen(at)
        if there.dtype == F32:
            return there
        seen = to_float32(there)
        if at.dtype == self.allocation.dtype and self.row:
            self._f32[at] = seen
        return seen

    def forget_converted(self) -> None:
        """The bytes have changed, and what was kept of them in float32 is not theirs."""
        self._f32.clear()

    # What has been written, and by whom

    def place(self, at: Layout) -> tuple[int, Shape, Shape, int]:
        """Where a view lies in the bytes: offset, shape, steps and the size of an element."""
        offset, shape, strides, dtype = at
        n = self.itemsize if self.widened else dtype.itemsize
        return offset * n, shape, _in_bytes(strides, n), n

    def wrote(self, at: Layout, by_matmul: bool = False) -> None:
        """Note that a view was written."""
        self._f32.clear()
        if self.started is not by_matmul:
            self.mark_started(at, by_matmul)
        if self.missing == 0:
            return
        if self.mask is None and self.covers(at):
            self.missing = 0
            return
        mask = self._mask()
        units = mask.runs(*self.place(at))
        self.missing -= (units.size - int(np.count_nonzero(units))) * mask.unit
        units.fill(True)
        if overlaps(at.shape, at.strides):
            self.missing = mask.unmarked
        self._drop_mask()

    def wrote_where(self, at: Layout, chosen: Array, by_matmul: bool = False) -> None:
        """Note that of a view only the elements where `chosen` is true were written."""
        self._f32.clear()
        if self.started is not by_matmul:
            self.mark_started(at, by_matmul, chosen)
        if self.missing == 0:
            return
        mask = self._mask()
        mask.units(*self.place(at))[chosen] = True
        self.missing = mask.unmarked
        self._drop_mask()

    def wrote_rows(self, at: Layout, rows: Array) -> None:
        """Note that of a view these entries of dimension 0 were written, all of each."""
        self._f32.clear()
        assert self.started is False  # no matmul writes rows that are chosen by an index
        if self.missing:
            mask = self._mask()
            mask.rows(*self.place(at))[rows] = True
            self.missing = mask.unmarked
            self._drop_mask()

    def mark_started(self, at: Layout, value: bool, chosen: Array | None = None) -> None:
        """Note that a matmul wrote a view last (True), or something else did (False)."""
        if chosen is None and self.covers(at):
            self.started = value
            return
        if isinstance(self.started, bool):
            self.started = Mask(self.nbytes, self.started)
        if chosen is None:
            self.started.runs(*self.place(at))[...] = value
        else:
            self.started.units(*self.place(at))[chosen] = value

    def started_at(self, at: Layout) -> Array | bool:
        """Where in a view a matmul wrote last: everywhere, nowhere, or a mask."""
        return self.started if isinstance(self.started, bool) else self.started.at(*self.place(at))

    def written_at(self, at: Layout) -> Array | bool:
        """Where in a view anything has been written: everywhere, nowhere, or a mask."""
        return self.missing == 0 if self.missing == 0 or self.mask is None else self.mask.at(*self.place(at))

    def through_this(self, at: Layout) -> tuple[Array | bool, Array | bool]:
        """Where in a PSUM view a matmul wrote last, and where anything has been written, through this tensor."""
        started = self.started_at(at)
        return started, started is True or self.written_at(at)

    # Unwritten values that an instruction is tried with (triptych.simulator.machine.unwritten)

    def snapshot(self, at: Layout, is_made: bool = False) -> Any:
        """What a view holds, unless all of it is about to be made, and what is known of what has been written of it."""
        masks = [keep(mask, self.place(at)) for mask in (self.mask, self.started)]
        return at, None if is_made else self.array(at).copy(), (self.missing, masks)

    def restore(self, snapshot: Any) -> None:
        """Make the view as it was, if nothing else has been written since."""
        at, values, (self.missing, masks) = snapshot
        self.mask, self.started = [put_back(kept, self.place(at)) for kept in masks]
        if values is not None:
            self.array(at)[...] = values
        self._f32.clear()

    @property
    def bytes_owner(self) -> Any:
        """Whose the bytes are: this storage's."""
        return self

    def forget(self, at: Layout, chosen: Array) -> None:
        """Note that the elements of a view where `chosen` is true count as unwritten."""
        if self.missing == 0:
            self.mask = Mask(self.nbytes, True)
        mask = self._mask()
        np.copyto(mask.units(*self.place(at)), False, where=chosen[..., None])
        self.missing = mask.unmarked

    def first_missing(self) -> tuple[int, int]:
        """Where something is missing: the first element never written, and how many are not wholly written."""
        count = self.nbytes // self.itemsize
        whole = False if self.mask is None else self.mask.at(0, (count,), (self.itemsize,), self.itemsize)
        return int(np.argmin(whole)), count - int(np.count_nonzero(whole))

    def covers(self, at: Layout) -> bool:
        """Whether a view is all of the storage."""
        return at.size * (self.itemsize if self.widened else at.dtype.itemsize) == self.nbytes and (
            at.strides == self.dense or not overlaps(at.shape, at.strides)
        )

    def _mask(self) -> Mask:
        """The mask of what was written, made if need be."""
        if self.mask is None:
            self.mask = Mask(self.nbytes, False)
        return self.mask

    def _drop_mask(self) -> None:
        if self.missing == 0:
            self.mask = None

    def check_written(self, at: Layout) -> None:
        """Raise Uninitialized if any element of a view was never written."""
        written = self.written_at(at)
        if written is not True:
            raise uninitialized(self.allocation, np.broadcast_to(written, at.shape))


@functools.lru_cache(4096)
def _in_bytes(strides: Shape, itemsize: int) -> Shape:
    return tuple([stride * itemsize for stride in strides])


@functools.lru_cache(4096)
def sizes_of(buffer: str, shape: Shape, dtype: DType, widen: bool) -> tuple[bool, np.dtype[Any], int, int, Shape, int]:
    """What the storage of an allocation knows by its form: `widened` to `row`, in the order of its constructor."""
    widened = widen and dtype.is_float and dtype.itemsize < 4
    kind = F32 if widened else dtype.np
    dense = row_major(shape)
    row = 0 if buffer.endswith("hbm") else dense[0] * dtype.itemsize
    return widened, kind, kind.itemsize, math.prod(shape) * kind.itemsize, dense, row


class Outside(Storage):
    """What a view that leaves its tensor shows: nothing, and any use of it raises `error`."""

    __slots__ = ("error",)

    def __init__(self, allocation: Allocation, error: Exception) -> None:
        self.holder = None
        self.allocation = allocation
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


def uninitialized(a: Allocation, written: Array) -> Uninitialized:
    """The error of reading a view of an allocation of which only the elements `written` have been written."""
    gaps = written.size - np.count_nonzero(written)
    first = [int(i) for i in np.unravel_index(np.argmin(written), written.shape)]
    return Uninitialized(
        f"reads {gaps} of {written.size} elements that nothing has written, first at {first} of the "
        f"view of {a.buffer} tensor {a.name!r} {a.shape} allocated at {show_line(a.line)}; write them first "
        "(nl.ndarray leaves memory as it was)",
        source="nki/guides/nki_simulator.rst, Uninitialized Memory Detection",
    )
