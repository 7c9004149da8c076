"""Collectives in which each rank sends one tensor to one other: along pairs that the kernel names, or around a ring.

The ring of a replica group goes in the group's order, from each rank to its successor, and on odd channels backwards
(triptych.simulator.engines.collectives.replicas, direction).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any

from triptych.simulator.analysis import costs
from triptych.simulator.engines.collectives.exchange import (
    Party,
    check_tensors,
    exchange,
    nbytes,
    record,
    reduced,
    reduction,
)
from triptych.simulator.engines.collectives.replicas import Ranks, ReplicaGroup, check_ranks, direction, group_of
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import collective
from triptych.simulator.machine.machine import Machine, NkiInstruction, machine
from triptych.simulator.machine.registers import VirtualRegister, bound_value
from triptych.simulator.operands.operands import bits, describe, put, put_bits
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.tensor import NkiTensor

Channels = Sequence[Sequence[NkiTensor]]


@collective(eng.dma, cost=costs.collective)
def collective_permute(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    source_target_pairs: Sequence[tuple[int, int]],
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction | None:
    """dst of rank t = src of rank s for each pair (s, t); in HBM. A rank in no pair does nothing.

    The pairs must form rings (neuron-runtime/about/collectives.rst, Permute Operation): every rank in them sends once
    and receives once. Each ring is independent of the others. That page allows one ring alone, with wires between
    neighbours; the API, which names pairwise swaps and arbitrary shuffles, is newer and was taken.
    """
    m = machine()
    check_tensors(m, srcs, dsts, priority, sbuf=False, coalesced=False)
    _check_shapes(srcs, dsts)
    targets = _targets(m, source_target_pairs)
    if m.rank not in targets:
        return None
    ranks = [m.rank]
    while targets[ranks[-1]] != m.rank:
        ranks.append(targets[ranks[-1]])
    first = ranks.index(min(ranks))
    order = tuple(ranks[first:] + ranks[:first])  # the same for every rank of the ring
    pairs = [tuple(pair) for pair in source_target_pairs]
    act = functools.partial(_pass_on, channels=1)
    met = exchange(m, "collective_permute", f"{pairs}", order, srcs, dsts, act)
    return record(m, met, srcs, dsts, name, nbytes(srcs))


@collective(eng.dma, cost=costs.collective)
def collective_permute_implicit(
    srcs_by_channel: Channels,
    dsts_by_channel: Channels,
    replica_group: ReplicaGroup,
    channel_ids: Sequence[int] = [0],
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """On each channel: dst of a rank's successor in the ring = src of the rank; in HBM or SBUF."""
    m = machine()
    ranks = group_of(m, replica_group)
    count = _channels(m, ranks, channel_ids)
    srcs = _one_each(srcs_by_channel, "srcs_by_channel", count)
    dsts = _one_each(dsts_by_channel, "dsts_by_channel", count)
    check_tensors(m, srcs, dsts, priority, channels=True)
    _check_shapes(srcs, dsts)
    act = functools.partial(_pass_on, channels=count)
    met = exchange(m, "collective_permute_implicit", f"{replica_group!r}, channels={count}", ranks, srcs, dsts, act)
    return record(m, met, srcs, dsts, name, nbytes(dsts), channels=count)


@collective(eng.dma, cost=costs.collective)
def collective_permute_implicit_reduce(
    srcs0_by_channel: Channels,
    srcs1_by_channel: Channels,
    dsts_by_channel: Channels,
    replica_group: ReplicaGroup,
    op: Op,
    channel_ids: Sequence[int] = [0],
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """On each channel: dst of a rank's successor in the ring = op(src0, src1) of the rank, rounded once."""
    m = machine()
    ranks = group_of(m, replica_group)
    count = _channels(m, ranks, channel_ids)
    srcs = [
        *_one_each(srcs0_by_channel, "srcs0_by_channel", count),
        *_one_each(srcs1_by_channel, "srcs1_by_channel", count),
    ]
    dsts = _one_each(dsts_by_channel, "dsts_by_channel", count)
    check_tensors(m, srcs, [*dsts, *dsts], priority, channels=True)
    _check_shapes(srcs, [*dsts, *dsts])
    fold = reduction(op, srcs)

    def act(parties: list[Party]) -> None:
        sent = [[reduced(fold, p.srcs[channel::count]) for channel in range(count)] for p in parties]
        for receiver, sender, channel in _around(len(parties), count):
            put(parties[receiver].dsts[channel], sent[sender][channel])

    words = f"op={op}, {replica_group!r}, channels={count}"
    met = exchange(m, "collective_permute_implicit_reduce", words, ranks, srcs, dsts, act)
    return record(m, met, srcs, dsts, name, nbytes(dsts), channels=count)


@collective(eng.sync, cost=costs.free)
def collective_permute_implicit_current_processing_rank_id(
    iteration_id: int, replica_group: ReplicaGroup, channel_id: int = 0, name: str | None = None
) -> VirtualRegister:
    """A register: the rank whose data is here after iteration_id steps around the ring; this rank's own at 0."""
    m = machine()
    ranks = group_of(m, replica_group)
    step = bound_value(iteration_id)
    if step < 0:
        raise NkiValidationError(f"iteration_id counts from 0, got {step}")
    if channel_id not in range(_most_channels(m, ranks)):
        raise NkiValidationError(f"channel_id is 0 to {_most_channels(m, ranks) - 1} here, got {channel_id!r}")
    m.append("collective_permute_implicit_current_processing_rank_id", eng.sync, (), (), name, {})
    return VirtualRegister(ranks[(ranks.index(m.rank) - step * direction(channel_id)) % len(ranks)])


@collective(eng.sync, cost=costs.free)
def rank_id(name: str | None = None) -> VirtualRegister:
    """A register: the number of this rank among all ranks that run, not among those of its group."""
    # "within the collective group", says the API; AWS's kernels look the number up in tables of all ranks
    # (nki-library, test_collectives.py, attn_q_batch_shard).
    m = machine()
    m.append("rank_id", eng.sync, (), (), name, {})
    return VirtualRegister(m.rank)


def _pass_on(parties: list[Party], channels: int) -> None:
    """dst of each party's successor in the ring = its src, channel by channel; the parties are in the ring's order."""
    sent = [[bits(t).copy() for t in p.srcs] for p in parties]
    for receiver, sender, channel in _around(len(parties), channels):
        put_bits(parties[receiver].dsts[channel], sent[sender][channel])


def _around(ranks: int, channels: int) -> Iterator[tuple[int, int, int]]:
    """(receiver, sender, channel), as positions in a ring, for one step of the ring on each channel."""
    for channel in range(channels):
        for receiver in range(ranks):
            yield receiver, (receiver - direction(channel)) % ranks, channel


def _targets(m: Machine, pairs: Any) -> dict[int, int]:
    """source -> target, where the pairs form rings."""
    try:
        named = [(operator.index(source), operator.index(target)) for source, target in pairs]
    except (TypeError, ValueError):
        raise NkiValidationError(
            f"source_target_pairs must be a list of (source, target) ranks, got {pairs!r}"
        ) from None
    check_ranks(m, [rank for pair in named for rank in pair], named)
    targets = dict(named)
    if not named or len(targets) < len(named) or sorted(targets) != sorted(targets.values()):
        raise NkiValidationError(
            "source_target_pairs must form rings: every rank in them sends to one rank and receives from one; got "
            f"{named}",
            source="neuron-runtime/about/collectives.rst, Permute Operation",
        )
    return targets


def _most_channels(m: Machine, ranks: Ranks) -> int:
    """4 where the group holds all devices of a node, else 2; the ranks that run here are taken to be a node."""
    return 4 if len(ranks) == m.ranks else 2


def _channels(m: Machine, ranks: Ranks, channel_ids: Any) -> int:
    """How many channels there are: 0, 1, .. in this order."""
    ids = list(channel_ids) if isinstance(channel_ids, (list, tuple)) else []
    if not ids or ids != list(range(len(ids))):
        raise NkiValidationError(f"channel_ids must be consecutive integers from 0, got {channel_ids!r}")
    most = _most_channels(m, ranks)
    if len(ids) > most:
        raise NkiValidationError(
            f"{len(ids)} channels, and a group of {len(ranks)} of the {m.ranks} ranks that run has {most} at most: 4 "
            "where it holds all devices of a node, else 2"
        )
    return len(ids)


def _one_each(by_channel: Any, what: str, count: int) -> list[NkiTensor]:
    """The one tensor of each channel."""
    lists = by_channel if isinstance(by_channel, (list, tuple)) else []
    if len(lists) != count or not all(isinstance(t, (list, tuple)) and len(t) == 1 for t in lists):
        raise NkiValidationError(
            f"{what} must be a list of one tensor for each of the {count} channels, [[t]]; got {describe(by_channel)}"
        )
    return [t[0] for t in lists]


def _check_shapes(srcs: Sequence[NkiTensor], dsts: Sequence[NkiTensor]) -> None:
    for src, dst in zip(srcs, dsts, strict=True):
        if src.shape != dst.shape:
            raise NkiValidationError(f"dst must have the shape of what it receives, {src.shape}, got {dst.shape}")
