"""GpSimd Engine: reduction across partitions."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.plan import Plan
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.accumulators import operator_name
from triptych.simulator.operands.operands import bits, check_integers, in_buffer, put, put_bits
from triptych.simulator.tensors.tensor import NkiTensor

_ARITHMETIC: dict[str, Any] = {"add": np.add, "average": np.add, "maximum": np.maximum}
_BITVEC: dict[str, Any] = {"bitwise_or": np.bitwise_or, "bitwise_and": np.bitwise_and}


@instruction(eng.gpsimd, cost=costs.gpsimd.assumed())
def tensor_partition_reduce(dst: NkiTensor, op: Any, data: NkiTensor, name: str | None = None) -> Plan:
    """dst[1, F] = op over p of data[p, F]: add, average or maximum in float32, bitwise_or or bitwise_and on bits."""
    in_buffer(MemoryRegion.sbuf, dst=dst, data=data)
    if dst.shape[0] != 1 or dst.size != data.free_size:
        raise NkiValidationError(f"dst must have 1 partition of {data.free_size} elements, got {dst.shape}")
    kind = operator_name(op)
    if kind in _BITVEC:
        check_integers(dst, data)
    elif kind not in _ARITHMETIC:
        known = ", ".join(f"nl.{name}" for name in (*_ARITHMETIC, *_BITVEC))
        raise NkiValidationError(f"op must be one of {known}, got {op!r}")
    return Plan(eng.gpsimd, (data,), (dst,), _reduce, (dst, kind, data), op=kind)


def _reduce(dst: NkiTensor, kind: str, data: NkiTensor) -> None:
    if kind in _BITVEC:
        put_bits(dst, _BITVEC[kind].reduce(bits(data), axis=0))
    else:
        total = _ARITHMETIC[kind].reduce(data.f32(), axis=0)
        put(dst, total / F32.type(data.shape[0]) if kind == "average" else total)
