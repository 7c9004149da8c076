"""Vector Engine: the eight largest values of each partition."""

from __future__ import annotations

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.operands.operands import on_chip, put
from triptych.simulator.tensors.tensor import NkiTensor


@instruction(eng.vector, cost=costs.streamed, order="late")
def max8(dst: NkiTensor, src: NkiTensor, name: str | None = None) -> Plan:
    """dst[P, 8] = the 8 largest elements of src per partition, largest first, compared in float32.

    What a NaN does is not documented; it counts as largest here, so that it is seen.
    """
    on_chip(dst=dst, src=src)
    if src.ndim > 3:
        raise NkiValidationError(f"src has at most 3 dimensions, got {src.shape}")
    if not 8 <= src.free_size <= 16384:
        raise NkiValidationError(f"src must have 8 to 16384 elements per partition, got {src.free_size} in {src.shape}")
    if dst.shape != (src.shape[0], 8):
        raise NkiValidationError(f"dst must be ({src.shape[0]}, 8), got {dst.shape}")
    return Plan(eng.vector, (src,), (dst,), _largest, (dst, src))


def _largest(dst: NkiTensor, src: NkiTensor) -> None:
    x = src.f32().reshape(src.shape[0], -1)
    put(dst, np.sort(np.partition(x, x.shape[1] - 8, axis=1)[:, -8:], axis=1)[:, ::-1])
