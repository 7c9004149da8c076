"""Sequencers: scalars loaded from memory and stored there (NKI 0.7)."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.engines.registers import check_known
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan, nothing
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.memory.storage import PSUM
from triptych.simulator.operands.operands import describe
from triptych.simulator.tensors.tensor import NkiTensor

_SYNC = enums.engine.sync


@instruction(_SYNC, cost=costs.free.assumed(), source="nki.isa.scalar_load.html of SDK 2.33")
def scalar_load(src: NkiTensor) -> Plan:
    """A scalar from the one element of src, in HBM or SBUF. No cost is published; a register's is taken."""
    _check_element("src", src)
    return Plan(_SYNC, (src,), (), nothing, (src,), needs=check_known)


def load_scalar(src: NkiTensor) -> NkiScalar:
    """A scalar from the one element of src, int32 or int64 in HBM or SBUF."""
    event = scalar_load(src)
    return NkiScalar(int(machine().values(src).reshape(-1)[0]), src.dtype, written_by=(event,))


load_scalar.__name__ = "scalar_load"


@instruction(_SYNC, cost=costs.free.assumed(), source="nki.isa.scalar_store.html of SDK 2.33")
def scalar_store(dst: NkiTensor, value: NkiScalar) -> Plan:
    """The one element of dst, in HBM or SBUF and of the scalar's width, = value."""
    _check_element("dst", dst)
    if not isinstance(value, NkiScalar) or value.dtype != dst.dtype:
        raise NkiValidationError(f"value must be a scalar of {dst.dtype}, got {describe(value)}")
    awaited = (*machine().scope.get("registers", ()), *value.written_by)
    return Plan(_SYNC, (), (dst,), _store, (dst, value.value()), registers=awaited)


def _store(dst: NkiTensor, value: int) -> None:
    dst.array[...] = np.array(value, dst.array.dtype)
    dst.wrote()


def store_scalar(dst: NkiTensor, value: NkiScalar) -> None:
    """The one element of dst, in HBM or SBUF and of the scalar's width, = value."""
    scalar_store(dst, value)


store_scalar.__name__ = "scalar_store"


def _check_element(what: str, t: Any) -> None:
    if not isinstance(t, NkiTensor) or t.size != 1 or t.buffer is PSUM or t.dtype not in ("int32", "int64"):
        raise NkiValidationError(f"{what} must be one int32 or int64 in HBM or SBUF, got {describe(t)}")
