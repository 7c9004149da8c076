"""Tensor indirection on NeuronCore-v4: instructions gather or scatter elements of each partition by a tile of offsets.

    t.indirect(index, n)[p, i] = t[p, o[i]]        o[i] = index[i % G, i // G], i < n, the same for every partition p

G is 16, on the Tensor Engine 32 (nki/api/nki/language/__init__.py, NkiTensor.indirect; nki/guides/architecture/
trainium3_arch.rst). The instruction itself sees a plain tile of the chosen elements, which knows of each whether it has
been written; what it writes there goes to where the offsets say. Offsets that name one element twice raise where they
are written through: in which order a scatter writes is not documented.

The trace names all of `t`: which elements were chosen is known only at run time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.machine import NkiInstruction, machine
from triptych.simulator.machine.table import Indirect
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.layout import TENSOR_API
from triptych.simulator.memory.storage import PSUM, SBUF, Storage
from triptych.simulator.tensors.index import Gather
from triptych.simulator.tensors.partitions import partitions_of, starts
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import IndirectRegion

Array = NDArray[Any]


class Indirection:
    """The indirect operands of one instruction that runs."""

    def __init__(self, takes: Indirect | None, operands: dict[str, Any], indirect: dict[str, NkiTensor]) -> None:
        allowed = (*takes.write, *takes.read, *takes.also) if takes else ()
        for what, t in indirect.items():
            if takes is None or what not in allowed:
                able = f"; {' and '.join(allowed)} may be" if allowed else ""
                raise NkiValidationError(f"{what} cannot be an indirect view here{able}; got {t!r}")
        assert takes is not None
        self.takes = takes
        self.indirect = indirect
        main = operands[takes.read[0]]
        for what, t in indirect.items():
            index = _gather(t).source
            if not any(start % 32 == 0 for start in starts(index)):
                raise NkiValidationError(
                    f"the index of {what} must start on a multiple of 32 partitions, got {index!r}"
                )
            if what in takes.read:
                _check_start(what, t, index)
            elif what in takes.write and isinstance(main, NkiTensor):
                if main.index is not None and main.buffer is PSUM:
                    _check_start(f"{what}'s index", index, main.index.source)
                elif main.buffer is SBUF:
                    _check_start(f"{what}'s index", index, main)
        if takes.check:
            takes.check(operands)
        self.offsets = {what: _offsets(what, t, takes.group) for what, t in indirect.items()}
        self.tiles = {what: _gathered(t, self.offsets[what]) for what, t in indirect.items()}
        for what in takes.write:
            if what in indirect and len(np.unique(self.offsets[what])) < len(self.offsets[what]):
                raise NkiValidationError(
                    f"{what}'s offsets name an element twice, and the order in which a scatter writes is not documented"
                )

    def finish(self, event: NkiInstruction) -> None:
        """Put what the instruction has written to where it belongs."""
        if self.takes.engines and event.engine not in [e.name for e in self.takes.engines]:
            able = " and ".join(e.name for e in self.takes.engines)
            raise NkiValidationError(f"indirect views work on the engines {able} here, and it runs on {event.engine}")
        for what in self.takes.write:
            if what not in self.indirect:
                continue
            if event.engine == "scalar" and self.indirect[what].buffer is PSUM:
                raise NkiValidationError(f"on the Scalar Engine a scattered {what} cannot be in PSUM")
            _scatter(self.indirect[what], self.offsets[what], self.tiles[what])


def _gather(t: NkiTensor) -> Gather:
    assert isinstance(t.index, Gather)
    return t.index


def _check_start(what: str, t: NkiTensor, leader: NkiTensor) -> None:
    """A tensor without an address of its own starts wherever that is allowed and fits."""
    if not set(starts(t)) & set(starts(leader)):
        raise NkiValidationError(
            f"{what} must start on the partition of {leader!r}, {starts(leader)}, and can start on {starts(t)}"
        )


def _offsets(what: str, t: NkiTensor, group: int) -> Array:
    """o[i] of the module's equation, each an element of a partition."""
    index, n = _gather(t).source, t.shape[1]
    whole, rest = divmod(n, group)
    if index.shape[0] < min(n, group) or index.shape[1] < whole + (rest > 0):
        raise NkiValidationError(
            f"{what}: {n} offsets lie in {min(n, group)} partitions of {whole + (rest > 0)} elements, offset i in "
            f"[i % {group}, i // {group}], and the index is {index.shape}; give num_elem",
            source=TENSOR_API,
        )
    if whole:
        require_written(machine(), (index[:group, :whole],))
    if rest:
        require_written(machine(), (index[:rest, whole : whole + 1],))
    values = machine().values(index)
    offsets: Array = values[:group].T.reshape(-1)[:n].astype(np.int64)
    room = _gather(t).base.shape[1]
    outside = (offsets < 0) | (offsets >= room)
    if outside.any():
        i = int(np.argmax(outside))
        raise OutOfBounds(
            f"{what}: offset {i} is {offsets[i]}, and a partition of {t.name!r} has {room} elements",
            source=TENSOR_API,
        )
    return offsets


def _gathered(t: NkiTensor, offsets: Array) -> NkiTensor:
    """A tile of the elements at these offsets, on their partitions, that knows which of them have been written."""
    base = t.plain(_gather(t).base)
    n, p = len(offsets), base.shape[0]
    first = partitions_of(base).start
    source = base.storage
    place = source.allocation._replace(
        name=f"{base.name}.indirect", shape=(first + p, n), dtype=base.dtype, address=None
    )
    tile = NkiTensor((first + p, n), base.dtype, Storage(place, source.widened), base.buffer)[first:]
    tile.array[...] = base.array[:, offsets]
    written = _of(source.written_at(base.layout), offsets, tile)
    tile.wrote_where(written)
    tile.storage.mark_started(tile.layout, True, written & _of(source.started_at(base.layout), offsets, tile))
    region = IndirectRegion(*base.region)
    region.offsets = tuple(offsets.tolist())
    tile.region = region
    return tile


def _of(state: Array | bool, offsets: Array, tile: NkiTensor) -> Array:
    """A truth value for each element of the tile, from that of the tensor whose elements were chosen."""
    if isinstance(state, bool):
        return np.full(tile.shape, state)
    return state[:, offsets]


def _scatter(t: NkiTensor, offsets: Array, tile: NkiTensor) -> None:
    base = t.plain(_gather(t).base)
    base.array[:, offsets] = tile.array
    for by_matmul in (False, True):
        started = tile.storage.started_at(tile.layout)
        there = np.zeros(base.shape, bool)
        here = np.logical_and(tile.storage.written_at(tile.layout), np.equal(started, by_matmul))
        there[:, offsets] = here
        base.storage.wrote_where(base.layout, there, by_matmul)
