"""What an execution leaves behind: one event per instruction, and nothing that could change a result.

A `Region` is the memory that an operand names, an `Event` an instruction with the regions it read and wrote. Timing,
capacity and pictures are functions of a `Trace`; none of them touches data.

What a kernel says of the order of its instructions stands in `Event.attributes`:

    "after"       the events that this one runs after: with_schedule's edges and depends_on's; earlier in the trace
    "issued_after" the events that this one is issued after, and for whose end it does not wait
    "no_reorder"  a number: events of one core with the same number keep their order, each after the one before
    "registers"   the events that wrote the registers it needs: bounds of the loops around it, its own operands
    "open"        there if the kernel names no engine and the compiler chooses one by the engines' workload
    "pipe"        there if two cores exchange tiles: the number of the meeting, None where it has none
    "loop"        ((loop, round), ..) of the dynamic loops around it, outermost first; static loops are unrolled
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from triptych.simulator.chip.record import Chip
from triptych.simulator.dtypes import DType
from triptych.simulator.enums import dependency
from triptych.simulator.errors import NkiValidationError, show_line


class Allocation(NamedTuple):
    """One tensor that a kernel allocated or was given."""

    id: int
    name: str
    buffer: str  # "sbuf", "psum", "private_hbm", "shared_hbm"
    shape: tuple[int, ...]
    dtype: DType
    line: tuple[str, int]
    address: tuple[int, int] | None = None  # (partition, byte), where the kernel chose it

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Region(NamedTuple):
    """A strided view of an allocation, in elements of `dtype`. Element (i0, i1, ..) lies at offset + sum(strides*i)."""

    allocation: Allocation
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DType

    @property
    def region(self) -> Region:
        """Itself, as what an event names."""
        return self

    def of(self, allocation: Allocation) -> Region:
        """The same view of another allocation."""
        return self._replace(allocation=allocation)

    @property
    def free_size(self) -> int:
        """Elements per partition."""
        return math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class HasRegion(Protocol):
    """What an instruction touches, as its event names it."""

    @property
    def region(self) -> Region: ...


class IndirectRegion(Region):
    """A region of which an instruction touches few elements: in each partition those at `offsets`.

    Which they are is data, read from a tile when the instruction runs. The region is all that they are chosen from.
    """

    offsets: tuple[int, ...]  # in elements of the partition

    def of(self, allocation: Allocation) -> IndirectRegion:
        found = IndirectRegion(*super().of(allocation))
        found.offsets = self.offsets
        return found

    @property
    def free_size(self) -> int:
        return len(self.offsets)


class Event:
    """One executed instruction, and the handle of it that a kernel gets."""

    __slots__ = ("attributes", "core", "engine", "line", "name", "op", "reads", "writes")

    def __init__(
        self,
        op: str,
        engine: str,
        reads: tuple[Region, ...],
        writes: tuple[Region, ...],
        line: tuple[str, int],
        core: int,
        name: str | None,
        attributes: dict[str, Any],
    ) -> None:
        self.op = op
        self.engine = engine
        self.reads = reads
        self.writes = writes
        self.line = line
        self.core = core
        self.name = name
        self.attributes = attributes

    def depends_on(self, *producers: Event, kind: dependency | None = None) -> Event:
        """Run after each producer (nki.isa.NkiInstruction.depends_on).

        kind: `runtime` waits for it, `schedule` is issued after it and waits for nothing; None does as NKI 0.6 did
        """
        if kind is not None and not isinstance(kind, dependency):
            raise NkiValidationError(f"kind must be nisa.dependency.runtime or .schedule, got {kind!r}")
        for producer in producers:
            if not isinstance(producer, Event) or producer is self:
                raise NkiValidationError(
                    f"depends_on takes other instructions, as nisa calls return them; got {producer}"
                )
            own, other = self.attributes.get("loop", ()), producer.attributes.get("loop", ())
            if own != other and not (kind is not None and own[: len(other)] == other):
                # The stub of 0.6 allows a producer in an enclosing scope, and forbids an edge into a loop a sentence
                # later; the page of 0.7 has both ends in one loop, or the producer outside.
                raise NkiValidationError(
                    f"{self.label} cannot depend on {producer.label}: a dynamic loop, or another round of it, holds "
                    "one and not the other",
                    source="nki/api/nki/isa/__init__.py, NkiInstruction",
                )
        # Events of one kind may share their attributes: this one's become its own.
        key = "issued_after" if kind is dependency.schedule else "after"
        self.attributes = {**self.attributes, key: [*self.attributes.get(key, ()), *producers]}
        return self

    @property
    def label(self) -> str:
        """What an error calls it."""
        return f"{self.name or self.op} at {show_line(self.line)}"

    def __repr__(self) -> str:
        return f"Event({self.op} on {self.engine}, {show_line(self.line)})"


@dataclass(slots=True)
class Trace:
    """All events of one run: each core's in program order, but for with_schedule; two cores' as they took turns."""

    chip: Chip
    target: str
    events: list[Event] = field(default_factory=list)
    allocations: list[Allocation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is allowed but documented to go wrong, with its line

    def count(self) -> dict[str, int]:
        """Instructions by name."""
        return dict(Counter(event.op for event in self.events))
