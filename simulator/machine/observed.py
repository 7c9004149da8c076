"""A machine that shows each executed instruction to an observer: its event, the tensors it read and those it wrote.

It sees tensors alone; the registers of the engines' accumulators, which the trace holds too, are not shown.
The observer is called when the event is recorded, which is after the instruction wrote; a tensor that it read and wrote
holds the new values. Its memory is used again: an observer copies what it keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych.simulator.enums import engine
from triptych.simulator.machine.machine import Machine, NkiInstruction
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import HasRegion


class ObservedMachine(Machine):
    def append(
        self,
        instruction: str,
        on: engine,
        reads: Sequence[HasRegion],
        writes: Sequence[HasRegion],
        name: str | None,
        attributes: dict[str, Any],
    ) -> NkiInstruction:
        event = super().append(instruction, on, reads, writes, name, attributes)
        assert self.options.observe is not None
        if self.tries == "dry":
            return event
        self.options.observe(event, _tensors((*reads, *self.index_reads)), _tensors(writes))
        return event


def _tensors(operands: Sequence[HasRegion]) -> list[NkiTensor]:
    return [x for x in operands if isinstance(x, NkiTensor)]
