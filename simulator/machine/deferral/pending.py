"""What a tensor holds that was put off: which of its elements are those of another, or of a product.

A storage has a `Pending` while some of its bytes are not there yet, or while elements of others are to be found in its
bytes: then it is lent. Whoever asks a storage for its bytes opens it, and has them. Before a storage that is lent is
written to, all that waits is carried out; so what waits refers to bytes that stay as they are, and never to something
that waits itself, but to a product.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType, round_to
from triptych.simulator.machine.deferral.products import Line, Product, compute
from triptych.simulator.machine.dynamic import Rows
from triptych.simulator.memory.layout import Layout, row_major
from triptych.simulator.memory.references import Reference, joined, passed_through, perhaps_sharing
from triptych.simulator.memory.storage import Storage
from triptych.simulator.transposing import copy_transposed

Array = NDArray[Any]
_MOST = 256  # parts of one tensor that wait
_TRIED = 8  # times that a line of the kernel puts off in vain before it is carried out at once


class Book:
    """All that a machine has put off.

    waiting: the storages of which something waits, by their ids; no WeakSet, whose length is asked for at each turn
    trusts: whether an instruction runs that writes only to what it says it writes, so that it may look at what is lent
    gained: lines of the kernel that put off something that was read where it lies, passed on, or added to
    wasted: how often what a line put off was carried out as it would have been at once
    in_vain: lines where nothing but that has been seen
    """

    __slots__ = ("gained", "in_vain", "lent", "trusts", "waiting", "wasted")

    def __init__(self) -> None:
        self.waiting: dict[int, weakref.ref[Storage]] = {}
        self.lent: weakref.WeakSet[Storage] = weakref.WeakSet()
        self.trusts = False
        self.gained: set[Line] = set()
        self.wasted: Counter[Line] = Counter()
        self.in_vain: set[Line] = set()

    def saw(self, lines: Sequence[Line], gain: bool) -> None:
        """Note what became of something that lines of the kernel put off."""
        if gain:
            self.gained.update(lines)
            self.in_vain.difference_update(lines)
        else:
            self.wasted.update(lines)
            self.in_vain.update([line for line in lines if self.wasted[line] >= _TRIED and line not in self.gained])

    def storages(self) -> list[Storage]:
        """Those of which something waits."""
        return [storage for storage in [ref() for ref in self.waiting.values()] if storage is not None]

    def carry_out(self) -> None:
        """Write all that waits to where it belongs."""
        for storage in self.storages():
            settle(storage)
        for storage in self.lent:
            storage.pending = None
        self.lent.clear()

    def of(self, storage: Storage) -> Pending:
        if storage.pending is None:
            storage.pending = Pending(self)
        return storage.pending  # type: ignore[no-any-return]

    def lend(self, *storages: Storage) -> None:
        """Note that elements of others are to be found in the bytes of storages."""
        for storage in storages:
            pending = self.of(storage)
            if not pending.is_lent:
                pending.is_lent = True
                self.lent.add(storage)

    def before_write(self, storage: Storage) -> None:
        """Make ready for a write: what refers to the bytes that stand there is carried out."""
        if storage.pending is not None and storage.pending.is_lent:
            self.carry_out()

    def make_room(self, storage: Storage, at: Layout) -> None:
        """Make ready to put off a write: nothing else that waits lies in a part of the view.

        It may carry out anything. What is to be written is looked up afterwards.
        """
        self.before_write(storage)
        if storage.pending is None:
            return
        storage.pending.forget()
        entries = storage.pending.entries
        if at in entries:
            del entries[at]
        elif storage.covers(at):
            entries.clear()
        else:
            others: Iterable[Layout] = entries
            for width in {storage.dense[0], storage.dense[-2] if len(storage.dense) > 1 else 1}:
                others = perhaps_sharing(at, others, width)
            if others or len(entries) >= _MOST:
                settle(storage)
                self.before_write(storage)

    def write(self, storage: Storage, at: Layout, value: Reference, line: Line) -> None:
        """Put off: the elements of a view, for which there is room, are those of a reference."""
        pending = self.of(storage)
        pending.line = line
        entries = pending.entries
        if type(value.source) is Product:
            value.source.is_shared = value.source.is_shared or not value.source.is_new
            value.source.is_new = False
        elif type(value.source) is Rows:
            self.lend(value.source.table.storage)
        else:
            self.lend(value.source)
            last = next(reversed(entries), None)
            if last is not None and entries[last].source is value.source:
                whole, values = joined(last, at), joined(entries[last].layout, value.layout)
                if whole and values and whole[0] == values[0]:
                    del entries[last]
                    at, value = whole[1], Reference(value.source, values[1])
        entries[at] = value
        self.wait(storage)

    def wait(self, storage: Storage) -> None:
        """Note that something waits of a storage."""
        number = id(storage)
        if number not in self.waiting:
            self.waiting[number] = weakref.ref(storage, functools.partial(self.waiting.pop, number))


class Pending:
    """Of one storage: what waits, by the views that it belongs in, no two of which share a byte.

    line: of the kernel, which was the last to put off something
    seen, operands: what was found for a view of it, and for one that is a matmul's operand, until something changes
    """

    __slots__ = ("book", "entries", "is_lent", "line", "operands", "seen")

    def __init__(self, book: Book) -> None:
        self.book = book
        self.entries: dict[Layout, Reference] = {}
        self.is_lent = False
        self.line: Line = ("", 0)
        self.seen: dict[Layout, Reference | None] = {}
        self.operands: dict[Layout, Reference] = {}

    def forget(self) -> None:
        self.seen.clear()
        self.operands.clear()

    def open(self, storage: Storage) -> None:
        """Somebody is about to look at the bytes, or to write them."""
        if self.entries:
            settle(storage)
        if self.is_lent and not self.book.trusts:
            self.book.carry_out()

    def read(self, view: Layout) -> Array | None:
        """The elements of a view where they are now, for an instruction, if they lie there as they would in the tensor.

        The order in which NumPy adds them up depends on how they lie, and in single columns and rows most of all.
        """
        if view.shape[0] == 1 or view.shape[-1] == 1 or view.strides[-1] != 1:
            return None
        found = self.find(view) if self.book.trusts else None
        if found is None or type(found.source) is not Storage or found.layout.strides[0] < view.strides[0]:
            return None
        source, at = found
        if at.strides[1:] != view.strides[1:]:
            return None
        self.book.saw([self.line], True)
        there: Array = source.array_of(source.raw, at)
        there.flags.writeable = False
        return there

    def find(self, view: Layout) -> Reference | None:
        """Where all of a view is to be found, if that is in one place."""
        exact = self.entries.get(view)
        if exact is not None:
            return exact
        if view not in self.seen:
            self.seen[view] = self._inside(view)
        return self.seen[view]

    def _inside(self, view: Layout) -> Reference | None:
        for at, (source, value) in self.entries.items():
            found = passed_through(view, at, value)
            if found is not None:
                return Reference(source, found)
        return None

    def parts(self, view: Layout, to: Layout) -> list[tuple[Layout, Reference]] | None:
        """The places where a view is to be found, each with the part of `to`, of its shape, that it goes to."""
        whole = self.find(view)
        if whole is not None:
            return [(to, whole)]
        found, missing = [], view.size
        for at, value in self.entries.items():
            part = passed_through(at, view, to)
            if part is not None:
                found.append((part, value))
                missing -= at.size
        return None if missing else found


def drop(storage: Storage) -> Pending:
    """Forget what waits of one storage, all of which is about to be written; what that was."""
    pending: Pending = storage.pending
    storage.pending = None
    del pending.book.waiting[id(storage)]
    pending.book.saw([pending.line], True)
    return pending


def put_back(storage: Storage, pending: Pending) -> None:
    """Undo `drop`: the storage has not been written."""
    storage.pending = pending
    pending.book.wait(storage)


def settle(storage: Storage) -> None:
    """Write what waits of one storage."""
    pending = storage.pending
    if pending is None or not pending.entries:
        return
    storage.pending = None
    del pending.book.waiting[id(storage)]
    tiles = []
    for at, (source, layout) in pending.entries.items():
        if type(source) is Product:
            block = source.block(at, layout)
            if block is not None:
                tiles.append(block)
                continue
            _copy(_dense(source.computed(), layout), at.dtype, storage.array_of(storage.raw, at))
            continue
        pending.book.saw([pending.line], False)
        if type(source) is Rows:
            take(source, layout, storage.array_of(storage.raw, at))
        else:
            _copy(source.array_of(source.raw, layout), at.dtype, storage.array_of(storage.raw, at))
    compute(storage, tiles)
    for product, to in tiles:
        pending.book.saw(product.lines, len(product.left) > 1)
        if product.is_shared and storage.row and to.dtype.np == F32:
            product.values = storage.array_of(storage.raw, to)
            pending.book.lend(storage)


def take(rows: Rows, at: Layout, out: Array) -> None:
    """out[...] = elements of rows of HBM, of which `at` says where they would lie if the rows lay dense."""
    storage = rows.table.storage
    table = storage.array_of(storage.raw, rows.table.layout)
    shape = (len(rows.at), *table.shape[1:])
    are_all = at.size == math.prod(shape) and at.strides == row_major(at.shape)
    whole = out.reshape(shape) if are_all and out.flags.c_contiguous else None
    values = rows.among(table, whole)
    if values is not whole:
        _copy(_dense(values, at), at.dtype, out)


def _dense(values: Array, at: Layout) -> Array:
    """Elements of a product or of rows, of which `at` says where they would lie if it lay dense."""
    dense, n = np.ascontiguousarray(values), values.itemsize
    return np.ndarray(at.shape, dense.dtype, dense, n * at.offset, tuple([n * s for s in at.strides]))


def _copy(values: Array, dtype: DType, out: Array) -> None:
    """out[...] = values: bit for bit, or rounded from float32 to `dtype`."""
    if values.dtype != out.dtype:
        round_to(values, dtype, out)
        return
    if out.dtype != F32:
        bits = np.dtype(f"u{out.itemsize}")
        values, out = values.view(bits), out.view(bits)
    if out.ndim == 2 and values.strides[0] == out.itemsize < values.strides[1]:
        copy_transposed(out, values.T)
    else:
        out[...] = values
