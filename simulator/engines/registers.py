"""Sequencers: registers made, moved, loaded from memory and stored there."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.plan import Plan, nothing
from triptych.simulator.machine.registers import VirtualRegister, bound_value, writers
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.storage import PSUM
from triptych.simulator.operands.operands import describe, put
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Event

_LOOPS = "nki/api/nki/language/__init__.py, fori_loop"


def register_alloc(x: Any = None) -> VirtualRegister:
    """A new register, holding the integer `x` or nothing."""
    if isinstance(x, NkiTensor) and x.index is None:
        message = f"register_alloc takes an integer or None, got {describe(x)}; use nisa.register_load"
        machine().remark("register-of-tensor", message, "nki/api/nki/isa/__init__.py, register_alloc")
        register = VirtualRegister()
        register_load(register, x)
        return register
    if x is not None and not isinstance(x, (int, np.integer)):
        raise NkiValidationError(f"register_alloc takes an integer or None, got {describe(x)}")
    return VirtualRegister(None if x is None else _wrapped(int(x)))


@instruction(eng.sync, cost=costs.free)
def register_move(dst: VirtualRegister, src: Any) -> Plan:
    """dst = src, an integer or another register."""
    _writable(dst)
    return Plan(eng.sync, (), (), nothing, (dst, src), decide=_move, register=dst, registers=awaited(machine(), src))


def _move(dst: VirtualRegister, src: Any) -> None:
    dst.state = _wrapped(bound_value(src))


@instruction(eng.sync, cost=costs.free)
def register_load(dst: VirtualRegister, src: NkiTensor) -> Plan:
    """dst = the one element of src, in HBM or SBUF, of up to 32 bits."""
    _writable(dst)
    check_element("src", src)
    return Plan(eng.sync, (src,), (), nothing, (dst, src), needs=check_known, decide=_load, register=dst)


def check_known(*operands: Any) -> None:
    """What a sequencer reads, the last operand, has been written, from what was written itself."""
    require_written(machine(), operands[-1:])


def _load(dst: VirtualRegister, src: NkiTensor) -> None:
    element = machine().values(src).reshape(-1)[0]
    dst.state = _wrapped(int(element) if src.dtype.is_int else int(np.rint(np.float32(element))))


@instruction(eng.sync, cost=costs.free)
def register_store(dst: NkiTensor, src: VirtualRegister) -> Plan:
    """The one element of dst, in HBM or SBUF, = src."""
    check_element("dst", dst)
    if not isinstance(src, VirtualRegister):
        raise NkiValidationError(f"src must be a register, got {describe(src)}")
    return Plan(eng.sync, (), (dst,), store, (dst, src.value()), registers=awaited(machine(), src))


def store(dst: NkiTensor, value: int) -> None:
    put(dst, np.array([value], np.int64))


def awaited(m: Machine, src: Any) -> tuple[Event, ...]:
    """Who wrote the registers that an instruction waits for: those of the loops around it, and src if it is one."""
    return (*m.scope.get("registers", ()), *writers(src))


def _writable(dst: Any) -> None:
    if not isinstance(dst, VirtualRegister):
        raise NkiValidationError(f"dst must be a register of nisa.register_alloc, got {describe(dst)}")
    if dst.frozen:
        raise NkiValidationError("the counter of a loop is read only; carry other state through SBUF", source=_LOOPS)


def check_element(what: str, t: Any, *dtypes: str) -> None:
    """One element in HBM or SBUF, of these dtypes or, without, of any that holds numbers."""
    plain = isinstance(t, NkiTensor) and t.index is None
    if not plain or t.size != 1 or t.buffer is PSUM or (t.dtype not in dtypes if dtypes else t.dtype.kind == "x"):
        kind = " or ".join(dtypes) or "number"
        raise NkiValidationError(f"{what} must be one {kind} in HBM or SBUF, got {describe(t)}")


def _wrapped(value: int) -> int:
    """`value` as the 32-bit register holds it."""
    return (value + 2**31) % 2**32 - 2**31
