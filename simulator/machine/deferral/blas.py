"""Products of float32 that add to what is there: BLAS's sgemm with beta = 1, which NumPy has no function for.

It is looked for in the library that NumPy itself multiplies with, so that both give the same bits. That a product of
several tiles at once does is asked of it, form by form, before it is used (`same_bits`).
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.bfloat16 import to_float32
from triptych.simulator.dtypes import F32
from triptych.simulator.memory.layout import Shape

Array = NDArray[Any]
_ROW_MAJOR, _AS_IT_IS, _TRANSPOSED = 101, 111, 112  # of CBLAS
_NAMES = {"scipy_cblas_sgemm64_": ctypes.c_int64, "cblas_sgemm64_": ctypes.c_int64, "cblas_sgemm": ctypes.c_int}


@functools.cache
def _sgemm() -> Any:
    """cblas_sgemm of NumPy's library, or None."""
    try:
        compiled = importlib.import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(str(compiled.__file__))
    except (ImportError, OSError):
        return None
    for name, size in _NAMES.items():
        function = getattr(library, name, None)
        if function is not None:
            number, pointer = ctypes.c_float, ctypes.c_void_p
            function.argtypes = [*[ctypes.c_int] * 3, *[size] * 3, number, *[pointer, size] * 2, number, pointer, size]
            function.restype = None
            return function
    return None


def find_sgemm() -> tuple[int, int]:
    """Where the function lies, and how many bytes its whole numbers have; (0, 0) without one."""
    function = _sgemm()
    if function is None:
        return 0, 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0, ctypes.sizeof(function.argtypes[3])


def multiply(left: Array, right: Array, out: Array, flips: tuple[bool, bool], adds: bool, piece: Shape) -> None:
    """out[M, N] (+)= left[K, M].T @ right[K, N] in float32, each piece of out by a product of its own.

    The operands are as `readable` gives them, and `flips` says how; the elements of a row of out lie side by side.

    piece: (rows, columns), of which out has whole numbers
    """
    m, n = piece
    turned, turned_right = flips
    lefts, rights, outs = left.ctypes.data, right.ctypes.data, out.ctypes.data
    step, step_right, step_out = left.strides[1], right.strides[1], out.strides[0]
    sgemm, k, beta = _sgemm(), len(left), 1.0 if adds else 0.0
    forms = _AS_IT_IS if turned else _TRANSPOSED, _TRANSPOSED if turned_right else _AS_IT_IS
    widths = left.strides[turned] // 4, right.strides[turned_right] // 4, step_out // 4
    for i in range(0, out.shape[0], m):
        for j in range(0, out.shape[1], n):
            a, b, to = lefts + i * step, rights + j * step_right, outs + i * step_out + j * 4
            sgemm(_ROW_MAJOR, *forms, m, n, k, 1.0, a, widths[0], b, widths[1], beta, to, widths[2])


def readable(a: Array) -> Array:
    """A matrix in float32 of which the elements of a row, or of a column, lie side by side."""
    (rows, columns), (down, across), item = a.shape, a.strides, a.itemsize
    if across == item and down >= item * columns:
        return a if a.dtype == F32 else to_float32(a)
    if down == item and across >= item * rows:
        return a if a.dtype == F32 else to_float32(a.T).T
    return np.ascontiguousarray(a, F32)


def is_flipped(a: Array) -> bool:
    """Whether it is the elements of a column of a readable matrix that lie side by side."""
    return bool(a.strides[1] != 4)


@functools.lru_cache(256)
def same_bits(k: int, tile: Shape, whole: Shape, flips: tuple[bool, bool]) -> bool:
    """Whether one product gives, in each of its tiles, the bits of NumPy's product and sum of that tile alone.

    tile, whole: (rows, columns) of both
    flips: whether left, right lie transposed in the whole product
    """
    if _sgemm() is None or k < 2 or 1 in tile:
        return False
    (m, n), rng = tile, np.random.default_rng(k)
    left, right = (rng.standard_normal((k, size), F32) for size in whole)
    out = np.empty(whole, F32)
    old = rng.standard_normal(tile, F32)
    for i in range(0, whole[0], m):
        for j in range(0, whole[1], n):
            out[i : i + m, j : j + n] = old
    turned = [a.T.copy().T if flip else a for a, flip in zip((left, right), flips, strict=True)]
    multiply(turned[0], turned[1], out, flips, True, whole)
    for i in range(0, whole[0], m):
        for j in range(0, whole[1], n):
            product = np.matmul(left[:, i : i + m].copy().T, right[:, j : j + n].copy())
            if not np.array_equal(np.add(product, old), out[i : i + m, j : j + n]):
                return False
    return True
