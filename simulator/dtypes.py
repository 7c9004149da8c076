"""NKI's data types: how each is stored, and how the engines' float32 results are rounded into it.

A dtype is a string, as in NKI (`nl.bfloat16 == "bfloat16"`), that also knows its NumPy storage. Engines compute in
float32; `round_to` is the one place where a result is rounded: to nearest even for floats, to nearest even and
saturated for integers (NKI 0.6 release notes).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from triptych.simulator.errors import NkiValidationError

Array = NDArray[Any]
F32 = np.dtype(np.float32)


class DType(str):
    """One NKI dtype. `np` stores an element; `kind` is 'f', 'i', 'u' or 'x' (packed, opaque to arithmetic)."""

    np: np.dtype[Any]
    itemsize: int
    kind: str

    def __new__(cls, name: str, storage: Any, kind: str) -> DType:
        self = super().__new__(cls, name)
        self.np = np.dtype(storage)  # NumPy keeps one object a built-in dtype, so `is F32` works
        self.itemsize = self.np.itemsize
        self.kind = kind
        return self

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        return self.kind in "iu"

    def __repr__(self) -> str:
        return f"nl.{self}"


def _table() -> dict[str, DType]:
    rows: list[tuple[str, Any, str]] = [
        ("bool_", np.uint8, "u"),  # stored as a byte (nki.language stub)
        *((f"int{b}", f"int{b}", "i") for b in (8, 16, 32)),
        *((f"uint{b}", f"uint{b}", "u") for b in (8, 16, 32)),
        ("float16", np.float16, "f"),
        ("bfloat16", ml_dtypes.bfloat16, "f"),
        ("float32", np.float32, "f"),
        ("tfloat32", np.float32, "f"),  # 1-8-10, kept in float32 with the low 13 mantissa bits zero
        ("float8_e4m3", ml_dtypes.float8_e4m3, "f"),  # 1-4-3 with infinities, largest normal 240
        ("float8_e4m3fn", ml_dtypes.float8_e4m3fn, "f"),  # OCP: no infinities, largest normal 448
        ("float8_e5m2", ml_dtypes.float8_e5m2, "f"),
        ("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu, "f"),  # a power of two, NaN is 0xFF
        ("float8_e5m2_x4", np.uint32, "x"),
        ("float8_e4m3fn_x4", np.uint32, "x"),
        ("float4_e2m1fn_x4", np.uint16, "x"),
    ]
    return {name: DType(name, storage, kind) for name, storage, kind in rows}


TABLE = _table()
float32 = TABLE["float32"]
tfloat32 = TABLE["tfloat32"]
uint8 = TABLE["uint8"]
_BY_NUMPY = {d.np: d for d in TABLE.values() if d.kind != "x" and d not in ("bool_", "tfloat32")}
_BY_NUMPY[np.dtype(bool)] = TABLE["bool_"]


def dtype_of(value: Any) -> DType:
    """The NKI dtype that `value` names: a DType, a name, a NumPy dtype or scalar type (JAX's included)."""
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in TABLE:
        return TABLE[value]
    try:
        found = _BY_NUMPY.get(np.dtype(value))
    except TypeError:
        found = None
    if found is None:
        raise NkiValidationError(
            f"{value!r} is not a dtype of NKI; expected one of {', '.join(TABLE)}", source="nki.language, data types"
        )
    return found


def round_to(values: Array, dtype: DType, out: Array) -> None:
    """out[...] = values rounded from float32 to `dtype`. `out` may have float32 storage (no low-precision rounding)."""
    if dtype.kind == "f":
        if dtype == "tfloat32" and values.dtype == F32:
            values = _round_mantissa(values, 13)
        np.copyto(out, values, casting="unsafe")
        return
    if dtype.kind == "x" and values.dtype != dtype.np:
        raise NkiValidationError(f"numbers cannot be cast to the packed dtype {dtype}")
    info = np.iinfo(dtype.np)
    if values.dtype.kind in "iub":
        if dtype.np.itemsize < values.dtype.itemsize or values.dtype.kind != dtype.kind:
            values = np.clip(values, info.min, info.max)
        np.copyto(out, values, casting="unsafe")
        return
    # 2^31 - 1 is no float32: clip in float64, where every 32-bit integer is exact. NaN becomes 0.
    whole = np.nan_to_num(np.rint(values.astype(np.float64)), nan=0.0, posinf=info.max, neginf=info.min)
    np.copyto(out, np.clip(whole, info.min, info.max), casting="unsafe")


def _round_mantissa(values: Array, drop: int) -> Array:
    """float32 values with the low `drop` mantissa bits rounded away, to nearest even; NaN and infinities stay."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1)
    rounded = (bits + half + ((bits >> np.uint32(drop)) & np.uint32(1))) & np.uint32(~((1 << drop) - 1) & 0xFFFFFFFF)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
