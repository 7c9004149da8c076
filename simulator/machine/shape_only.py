"""The machine of a shape-only run: it leaves the trace that a run with data leaves, and computes nothing.

What an instruction's event says depends on the forms of its operands, on its other arguments and on what has been
written before, never on values: an instruction is checked as ever, and its results count as written. What has been
written is known all the while, in cells instead of bytes (`memory.shapes`): reads of memory that nothing wrote are
found, accumulation is, and capacity and races are checks of the trace. Where values would decide what happens next,
NeedsData is raised. Where they decide what is written, as the predicate of tensor_copy_predicated does, all of it
counts as written.
"""

from __future__ import annotations

from typing import Any, NoReturn

from triptych.simulator.errors import NeedsData, Uninitialized
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.memory.placement import Arena
from triptych.simulator.memory.shapes import PlacedShapeStorage, ShapeArena, ShapeStorage
from triptych.simulator.memory.storage import MemoryRegion, Storage
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Allocation


class ShapeMachine(Machine):
    """One core of one rank while it runs a kernel on shapes alone."""

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

    def compute(self, plan: Plan, results: tuple[NkiTensor, ...], operands: tuple[Any, ...]) -> None:
        """Mark the results as written. What can be done with packed elements is known by whoever does it, on zeros."""
        if plan.fresh:
            plan.fresh = False
            if any([t.dtype.kind == "x" for t in (*plan.reads, *plan.writes)]):
                plan.compute(*operands)
        for t in results if plan.marks is None else ():
            t.storage.wrote(t.layout, plan.by_matmul)

    def note_values(self, message: str) -> None:
        """Nothing: it is about values."""
