"""What instructions with operands of one form have in common, so that only the first is carried out.

A shape-only run carries out the first instruction of a kind on abstract operands. An abstract operand is a tensor of
zeros that is made from the operand's `Form`, from nothing else. It notes what the instruction does to it. The notes are
a `Template`:

    the event, but for the regions that it names
    which operands it read and wrote
    what it asked about the written state of memory, and the answers

Later calls whose operands have the same forms, and whose memory gives the same answers, are as legal as the first one.
Their events differ from it in the regions alone, for the first call had nothing else to go by.

Each abstract operand has a storage of its own, so no instruction can tell whether two operands are one tensor. The rule
that depends on that, the overlap of results with operands, is checked for every event
(triptych.simulator.analysis.regions). An instruction whose event depends on values must ask the machine for them
(`Machine.values`, `Options.data`), which has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType
from triptych.simulator.memory.layout import Layout, Shape
from triptych.simulator.memory.shapes import NO_BYTES, parts_of, zeros
from triptych.simulator.memory.storage import PSUM, MemoryRegion, Storage
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Region

Array = NDArray[Any]


class NoTemplate(Exception):
    """The instruction does what a template cannot repeat, and has to be carried out each time."""


@dataclass(frozen=True)
class Part:
    """A view of operand number `operand`: all of it, or what has a layout whose offset counts from its beginning."""

    operand: int
    layout: Layout | None = None  # None: all of it

    def layout_in(self, t: NkiTensor) -> Layout:
        """Where it lies, if the operand is `t`."""
        return t.layout if self.layout is None else self.layout._replace(offset=t.offset + self.layout.offset)

    def region(self, t: NkiTensor) -> Region:
        return t.region if self.layout is None else Region(t.storage.allocation, *self.layout_in(t))


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
    read_accumulators: tuple[Region, ...] = ()  # of the operands' partitions
    written_accumulators: tuple[Region, ...] = ()
    asks: list[tuple[str, Part, Any]] = field(default_factory=list)  # of a storage: the method, and its answer
    checks: list[Part] = field(default_factory=list)  # that must have been written
    wrote: list[tuple[Part, bool]] = field(default_factory=list)  # what of memory, and whether as a matmul
    notes: list[str] = field(default_factory=list)
    recorded: int = 0
    whole: bool = False  # whether all parts are whole operands; then these are their numbers:
    numbers: tuple[tuple[int, ...], ...] = ()  # of reads, writes and checks
    regular: bool = False  # whether the checks of regions would find no more than they find in the first of the kind

    def finished(self, forms: list[Form]) -> Template:
        parts = (self.reads, self.writes, self.checks)
        self.whole = all(part.layout is None for several in (*parts, [p for p, _ in self.wrote]) for part in several)
        self.numbers = tuple([tuple([part.operand for part in several]) for several in parts])
        rows = all(f.row in (0, f.strides[0] * f.dtype.itemsize) for f in forms)
        self.regular = rows and all(part.layout is None for part in (*self.reads, *self.writes))
        return self

    def fits(self, tensors: list[NkiTensor]) -> bool:
        """Whether the written state of these operands is the one that the template was made with."""
        for method, part, expected in self.asks:
            t = tensors[part.operand]
            answer = getattr(t.storage, method)(part.layout_in(t))
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
    partition: int  # the first
    column: int  # PSUM: the first byte within its partition

    def abstract(self, number: int, real: NkiTensor, template: Template) -> NkiTensor:
        """A tensor of this form, operand number `number`, that notes in `template` what is done to it.

        real: the operand that is asked about what has been written
        """
        offset, whole = 0, self.shape
        if self.row:
            length, rest = divmod(self.row, self.dtype.itemsize)
            if rest:
                raise NoTemplate
            offset = self.partition * length + self.column // self.dtype.itemsize
            whole = (self.partition + self.shape[0], length)
        allocation = Allocation(-1, f"operand {number}", self.buffer, whole, self.dtype, ("?", 0))
        storage = AbstractStorage(allocation, number, offset, real, template)
        layout = Layout(offset, self.shape, self.strides, self.dtype)
        return NkiTensor.at(layout, storage, MemoryRegion(self.buffer))


def form_of(t: NkiTensor) -> tuple[Any, ...]:
    """The fields of a tensor's `Form`, which it keeps."""
    storage: Any = t.storage
    row = storage.row
    partition = column = 0
    if row:
        partition, column = divmod(t.offset * t.dtype.itemsize, row)
        partition += storage.partition
        if t.buffer is not PSUM:
            column = 0
    t.form = (t.shape, t.strides, t.dtype, storage.allocation.buffer, row, partition, column)
    return t.form  # type: ignore[no-any-return]


def _same(answer: Any, expected: Any) -> bool:
    """Whether two answers are the same truth values; a mask is none."""
    return isinstance(answer, tuple) and all(a is b for a, b in zip(answer, expected, strict=True))


class AbstractStorage(Storage):
    """Storage of zeros that notes what is done to it, and asks a real operand what has been written."""

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

    def part(self, at: Layout) -> Part:
        """A view of this storage, of any operand that has its form."""
        if at[1:] == self._real.layout[1:] and at.offset == self._offset:
            return Part(self._number)
        if at.dtype.itemsize != self.itemsize:
            raise NoTemplate
        return Part(self._number, at._replace(offset=at.offset - self._offset))

    def array(self, at: Layout) -> Array:
        return zeros(self.allocation, F32 if self.widened else at.dtype.np, at.shape)

    def f32(self, at: Layout) -> Array:
        return zeros(self.allocation, F32, at.shape)

    def check_written(self, at: Layout) -> None:
        self._before_writes()
        self._template.checks.append(self.part(at))

    def started_at(self, at: Layout) -> Array | bool:
        return self._ask("started_at", at)  # type: ignore[no-any-return]

    def written_at(self, at: Layout) -> Array | bool:
        return self._ask("written_at", at)  # type: ignore[no-any-return]

    def through_this(self, at: Layout) -> tuple[Array | bool, Array | bool]:
        return self._ask("through_this", at)  # type: ignore[no-any-return]

    def wrote(self, at: Layout, by_matmul: bool = False) -> None:
        self._template.wrote.append((self.part(at), by_matmul))

    def wrote_where(self, at: Layout, chosen: Array, by_matmul: bool = False) -> None:
        for part in parts_of(at, chosen):
            self.wrote(part, by_matmul)

    def mark_started(self, at: Layout, value: bool, chosen: Array | None = None) -> None:
        raise NoTemplate

    def _ask(self, method: str, at: Layout) -> Any:
        """The answer of the real operand; part of the template, and no template if it differs within the view."""
        self._before_writes()
        part = self.part(at)
        answer = getattr(self._real.storage, method)(part.layout_in(self._real))
        if any(isinstance(a, np.ndarray) for a in (answer if isinstance(answer, tuple) else (answer,))):
            raise NoTemplate
        self._template.asks.append((method, part, answer))
        return answer

    def _before_writes(self) -> None:
        """A template asks and checks first, then writes: an instruction that mixes them has none."""
        if self._template.wrote:
            raise NoTemplate
