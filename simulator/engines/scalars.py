"""Sequencers: scalars loaded from memory and stored there (NKI 0.7)."""

from __future__ import annotations

from triptych.simulator.analysis import costs
from triptych.simulator.engines.registers import awaited, check_element, check_known, store
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan, nothing
from triptych.simulator.machine.scalars import NkiScalar
from triptych.simulator.operands.operands import describe
from triptych.simulator.tensors.tensor import NkiTensor

_DTYPES = ("int32", "int64")


@instruction(eng.sync, cost=costs.free.assumed(), source="nki.isa.scalar_load.html of SDK 2.33")
def scalar_load(src: NkiTensor) -> Plan:
    """A scalar from the one element of src, in HBM or SBUF. No cost is published; a register's is taken."""
    check_element("src", src, *_DTYPES)
    return Plan(eng.sync, (src,), (), nothing, (src,), needs=check_known)


def load_scalar(src: NkiTensor) -> NkiScalar:
    """A scalar from the one element of src, int32 or int64 in HBM or SBUF."""
    event = scalar_load(src)
    return NkiScalar(int(machine().values(src).reshape(-1)[0]), src.dtype, written_by=(event,))


load_scalar.__name__ = "scalar_load"


@instruction(eng.sync, cost=costs.free.assumed(), source="nki.isa.scalar_store.html of SDK 2.33")
def scalar_store(dst: NkiTensor, value: NkiScalar) -> Plan:
    """The one element of dst, in HBM or SBUF and of the scalar's width, = value."""
    check_element("dst", dst, *_DTYPES)
    if not isinstance(value, NkiScalar) or value.dtype != dst.dtype:
        raise NkiValidationError(f"value must be a scalar of {dst.dtype}, got {describe(value)}")
    return Plan(eng.sync, (), (dst,), store, (dst, value.value()), registers=awaited(machine(), value))


def store_scalar(dst: NkiTensor, value: NkiScalar) -> None:
    """The one element of dst, in HBM or SBUF and of the scalar's width, = value."""
    scalar_store(dst, value)


store_scalar.__name__ = "scalar_store"
