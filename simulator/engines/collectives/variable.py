"""Collectives of parts whose sizes are known only when the kernel runs: all_gather_v and all_to_all_v.

Tensors count as flat buffers of elements. A uint32 metadata tensor of n columns, one a rank of the group, says in its
rows how many elements go to each rank (0) and from where in src (1), how many came from each rank (2, written by the
collective unless recv_counts_known, never read), and where in dst they go (3, with has_rdispls). Without row 3 dst is n
equal slots. Elements of dst that nothing comes to stay as they were.

A part that does not fit its slot, or leaves src or dst, is an error: "sizes are validated against the metadata at
execution time". A rank's part for itself is moved like the others: the API says "for each other rank", and nccom-test's
example counts it (tools/neuron-sys-tools/nccom-test.rst, AlltoAllV Example).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.engines.collectives.exchange import (
    Party,
    check_read,
    check_tensors,
    exchange,
    on_behalf_of,
    record,
)
from triptych.simulator.engines.collectives.replicas import Ranks, ReplicaGroup, group_of
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.instructions import collective
from triptych.simulator.machine.machine import Machine, NkiInstruction, machine
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.storage import PSUM
from triptych.simulator.operands.operands import bits, describe, put_bits
from triptych.simulator.tensors.tensor import NkiTensor

_COUNT, _FROM, _CAME, _TO = range(4)  # rows of the metadata


class _Part(NamedTuple):
    """What one rank sends to another: positions in the group, and elements of src and dst."""

    sender: int
    receiver: int
    elements: int
    start: int  # in src
    to: int  # in dst


@collective(eng.dma, cost=costs.collective, since=3)  # which brought LNC=2
def all_gather_v(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Slot s of y_r = x_s[d_s : d_s + c_s] for every r and s; c_s and d_s are column 0 of metadata rows 0 and 1."""
    given = Given(srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    return exchange_parts(machine(), "all_gather_v", check_gathered(machine(), given), given, name)


@collective(eng.dma, cost=costs.collective)
def all_to_all_v(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """Slot s of y_r, or y_r from e_r[s] on, = x_s[d_s[r] : d_s[r] + c_s[r]]; c, d, e are metadata rows 0, 1 and 3."""
    given = Given(srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, priority)
    return exchange_parts(machine(), "all_to_all_v", check_to_all(machine(), given), given, name)


class Given(NamedTuple):
    """The arguments of a collective of parts, or of its preparation."""

    srcs: Sequence[NkiTensor]
    dsts: Sequence[NkiTensor]
    group: ReplicaGroup
    metadata: Any
    counts_known: bool
    has_rdispls: bool
    priority: int | None


def check_gathered(m: Machine, given: Given) -> Ranks:
    """The ranks that all_gather_v gathers from, of arguments that it takes."""
    check_tensors(m, given.srcs, given.dsts, given.priority, sbuf=False, coalesced=False)
    ranks = group_of(m, given.group)
    if m.cores != 2:
        raise NkiValidationError("works with LNC=2 alone: launch the kernel as kernel[2]")
    if given.has_rdispls:
        raise NkiValidationError("has_rdispls=True is not supported")
    for four in given.group.replica_groups:
        if len(four) != 4 or len({rank // 4 for rank in four}) > 1:
            raise NkiValidationError(
                f"each list of ranks must be the four of one chip, 4k to 4k + 3; got {list(four)} in {given.group!r}"
            )
    _check_parts(given, len(ranks))
    return ranks


def check_to_all(m: Machine, given: Given) -> Ranks:
    """The ranks that all_to_all_v exchanges between, of arguments that it takes."""
    check_tensors(m, given.srcs, given.dsts, given.priority, sbuf=False, coalesced=False)
    ranks = group_of(m, given.group)
    if m.chip.generation >= 4:
        _check_whole_devices(m, given.group)
    else:
        if given.has_rdispls:
            raise NkiValidationError(f"has_rdispls=True needs a NeuronSwitch (trn3), and the target is {m.chip.name}")
        _check_between_nodes(m, given.group)
    _check_parts(given, len(ranks))
    return ranks


def exchange_parts(m: Machine, op: str, ranks: Ranks, given: Given, name: str | None) -> NkiInstruction:
    """Carry out a collective of parts, as `op`, between ranks that its check gave."""
    (src,), (dst,), group, metadata, counts_known, has_rdispls, _ = given
    n = len(ranks)
    columns = 1 if op.startswith("all_gather_v") else n

    def act(parties: list[Party]) -> list[int]:
        parts = _parts(m, parties, columns, has_rdispls)
        views = [p.srcs[0].reshape((p.srcs[0].size,)) for p in parties]
        sent = []
        for part in parts:
            view = views[part.sender][part.start : part.start + part.elements]
            check_read(m, parties[part.sender], [view])
            sent.append(bits(view).copy())
        for part, values in zip(parts, sent, strict=True):
            to = parties[part.receiver].dsts[0].reshape((dst.size,))[part.to : part.to + part.elements]
            put_bits(to, values)
        if not counts_known:
            came = np.zeros((n, n), np.uint32)
            for part in parts:
                came[part.receiver, part.sender] = part.elements
            for counts, p in zip(came, parties, strict=True):
                for t in p.metadata:
                    row = _row(t, _CAME)
                    row.array[...] = counts
                    row.wrote()
        return [sum(p.elements for p in parts if p.sender == s != p.receiver) for s in range(n)]

    arguments = f"{group!r}, recv_counts_known={counts_known}, has_rdispls={has_rdispls}"
    met = exchange(m, op, arguments, ranks, [src], [dst], act, metadata)
    writes = [dst] if counts_known else [dst, _row(metadata, _CAME)]
    moved = met.result[ranks.index(m.rank)] * src.dtype.itemsize
    return record(m, met, [src, *rows_read(given)], writes, name, moved)


def rows_read(given: Given) -> list[NkiTensor]:
    """The rows of the metadata that a collective of parts reads."""
    return [_row(given.metadata, row) for row in ((_COUNT, _FROM, _TO) if given.has_rdispls else (_COUNT, _FROM))]


def _parts(m: Machine, parties: list[Party], columns: int, has_rdispls: bool) -> list[_Part]:
    """What everyone sends to everyone, by the metadata; empty parts are left out."""
    n = len(parties)
    counts = [_read(m, p, _COUNT, columns) for p in parties]
    starts = [_read(m, p, _FROM, columns) for p in parties]
    slots = [[s * (p.dsts[0].size // n) for s in range(n)] for p in parties]
    to = [_read(m, p, _TO, n) for p in parties] if has_rdispls else slots
    parts = []
    for r, receiver in enumerate(parties):
        size = receiver.dsts[0].size
        taken = np.zeros(size, bool)
        for s, sender in enumerate(parties):
            column = min(r, columns - 1)
            part = _Part(s, r, counts[s][column], starts[s][column], to[r][s])
            with on_behalf_of(m, sender):
                _check_inside("src", sender.srcs[0], part.start, part.elements, sender.srcs[0].size, s, r)
            with on_behalf_of(m, receiver):
                end = size if has_rdispls else part.to + size // n
                _check_inside("dst", receiver.dsts[0], part.to, part.elements, end, s, r)
                if taken[part.to : part.to + part.elements].any():
                    raise NkiValidationError(f"recv_displs put the part of rank number {s} onto another's")
            taken[part.to : part.to + part.elements] = True
            if part.elements:
                parts.append(part)
    return parts


def _check_inside(what: str, t: NkiTensor, start: int, count: int, end: int, sender: int, receiver: int) -> None:
    if start + count > end:
        room = f"its slot, which ends at {end}" if end < t.size else f"the {t.size} there are"
        raise OutOfBounds(
            f"{count} elements from rank number {sender} to number {receiver} of the group, at {start} of {what} "
            f"{t!r}, go beyond {room}"
        )


def _read(m: Machine, party: Party, row: int, columns: int) -> list[int]:
    """The first `columns` of a row of a rank's metadata, on which its cores agree."""
    with on_behalf_of(m, party):
        found = []
        for t in party.metadata:
            view = _row(t, row)[..., :columns]
            require_written(m, [view])
            found.append([int(v) for v in view.array.reshape(-1)])
        if any(values != found[0] for values in found):
            raise NkiValidationError(f"the cores' metadata differ in row {row}: {' and '.join(map(str, found))}")
    return found[0]


def _row(metadata: NkiTensor, row: int) -> NkiTensor:
    return metadata[0, row] if metadata.on_chip else metadata[row]


def _check_parts(given: Given, n: int) -> None:
    """The buffers and the metadata of a collective of parts between n ranks.

    Metadata are uint32 (rows, n) in HBM, or (1, rows, n) in SBUF; 4 rows with has_rdispls, else 3, of which a fourth is
    left.
    """
    src, dst, metadata = given.srcs[0], given.dsts[0], given.metadata
    for what, t in (("srcs[0]", src), ("dsts[0]", dst)):
        if not t.is_contiguous():
            raise NkiValidationError(f"{what} counts as a flat buffer and must be contiguous, got {t!r}")
    if dst.size % n:
        raise NkiValidationError(f"dsts[0] must hold {n} slots of one size, one a rank; got {dst.size} elements")
    plain = isinstance(metadata, NkiTensor) and metadata.index is None
    if not plain or metadata.buffer is PSUM or metadata.dtype != "uint32":
        raise NkiValidationError(f"metadata_tensor must be uint32 in HBM or SBUF, got {describe(metadata)}")
    rows = (4,) if given.has_rdispls else (3, 4)
    shapes = [(1, r, n) if metadata.on_chip else (r, n) for r in rows]
    if metadata.shape not in shapes or not metadata.is_contiguous():
        raise NkiValidationError(
            f"metadata_tensor must be contiguous, {' or '.join(map(str, shapes))} in {metadata.buffer.value}, got "
            f"{metadata.shape}"
        )


def _check_whole_devices(m: Machine, group: ReplicaGroup) -> None:
    """With a NeuronSwitch: LNC=2, whole devices of four ranks in sequence, and more than one device."""
    if m.cores != 2:
        raise NkiValidationError(f"needs LNC=2 on {m.chip.name}: launch the kernel as kernel[2]")
    for ranks in group.replica_groups:
        if len(ranks) % 4 or ranks[0] % 4 or list(ranks) != list(range(ranks[0], ranks[0] + len(ranks))):
            raise NkiValidationError(
                "each list of ranks must be the ranks of whole devices in sequence, 4k to 4l + 3, counted from 0; got "
                f"{group!r}"
            )
    if sum(len(ranks) for ranks in group.replica_groups) < 8:
        raise NkiValidationError(f"needs ranks of more than one device, got {group!r}")


def _check_between_nodes(m: Machine, group: ReplicaGroup) -> None:
    """Without one: each list has the ranks of one index from different nodes; nodes are of whole devices.

    The nodes are taken to be as many as a list has ranks, and to share the ranks that run equally.
    """
    per_device = int(m.chip.cores_per_device.value) // m.cores
    for ranks in group.replica_groups:
        node = m.ranks // len(ranks)
        fits = m.ranks % len(ranks) == 0 and node % per_device == 0
        if not fits or len({rank % node for rank in ranks}) > 1 or len({rank // node for rank in ranks}) < len(ranks):
            raise NkiValidationError(
                f"on {m.chip.name} each list has the ranks of one index from different nodes, of {per_device} ranks a "
                f"device; got {group!r} of {m.ranks} ranks that run"
            )
