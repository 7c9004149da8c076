"""What comes of memory that nothing has written: an instruction may read it, and nothing that matters may rest on it.

Kernels compute on the padding of their tiles and never look at it again, so that a read as such is a remark. What an
instruction makes of unwritten elements counts as unwritten too, and where that reaches an output, an index, a register
or another core, it is an error that names the first read and the allocation.

Which elements of a result those are is found by trial: the instruction is carried out once for each of several fillings
of what was not written, NaN and numbers of both signs among them, and whatever differs rests on it. What came of each
filling is kept, so that the next instruction is tried with values that can be there. Only an instruction that reads
such memory is tried; all others cost what they did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.enums import engine
from triptych.simulator.errors import NkiError, Uninitialized, show_line
from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.mask import Mask
from triptych.simulator.memory.pool import Pool
from triptych.simulator.memory.storage import Storage
from triptych.simulator.memory.worlds import fill, remember
from triptych.simulator.operands.accumulators import Accumulator
from triptych.simulator.options import Options
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Trace

Array = NDArray[Any]
SOURCE = "nki/guides/nki_simulator.rst, Uninitialized Memory Detection"
# Bytes that fill what was not written, a world each: NaN and -1, numbers beyond all others of either sign; at last
# zeros, which stay. Packed elements get none that is NaN: AWS's kernels multiply the padding of such tiles by zeros.
_FILLINGS = (0xFF, 0xFB, 0x7B, 0x00)
_PACKED = 0x5A


class UnwrittenRead(Exception):
    """An instruction is about to read elements that nothing has written; never leaves the machine.

    results: the tensors that it would write to, if that is known
    """

    def __init__(self, tensor: NkiTensor) -> None:
        self.tensor = tensor
        self.results: tuple[NkiTensor, ...] | None = None


class Core(Protocol):
    """What is asked here of the machine."""

    options: Options
    trace: Trace
    line: tuple[str, int]
    tries: str
    origins: dict[int, Origin]
    generators: dict[engine, Array]
    pool: Pool
    scalar_accumulator: Accumulator
    vector_accumulator: Accumulator
    doubtful_accumulators: bool

    def note_once(self, message: str) -> None: ...


@dataclass(frozen=True)
class Origin:
    """Where values that nothing wrote were read first."""

    op: str
    line: tuple[str, int]
    allocation: Allocation

    @property
    def read(self) -> str:
        a = self.allocation
        return f"reads {a.buffer} tensor {a.name!r} {a.shape}, allocated at {show_line(a.line)}, where nothing wrote it"

    def __str__(self) -> str:
        return f"{self.op} at {show_line(self.line)} {self.read}"


def leave_padding(m: Core, t: NkiTensor, chosen: Array) -> None:
    """Note the elements of a view that count as zeros where they are read before anything wrote them."""
    storage = t.storage
    if storage.has_data and not m.options.forbids("scale-padding"):
        if storage.padding is None:
            storage.padding = Mask(storage.raw.nbytes, False)
        storage.padding.units(*storage.place(t.layout))[chosen] = True


def take_padding(m: Core, t: NkiTensor) -> None:
    """Put the zeros of `leave_padding` into what an operand reads of them, with a remark.

    Not into a tensor in which something came of unwritten memory: what counts as unwritten there was written.
    """
    storage = t.storage
    if not storage.has_data or storage.padding is None or m.tries or storage.allocation.id in m.origins:
        return
    at = _layout(t)
    unwritten = ~np.broadcast_to(storage.written_at(at), at.shape)
    chosen = unwritten & np.broadcast_to(storage.padding.at(*storage.place(at)), at.shape)
    if chosen.any():
        storage.array(at)[chosen] = np.zeros(at.dtype.itemsize, np.uint8).view(at.dtype.np)[0]
        storage.wrote_where(at, chosen)
        m.note_once(
            f"reads rows of {t.name!r} beside the four scales of each quadrant, which nothing wrote: taken for zeros, "
            "as AWS's own tests of quantize_mx take them, though its documentation does not say so"
        )


def require_written(m: Core, tensors: Iterable[NkiTensor]) -> None:
    """Raise Uninitialized unless all of these tensors has been written, from what was written itself."""
    if m.options.check_uninitialized and not m.tries:
        for t in tensors:
            take_padding(m, t)
            try:
                t.check_written()
            except Uninitialized as error:
                origin = m.origins.get(t.storage.allocation.id)
                raise error if origin is None else reached(f"what {t.name!r} holds", origin) from None


def reached(what: str, origin: Origin) -> Uninitialized:
    """The error of unwritten values that matter."""
    message = f"{what} comes from memory that nothing has written: {origin}"
    return Uninitialized(message, source=SOURCE, line=origin.line)


def read_whole(m: Core, op: str, t: NkiTensor) -> tuple[Array, Origin] | None:
    """Of a tile that is handed on bit for bit, which elements count as unwritten; with a remark if some do."""
    take_padding(m, t)
    written = t.storage.written_at(t.layout) if m.options.check_uninitialized and t.storage.missing else True
    if written is True:
        return None
    if m.options.forbids("unwritten-read"):
        t.check_written()
    origin = m.origins.get(t.storage.allocation.id) or _first_read(m, op, t)
    return np.broadcast_to(~np.asarray(written), t.shape), origin


def pass_on(m: Core, missing: tuple[Array, Origin] | None, t: NkiTensor) -> None:
    """Mark in what was handed on what counts as unwritten."""
    if missing is not None:
        t.storage.forget(t.layout, missing[0].reshape(t.shape))
        m.origins[t.storage.allocation.id] = missing[1]


def _first_read(m: Core, op: str, t: NkiTensor) -> Origin:
    origin = Origin(op, m.line, t.storage.allocation)
    m.note_once(f"{op} {origin.read}; this is no error while nothing that is returned rests on it")
    return origin


class Trial:
    """Carries out an instruction that reads unwritten memory, and marks what of its results rests on it."""

    def __init__(self, m: Core, op: str, read: UnwrittenRead, operands: Iterable[Any]) -> None:
        self.m = m
        self.read = read.tensor.storage
        self.origin = m.origins.get(self.read.allocation.id) or _first_read(m, op, read.tensor)
        tensors: list[NkiTensor] = []
        _collect(operands, tensors)
        for t in tensors:
            take_padding(m, t)
        self.views = [(t.storage, _layout(t)) for t in tensors]
        self.unwritten = [np.logical_not(storage.written_at(at)) for storage, at in self.views]
        made = None if read.results is None else {id(t.storage) for t in read.results}
        self.changes = [made is None or s is not s.bytes_owner or id(s) in made for s, _ in self.views]
        self.saved = [storage.snapshot(at) for storage, at in self._changed()]
        self.accumulators = (m.scalar_accumulator, m.vector_accumulator)
        self.registers = [(a.values.copy(), a.started.copy()) for a in self.accumulators]
        self.generators = {on: state.copy() for on, state in m.generators.items()}

    def carry_out(self, perform: Callable[[], Any]) -> Any:
        """What the instruction gives; `perform` carries it out once."""
        m = self.m
        notes = len(m.trace.notes)
        outcomes: list[Any] = []
        for world in range(len(_FILLINGS) - 1):
            try:
                outcomes.append(self._with(world, perform, dry=True)[1])
            except NkiError:  # this filling is no value that the instruction takes
                outcomes.append(None)
            finally:
                del m.trace.notes[notes:]
        done, last = self._with(len(_FILLINGS) - 1, perform, dry=False)
        for i, (target, values) in enumerate(last):
            differ = np.zeros(values.shape, bool)
            found = [values if outcome is None else outcome[i][1] for outcome in outcomes]
            for other in found:
                differ |= other != values
            if differ.any():
                self._mark(target, differ, [*found, values])
        m.origins.setdefault(self.read.allocation.id, self.origin)
        return done

    def _changed(self) -> Iterator[tuple[Storage, Layout]]:
        """The views that the instruction may write to; the others are read, and stay as they are."""
        return itertools.compress(self.views, self.changes)

    def _with(self, world: int, perform: Callable[[], Any], dry: bool) -> tuple[Any, list[tuple[Any, Array]]]:
        """What the instruction gives with one filling, and the bits that what it may write to has then."""
        m = self.m
        for (storage, _), snapshot in zip(self._changed(), self.saved, strict=True):
            storage.restore(snapshot)
        for (storage, at), unwritten in zip(self.views, self.unwritten, strict=True):
            fill(storage, at, world, _byte(world, at), unwritten)
        for a, (values, started) in zip(self.accumulators, self.registers, strict=True):
            a.values[...], a.started[...] = values, started
        m.generators = {on: state.copy() for on, state in self.generators.items()}
        m.tries = "dry" if dry else "last"
        try:
            done = perform()
        finally:
            m.tries = ""
        found = [
            *[(view, view[0].array(view[1])) for view in self._changed()],
            *[(a, a.values) for a in self.accumulators],
        ]
        return done, [(target, self._patterns(values, dry)) for target, values in found]

    def _patterns(self, values: Array, keep: bool) -> Array:
        """The bits of each element as an unsigned integer, in a copy if the next world is to leave them."""
        bits = values.view(f"u{values.itemsize}")
        if not keep:
            return bits
        kept: Array = self.m.pool.take(values.nbytes).view(bits.dtype).reshape(bits.shape)
        np.copyto(kept, bits)
        return kept

    def _mark(self, target: Any, differ: Array, values: list[Array]) -> None:
        if isinstance(target, Accumulator):
            target.doubtful |= differ
            self.m.doubtful_accumulators = True
            self.m.origins[target.allocation.id] = self.origin
            return
        storage, at = target
        if storage is not self.read and not (differ & storage.written_at(at)).any():
            return  # rows that a scatter leaves: nothing came of the read in them
        kind = storage.array(at).dtype
        remember(storage, at, differ, [v.view(kind) for v in values])
        storage.forget(at, differ)
        self.m.origins[storage.allocation.id] = self.origin


def _byte(world: int, at: Layout) -> int:
    return _PACKED if world == 0 and at.dtype.kind == "x" else _FILLINGS[world]


def _layout(t: NkiTensor) -> Layout:
    """Where an operand lies; of a view whose elements an index chooses, all of its tensor."""
    return t.layout if t.index is None else t.base_tensor.layout


def _collect(values: Iterable[Any], tensors: list[NkiTensor]) -> None:
    """The tensors among an instruction's arguments; an index that one has must have been written."""
    for value in values:
        if isinstance(value, NkiTensor):
            tensors.append(value)
        elif isinstance(value, (tuple, list)):
            _collect(value, tensors)


def spread(m: Core, reads: Iterable[Any], writes: Iterable[Any]) -> None:
    """Mark the columns that an instruction fills from registers of an accumulator that rest on unwritten memory."""
    for a in (m.scalar_accumulator, m.vector_accumulator):
        for tile in reads:
            region = tile.region
            if region.allocation is not a.allocation:
                continue
            rows = a.doubtful[region.offset : region.offset + region.shape[0]]
            for t in writes if rows.any() else ():
                if isinstance(t, NkiTensor) and t.free_size == 1 and t.shape[0] == len(rows):
                    t.storage.forget(t.layout, np.broadcast_to(rows.reshape((-1,) + (1,) * (t.ndim - 1)), t.shape))
                    m.origins[t.storage.allocation.id] = m.origins[a.allocation.id]
