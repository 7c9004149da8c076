"""What print and nl.device_print show of a tensor: its values at that moment, and -- where nothing was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from triptych.simulator.tensors.tensor import NkiTensor


def values(t: NkiTensor) -> str:
    """The elements as NumPy prints them; packed ones as their bits."""
    if t.dynamic is not None:
        return "(an index chooses its elements when an instruction uses it)"
    if not t.storage.has_data:
        return "(no values: this run has shapes alone)"
    if t.dtype.kind == "x":
        shown = np.array([f"{bits:#0{2 * t.dtype.itemsize + 2}x}" for bits in t.array.ravel()]).reshape(t.shape)
    else:
        shown = t.f32() if t.dtype.kind == "f" else t.array
    written = t.storage.written_at(t.dtype, t.at)
    if written is True:
        return str(shown)
    return str(np.ma.masked_array(shown, ~np.broadcast_to(np.asarray(written), t.shape)))
