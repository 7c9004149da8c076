"""Python's operators on tensors: NKI has none, and an error says which function to write instead."""

from __future__ import annotations

from typing import Any, NoReturn

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.objects import NKIObject
from triptych.simulator.trace import Event
from triptych.simulator.wrong_calls import RETURNS_NOTHING

# Python's method -> (how it is written, the operator of nki.language that does it)
BINARY = {
    "add": ("+", "add"),
    "sub": ("-", "subtract"),
    "mul": ("*", "multiply"),
    "truediv": ("/", "divide"),
    "floordiv": ("//", ""),
    "mod": ("%", ""),
    "pow": ("**", "power"),
    "matmul": ("@", ""),
    "and": ("&", "bitwise_and"),
    "or": ("|", "bitwise_or"),
    "xor": ("^", "bitwise_xor"),
    "lshift": ("<<", "left_shift"),
    "rshift": (">>", "right_shift"),
}
COMPARED = {
    "lt": ("<", "less"),
    "le": ("<=", "less_equal"),
    "gt": (">", "greater"),
    "ge": (">=", "greater_equal"),
}
UNARY = {"neg": ("-", "negative"), "invert": ("~", "invert"), "abs": ("abs()", "abs"), "pos": ("+", "")}
_SPECIAL = {
    "@": "nisa.nc_matmul(dst=.., stationary=.., moving=..) with dst in PSUM",
    "/": "nl.multiply(x, nl.reciprocal(y)): no engine divides",
    "//": "nl.multiply by the reciprocal, and nl.floor",
    "%": "the remainder on the host: no engine has one",
    "+": "x itself",
}


def instead_of(written: str, operator: str, tensors: bool) -> str:
    """What to write for an operator. `tensors`: both operands are tensors, or nobody knows."""
    if written in _SPECIAL and (not operator or written == "/"):
        return _SPECIAL[written]
    if operator in ("negative", "invert", "abs"):
        return f"nl.{operator}(x)"
    if tensors:
        return f"nl.{operator}(x, y), or nisa.tensor_tensor(dst=.., data1=.., data2=.., op=nl.{operator})"
    return f"nl.{operator}(x, y), or nisa.tensor_scalar(dst=.., data=.., op0=nl.{operator}, operand0=..)"


_SOURCE = "nki/api/nki/language/__init__.py, NkiTensor, whose methods are views alone"


def _method(written: str, operator: str, in_place: bool = False) -> Any:
    """What an operator on a tensor ends in."""

    def method(self: Any, other: Any = None) -> NoReturn:
        if isinstance(other, Event):
            raise NkiValidationError(
                f"{other.op} gave no tile to use with `{written}`: {RETURNS_NOTHING}", source=_SOURCE
            )
        advice = instead_of(written, operator, isinstance(other, NKIObject))
        if in_place and self.buffer.value == "psum":
            advice = "nisa.nc_matmul(dst=..) on the same dst, which adds where a matmul wrote before"
        elif in_place:
            advice = f"nisa.tensor_tensor(dst=x, data1=x, data2=.., op=nl.{operator or '..'})"
        raise NkiValidationError(f"NKI has no `{written}` on tensors, here on {self!r}; write {advice}", source=_SOURCE)

    return method


METHODS: dict[str, Any] = {"__array_ufunc__": None}  # so that a number of NumPy leaves its operators to the tensor
for _name, (_written, _operator) in BINARY.items():
    METHODS[f"__{_name}__"] = METHODS[f"__r{_name}__"] = _method(_written, _operator)
    METHODS[f"__i{_name}__"] = _method(f"{_written}=", _operator, in_place=True)
for _name, (_written, _operator) in {**COMPARED, **UNARY}.items():
    METHODS[f"__{_name}__"] = _method(_written, _operator)
