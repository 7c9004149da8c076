"""What all collectives share: the checks of their tensors, and the rendezvous in which one carries them out for all.

Every participant checks its own call, then waits for the others. When all are there, the first to go on compares the
calls, checks that the sources have been written, and carries the collective out for all; then each appends its own
event.

A rank is a logical core (neuron-runtime/about/collectives.rst). Where it has two cores, a collective on shared HBM is
one that both call and carry out once, and behind it each sees what both had written before; any other is each core's
own, with the cores of the same number of the other ranks. The documentation does not say so in words; AWS's kernels in
nki-library (experimental/collectives) rely on it for shared HBM and for SBUF. That NKI 0.7 lets srcs and dsts lie in
different memories is documented, whose collective it then is on two cores is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from triptych.simulator.dtypes import Array
from triptych.simulator.engines.collectives.replicas import Ranks
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiError, NkiValidationError, show_line
from triptych.simulator.machine.cores import Who, ranks_in_words
from triptych.simulator.machine.machine import Machine, NkiInstruction
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.storage import SBUF, MemoryRegion
from triptych.simulator.operands.operands import describe
from triptych.simulator.operands.operators import Op
from triptych.simulator.options import APIS
from triptych.simulator.tensors.tensor import NkiTensor

_SHARED, _PRIVATE = MemoryRegion.shared_hbm, MemoryRegion.private_hbm
REDUCTIONS = ("add", "minimum", "maximum")
_PAGE = "nki.collectives.all_gather.html of SDK 2.33"


class Party(NamedTuple):
    """One core in a collective: its call in words, and what it brings."""

    who: Who
    line: tuple[str, int]
    call: str
    srcs: tuple[NkiTensor, ...]
    dsts: tuple[NkiTensor, ...]
    metadata: tuple[NkiTensor, ...]  # of each core of the rank that takes part


class Met(NamedTuple):
    """What a core knows after a collective."""

    op: str
    ranks: Ranks
    joint: bool  # both cores of each rank took part
    result: Any  # of the action


Action = Callable[[list[Party]], Any]  # of one party a rank, in the order of the ranks


def check_tensors(
    m: Machine,
    srcs: Any,
    dsts: Any,
    priority: int | None,
    *,
    sbuf: bool = True,
    coalesced: bool = True,
    channels: bool = False,
) -> None:
    """The documented limits that every collective has: memories, lists, dtypes and priority.

    `sbuf` and `coalesced` say whether SBUF and several tensors are allowed; `channels` that the lists are of channels.
    """
    for what, tensors in (("srcs", srcs), ("dsts", dsts)):
        if not isinstance(tensors, (list, tuple)) or not tensors:
            raise NkiValidationError(f"{what} must be a list of tensors, got {describe(tensors)}")
        for i, t in enumerate(tensors):
            if not isinstance(t, NkiTensor) or t.buffer not in (SBUF, _SHARED, _PRIVATE):
                raise NkiValidationError(f"{what}[{i}] must be a tensor in HBM or SBUF, got {describe(t)}")
            if t.is_indirect():
                raise NkiValidationError(f"{what}[{i}] has a dynamic address, {describe(t)}; copy it to a plain tensor")
    if len(srcs) != len(dsts):
        raise NkiValidationError(f"srcs and dsts must be as many, got {len(srcs)} and {len(dsts)}")
    if not coalesced and len(srcs) > 1:
        raise NkiValidationError(f"takes one tensor in each list (no coalescing), got {len(srcs)}")
    for i, (src, dst) in enumerate(zip(srcs, dsts, strict=True)):
        if src.dtype != dst.dtype:
            raise NkiValidationError(f"srcs[{i}] is {src.dtype} and dsts[{i}] {dst.dtype}; a collective does not cast")
    _check_memory(m, srcs, dsts, 1 if channels else len(srcs), sbuf)
    if priority is not None and (m.chip.generation < 4 or priority not in range(4)):
        raise NkiValidationError(f"priority is 0 to 3 and needs NeuronCore-v4, got {priority} on {m.chip.name}")


def _check_memory(m: Machine, srcs: Sequence[NkiTensor], dsts: Sequence[NkiTensor], count: int, sbuf: bool) -> None:
    tensors = [*srcs, *dsts]
    memories = {t.buffer for t in tensors}
    if SBUF not in memories:
        _check_hbm(m, srcs, dsts)
        return
    if not sbuf:
        raise NkiValidationError("works on HBM alone; copy the tensor there with nisa.dma_copy")
    if len(memories) > 1:
        raise NkiValidationError(f"all tensors must be in HBM, or all in SBUF; got {_memories(tensors)}")
    if count > 1:
        raise NkiValidationError(f"takes one tensor in SBUF; {count} at once (coalesced) must be in HBM")
    for t in tensors:
        if t.ndim != 2:
            raise NkiValidationError(f"a tensor in SBUF has a partition and one free dimension here, got {t!r}")


def _check_hbm(m: Machine, srcs: Sequence[NkiTensor], dsts: Sequence[NkiTensor]) -> None:
    """Which of the two memories in HBM: NKI 0.7 says it of each list, and on one core more.

    On one core 0.7 wants what AWS's kernels of 0.3 do not, whose page wanted nothing: a remark.
    """
    tensors = [*srcs, *dsts]
    if m.options.api != APIS[0]:
        if m.cores > 1 and len({t.buffer for t in tensors}) > 1:
            raise NkiValidationError(
                f"on two cores all tensors must be in shared HBM, or all in private HBM; got {_memories(tensors)}"
            )
        return
    for what, part in (("srcs", srcs), ("dsts", dsts)):
        if len({t.buffer for t in part}) > 1:
            raise NkiValidationError(
                f"{what} must be all in shared HBM, or all in private HBM; got {_memories(part)}", source=_PAGE
            )
    if m.cores == 1 and srcs[0].buffer is _SHARED:
        m.remark("collective-memory", "on one core srcs of a collective must be in nl.private_hbm", _PAGE)
    if m.cores == 1 and dsts[0].buffer is _SHARED and os.environ.get("NKI_LNC1_SHARED_HBM") != "1":
        m.remark(
            "collective-memory",
            "on one core dsts of a collective are in nl.private_hbm, or in shared HBM with NKI_LNC1_SHARED_HBM=1",
            _PAGE,
        )


def _memories(tensors: Sequence[NkiTensor]) -> str:
    return ", ".join(f"{t.name!r} in {t.buffer.value}" for t in tensors)


def reduction(op: Any, tensors: Sequence[NkiTensor]) -> Op:
    """`op`, one of nl.add, nl.minimum and nl.maximum, for tensors that hold numbers."""
    if not isinstance(op, Op) or op.name not in REDUCTIONS:
        raise NkiValidationError(f"op must be one of nl.{', nl.'.join(REDUCTIONS)}, got {op!r}")
    for t in tensors:
        if t.dtype.kind == "x":
            raise NkiValidationError(f"{t!r} is packed: its elements are no numbers to reduce")
    return op


def reduced(op: Op, tensors: Sequence[NkiTensor]) -> Array:
    """op over tensors, element by element and in their order, before the rounding at the write.

    Floats are reduced in float32, as DMA computes (nki/api/nki/isa/__init__.py, dma_compute), and rounded once;
    integers exactly, as nccom-test expects them (tools/neuron-sys-tools/nccom-test.rst, Data Integrity). On the device
    a ring may round each partial result, in another order for each part, and which algorithm runs depends on the size
    (neuron-runtime/explore/intranode-collective-comm.rst): not reproduced.
    """
    wide: list[Array] = [t.array.astype(np.int64) if t.dtype.is_int else t.f32() for t in tensors]
    total = wide[0].copy()
    for values in wide[1:]:
        op.alu(total, values, out=total)
    return total


def exchange(
    m: Machine,
    op: str,
    arguments: str,
    ranks: Ranks,
    srcs: Sequence[NkiTensor],
    dsts: Sequence[NkiTensor],
    action: Action,
    metadata: NkiTensor | None = None,
) -> Met:
    """Meet the other `ranks`; one of all who meet carries out `action`.

    With `metadata`, which says how much of each source is read, the action checks what has been written.
    """
    if metadata is not None and not m.options.data:
        m.values(metadata)
    joint = m.cores > 1 and all(t.buffer is _SHARED for t in (*srcs, *dsts))
    sent = ", ".join(f"{t.dtype} {t.shape}" for t in srcs)
    received = ", ".join(str(t.shape) for t in dsts)
    call = f"ncc.{op}({arguments}) of {sent} to {received} in {'SBUF' if srcs[0].on_chip else 'HBM'}"
    _note_arguments(m, (*srcs, *dsts))
    party = Party((m.rank, m.core), m.line, call, tuple(srcs), tuple(dsts), () if metadata is None else (metadata,))
    members = [(rank, core) for rank in sorted(ranks) for core in (range(m.cores) if joint else (m.core,))]
    rendezvous = m.meet("a collective", party, members, name=f"ncc.{op}")

    def carry_out() -> Any:
        _check_same_call(rendezvous.offers)
        parties = [_as_one([p for p in rendezvous.offers if p.who[0] == rank]) for rank in ranks]
        if metadata is None:
            for p in parties:
                check_read(m, p, p.srcs)
        if m.options.data:
            return action(parties)
        for t in [t for p in parties for t in p.dsts]:
            t.wrote()
        return None

    result = rendezvous.once(carry_out)
    m.epoch += joint
    return Met(op, ranks, joint, result)


def record(
    m: Machine,
    met: Met,
    reads: Sequence[NkiTensor],
    writes: Sequence[NkiTensor],
    name: str | None,
    moved: int,
    **attributes: Any,
) -> NkiInstruction:
    """This core's event, appended: CC-cores orchestrate, DMA engines move (neuron-runtime/about/collectives.rst).

    `moved` is how many bytes this rank has to send to others at least.
    """
    known = {"ranks": met.ranks, "joint": met.joint, "moved": moved}
    return m.append(met.op, eng.dma, reads, writes, name, known | attributes)


def nbytes(tensors: Sequence[NkiTensor]) -> int:
    return sum(t.region.nbytes for t in tensors)


@contextmanager
def on_behalf_of(m: Machine, party: Party) -> Iterator[None]:
    """Errors inside are the party's, at its line, though another core found them."""
    try:
        yield
    except NkiError as e:
        e.line = party.line
        e.rank = party.who[0] if m.ranks > 1 else None
        raise


def check_read(m: Machine, party: Party, tensors: Sequence[NkiTensor]) -> None:
    """Every element of `tensors`, which `party` brings, has been written."""
    with on_behalf_of(m, party):
        require_written(m, tensors)


def _note_arguments(m: Machine, tensors: Sequence[NkiTensor]) -> None:
    for t in tensors:
        if t.storage.allocation.id < m.arguments:
            m.note(
                f"a collective on {t.name!r}, an argument of the kernel: AWS's compiler refuses inputs and outputs, "
                "copy it to a tensor of the kernel (nki-library, test_collectives.py)"
            )


def _check_same_call(parties: Sequence[Party]) -> None:
    calls: dict[tuple[str, tuple[str, int]], list[int]] = {}
    for p in parties:
        calls.setdefault((p.call, p.line), []).append(p.who[0])
    if len({call for call, _ in calls}) > 1:
        said = [
            f"{ranks_in_words(ranks)} {'calls' if len(set(ranks)) == 1 else 'call'} {call} at {show_line(line)}"
            for (call, line), ranks in calls.items()
        ]
        raise NkiValidationError(f"the ranks diverge: {', and '.join(said)}; all must make the same call")


def _as_one(cores: Sequence[Party]) -> Party:
    """The cores of one rank that take part, which bring the same tensors, as one party."""
    first = cores[0]
    for other in cores[1:]:
        for mine, theirs in zip((*first.srcs, *first.dsts), (*other.srcs, *other.dsts), strict=True):
            if mine.storage is not theirs.storage or mine.layout != theirs.layout:
                raise NkiValidationError(
                    f"the cores of rank {first.who[0]} bring different parts of shared HBM, {mine!r} at offset "
                    f"{mine.offset} and {theirs!r} at offset {theirs.offset}; they carry out one collective together"
                )
    return first._replace(metadata=tuple([t for p in cores for t in p.metadata]))
