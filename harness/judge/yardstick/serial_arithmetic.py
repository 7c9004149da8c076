"""A reference as a plain kernel would compute it: in float32, one term of a sum after the other, with fast functions.

NumPy sums in pairs and calls the C library, so that a reference evaluated on float32 arrays errs less than right
kernels do. A `SerialArray` stays float32 whatever it meets (a cast to float64 included), adds and contracts one term at
a time, forwards or backwards, and has functions and divisions that are two units in the last place off, as the special
function units of accelerators are: exponentials and logarithms by way of base 2. What NumPy copies out of it, as
`np.asarray` does, leaves this arithmetic. Inputs in float64 stay in float64.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.dtypes import is_float

UNITS = 2.0  # that a function may be off
AT_ONCE = 16  # terms of a contraction between two roundings of a coarse sum
MOST_WORK = 2**26  # multiplications of a contraction that runs one term at a time; larger ones take more at once
LOG2_E, LN_2, LN_10 = float(np.log2(np.e)), float(np.log(2)), float(np.log(10))
EXACT = (
    "add subtract multiply negative positive absolute fabs conjugate square maximum minimum fmax fmin "
    "sign heaviside floor ceil rint trunc fmod remainder divmod modf frexp ldexp copysign nextafter "
    "spacing signbit clip floor_divide"
)
BY_BASE_2: dict[str, Callable[[Array], Array]] = {
    "exp": lambda x: np.exp2(x * x.dtype.type(LOG2_E)),
    "log": lambda x: np.log2(x) * x.dtype.type(LN_2),
    "log10": lambda x: np.log2(x) * x.dtype.type(LN_2 / LN_10),
}


class Arithmetic:
    """The dtype, the direction of sums and the errors of functions that the arrays of one evaluation share."""

    def __init__(self, dtype: np.dtype[Any], backwards: bool) -> None:
        self.dtype = dtype
        self.backwards = backwards
        self.rng = np.random.default_rng(int(backwards))
        self.unit = float(np.finfo(dtype).eps)

    def array(self, x: Any) -> Any:
        """`x` as an array of this arithmetic if it holds floating-point numbers, else as it is."""
        if isinstance(x, tuple):
            return tuple(self.array(one) for one in x)
        if isinstance(x, list):
            return [self.array(one) for one in x]
        if not isinstance(x, (np.ndarray, np.generic)) or not (x.dtype == object or is_float(x.dtype)):
            return x
        out = np.asarray(self.plain(x)).view(SerialArray)
        out.arithmetic = self
        return out

    def input(self, x: Any) -> Any:
        """An argument of the reference as an array of this arithmetic."""
        if self.backwards and isinstance(x, np.ndarray) and is_float(x.dtype):
            x = (x.astype(np.float64) * self.rng.uniform(1 - self.unit, 1 + self.unit, x.shape)).astype(self.dtype)
        return self.array(x)

    def plain(self, x: Any) -> Any:
        """`x` without its arithmetic, in its dtype; containers of such likewise."""
        if isinstance(x, tuple):
            return tuple(self.plain(one) for one in x)
        if isinstance(x, list):
            return [self.plain(one) for one in x]
        if not isinstance(x, (np.ndarray, np.generic)):
            return x
        x = np.asarray(x)
        return x.astype(self.dtype) if is_float(x.dtype) and x.dtype != self.dtype else x

    def off(self, x: Any) -> Any:
        """`x` with an error of UNITS up or down; `np.vectorize` and the like return floats as objects."""
        if not isinstance(x, (np.ndarray, np.generic)):
            return x
        x = np.asarray(x)
        if x.dtype == object and all(isinstance(one, float) for one in x.flat):
            x = x.astype(self.dtype)
        if not is_float(x.dtype):
            return x
        apart = UNITS * self.unit
        return (x.astype(np.float64) * self.rng.choice((1 - apart, 1 + apart), x.shape)).astype(self.dtype)

    def total(self, x: Array, axis: Any, keepdims: bool) -> Array:
        """The sum over `axis`, one term after the other."""
        axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, (int, np.integer)) else axis
        axes = sorted({int(a) % x.ndim for a in axes})
        rest = [a for a in range(x.ndim) if a not in axes]
        terms = x.transpose(*rest, *axes).reshape(*[x.shape[a] for a in rest], -1)
        if self.backwards:
            terms = terms[..., ::-1]
        summed = np.add.accumulate(terms, axis=-1)[..., -1] if terms.shape[-1] else terms.sum(axis=-1)
        return summed.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else summed

    def contract(self, a: Array, b: Array) -> Array:
        """a @ b, one term after the other; in large products several at once."""
        left = a[None, :] if a.ndim == 1 else a
        right = b[:, None] if b.ndim == 1 else b
        k = left.shape[-1]
        size = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        work = int(np.prod([*size, left.shape[-2], right.shape[-1], k]))
        step = -(-work // MOST_WORK)
        total = np.zeros((*size, left.shape[-2], right.shape[-1]), self.dtype)
        for start in self.starts(k, max(1, step)):
            total += left[..., start : start + step] @ right[..., start : start + step, :]
        total = total[..., 0, :] if a.ndim == 1 else total
        return total[..., 0] if b.ndim == 1 else total

    def starts(self, size: int, step: int) -> Sequence[int]:
        starts = range(0, size, step)
        return starts[::-1] if self.backwards else starts


def power_of_two(x: Any) -> Array:
    found: Array = np.isin(np.frexp(x)[0], (0.0, 0.5, -0.5))
    return found


class Coarse(Arithmetic):
    """Sums in bfloat16, which no kernel that is right has: in products a few terms at once, elsewhere one by one."""

    def total(self, x: Array, axis: Any, keepdims: bool) -> Array:
        return super().total(x.astype(ml_dtypes.bfloat16), axis, keepdims).astype(self.dtype)

    def contract(self, a: Array, b: Array) -> Array:
        products = (
            a[..., start : start + AT_ONCE] @ b[start : start + AT_ONCE] for start in range(0, b.shape[0], AT_ONCE)
        )
        total = next(products)
        for product in products:
            total = (total + product).astype(ml_dtypes.bfloat16).astype(self.dtype)
        return total

    def off(self, x: Any) -> Any:
        return x


class SerialArray(np.ndarray[Any, Any]):
    """An array whose every operation is one of its `arithmetic`."""

    arithmetic: Arithmetic

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, SerialArray):
            self.arithmetic = source.arithmetic

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """A cast to a wider floating-point dtype changes nothing."""
        return self.arithmetic.array(np.asarray(self).astype(dtype))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arithmetic = self.arithmetic
        plain = arithmetic.plain(inputs)
        out = kwargs.pop("out", None)
        kwargs.pop("dtype", None)
        where = kwargs.pop("where", True)
        name = ufunc.__name__
        if method == "reduce" and where is not True:
            kwargs["where"] = where
        if method == "reduce" and name == "add" and set(kwargs) <= {"axis", "keepdims"}:
            result: Any = arithmetic.total(plain[0], kwargs.get("axis", 0), kwargs.get("keepdims", False))
        elif name in ("matmul", "vecdot") and not kwargs:
            a, b = plain
            result = arithmetic.contract(a, b) if name == "matmul" else arithmetic.total(a * b, -1, False)
        elif method == "__call__" and name in BY_BASE_2:
            result = arithmetic.off(BY_BASE_2[name](plain[0]))
        else:
            result = getattr(ufunc, method)(*plain, **kwargs)
            if method == "__call__" and name == "divide":
                result = np.where(power_of_two(plain[1]), result, arithmetic.off(result))
            elif name not in EXACT.split():  # of those with two results all are exact
                result = arithmetic.off(result)
        if out is None:
            return arithmetic.array(result)
        for target, value in zip(out, result if ufunc.nout > 1 else (result,), strict=True):
            np.copyto(np.asarray(target), value, casting="unsafe", where=where if method == "__call__" else True)
        return out if ufunc.nout > 1 else out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        arithmetic = self.arithmetic
        if function is np.einsum and set(kwargs) <= {"optimize"} and isinstance(args[0], str):
            found = einsum(arithmetic, args[0], arithmetic.plain(args[1:]))
            if found is not None:
                return arithmetic.array(found)
        if function is np.inner and np.ndim(args[1]) == 2:
            return np.matmul(args[0], args[1].T)
        if function is np.dot and not kwargs and np.ndim(args[0]) and np.ndim(args[1]) in (1, 2):
            return np.matmul(*args)
        if function is np.linalg.norm and len(args) == 1 and set(kwargs) <= {"axis", "keepdims"}:
            squares = arithmetic.total(
                arithmetic.plain(args[0]) ** 2, kwargs.get("axis"), kwargs.get("keepdims", False)
            )
            return np.sqrt(arithmetic.array(squares))
        return arithmetic.array(super().__array_function__(function, types, args, kwargs))


def einsum(arithmetic: Arithmetic, subscripts: str, operands: Sequence[Array]) -> Array | None:
    """The longest contracted index of an einsum one term after the other; None for formulas not of plain letters."""
    terms, arrow, out = subscripts.replace(" ", "").partition("->")
    inputs = terms.split(",")
    if not arrow or set(terms) - set(string.ascii_letters + ","):
        return None
    pairs = list(zip(inputs, operands, strict=True))
    sizes = {letter: n for term, x in pairs for letter, n in zip(term, x.shape, strict=True)}
    summed = [letter for letter in sizes if letter not in out]
    even = all(n == sizes[letter] for term, x in pairs for letter, n in zip(term, x.shape, strict=True))
    if not summed or not even:
        return None
    letter = max(summed, key=lambda one: sizes[one])
    step = -(-int(np.prod([float(n) for n in sizes.values()])) // MOST_WORK)
    total: Array = np.zeros([sizes[one] for one in out], arithmetic.dtype)
    for start in arithmetic.starts(sizes[letter], max(1, step)):
        parts = [
            x[tuple(slice(start, start + step) if one == letter else slice(None) for one in term)] for term, x in pairs
        ]
        total = total + np.einsum(subscripts, *parts)
    return total


def evaluate(reference: Callable[..., Any], arguments: dict[str, Any], backwards: bool, coarse: bool = False) -> Array:
    """`reference` of `arguments` in this arithmetic: float64 if an input is, else float32.

    Backwards also moves the inputs by up to a unit in the last place, as a kernel does that scales first: sums of
    narrow inputs, which are exact, are no longer.
    """
    wide = any(isinstance(x, np.ndarray) and x.dtype == np.float64 for x in arguments.values())
    arithmetic = (Coarse if coarse else Arithmetic)(np.dtype(np.float64 if wide else np.float32), backwards)
    with np.errstate(all="ignore"):
        try:
            return np.asarray(reference(**{name: arithmetic.input(x) for name, x in arguments.items()}))
        except Exception:  # what it calls refuses such arrays, which is no fault of the op
            return np.asarray(reference(**{name: arithmetic.plain(x) for name, x in arguments.items()}))
