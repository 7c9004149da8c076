"""Instructions as rows of tables.

`INSTRUCTIONS` is the one table that the `nki.isa` namespace, the timing and the tests read. `COLLECTIVES` is the same
for `nki.collectives`. The declarations in triptych.simulator.engines fill both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triptych.simulator.analysis.costs import Cost
from triptych.simulator.enums import engine


@dataclass(frozen=True)
class Indirect:
    """What an instruction's documentation says of tensor indirection."""

    read: tuple[str, ...]  # operands that may gather; the partitions of a scatter's index follow the first
    write: tuple[str, ...] = ("dst",)
    also: tuple[str, ...] = ()  # operands that may gather and start anywhere
    group: int = 16
    engines: tuple[engine, ...] = ()  # on which it works, of those the instruction runs on; all of them if empty
    check: Callable[[dict[str, Any]], None] | None = None  # further rules, on the operands by name


@dataclass(frozen=True)
class Instruction:
    """One row of the tables of instructions and collectives."""

    name: str
    engines: tuple[engine, ...]  # the first is taken when the kernel leaves it open
    cost: Cost  # nanoseconds that the engine is busy
    since: int  # first NeuronCore generation
    source: str
    indirect: Indirect | None  # which operands may be indirect views
    effect: Callable[..., Any]
    issue: Callable[..., Any]  # what a kernel calls: checks the generation, names itself in errors

    @property
    def summary(self) -> str:
        return (self.effect.__doc__ or "").strip().partition("\n")[0]


INSTRUCTIONS: dict[str, Instruction] = {}  # nki.isa
COLLECTIVES: dict[str, Instruction] = {}  # nki.collectives


def row_of(op: str) -> Instruction:
    """The row of the tables behind an event's op."""
    return INSTRUCTIONS[op] if op in INSTRUCTIONS else COLLECTIVES[op]
