"""What instructions with operands of one form have in common, so that only the first of them has to be carried out.

A run without data carries an instruction out once, on stand-ins for its operands: tensors that are made from the key
under which the outcome is kept, and from nothing else. What came of it is a `Template`: the event but for its regions,
which operands were read and written, and what was asked about the written state of memory. So two calls with one key,
and with the same answers, are equally legal and leave events that differ in their regions alone; nothing else could be
seen of the operands. In particular a stand-in has a storage of its own, so that no effect may depend on whether two
operands are one tensor; what does, the overlap of results with operands, is checked of every event
(triptych.simulator.analysis.regions).

The values of a stand-in are zeros. What an instruction decides by values it must ask of the machine
(`Machine.values`, `Options.data`), which has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType
from triptych.simulator.memory.extents import Shape
from triptych.simulator.memory.shapes import NO_BYTES, parts_of, zeros
from triptych.simulator.memory.storage import MemoryRegion, Storage, Strided
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Region

Array = NDArray[Any]


class NoTemplate(Exception):
    """The instruction does what a template cannot repeat, and has to be carried out each time."""


@dataclass(frozen=True)
class Part:
    """A view of operand number `operand`: all of it, or what lies `shift` elements behind its beginning."""

    operand: int
    shift: int = 0
    shape: Shape | None = None  # None: all of it
    strides: Shape = ()
    dtype: DType | None = None

    def place(self, t: NkiTensor) -> tuple[Storage, DType, Strided]:
        """Where it lies, if the operand is `t`."""
        if self.shape is None:
            return t.storage, t.dtype, t.at
        return t.storage, self.dtype or t.dtype, (t.offset + self.shift, self.shape, self.strides)

    def region(self, t: NkiTensor) -> Region:
        if self.shape is None:
            return t.region
        return Region(t.storage.allocation, t.offset + self.shift, self.shape, self.strides, self.dtype or t.dtype)


@dataclass(slots=True)
class Template:
    """One instruction, but for where its operands lie."""

    op: str = ""
    engine: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    named: bool = False  # whether the event has the name that the kernel gives
    reads: list[Part] = field(default_factory=list)
    writes: list[Part] = field(default_factory=list)
    read_registers: tuple[Region, ...] = ()  # of accumulators, which are those of the operands' partitions
    written_registers: tuple[Region, ...] = ()
    asks: list[tuple[str, Part, Any]] = field(default_factory=list)  # of a storage: the method, and what it said
    checks: list[Part] = field(default_factory=list)  # that must have been written
    marks: list[tuple[Part, bool]] = field(default_factory=list)  # that it writes, and whether as a matmul
    notes: list[str] = field(default_factory=list)
    recorded: int = 0
    whole: bool = False  # whether all parts are whole operands; then these are their numbers:
    numbers: tuple[tuple[int, ...], ...] = ()  # of reads, writes and checks
    regular: bool = False  # whether the checks of regions would find no more than they find in the first of the kind

    def finished(self, forms: list[Form]) -> Template:
        parts = (self.reads, self.writes, self.checks)
        self.whole = all(part.shape is None for several in (*parts, [p for p, _ in self.marks]) for part in several)
        self.numbers = tuple([tuple([part.operand for part in several]) for several in parts])
        rows = all(f.row in (0, f.strides[0] * f.dtype.itemsize) for f in forms)
        self.regular = rows and all(part.shape is None for part in (*self.reads, *self.writes))
        return self

    def fits(self, tensors: list[NkiTensor]) -> bool:
        """Whether the written state of these operands is the one that the template was made with."""
        for method, part, expected in self.asks:
            storage, dtype, at = part.place(tensors[part.operand])
            answer = getattr(storage, method)(dtype, at)
            if answer is not expected and not _same(answer, expected):
                return False
        return True


class Form(NamedTuple):
    """What an instruction can see of an operand, beside values and what has been written."""

    shape: Shape
    strides: Shape
    dtype: DType
    buffer: str
    row: int  # bytes of a partition of the whole tensor, 0 in HBM
    lane: int  # the first partition
    column: int  # PSUM: the first byte within its partition

    def stand_in(self, number: int, real: NkiTensor, template: Template) -> NkiTensor:
        """A tensor of this form."""
        offset, whole = 0, self.shape
        if self.row:
            length, rest = divmod(self.row, self.dtype.itemsize)
            if rest:
                raise NoTemplate
            offset, whole = self.lane * length + self.column // self.dtype.itemsize, (self.lane + self.shape[0], length)
        allocation = Allocation(-1, f"operand {number}", self.buffer, whole, self.dtype, ("?", 0))
        tensor = NkiTensor.__new__(NkiTensor)
        storage = StandIn(allocation, number, offset, real, template)
        tensor._set(storage, self.dtype, MemoryRegion(self.buffer), offset, self.shape, self.strides)
        return tensor


def _same(answer: Any, expected: Any) -> bool:
    """Whether two answers are the same truth values; a mask is none."""
    return isinstance(answer, tuple) and all(a is b for a, b in zip(answer, expected, strict=True))


class StandIn(Storage):
    """Storage of zeros, which notes what is done to it, and knows of the written state what the real operand's does."""

    __slots__ = ("_number", "_offset", "_real", "_template")

    def __init__(self, allocation: Allocation, number: int, offset: int, real: NkiTensor, template: Template) -> None:
        self.allocation = allocation
        self.np = allocation.dtype.np
        self.itemsize = allocation.dtype.itemsize
        self.widened = real.storage.widened
        self.missing = 1  # so that whoever reads asks
        self.raw = NO_BYTES
        self._pool = None
        self._number = number
        self._offset = offset
        self._real = real
        self._template = template

    def part(self, dtype: DType, at: Strided) -> Part:
        """A view of this storage, of any operand that has its form."""
        offset, shape, strides = at
        if at[1:] == self._real.at[1:] and offset == self._offset and dtype == self._real.dtype:
            return Part(self._number)
        if dtype.itemsize != self.itemsize:
            raise NoTemplate
        return Part(self._number, offset - self._offset, shape, strides, dtype)

    def array(self, dtype: DType, at: Strided) -> Array:
        return zeros(self.allocation, F32 if self.widened else dtype.np, at[1])

    def f32(self, dtype: DType, at: Strided) -> Array:
        return zeros(self.allocation, F32, at[1])

    def check_written(self, dtype: DType, at: Strided) -> None:
        self._before_writes()
        self._template.checks.append(self.part(dtype, at))

    def started_at(self, dtype: DType, at: Strided) -> Array | bool:
        return self._ask("started_at", dtype, at)  # type: ignore[no-any-return]

    def written_at(self, dtype: DType, at: Strided) -> Array | bool:
        return self._ask("written_at", dtype, at)  # type: ignore[no-any-return]

    def through_this(self, dtype: DType, at: Strided) -> tuple[Array | bool, Array | bool]:
        return self._ask("through_this", dtype, at)  # type: ignore[no-any-return]

    def wrote(self, dtype: DType, at: Strided, by_matmul: bool = False) -> None:
        self._template.marks.append((self.part(dtype, at), by_matmul))

    def wrote_where(self, dtype: DType, at: Strided, chosen: Array, by_matmul: bool = False) -> None:
        for part in parts_of(at, chosen):
            self.wrote(dtype, part, by_matmul)

    def mark_started(self, dtype: DType, at: Strided, value: bool, chosen: Array | None = None) -> None:
        raise NoTemplate

    def _ask(self, method: str, dtype: DType, at: Strided) -> Any:
        """The answer of the real operand, which is part of the template if it is the same for all of the view."""
        self._before_writes()
        part = self.part(dtype, at)
        storage, kind, there = part.place(self._real)
        answer = getattr(storage, method)(kind, there)
        if any(isinstance(a, np.ndarray) for a in (answer if isinstance(answer, tuple) else (answer,))):
            raise NoTemplate
        self._template.asks.append((method, part, answer))
        return answer

    def _before_writes(self) -> None:
        """A template asks and checks first, then writes: an instruction that mixes them has none."""
        if self._template.marks:
            raise NoTemplate
