"""How an instruction reads the indices of its operands: one for all rows of a view, or one for each.

The views are made in triptych.simulator.tensors.index. The index is read when the instruction runs
(nki/deep-dives/nki-aps.rst; nki/api/nki/isa/__init__.py, dma_transpose).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.indirection import Indirection
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.registers import bound_value, writers
from triptych.simulator.machine.table import Indirect
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.layout import reach
from triptych.simulator.tensors.index import DynamicIndex, Gather
from triptych.simulator.tensors.tensor import NkiTensor

Array = NDArray[Any]


def indices(index: DynamicIndex) -> Array:
    """The index, or one for each row, as int64."""
    if isinstance(index.source, NkiTensor):
        require_written(machine(), (index.source,))
        return machine().values(index.source).T.reshape(-1).astype(np.int64)
    machine().index_writers.extend(writers(index.source))
    return np.array([bound_value(index.source, wide=index.wide)], np.int64)


def resolve(t: NkiTensor, skip: bool = False) -> list[tuple[slice, NkiTensor]]:
    """The ordinary views behind a view with an index, each with the rows of `t` (dimension 0) that it is.

    An index out of bounds raises; with `skip` its rows are left out.
    """
    index = t.index
    assert isinstance(index, DynamicIndex)
    allocation = t.storage.allocation
    total = allocation.nbytes // t.dtype.itemsize
    found = []
    spans = [slice(p, p + 1) for p in range(t.shape[0])] if index.vector else [slice(0, t.shape[0])]
    entries = indices(index)[: len(spans)].tolist()
    if len(entries) < len(spans):
        raise NkiValidationError(f"{len(spans)} rows need an index each, and the tile of indices holds {len(entries)}")
    shape = (1, *t.shape[1:]) if index.vector else t.shape
    before, behind = reach(shape, t.strides)
    row_before, row_behind = reach(shape[1:], t.strides[1:])
    row = total // allocation.shape[0]  # elements of one partition
    for entry, span in zip(entries, spans, strict=True):
        offset = t.offset + entry * index.scale
        within = entry >= 0 if index.count is None else 0 <= entry < index.count
        inside = within and offset + before >= 0 and offset + behind < total
        if inside and t.on_chip:
            within_row = offset % row + row_before >= 0 and offset % row + row_behind < row
            inside = within_row and offset // row == t.offset // row
        if inside:
            found.append((span, t.plain(t.layout.changed(offset, shape, t.strides))))
        elif not skip:
            where = f"row {span.start} has " if index.vector else ""
            room = "" if index.count is None else f", which has {index.count} entries"
            raise OutOfBounds(
                f"{where}index {entry} leaves dimension {index.dim} of {t.name!r}{room}; the device stops with "
                "NRT_EXEC_OOB, or skips it with oob_mode.skip",
                source="nki/deep-dives/nki-aps.rst",
            )
    return found


def same_view(a: NkiTensor, b: NkiTensor) -> bool:
    """Whether two views are one, with the same index if they have one."""
    if a.storage is not b.storage or a.layout != b.layout:
        return False
    if a.index is None or b.index is None:
        return a.index is b.index
    mine, other = a.index.source, b.index.source
    return mine is other or (isinstance(mine, NkiTensor) and isinstance(other, NkiTensor) and same_view(mine, other))


@functools.cache
def _signature(effect: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(effect)


def resolve_dynamic(
    m: Machine,
    effect: Callable[..., Any],
    takes: Indirect | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Execute an instruction whose operands may have an index: read it now, and name what was read in the event.

    takes: which operands may be indirect views
    """
    if not any([isinstance(a, NkiTensor) and a.index is not None for a in (*args, *kwargs.values())]):
        return effect(*args, **kwargs)
    call = _signature(effect).bind(*args, **kwargs)
    operands = call.arguments
    gathers: dict[str, NkiTensor] = {}
    try:
        for what, t in operands.items():
            if not isinstance(t, NkiTensor) or t.index is None:
                continue
            if isinstance(t.index.source, NkiTensor):
                m.index_reads.append(t.index.source)
            if isinstance(t.index, Gather):
                gathers[what] = t
            elif t.index.vector:
                raise NkiValidationError(
                    f"{what} has one index a row, which only DMA takes", source="nki/deep-dives/nki-aps.rst"
                )
            else:
                ((_, operands[what]),) = resolve(t)
        if not gathers:
            return effect(*call.args, **call.kwargs)
        indirection = Indirection(takes, operands, gathers)
        operands.update(indirection.tiles)
        event = effect(*call.args, **call.kwargs)
        indirection.finish(event)
        return event
    finally:
        m.index_reads.clear()
