"""Views whose address is known only when the kernel runs: one index for all rows, or one for each.

    scalar    element (i0, ..) lies at offset + index * scale + sum(strides[k] * ik)
    vector    element (r, ..) lies at offset + index[r] * scale + sum over k >= 1 of strides[k] * ik

`scale` is the stride of the indexed dimension of the tensor on which the view was made. The index is a register or a
tensor of one element; for a vector it is a tile in SBUF, whose columns follow each other: index.T.flatten(). It is read
when the instruction runs (nki/deep-dives/nki-aps.rst; nki/api/nki/isa/__init__.py, dma_transpose).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import DType
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.registers import bound_value
from triptych.simulator.tensors.access import AccessPatterns, Columns, Dynamic
from triptych.simulator.tensors.tensor import DynamicSlice, NkiTensor
from triptych.simulator.tensors.views import GUIDE

if TYPE_CHECKING:
    from triptych.simulator.machine.table import Indirect

Array = NDArray[Any]


class DynamicTensor(NkiTensor):
    """A view with a dynamic index. It is no `NkiTensor` to an instruction until its index has been read."""

    __slots__ = ("dynamic",)

    dynamic: Dynamic | Columns

    @classmethod
    def over(cls, view: AccessPatterns, dynamic: Dynamic | Columns) -> DynamicTensor:
        if view.is_indirect():
            raise NkiValidationError(f"{view!r} is indirect already, and has one dynamic index", source=GUIDE)
        new = cls.__new__(cls)
        new._set(view.storage, view.dtype, view.buffer, view.offset, view.shape, view.strides)
        new.dynamic = dynamic
        machine().any_dynamic = True
        return new

    @property
    def keeps_rows(self) -> bool:
        return self.on_chip or self.dynamic.vector

    def _view(self, offset: int, shape: Sequence[int], strides: Sequence[int], dtype: DType | None = None) -> NkiTensor:
        changed = (offset, tuple(shape), tuple(strides)) != self.at
        if changed and isinstance(self.dynamic, Columns):
            raise NkiValidationError(f"{self!r} is indirect: no part or other shape of it is taken", source=GUIDE)
        if self.dynamic.vector and shape[0] != self.shape[0]:
            raise self._sliced()
        new = DynamicTensor.__new__(DynamicTensor)
        new._set(self.storage, self.dtype, self.buffer, offset, tuple(shape), tuple(strides))
        new.dynamic = self.dynamic
        return new

    def __getitem__(self, key: Any) -> NkiTensor:
        first = key[0] if type(key) is tuple and key else key
        if self.dynamic.vector and not isinstance(first, (slice, type(...), DynamicSlice)):
            raise self._sliced()
        return super().__getitem__(key)

    def _sliced(self) -> NkiValidationError:
        return NkiValidationError(
            f"the rows of {self!r} have an index each: none is selected or left out", source=GUIDE
        )

    def at_offset(self, offset: int, shape: tuple[int, ...]) -> NkiTensor:
        """The ordinary view of `shape` with these strides at `offset`: what this view is at one moment."""
        return super()._view(offset, shape, self.strides)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NkiValidationError(f"{self!r} is indirect: it gets no other dtype, pattern or index", source=GUIDE)

    view = reinterpret_cast = ap = vector_select = indirect = _refuse


def indices(dynamic: Dynamic) -> Array:
    """The index, or one for each row, as int64."""
    if isinstance(dynamic.index, NkiTensor):
        machine().check_reads((dynamic.index,))
        return machine().values(dynamic.index).T.reshape(-1).astype(np.int64)
    return np.array([bound_value(dynamic.index)], np.int64)


def resolve(t: DynamicTensor, skip: bool = False) -> list[tuple[slice, NkiTensor]]:
    """The ordinary views behind a view with an index, each with the rows (entries of dimension 0) of `t` that it is.

    An index out of bounds raises; with `skip` its rows are left out.
    """
    dynamic = t.dynamic
    assert isinstance(dynamic, Dynamic)
    allocation = t.storage.allocation
    total = allocation.nbytes // t.dtype.itemsize
    found = []
    spans = [slice(p, p + 1) for p in range(t.shape[0])] if dynamic.vector else [slice(0, t.shape[0])]
    chosen = indices(dynamic)[: len(spans)].tolist()
    if len(chosen) < len(spans):
        raise NkiValidationError(f"{len(spans)} rows need an index each, and the tile of indices holds {len(chosen)}")
    shape = (1, *t.shape[1:]) if dynamic.vector else t.shape
    for index, span in zip(chosen, spans, strict=True):
        offset = t.offset + index * dynamic.scale
        within = index >= 0 if dynamic.count is None else 0 <= index < dynamic.count
        inside = within and offset <= total - 1 - _reach(t.strides, shape)
        if inside and t.on_chip:
            row = total // allocation.shape[0]
            inside = offset // row == t.offset // row and offset % row + _reach(t.strides[1:], shape[1:]) < row
        if inside:
            found.append((span, t.at_offset(offset, shape)))
        elif not skip:
            where = f"row {span.start} has " if dynamic.vector else ""
            room = "" if dynamic.count is None else f", which has {dynamic.count} entries"
            raise OutOfBounds(
                f"{where}index {index} leaves dimension {dynamic.dim} of {t.name!r}{room}; the device stops with "
                "NRT_EXEC_OOB, or skips it with oob_mode.skip",
                source="nki/deep-dives/nki-aps.rst",
            )
    return found


def _reach(strides: Sequence[int], shape: Sequence[int]) -> int:
    """The distance from the first element of a view to its last."""
    return sum(s * (n - 1) for s, n in zip(strides, shape, strict=True))


def same_view(a: NkiTensor, b: NkiTensor) -> bool:
    """Whether two views are one, with the same index if they have one."""
    if a.storage is not b.storage or a.at != b.at or a.dtype != b.dtype:
        return False
    if type(a) is not DynamicTensor or type(b) is not DynamicTensor:
        return type(a) is type(b)
    mine, other = a.dynamic.index, b.dynamic.index
    return mine is other or (isinstance(mine, NkiTensor) and isinstance(other, NkiTensor) and same_view(mine, other))


@functools.cache
def _signature(effect: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(effect)


def settle(m: Machine, effect: Callable[..., Any], takes: Indirect | None, args: Any, kwargs: Any) -> Any:
    """Run an instruction whose operands may have an index, which is read now; what was read goes into its event."""
    from triptych.simulator.machine.indirection import Indirection

    if not any([type(a) is DynamicTensor for a in (*args, *kwargs.values())]):
        return effect(*args, **kwargs)
    call = _signature(effect).bind(*args, **kwargs)
    operands = call.arguments
    columns: dict[str, DynamicTensor] = {}
    try:
        for what, t in operands.items():
            if type(t) is not DynamicTensor:
                continue
            if isinstance(t.dynamic.index, NkiTensor):
                m.index_reads.append(t.dynamic.index)
            if isinstance(t.dynamic, Columns):
                columns[what] = t
            elif t.dynamic.vector:
                raise NkiValidationError(
                    f"{what} has one index a row, which only DMA takes", source="nki/deep-dives/nki-aps.rst"
                )
            else:
                ((_, operands[what]),) = resolve(t)
        if not columns:
            return effect(*call.args, **call.kwargs)
        indirection = Indirection(takes, operands, columns)
        operands.update(indirection.tiles)
        event = effect(*call.args, **call.kwargs)
        indirection.finish(event)
        return event
    finally:
        m.index_reads.clear()
