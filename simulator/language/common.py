"""What the wrappers share: how one is declared, and the tiles that they allocate.

`function` declares one function of `nki.language` under its name there. An error that a wrapper itself raises names the
wrapper; one raised by an instruction that it issues names the instruction. Both carry the kernel's line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from triptych.simulator.dtypes import dtype_of
from triptych.simulator.errors import NkiError, NkiValidationError
from triptych.simulator.machine.machine import machine
from triptych.simulator.memory.storage import SBUF, MemoryRegion
from triptych.simulator.operands.operands import describe
from triptych.simulator.operands.operators import OPS
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.wrong_calls import wrong_call

P = ParamSpec("P")
R = TypeVar("R")
STUB = "nki/api/nki/language/__init__.py"
KNOWN_ISSUES = "release-notes/components/nki.rst, NKI 0.4.0, Known Issues"

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def function(f: Callable[P, R]) -> Callable[P, R]:
    """Declare a function of nki.language, where `all_` is called all; an operator of its name, as nl.add, calls it."""
    name = f.__name__.rstrip("_")

    @functools.wraps(f)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return f(*args, **kwargs)
        except NkiError as e:
            if e.op is None:
                e.op = f"nl.{name}"
                e.source = e.source or f"{STUB}, {name}"
            raise
        except TypeError as e:
            raise wrong_call(f"nl.{name}", f, args, kwargs, e) from None

    named.__name__ = named.__qualname__ = name
    FUNCTIONS[name] = named
    if name in OPS:
        OPS[name].wrapper = named
    return named


def declare(name: str, summary: str, call: Callable[..., Any]) -> None:
    """Declare a function that is one of several alike."""
    call.__name__, call.__doc__ = name, summary
    function(call)


def new(shape: Sequence[int], dtype: Any, buffer: MemoryRegion = SBUF) -> NkiTensor:
    """A tile, in SBUF unless said otherwise."""
    return machine().allocate(shape, dtype, buffer)


def result_of(x: NkiTensor, dtype: Any) -> NkiTensor:
    """A tile in SBUF of x's shape for a result in `dtype`, x's own if that is None."""
    return new(x.shape, x.dtype if dtype is None else dtype)


def into(
    dst: NkiTensor, instruction: Callable[Concatenate[NkiTensor, P], Any], *args: P.args, **kwargs: P.kwargs
) -> NkiTensor:
    """`dst`, once an instruction has written its result there."""
    instruction(dst, *args, **kwargs)
    return dst


def tile(**operands: Any) -> None:
    """Each operand is a tile in SBUF or PSUM."""
    for what, t in operands.items():
        if not isinstance(t, NkiTensor) or not t.on_chip:
            raise NkiValidationError(f"{what} must be a tile in SBUF or PSUM, got {describe(t)}")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating))


def same_dtype(x: NkiTensor, dtype: Any) -> bool:
    return dtype is None or dtype_of(dtype) == x.dtype


def spread(column: NkiTensor, shape: Sequence[int]) -> NkiTensor:
    """A view of `column` that repeats its free dimensions of size 1 up to `shape`."""
    for dim in range(1, len(shape)):
        if column.shape[dim] != shape[dim]:
            column = column.broadcast(dim, shape[dim])
    return column
