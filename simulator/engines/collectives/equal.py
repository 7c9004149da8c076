"""Collectives of equal parts: all_reduce, all_gather, reduce_scatter, all_to_all, over n ranks of a replica group.

x_r is what rank number r of the group brings, y_r what it gets. Lists of tensors in HBM are exchanged in one call
(coalesced), each for itself. A destination may be a source: all sources are read before any destination is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.engines.collectives.exchange import (
    Action,
    Party,
    check_tensors,
    exchange,
    nbytes,
    record,
    reduced,
    reduction,
)
from triptych.simulator.engines.collectives.replicas import ReplicaGroup, group_of
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import collective
from triptych.simulator.machine.machine import NkiInstruction, machine
from triptych.simulator.operands.operands import bits, put, put_bits
from triptych.simulator.operands.operators import Op
from triptych.simulator.tensors.tensor import NkiTensor


@collective(eng.dma, cost=costs.collective)
def all_reduce(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    op: Op,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """y_r = op over s of x_s, for every r; op is add, minimum or maximum, in float32 and rounded once."""
    m = machine()
    check_tensors(m, srcs, dsts, priority)
    fold = reduction(op, srcs)
    for src, dst in zip(srcs, dsts, strict=True):
        _check_shape(src, dst, src.shape)
    ranks = group_of(m, replica_group)

    act = _each(lambda xs: [reduced(fold, xs)] * len(xs), put)
    met = exchange(m, "all_reduce", f"op={op}, {replica_group!r}", ranks, srcs, dsts, act)
    moved = 2 * nbytes(srcs) * (len(ranks) - 1) // len(ranks)  # as reduce_scatter and all_gather one after the other
    return record(m, met, srcs, dsts, name, moved)


@collective(eng.dma, cost=costs.collective)
def all_gather(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """y_r = concatenation over s of x_s along collective_dim, for every r; 0 in HBM, 0 or 1 in SBUF."""
    m = machine()
    check_tensors(m, srcs, dsts, priority)
    dim = _dimension(collective_dim, (0, 1) if srcs[0].on_chip else (0,))
    ranks = group_of(m, replica_group)
    for src, dst in zip(srcs, dsts, strict=True):
        _check_shape(src, dst, (*src.shape[:dim], src.shape[dim] * len(ranks), *src.shape[dim + 1 :]))

    act = _each(lambda xs: [np.concatenate([bits(x) for x in xs], axis=dim)] * len(xs), put_bits)
    met = exchange(m, "all_gather", f"collective_dim={dim}, {replica_group!r}", ranks, srcs, dsts, act)
    return record(m, met, srcs, dsts, name, nbytes(srcs) * (len(ranks) - 1))


@collective(eng.dma, cost=costs.collective)
def reduce_scatter(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    op: Op,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """y_r = part r, of n along dimension 0, of op over s of x_s, in float32 and rounded once."""
    m = machine()
    check_tensors(m, srcs, dsts, priority)
    fold = reduction(op, srcs)
    _dimension(collective_dim, (0,))
    ranks = group_of(m, replica_group)
    for src, dst in zip(srcs, dsts, strict=True):
        _check_shape(src, dst, (_part(src, len(ranks)), *src.shape[1:]))

    act = _each(lambda xs: np.split(reduced(fold, xs), len(xs)), put)
    met = exchange(m, "reduce_scatter", f"op={op}, {replica_group!r}", ranks, srcs, dsts, act)
    return record(m, met, srcs, dsts, name, nbytes(dsts) * (len(ranks) - 1))


@collective(eng.dma, cost=costs.collective)
def all_to_all(
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """y_r = concatenation over s of part r of x_s, parts and concatenation along dimension 0; in HBM."""
    m = machine()
    check_tensors(m, srcs, dsts, priority, sbuf=False)
    _dimension(collective_dim, (0,))
    ranks = group_of(m, replica_group)
    for src, dst in zip(srcs, dsts, strict=True):
        _check_shape(src, dst, src.shape)
        _part(src, len(ranks))
    act = _each(lambda xs: np.stack([bits(x).reshape(len(xs), -1) for x in xs], axis=1), put_bits)
    met = exchange(m, "all_to_all", f"{replica_group!r}", ranks, srcs, dsts, act)
    return record(m, met, srcs, dsts, name, nbytes(srcs) * (len(ranks) - 1) // len(ranks))


def _each(values: Callable[[Sequence[NkiTensor]], Any], write: Callable[[NkiTensor, Any], None]) -> Action:
    """Exchange each tensor of the lists for itself: of what all ranks bring, `values` are what each of them gets."""

    def act(parties: list[Party]) -> None:
        results = [values(brought) for brought in zip(*[p.srcs for p in parties], strict=True)]
        for i, result in enumerate(results):
            for p, got in zip(parties, result, strict=True):
                write(p.dsts[i], got)

    return act


def _dimension(dim: int, allowed: tuple[int, ...]) -> int:
    if dim not in allowed:
        raise NkiValidationError(f"collective_dim must be {' or '.join(map(str, allowed))} here, got {dim!r}")
    return dim


def _part(src: NkiTensor, ranks: int) -> int:
    """The length of one of `ranks` equal parts of src along dimension 0."""
    if src.shape[0] % ranks:
        raise NkiValidationError(f"dimension 0 of srcs must be a multiple of the {ranks} ranks, got {src.shape}")
    return src.shape[0] // ranks


def _check_shape(src: NkiTensor, dst: NkiTensor, expected: tuple[int, ...]) -> None:
    if dst.shape != expected:
        raise NkiValidationError(f"dst must be {expected} for a src of {src.shape}, got {dst.shape}")
