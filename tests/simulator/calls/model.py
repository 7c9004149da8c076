"""What a valid call of an instruction is: its operands, and what it leaves in those that it writes, by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

F = np.float32
FLOATS = ("float32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2")
NUMBERS = (*FLOATS, "tfloat32", "int8", "uint8", "int16", "uint16")
ANY = (*NUMBERS, "int32", "uint32")
ON_CHIP = ("sbuf", "psum")
NOT_FLOAT32 = ("bfloat16", "int32")  # what a float32 operand cannot be
DMA = ("sbuf", "private_hbm", "shared_hbm")
E8M0 = "uint8"


@dataclass(frozen=True)
class Operand:
    """One tensor of a call. `values(rng)` are what it holds before; without them it is written only."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = ("float32",)
    buffers: tuple[str, ...] = ON_CHIP
    values: Callable[[np.random.Generator], Any] | None = None
    random: bool = False  # holds any values of its dtype
    read: Any = True  # which elements are read
    rank: bool = False  # its shape counts, not only its partitions and elements per partition
    any_rows: bool = False  # other numbers of partitions would do
    any_columns: bool = False  # other numbers of elements per partition would do
    refuses: tuple[str, ...] = ()  # dtypes that the documentation leaves out, beside the packed ones

    @property
    def is_input(self) -> bool:
        return self.random or self.values is not None


@dataclass(frozen=True)
class Call:
    """An instruction with its operands by parameter. `expected(inputs)` are its outputs before the cast to a dtype.

    The inputs come with "dtypes", the dtype of every operand.
    """

    operands: dict[str, Operand]
    issue: Callable[..., Any]
    expected: Callable[[dict[str, Any]], dict[str, Any]]
    same_dtype: tuple[tuple[str, ...], ...] = ()
    not_both_in_psum: tuple[str, ...] = ()
    written: dict[str, Any] = field(default_factory=dict)  # where not everywhere: a mask from the inputs
    rtol: dict[str, float] = field(default_factory=dict)  # of outputs that are not exact
    engines: dict[str, int] = field(default_factory=dict)  # that the call may ask for, from a generation on
    before: Callable[..., Any] | None = None  # what has to run first
    since: int = 2  # where this call needs a later generation than its instruction

    @property
    def inputs(self) -> list[str]:
        return [n for n, o in self.operands.items() if o.is_input]

    @property
    def outputs(self) -> list[str]:
        return [n for n in self.operands if n.startswith(("dst", "val_dst", "idx_dst", "reduce_res"))]


def source(shape, dtypes=ANY, buffers=ON_CHIP, **more):
    """An input of any values."""
    return Operand(shape, dtypes, buffers, random=True, **more)


def given(values, dtypes=("float32",), buffers=ON_CHIP, **more):
    """An input whose values matter: an array, or a function of a random generator."""
    make = values if callable(values) else lambda rng: values
    return Operand(np.shape(make(np.random.default_rng(0))), dtypes, buffers, make, **more)


def whole(low, high, shape, dtypes, buffers=ON_CHIP, **more):
    """An input of integers from low to high, not included."""
    return given(lambda rng: rng.integers(low, high, shape), dtypes, buffers, **more)


def column(p, **more):
    """An operand of one number a partition."""
    return given(lambda rng: rng.standard_normal((p, 1)).astype(F), **more)


def f32(x):
    return x.astype(F)


def flat(x):
    return x.reshape(x.shape[0], -1)


def copied(x, name):
    """An input as `dst` receives it: as it is where dtypes agree, else through float32."""
    return x[name] if x["dtypes"]["dst"] == x["dtypes"][name] else f32(x[name])


def total(x):
    return {"reduce_res": x.sum(axis=1, keepdims=True, dtype=np.float64)}


CALLS: dict[str, Callable[[int, int], Call]] = {}


def call(make: Callable[[int, int], Call]) -> Callable[[int, int], Call]:
    """Declare the call of the instruction that `make` is named after."""
    CALLS[make.__name__] = make
    return make
