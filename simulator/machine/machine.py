"""The machine that a kernel runs on: one core of a chip, with memory, accumulators and the trace it writes.

A kernel calls `nl.*` and `nisa.*` as plain functions; they find their machine in `machine()`.
"""

from __future__ import annotations

import math
import operator
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.analysis.capacity import bytes_of
from triptych.simulator.analysis.regions import Rules, check_overlaps, check_regions
from triptych.simulator.chip.record import Chip
from triptych.simulator.dtypes import F32, DType, dtype_of, int64
from triptych.simulator.enums import engine
from triptych.simulator.errors import Lines, NkiValidationError, OutOfBounds, show_line
from triptych.simulator.machine.cores import Core, MeetOthers
from triptych.simulator.machine.forms import PLAIN, describe, form_of
from triptych.simulator.machine.plan import Known, Plan, is_apart, known
from triptych.simulator.machine.table import INSTRUCTIONS
from triptych.simulator.machine.unwritten import Origin, UnwrittenRead, spread, take_padding
from triptych.simulator.memory.hbm_addresses import HbmAddresses, check_hbm_address
from triptych.simulator.memory.held import Held
from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.placement import Arena, PlacedStorage, check_address
from triptych.simulator.memory.pool import Pool
from triptych.simulator.memory.storage import PSUM, SBUF, MemoryRegion, Storage
from triptych.simulator.operands.accumulators import Accumulator, AccumulatorTile
from triptych.simulator.options import Options
from triptych.simulator.running import running
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Event, HasRegion, Region, Trace

NkiInstruction = Event  # an executed instruction is its event (nki.isa.NkiInstruction)

Array = NDArray[Any]
_SHARED = MemoryRegion.shared_hbm
_make = tuple.__new__


_GARBAGE = 0x3F  # what unwritten bytes hold where they may be read: finite and not zero in every float dtype


class Kind(NamedTuple):
    """An instruction or a collective, as the machine carries it out."""

    name: str
    effect: Callable[..., Any]
    rules: Rules | None  # of the memory that it touches; None for collectives, which carry themselves out and record
    label: int  # which parameter is the name that the kernel gives


@dataclass(slots=True)
class Machine:
    """One core of one rank while it runs a kernel."""

    chip: Chip
    trace: Trace
    options: Options
    core: int = 0
    cores: int = 1
    shared: list[NkiTensor] = field(default_factory=list)  # shared_hbm tensors, the same for every core
    rank: int = 0
    ranks: int = 1
    arguments: int = 0  # how many allocations, the first, are the kernel's arguments
    shared_seen: int = 0
    meet: MeetOthers = field(default_factory=lambda: Core((0, 0)).meet)  # wait for other cores
    epoch: int = 0  # barriers, and collectives on shared HBM, that this core has passed
    compile_config: Any = None  # of the kernel, by nki.jit (triptych.simulator.api.compiler)
    allows_nested_config: bool = False  # a kernel that it calls may have another
    prepared: Any = None  # the collective that waits for its trigger (triptych.simulator.engines.collectives.prepared)
    rounds: Any = None  # of the loop on the chip whose body runs (triptych.simulator.machine.rounds)
    scope: dict[str, Any] = field(default_factory=dict)  # attributes of every event in the block or loop that is open
    blocks: int = 0  # blocks and loops that were ever opened
    pool: Pool = field(default_factory=Pool)
    arenas: dict[str, Arena] = field(default_factory=dict)  # memory in which tensors have addresses
    hbm: dict[str, HbmAddresses] = field(default_factory=dict)  # and HBM, by region
    lines: Lines = field(default_factory=Lines)
    line: tuple[str, int] = ("?", 0)  # of the kernel, where the instruction that runs was called
    any_dynamic: bool = False  # whether a view with a dynamic index was ever made: until then nobody looks for one
    index_reads: list[NkiTensor] = field(default_factory=list)  # of the instruction that runs, for dynamic addresses
    index_writers: list[Event] = field(default_factory=list)  # of the registers in its dynamic addresses
    shapes: dict[Any, tuple[tuple[int, ...], int]] = field(default_factory=dict)  # of tensors whose checks have passed,
    # with the bytes of a partition that each takes on chip
    held: dict[str, Held] = field(default_factory=lambda: {"sbuf": Held(), "psum": Held()})
    plans: dict[Any, Known] = field(default_factory=dict)  # of calls, by what their checks see of them
    scalar_accumulator: Accumulator = field(default_factory=lambda: Accumulator("Scalar Engine", "scalar_registers"))
    vector_accumulator: Accumulator = field(
        default_factory=lambda: Accumulator("Vector Engine", "vector_registers", True)
    )
    generators: dict[engine, Array] = field(default_factory=dict)  # of random numbers, made when an engine first draws

    tries: str = ""  # "dry" and at "last" really, while an instruction is tried with values in unwritten memory
    origins: dict[int, Origin] = field(default_factory=dict)  # of what counts as unwritten, by allocation
    doubtful_accumulators: bool = False  # whether a register of an accumulator ever rested on unwritten memory
    noted: set[str] = field(default_factory=set)  # remarks that are made once

    # With the line, the storage and the count of what is held also in C: triptych.simulator.compiled.
    def allocate(
        self, shape: Sequence[int], dtype: Any, buffer: MemoryRegion, name: str = "", address: Any = None
    ) -> NkiTensor:
        """A new tensor with nothing in it, at `address` if the kernel chooses one."""
        if not isinstance(buffer, MemoryRegion):
            raise NkiValidationError(f"buffer must be nl.sbuf, nl.psum, nl.hbm or nl.shared_hbm, got {buffer!r}")
        if address is not None and not buffer.on_chip:
            return self._in_hbm(shape, dtype, buffer, name, check_hbm_address(address))
        kind = dtype_of(dtype)
        try:
            key = tuple(shape), kind, buffer._value_
            found = self.shapes.get(key)
        except TypeError:
            raise NkiValidationError(f"a shape is a tuple of integers, got {shape!r}") from None
        if found is None:
            plain = self._check_allocation(key[0], kind.itemsize, buffer)
            size = bytes_of(plain, kind.itemsize, buffer._value_, self.chip) if buffer.on_chip else 0
            found = self.shapes[key] = plain, size
        shape, size = found
        shared = buffer is _SHARED
        if shared and self.shared_seen < len(self.shared):
            return self._shared_again(shape, kind)
        number = len(self.trace.allocations)
        place = None if address is None else self._address(shape, kind, buffer, address)
        line, variable = self.lines.bound(sys._getframe(1))
        fields = (number, name or variable or f"t{number}", buffer._value_, shape, kind, line, place)
        allocation = _make(Allocation, fields)  # without its Python-level constructor
        self.trace.allocations.append(allocation)
        if place is None or not self.options.round_low_precision:
            storage = self.storage_for(allocation, buffer)
        else:
            storage = self.placed_storage_for(allocation, self.arenas[buffer._value_], place)
        tensor = NkiTensor.at(_make(Layout, (0, shape, storage.dense, kind)), storage, buffer)
        if size:
            self.held[buffer._value_].hold(storage, size)
        if shared:
            self.shared.append(tensor)
            self.shared_seen += 1
        return tensor

    def storage_for(self, allocation: Allocation, buffer: MemoryRegion) -> Storage:
        pool = self.pool if buffer is SBUF or buffer is PSUM else None
        storage = Storage(allocation, not self.options.round_low_precision, pool)
        if not self.options.check_uninitialized:
            storage.raw.fill(_GARBAGE)
        return storage

    def placed_storage_for(self, allocation: Allocation, arena: Arena, place: tuple[int, int]) -> Storage:
        return PlacedStorage(allocation, arena, *place)

    def arena_for(self, buffer: MemoryRegion) -> Arena:
        arena = Arena(self.chip, buffer)
        if not self.options.check_uninitialized:
            arena.bytes.fill(_GARBAGE)
        return arena

    def input(self, array: Array, name: str) -> NkiTensor:
        """A kernel argument: HBM that holds the caller's bytes, without a copy where the array is dense."""
        allocation = self.input_allocation(array.shape, array.dtype, name)
        storage = Storage(allocation, not self.options.round_low_precision, raw=np.empty(0, np.uint8))
        dense = np.ascontiguousarray(array.astype(F32) if storage.widened else array)
        if not dense.flags.writeable:
            dense = dense.copy()
        storage.raw = dense.reshape(-1).view(np.uint8)
        return NkiTensor(array.shape, allocation.dtype, storage, MemoryRegion(allocation.buffer))

    def input_allocation(self, shape: tuple[int, ...], dtype: Any, name: str) -> Allocation:
        buffer = MemoryRegion.shared_hbm if self.cores > 1 else MemoryRegion.private_hbm
        number = len(self.trace.allocations)
        line = self.lines.of(sys._getframe(1))
        kind = int64 if dtype == np.int64 else dtype_of(dtype)
        allocation = Allocation(number, name, buffer.value, shape, kind, line)
        self.trace.allocations.append(allocation)
        return allocation

    def _shared_again(self, shape: tuple[int, ...], kind: DType) -> NkiTensor:
        """The shared tensor that the other core has allocated already, at the same point of its program."""
        tensor = self.shared[self.shared_seen]
        self.shared_seen += 1
        if tensor.shape != shape or tensor.dtype != kind:
            raise NkiValidationError(
                f"the cores allocate different shared tensors: {kind} {shape} here and {tensor!r} on the other core; "
                "both must execute the same program",
                source="nki/get-started/about/lnc.rst",
            )
        return tensor

    def _address(self, shape: tuple[int, ...], kind: DType, buffer: MemoryRegion, address: Any) -> tuple[int, int]:
        """`address`, checked, with the arena that it lies in made."""
        place = check_address(self.chip, buffer, shape, math.prod(shape[1:]) * kind.itemsize, address)
        if buffer._value_ not in self.arenas:
            self.arenas[buffer._value_] = self.arena_for(buffer)
        return place

    def _in_hbm(self, shape: Sequence[int], dtype: Any, buffer: MemoryRegion, name: str, byte: int) -> NkiTensor:
        """A tensor from a byte of HBM on: a view of the one that lies there, if one does."""
        tensor = self.allocate(shape, dtype, buffer, name)
        if self.options.round_low_precision:  # else elements have other sizes, and no two tensors share bytes
            places = self.hbm.setdefault(buffer._value_, HbmAddresses())
            storage, first = places.place(byte, tensor.storage, tensor.dtype.itemsize)
            if storage is not tensor.storage:
                return NkiTensor.at(tensor.layout._replace(offset=first), storage, buffer)
        return tensor

    def _check_allocation(self, shape: tuple[Any, ...], itemsize: int, buffer: MemoryRegion) -> tuple[int, ...]:
        """`shape` in plain integers, checked to be a tensor that `buffer` can hold."""
        try:
            shape = tuple([operator.index(n) for n in shape])
        except TypeError:
            raise NkiValidationError(f"a shape is integers, got {shape}") from None
        if not shape or min(shape) < 1:
            raise NkiValidationError(f"a tensor needs at least one dimension and sizes of 1 or more, got {shape}")
        if not buffer.on_chip:
            return shape
        if shape == (1,) and buffer is SBUF:
            self.note(
                "shape (1,) in SBUF is taken for (1, 1): the pages of register_load and register_store allocate it, "
                "and the language guide asks for two dimensions [nki.isa.register_load.html of SDK 2.33]",
                self.lines.of(sys._getframe(1)),
            )
            return 1, 1
        if len(shape) < 2:
            raise NkiValidationError(
                f"an on-chip tensor has a partition and a free dimension, got {shape}; "
                f"write ({shape[0]}, 1) or (1, {shape[0]})",
                source="nki/get-started/nki-language-guide.rst",
            )
        if shape[0] > self.chip.partitions.value:
            raise NkiValidationError(
                f"dimension 0 of a {buffer.value} tensor is the partition, at most {self.chip.partitions.value:.0f}; "
                f"got {shape}; nl.alloc_tiles or nl.alloc_blocks lays tiles of more rows beside each other",
                source=self.chip.partitions.source,
            )
        fact = self.chip.sbuf_partition_bytes if buffer is SBUF else self.chip.psum_partition_bytes
        need = math.prod(shape[1:]) * itemsize
        if need > fact.value and self.options.check_capacity:
            raise NkiValidationError(
                f"{shape} takes {need} bytes of each {buffer.value} partition, and {self.chip.name} has "
                f"{fact.value:.0f}; split the tensor",
                source=fact.source,
            )
        return shape

    def check_reads(self, tensors: Sequence[NkiTensor]) -> None:
        """Every element that an instruction reads has been written, or the instruction is tried (`unwritten`)."""
        if self.options.check_uninitialized:
            for tensor in tensors:
                if tensor.storage.missing:
                    self.reads_unwritten(tensor)

    def reads_unwritten(self, tensor: NkiTensor) -> None:
        """An instruction reads a tensor of which some may not have been written."""
        take_padding(self, tensor)
        if self.options.forbids("unwritten-read"):
            tensor.check_written()
        elif not self.tries and tensor.storage.written_at(tensor.layout) is not True:
            raise UnwrittenRead(tensor)

    def values(self, tensor: NkiTensor) -> Array:
        """What a tensor holds, for a kernel whose control flow, or an address, depends on it."""
        return tensor.array

    def issue(self, name: str, **operands: Any) -> NkiInstruction:
        """Execute an instruction of `nki.isa` by its name, for those who cannot import the engines."""
        return INSTRUCTIONS[name].issue(**operands)  # type: ignore[no-any-return]

    def note(self, message: str, line: tuple[str, int] | None = None) -> None:
        """Keep a remark, with the kernel's line: that of the instruction that runs, unless another is given."""
        self.trace.notes.append(f"{show_line(line or self.line)}: {message}")

    def note_once(self, message: str) -> None:
        """Keep a remark, unless it was made before."""
        if message not in self.noted:
            self.noted.add(message)
            self.note(message)

    def remark(self, name: str, message: str, source: str) -> None:
        """Note what is one of options.REMARKS, or raise it where the options forbid it."""
        if self.options.forbids(name):
            raise NkiValidationError(message, source=source)
        self.note_once(f"{message} [{source}]")

    def note_values(self, message: str) -> None:
        """Keep a remark on the values that the instruction which runs has met."""
        self.note(message)

    def opened(self) -> int:
        """The number of a block or loop that opens now."""
        self.blocks += 1
        return self.blocks

    @contextmanager
    def scoped(self, **attributes: Any) -> Iterator[None]:
        """Give each event inside these attributes too."""
        before = self.scope
        self.scope = {**before, **attributes}
        try:
            yield
        finally:
            self.scope = before

    # With perform, append and form_of also in C: triptych.simulator.compiled.
    def execute(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out an instruction whose operands are known: check and plan it, or take the plan of a call like it."""
        effect, rules = kind.effect, kind.rules
        if rules is None:
            return effect(*args, **kwargs)
        label = kwargs.get("name") if len(args) <= kind.label else args[kind.label]
        key: list[Any] = [effect, len(args), *kwargs]
        listed: list[NkiTensor] = []
        has_key = True
        values = (*args, *kwargs.values()) if label is None else _without(label, args, kwargs, kind.label)
        try:
            for value in values:
                of = type(value)
                if of is NkiTensor and value.index is None:  # the most frequent, without a call
                    key.append(value.form or form_of(value))
                    listed.append(value)
                elif of in PLAIN:
                    key += (of, value)
                elif not describe(value, key, listed):
                    has_key = False
                    break
        except OutOfBounds:  # of a view that leaves its tensor; other rules come first
            has_key = False
        tensors = tuple(listed)
        if len(set(tensors)) < len(tensors):
            key.append(tuple([tensors.index(t) for t in tensors]))  # which of them are one
        found = tuple(key) if has_key else None
        like = self.plans.get(found)
        if like is not None:
            plan, reads, writes, operands, check = like
            given = operands.of(plan.operands + tensors)
            event = self.perform(kind, plan, reads.of(tensors), writes.of(tensors), given, label)
            if check is not None:
                check(event, rules)
            return event
        plan = effect(*args, **kwargs)
        event = self.perform(kind, plan, plan.reads, plan.writes, plan.operands, label)
        check_regions(event, rules)
        if found is not None:
            check = None if is_apart(plan, rules.order) else check_overlaps
            new = known(plan, tensors, check)
            if new is not None:
                self.plans[found] = new
        return event

    def perform(
        self,
        kind: Kind,
        plan: Plan,
        reads: tuple[Any, ...],
        writes: tuple[Any, ...],
        operands: tuple[Any, ...],
        label: str | None,
    ) -> NkiInstruction:
        """Carry out a plan with these tensors and append its event."""
        results = plan.results or writes
        if plan.late is not None:
            reads, writes, results, operands = plan.late(*operands)
        given = operands
        try:
            if plan.needs is not None:
                plan.needs(*operands)
            else:
                self.check_reads(reads)
            if plan.decide is not None:
                answer = plan.decide(*operands)
                given = (*operands, answer)
                if plan.by_matmul and answer is not False:
                    reads += writes
        except UnwrittenRead as read:
            read.results, read.makes_all = results, plan.makes_all
            raise
        if plan.use is not None:
            held, kept = plan.use.begin()
            reads, writes = reads + held, writes + kept
        self.compute(plan, results, given)
        if plan.marks is not None:
            plan.marks(*operands)
        event = self.append(kind.name, plan.engine, reads, writes, label, plan.attributes)
        if plan.register is not None:
            plan.register.written_by = event
        return event

    def compute(self, plan: Plan, results: tuple[NkiTensor, ...], operands: tuple[Any, ...]) -> None:
        """Make the results of a plan."""
        plan.compute(*operands)

    def settle(self) -> None:
        """Bring to the caller's arrays what the kernel wrote: it is there."""

    def append(
        self,
        instruction: str,
        on: engine,
        reads: Sequence[HasRegion],
        writes: Sequence[HasRegion],
        name: str | None,
        attributes: dict[str, Any],
    ) -> NkiInstruction:
        """Append an event, with what the machine knows of it; events may share their attributes."""
        if self.doubtful_accumulators:
            spread(self, [t for t in reads if isinstance(t, AccumulatorTile)], writes)
        if self.tries == "dry":
            self.index_writers.clear()
            return Event(instruction, on._name_, (), (), self.line, self.core, name, attributes)
        if self.cores > 1:
            attributes = {**attributes, "epoch": self.epoch}
            if self.options.data:
                attributes["written"] = tuple([_digest(t) for t in writes])
        if self.scope:
            attributes = {**self.scope, **attributes}
        if self.index_writers:
            attributes = {**attributes, "registers": (*attributes.get("registers", ()), *self.index_writers)}
            self.index_writers.clear()
        if self.index_reads:
            reads = (*reads, *self.index_reads)
        event = Event(
            instruction,
            on._name_,
            regions_of(reads),
            regions_of(writes),
            self.line,
            self.core,
            name,
            attributes,
        )
        self.trace.events.append(event)
        return event


# Also in C: triptych.simulator.compiled.
def regions_of(touched: Sequence[HasRegion]) -> tuple[Region, ...]:
    """What an event names of tensors, registers of an accumulator, and regions themselves."""
    return tuple([t if type(t) is Region else t.region for t in touched])


def _without(label: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at: int) -> tuple[Any, ...]:
    """The arguments of a call with no name given."""
    if len(args) > at:
        return (*args[:at], "", *args[at + 1 :], *kwargs.values())
    return (*args, *["" if value is label else value for value in kwargs.values()])


def _digest(t: HasRegion) -> int:
    """A checksum of what shared HBM holds, by which the races see that both cores wrote the same."""
    if not isinstance(t, NkiTensor) or t.buffer is not _SHARED:
        return 0
    return zlib.crc32(np.ascontiguousarray(t.array).view(np.uint8))  # type: ignore[arg-type]


# As engines and functions of the language see it: all of the machine, not only what `Running` says of it.
machine = cast(Callable[[], Machine], running)
