"""Collectives of parts in two steps (NKI 0.7): the preparation reads the metadata, and the trigger moves the data.

Between the two a core may compute what is to be sent. There is one slot: a preparation is triggered before another one,
of either kind. Pages of SDK 2.33: nki.collectives.all_gather_v_prepare, all_to_all_v_prepare, all_to_all_v_trigger;
that of all_gather_v_trigger was not seen, and is taken to be like the last. What comes of metadata that changes between
the two is not shown, and raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.engines.collectives.replicas import Ranks, ReplicaGroup
from triptych.simulator.engines.collectives.variable import (
    Given,
    check_gathered,
    check_to_all,
    exchange_parts,
    rows_read,
)
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError, show_line
from triptych.simulator.machine.instructions import collective
from triptych.simulator.machine.machine import Machine, NkiInstruction, machine
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.operands.operands import describe
from triptych.simulator.tensors.tensor import NkiTensor


class Prepared(NamedTuple):
    """What waits in a core's slot for its trigger."""

    event: NkiInstruction
    ranks: Ranks
    given: Given
    metadata: list[Any]  # what the preparation read


@collective(eng.dma, cost=costs.free, since=3)
def all_gather_v_prepare(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Read the metadata of an all_gather_v, whose trigger moves the data."""
    given = Given(srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    return _prepared("all_gather_v_prepare", check_gathered, given, name)


@collective(eng.dma, cost=costs.free)
def all_to_all_v_prepare(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Read the metadata of an all_to_all_v, whose trigger moves the data."""
    given = Given(srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    return _prepared("all_to_all_v_prepare", check_to_all, given, name)


@collective(eng.dma, cost=costs.collective, since=3)
def all_gather_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Carry out the all_gather_v that was prepared: read srcs, write dsts."""
    return _triggered("all_gather_v", prepare_instr, name)


@collective(eng.dma, cost=costs.collective)
def all_to_all_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Carry out the all_to_all_v that was prepared: read srcs, write dsts."""
    return _triggered("all_to_all_v", prepare_instr, name)


def _prepared(op: str, check: Callable[[Machine, Given], Ranks], given: Given, name: str | None) -> NkiInstruction:
    m = machine()
    if m.prepared is not None:
        raise NkiValidationError(
            f"there is one slot, and {m.prepared.event.op} at {show_line(m.prepared.event.line)} holds it; trigger it"
        )
    ranks = check(m, given)
    if m.chip.generation >= 4:
        m.note_once(f"{op}: AWS excludes it on Trn3 UltraServers, which have a NeuronSwitch")
    read = rows_read(given)
    require_written(m, read)
    event = m.append(op, eng.dma, read, (), name, {})
    m.prepared = Prepared(event, ranks, given, [m.values(row).copy() for row in read])
    return event


def _triggered(op: str, prepare: Any, name: str | None) -> NkiInstruction:
    m = machine()
    held = m.prepared
    if held is None or prepare is not held.event or held.event.op != f"{op}_prepare":
        waits = "nothing waits" if held is None else f"{held.event.op} at {show_line(held.event.line)} waits"
        raise NkiValidationError(
            f"takes what {op}_prepare gave and nothing triggered yet; {waits}, got {describe(prepare)}"
        )
    given: Given = held.given
    if not np.array_equal([m.values(row) for row in rows_read(given)], held.metadata):
        raise NkiValidationError("metadata_tensor changed after it was prepared, which reads it; prepare it again")
    m.prepared = None
    return exchange_parts(m, f"{op}_trigger", held.ranks, given, name)


def check_triggered(m: Machine) -> None:
    """Nothing prepared is left when a kernel ends."""
    if m.prepared is not None:
        event = m.prepared.event
        raise NkiValidationError(f"{event.op} at {show_line(event.line)} was never triggered", line=event.line)
