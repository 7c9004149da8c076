"""The machine of a shape-only run: it leaves the trace that a run with data leaves, and computes nothing.

What an instruction's event says depends on the forms of its operands, on its other arguments and on what has been
written before, never on values. So calls are looked up by these, and only the first of a kind is carried out
(`templates`). What has been written is known all the while, in cells instead of bytes
(`memory.shapes`): reads of memory that nothing wrote are found, accumulation is, and capacity and races are
checks of the trace. Where values would decide what happens next, NeedsData is raised. Where they decide what is
written, as the predicate of tensor_copy_predicated does, all of it counts as written.

A call is carried out each time if one of its arguments is of no known kind (a register, whose value changes), if it
meets other cores, or if what it asks about has been written in part.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.analysis.regions import Rules, check_overlaps, check_regions
from triptych.simulator.dtypes import DType
from triptych.simulator.enums import engine
from triptych.simulator.errors import NeedsData, NkiError, OutOfBounds, Uninitialized
from triptych.simulator.machine.cores import Who
from triptych.simulator.machine.dynamic import moved
from triptych.simulator.machine.machine import Machine, NkiInstruction
from triptych.simulator.machine.registers import VirtualRegister
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.machine.templates import AbstractStorage, Form, NoTemplate, Part, Template, form_of
from triptych.simulator.memory.placement import Arena
from triptych.simulator.memory.shapes import PlacedShapeStorage, ShapeArena, ShapeStorage
from triptych.simulator.memory.storage import MemoryRegion, Storage
from triptych.simulator.operands.accumulators import AccumulatorTile
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.index import DynamicIndex
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation, Event, HasRegion, Region

Array = NDArray[Any]
Effect = Callable[..., Any]
_PLAIN = frozenset((int, float, bool, str, DType, type(None), range))
_MOST_VALUES = 4096  # of an array that is an argument, as a mask of lanes is


class State:
    """What instructions can see of a core beside their operands, and the templates that were made in it."""

    def __init__(self, scalar: bytes, vector: bytes) -> None:
        self.scalar, self.vector = scalar, vector  # where the accumulators hold a value
        self.templates: dict[Any, list[tuple[Template, State]]] = {}


class ShapeMachine(Machine):
    """One core of one rank while it runs a kernel on shapes alone."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._draft: Template | None = None  # of the instruction that is carried out on abstract operands
        self._states: dict[Any, State] = {}
        self._state = self._current_state()

    # Memory

    def storage_for(self, allocation: Allocation, buffer: MemoryRegion) -> Storage:
        return ShapeStorage(allocation, not self.options.round_low_precision)

    def placed_storage_for(self, allocation: Allocation, arena: Arena, place: tuple[int, int]) -> Storage:
        assert isinstance(arena, ShapeArena)
        return PlacedShapeStorage(allocation, arena, *place)

    def arena_for(self, buffer: MemoryRegion) -> Arena:
        return ShapeArena(self.chip, buffer)

    def input(self, array: Any, name: str) -> NkiTensor:
        allocation = self.input_allocation(tuple(array.shape), array.dtype, name)
        storage = ShapeStorage(allocation, not self.options.round_low_precision, written=True)
        return NkiTensor(allocation.shape, allocation.dtype, storage, MemoryRegion(allocation.buffer))

    def values(self, tensor: NkiTensor) -> NoReturn:
        raise NeedsData(
            f"needs the values of {tensor!r}, and this run has shapes alone: the kernel's control flow or an address "
            "depends on data; run it with arrays"
        )

    def reads_unwritten(self, tensor: NkiTensor) -> None:
        """A remark: what of the results rests on it is not known without data, and all of them count as written."""
        try:
            tensor.check_written()
        except Uninitialized as error:
            if self.options.forbids("unwritten-read"):
                raise
            self.note_once(f"{error.message}; whether an output rests on it is known only with data")

    # Instructions

    def by_shape(
        self,
        effect: Callable[..., Any],
        rules: Rules | None,
        reads_indices: bool,
        carry_out: Callable[[Machine, tuple[Any, ...], dict[str, Any]], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Carry out an instruction, or append the event that it has as others like it."""
        key: list[Any] = [effect, len(args), *kwargs]
        tensors: list[NkiTensor] = []
        name = kwargs.get("name")
        values = args + tuple(kwargs.values()) if name is None else (*args, *{**kwargs, "name": ""}.values())
        known = rules is not None
        try:
            for value in values:
                kind = type(value)
                if kind is NkiTensor and value.index is None:
                    key.append(value.form or form_of(value))
                    tensors.append(value)
                elif kind in _PLAIN:
                    key.append(kind)
                    key.append(value)
                else:
                    known = known and self._describe(value, key, tensors, not reads_indices)
        except OutOfBounds:  # of a view that leaves its tensor; other rules come first
            known = False
        if known:
            assert rules is not None  # collectives meet other ranks
            found = tuple(key)
            for template, after in self._state.templates.get(found, ()):
                if not template.asks or template.fits(tensors):
                    event = self._issue(template, after, tensors, name)
                    (check_overlaps if template.regular else check_regions)(event, rules)
                    return event
            made = self._make(effect, tensors, args, kwargs)
            if made is not None:
                self._state.templates.setdefault(found, []).append(made)
                event = self._issue(*made, tensors, name)
                check_regions(event, rules)
                return event
        try:
            return carry_out(self, args, kwargs)
        finally:
            self._state = self._current_state()

    def _describe(self, value: Any, key: list[Any], tensors: list[NkiTensor], resolves: bool) -> bool:
        """Add an argument to the key of a call, and tensors to its operands; False for what has no key."""
        kind = type(value)
        if kind in _PLAIN:
            key += (kind, value)
        elif kind is NkiTensor and value.index is None:
            key.append(form_of(value))
            tensors.append(value)
        elif kind is NkiTensor:
            if not resolves or not self._moved_by_register(value):
                return False
            return self._describe(moved(value), key, tensors, resolves)
        elif kind is Op:
            key.append(value)
        elif issubclass(kind, enum.Enum):
            key += (kind, id(value))
        elif kind is tuple or kind is list:
            key += (kind, len(value))
            return all([self._describe(v, key, tensors, resolves) for v in value])
        elif issubclass(kind, np.generic):
            key += (kind, value.tobytes())
        elif kind is np.ndarray and value.size <= _MOST_VALUES:
            key += (kind, value.shape, value.dtype, value.tobytes())
        else:
            return False
        return True

    @staticmethod
    def _moved_by_register(t: NkiTensor) -> bool:
        return isinstance(t.index, DynamicIndex) and isinstance(t.index.source, (VirtualRegister, NkiScalar, int))

    def _make(
        self, effect: Effect, tensors: list[NkiTensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Template, State] | None:
        """Carry out a call on abstract operands; None if it has no template or breaks a rule."""
        template = Template()
        before, meet = self._state, self.meet
        self._draft, self.meet = template, _no_rendezvous
        try:
            forms = [Form(*form_of(t)) for t in tensors]
            abstract = iter([f.abstract(i, t, template) for i, (f, t) in enumerate(zip(forms, tensors, strict=True))])
            effect(*_replaced(args, abstract), **{k: _replaced(v, abstract) for k, v in kwargs.items()})
            made = template.recorded == 1
        except (NkiError, NoTemplate):  # an error is to name the operands, which it does in the call itself
            made = False
        finally:
            self._draft, self.meet = None, meet
        if made:
            template.named = template.name is not None and template.name == kwargs.get("name")
            return template.finished(forms), self._current_state()
        self._enter(before)
        return None

    def _issue(self, template: Template, after: State, tensors: list[NkiTensor], name: str | None) -> Event:
        """Append the event that a template says, and mark what it writes."""
        reads: tuple[Region, ...]
        writes: tuple[Region, ...]
        if template.whole:
            read, written, checked = template.numbers
            for i in checked:
                if tensors[i].storage.missing:
                    self.reads_unwritten(tensors[i])
            reads, writes = tuple([tensors[i].region for i in read]), tuple([tensors[i].region for i in written])
            for part, by_matmul in template.wrote:
                t = tensors[part.operand]
                t.storage.wrote(t.layout, by_matmul)
        else:
            for part in template.checks:
                t = tensors[part.operand]
                if t.storage.missing:
                    self.reads_unwritten(NkiTensor.at(part.layout_in(t), t.storage, t.buffer))
            reads, writes = (
                tuple([part.region(tensors[part.operand]) for part in parts])
                for parts in (template.reads, template.writes)
            )
            for part, by_matmul in template.wrote:
                t = tensors[part.operand]
                t.storage.wrote(part.layout_in(t), by_matmul)
        event = Event(
            template.op,
            template.engine,
            reads + template.read_accumulators,
            writes + template.written_accumulators,
            self.line,
            self.core,
            name if template.named else template.name,
            {**template.attributes, **self.scope} if self.scope else template.attributes,
        )
        if after is not self._state:
            self._enter(after)
        self.trace.events.append(event)
        for message in template.notes:
            self.note(message)
        return event

    def record(
        self,
        instruction: str,
        on: engine,
        reads: Sequence[HasRegion],
        writes: Sequence[HasRegion],
        name: str | None = None,
        **attributes: Any,
    ) -> NkiInstruction:
        template = self._draft
        if template is None:
            return super().record(instruction, on, reads, writes, name, **attributes)
        if self.cores > 1:
            attributes["epoch"] = self.epoch
        template.op, template.engine, template.name, template.attributes = instruction, on._name_, name, attributes
        template.reads, template.read_accumulators = _parts(reads)
        template.writes, template.written_accumulators = _parts(writes)
        template.recorded += 1
        return Event(instruction, on._name_, (), (), self.line, self.core, name, attributes)

    def note(self, message: str, line: tuple[str, int] | None = None) -> None:
        if self._draft is None:
            super().note(message, line)
        else:
            self._draft.notes.append(message)

    def note_values(self, message: str) -> None:
        """Nothing: it is about values."""

    def _current_state(self) -> State:
        state = State(self.scalar_accumulator.started.tobytes(), self.vector_accumulator.started.tobytes())
        return self._states.setdefault((state.scalar, state.vector, self.epoch), state)

    def _enter(self, state: State) -> None:
        self._state = state
        for accumulator, started in ((self.scalar_accumulator, state.scalar), (self.vector_accumulator, state.vector)):
            accumulator.started[...] = np.frombuffer(started, bool).reshape(accumulator.started.shape)


def _parts(touched: Sequence[HasRegion]) -> tuple[list[Part], tuple[Region, ...]]:
    """What an event names, as parts of abstract operands and the accumulators behind them."""
    parts: list[Part] = []
    accumulators: list[Region] = []
    for t in touched:
        if isinstance(t, AccumulatorTile):
            accumulators.append(t.region)
        elif isinstance(t, NkiTensor) and isinstance(t.storage, AbstractStorage) and not accumulators:
            parts.append(t.storage.part(t.layout))
        else:
            raise NoTemplate
    return parts, tuple(accumulators)


def _replaced(value: Any, abstract: Iterator[NkiTensor]) -> Any:
    """An argument with its tensors replaced by abstract ones, in the order in which they were described."""
    if isinstance(value, NkiTensor):
        return next(abstract)
    return type(value)(_replaced(v, abstract) for v in value) if type(value) in (tuple, list) else value


def _no_rendezvous(what: str, offer: Any, members: Sequence[Who], name: str = "") -> NoReturn:
    raise NoTemplate
