"""Views whose address is known only when the kernel runs: one index for all partitions, or one for each.

    scalar    element (i0, ..) lies at offset + index * scale + sum(strides[k] * ik)
    vector    element (p, ..) lies at offset + index[p] * scale + sum over k >= 1 of strides[k] * ik

`scale` is the stride of the indexed dimension of the tensor on which the view was made. The index is a register or a
tensor of one element, or for a vector a tile (P, 1) in SBUF; it is read when the instruction runs
(nki/deep-dives/nki-aps.rst).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.access import Dynamic
from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.registers import bound_value
from triptych.simulator.tensor import NkiTensor

Array = NDArray[Any]


def indices(dynamic: Dynamic) -> Array:
    """The index, or one for each partition, as int64."""
    if isinstance(dynamic.index, NkiTensor):
        dynamic.index.check_written()
        return dynamic.index.array.reshape(-1).astype(np.int64)
    return np.array([bound_value(dynamic.index)], np.int64)


def resolve(t: NkiTensor, skip: bool = False) -> list[tuple[slice, NkiTensor]]:
    """The ordinary views behind a dynamic one, each with the rows (entries of dimension 0) of `t` that it is.

    An index out of bounds raises; with `skip` its rows are left out.
    """
    dynamic = t.dynamic
    assert dynamic is not None
    allocation = t.storage.allocation
    total = allocation.nbytes // t.dtype.itemsize
    found = []
    spans = [slice(p, p + 1) for p in range(t.shape[0])] if dynamic.vector else [slice(0, t.shape[0])]
    for index, span in zip(indices(dynamic).tolist(), spans, strict=True):
        shape = (1, *t.shape[1:]) if dynamic.vector else t.shape
        offset = t.offset + index * dynamic.scale
        inside = 0 <= index < dynamic.count and 0 <= offset <= total - 1 - _reach(t.strides, shape)
        if inside and t.on_chip:
            row = total // allocation.shape[0]
            inside = offset // row == t.offset // row and offset % row + _reach(t.strides[1:], shape[1:]) < row
        if inside:
            found.append((span, t.at_offset(offset, shape)))
        elif not skip:
            where = f"partition {span.start} has " if dynamic.vector else ""
            raise OutOfBounds(
                f"{where}index {index} leaves dimension {dynamic.dim} of {t.name!r}, which has {dynamic.count} "
                "entries; the device stops with NRT_EXEC_OOB, or skips it with oob_mode.skip",
                source="nki/deep-dives/nki-aps.rst",
            )
    return found


def _reach(strides: Sequence[int], shape: Sequence[int]) -> int:
    """The distance from the first element of a view to its last."""
    return sum(s * (n - 1) for s, n in zip(strides, shape, strict=True))


def settled(value: Any, read: list[NkiTensor]) -> Any:
    """An instruction's argument with a scalar index resolved; index tensors are added to `read`."""
    if type(value) is not NkiTensor or value.dynamic is None:
        return value
    if value.dynamic.vector:
        raise NkiValidationError(
            "takes no view with one index a partition; nisa.dma_copy does", source="nki/deep-dives/nki-aps.rst"
        )
    if isinstance(value.dynamic.index, NkiTensor):
        read.append(value.dynamic.index)
    ((_, view),) = resolve(value)
    return view
