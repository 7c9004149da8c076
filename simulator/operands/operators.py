"""The operators that instructions take: `op=nl.add`, `op=nl.exp`.

One object per name. `alu` is its meaning on Vector, GpSimd and the pre-stages of Scalar (a NumPy function on float32,
or on bit patterns for bitvec operators); `reduce` folds the last axis with it; `act` is its meaning as an activation
function of the Scalar Engine. An operator is callable inside a kernel, as `nl.add(x, y)`, where NKI has a function of
that name; the functions are in triptych.simulator.language.
Source of which name is which: nki/api/nki.api.shared.rst.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.operands import activations as act
from triptych.simulator.operands.in_order import ORDERED, in_order
from triptych.simulator.running import running

Array = NDArray[Any]


class Op:
    """One operator of nki.language."""

    __slots__ = ("act", "alu", "binary", "bitvec", "name", "reduce", "since", "valid", "wrapper")

    def __init__(
        self,
        name: str,
        alu: Any = None,
        *,
        binary: bool = False,
        bitvec: bool = False,
        reduce: Callable[..., Array] | None = None,
        act: Callable[[Array], Array] | None = None,
        valid: tuple[float, float] | None = None,
        since: int = 2,
    ) -> None:
        self.name = name
        self.alu = alu
        self.binary = binary
        self.bitvec = bitvec
        self.reduce = reduce
        self.act = act
        self.valid = valid  # range of |x| (reciprocal) or x in which the activation is documented to be right
        self.since = since  # first NeuronCore generation that has it as an ALU operator
        self.wrapper: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"nl.{self.name}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.wrapper is None:
            raise NkiValidationError(
                f"nl.{self.name} is an operator of instructions, op=nl.{self.name}, and not a function",
                source="nki.language",
            )
        return self.wrapper(*args, **kwargs)


def _truth(f: Callable[..., Any]) -> Callable[..., Any]:
    """A predicate as the engines return it: 1.0 or 0.0."""
    return lambda x, y: f(x, y).astype(np.float32)


def _binary(name: str, f: Any, *, reduces: bool = False, bitvec: bool = False) -> Op:
    fold = functools.partial(in_order, f) if f in ORDERED else functools.partial(f.reduce, axis=-1)
    return Op(name, f, binary=True, bitvec=bitvec, reduce=fold if reduces else None)


def _logical(name: str, f: Any) -> Op:
    return Op(name, _truth(lambda x, y: f(x != 0, y != 0)), binary=True, reduce=_folded(f))


def _folded(f: Any) -> Callable[..., Array]:
    return lambda a: f.reduce(a != 0, axis=-1).astype(np.float32)


def _abs_pick(larger: bool) -> Callable[[Array, Array], Array]:
    """abs_max / abs_min: x where |x| is larger / smaller, else y (a tie returns y)."""
    if larger:
        return lambda x, y: np.where(np.abs(x) > np.abs(y), x, y)
    return lambda x, y: np.where(np.abs(x) < np.abs(y), x, y)


_OPS = (
    # arithmetic, binary
    _binary("add", np.add, reduces=True),
    _binary("subtract", np.subtract, reduces=True),
    _binary("multiply", np.multiply, reduces=True),
    _binary("maximum", np.maximum, reduces=True),
    _binary("minimum", np.minimum, reduces=True),
    _binary("power", np.power),
    Op("abs_max", _abs_pick(True), binary=True, since=4),
    Op("abs_min", _abs_pick(False), binary=True, since=4),
    Op("equal", _truth(np.equal), binary=True),
    Op("not_equal", _truth(np.not_equal), binary=True),
    Op("less", _truth(np.less), binary=True),
    Op("less_equal", _truth(np.less_equal), binary=True),
    Op("greater", _truth(np.greater), binary=True),
    Op("greater_equal", _truth(np.greater_equal), binary=True),
    _logical("logical_and", np.logical_and),
    _logical("logical_or", np.logical_or),
    _logical("logical_xor", np.logical_xor),
    # bit patterns
    _binary("bitwise_and", np.bitwise_and, reduces=True, bitvec=True),
    _binary("bitwise_or", np.bitwise_or, reduces=True, bitvec=True),
    _binary("bitwise_xor", np.bitwise_xor, reduces=True, bitvec=True),
    _binary("left_shift", np.left_shift, bitvec=True),
    _binary("right_shift", np.right_shift, bitvec=True),
    Op("invert", np.invert, bitvec=True),
    # unary, and activation functions; square and relu are ALU operators since NeuronCore-v4 (release notes of NKI 0.4)
    Op("logical_not", lambda x: (x == 0).astype(np.float32)),
    Op("abs", np.abs, act=np.abs),
    Op("square", np.square, act=np.square, since=4),
    Op("relu", act.relu, act=act.relu, since=4),
    Op("rsqrt", act.rsqrt, act=act.rsqrt, valid=(2.0**-87, 2.0**97)),
    Op("reciprocal", np.reciprocal, act=np.reciprocal, valid=(2.0**-42, 2.0**42)),
    Op("copy", act=lambda x: x),
    Op("exp", act=np.exp),
    Op("log", act=np.log, valid=(2.0**-64, 2.0**64)),
    Op("sqrt", act=np.sqrt, valid=(2.0**-116, 2.0**118)),
    Op("sin", act=act.sin, valid=(-np.pi, np.pi)),
    Op("arctan", act=np.arctan, valid=(-np.pi / 2, np.pi / 2)),
    Op("sign", act=np.sign),
    Op("tanh", act=np.tanh),
    Op("sigmoid", act=act.sigmoid),
    Op("gelu", act=act.gelu),
    Op("gelu_dx", act=act.gelu_dx),
    Op("gelu_apprx_tanh", act=act.gelu_apprx_tanh),
    Op("gelu_apprx_sigmoid", act=act.gelu_apprx_sigmoid),
    Op("gelu_apprx_sigmoid_dx", act=act.gelu_apprx_sigmoid_dx),
    Op("silu", act=act.silu),
    Op("silu_dx", act=act.silu_dx),
    Op("softplus", act=act.softplus),
    Op("mish", act=act.mish),
    Op("erf", act=act.erf),
    Op("erf_dx", act=act.erf_dx),
    # names that only some instructions take
    Op("prelu"),
    Op("bypass"),
    Op("average"),
)

OPS = {op.name: op for op in _OPS}


def operator(op: Any, *, binary: bool | None = None) -> Op:
    """`op` as an ALU operator of an instruction; `binary` says which arity it needs."""
    if not isinstance(op, Op) or op.alu is None:
        known = ", ".join(f"nl.{o.name}" for o in _OPS if o.alu is not None)
        raise NkiValidationError(f"{op!r} is not an ALU operator; expected one of {known}", source="nki.api.shared.rst")
    chip = running().chip
    if chip.generation < op.since:
        raise NkiValidationError(
            f"{op!r} needs NeuronCore-v{op.since} or newer, and the target is {chip.name}", source="nki.language"
        )
    if binary is not None and op.binary is not binary:
        raise NkiValidationError(f"{op!r} takes {2 if op.binary else 1} operands, which does not fit here")
    return op


def arithmetic(what: str, op: Any, *, binary: bool | None = None) -> Op:
    """`op` as an ALU operator on numbers, and not on bit patterns."""
    found = operator(op, binary=binary)
    if found.bitvec:
        raise NkiValidationError(f"{what} must be arithmetic, got {op!r}")
    return found


def activation_function(op: Any) -> Op:
    if not isinstance(op, Op) or op.act is None:
        known = ", ".join(f"nl.{o.name}" for o in _OPS if o.act is not None)
        raise NkiValidationError(
            f"{op!r} is not an activation function of the Scalar Engine here; expected one of {known}",
            source="nki.api.shared.rst, Supported Activation Functions",
        )
    return op
