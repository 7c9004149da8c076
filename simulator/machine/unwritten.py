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

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.enums import engine
from triptych.simulator.errors import NkiError, Uninitialized, show_line
from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.mask import Mask
from triptych.simulator.memory.pool import Pool
from triptych.simulator.memory.worlds import Part, fill, remember
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
    makes_all: whether what stands there is known to make no difference
    """

    def __init__(self, tensor: NkiTensor) -> None:
        self.tensor = tensor
        self.results: tuple[NkiTensor, ...] | None = None
        self.makes_all = False


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
        views = [(t.storage, _layout(t)) for t in tensors]
        own = [id(s) for s, _ in views if s is s.bytes_owner]
        made = None if read.results is None else {id(t.storage) for t in read.results}
        anew = {i for i in made or () if own.count(i) == 1} if read.makes_all else set()  # and named as a result alone
        self.changed = [(s, at) for s, at in views if made is None or id(s) not in own or id(s) in made]
        self.filled = [(s, at, np.logical_not(s.written_at(at))) for s, at in views if id(s) not in anew]
        self.saved = [storage.snapshot(at, id(storage) in anew) for storage, at in self.changed]
        self.accumulators = (m.scalar_accumulator, m.vector_accumulator)
        self.registers = [(a.values.copy(), a.started.copy()) for a in self.accumulators]
        self.generators = {on: state.copy() for on, state in m.generators.items()}

    def carry_out(self, perform: Callable[[], Any]) -> Any:
        """What the instruction gives; `perform` carries it out once."""
        m = self.m
        notes = len(m.trace.notes)
        base: list[Array] = []  # what the first filling gives that the instruction takes
        apart: list[list[Part] | None] = []  # where each filling gives something else, and what
        for world in range(len(_FILLINGS) - 1):
            try:
                found = self._with(world, perform, dry=True)[1]
            except NkiError:  # this filling is no value that the instruction takes
                apart.append(None)
            else:
                apart.append([_part(values != first, values) for (_, values), first in zip(found, base, strict=False)])
                base = base or [self._kept(values) for _, values in found]
            finally:
                del m.trace.notes[notes:]
                self._restore()
        done, last = self._with(len(_FILLINGS) - 1, perform, dry=False)
        for i, (target, values) in enumerate(last if base else ()):
            differ = values != base[i]
            for parts in apart:
                if parts:
                    differ[parts[i][0]] = True
            if differ.any():
                at_last = _part(differ, values)
                at_first = at_last[0], base[i][at_last[0]]
                worlds = [[at_last] if parts is None else [at_first, *parts[i : i + 1]] for parts in apart]
                self._mark(target, differ, [*worlds, [at_last]])
        m.origins.setdefault(self.read.allocation.id, self.origin)
        return done

    def _restore(self) -> None:
        """Make what the instruction may write to what it was."""
        for (storage, _), snapshot in zip(self.changed, self.saved, strict=True):
            storage.restore(snapshot)

    def _with(self, world: int, perform: Callable[[], Any], dry: bool) -> tuple[Any, list[tuple[Any, Array]]]:
        """What the instruction gives with one filling, and the bits that what it may write to has then."""
        m = self.m
        for storage, at, unwritten in self.filled:
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
            *[(view, view[0].array(view[1])) for view in self.changed],
            *[(a, a.values) for a in self.accumulators],
        ]
        return done, [(target, values.view(f"u{values.itemsize}")) for target, values in found]

    def _kept(self, bits: Array) -> Array:
        """A copy, since the next world writes there."""
        kept: Array = self.m.pool.take(bits.nbytes).view(bits.dtype).reshape(bits.shape)
        np.copyto(kept, bits)
        return kept

    def _mark(self, target: Any, differ: Array, worlds: list[list[Part]]) -> None:
        if isinstance(target, Accumulator):
            target.doubtful |= differ
            self.m.doubtful_accumulators = True
            self.m.origins[target.allocation.id] = self.origin
            return
        storage, at = target
        if storage is not self.read and not (differ & storage.written_at(at)).any():
            return  # rows that a scatter leaves: nothing came of the read in them
        remember(storage, at, differ, worlds)
        storage.forget(at, differ)
        self.m.origins[storage.allocation.id] = self.origin


def _part(chosen: Array, bits: Array) -> Part:
    """The elements of an array that are chosen, by their indices."""
    where = np.unravel_index(np.flatnonzero(chosen), chosen.shape)
    return where, bits[where]


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
