"""NKI's data types: how each is stored, and how the engines' float32 results are rounded into it.

A dtype is a string, as in NKI (`nl.bfloat16 == "bfloat16"`), that also knows its NumPy storage. Engines compute in
float32; `round_to` is the one place where a result is rounded: to nearest even, subnormals included; integers saturate
(NKI 0.6 release notes).

A float that overflows becomes an infinity, in float8 too (nki/api/nki/isa/__init__.py, range_select, on what the
smallest float32 becomes), and NaN in float8_e4m3fn, which has no infinity. Saturation at 240, 448 or 57344 is what
kernels do themselves, with a minimum and a maximum before the cast (nki-library, core/qkv/qkv_tkg.py), or what the
runtime switches on with NEURON_RT_ENABLE_OCP_SATURATION=1 (nki-library, test/utils/host_management.py; no documentation
has it): off here.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from triptych.simulator.bfloat16 import BFLOAT16, round_to_bfloat16
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

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a dtype, as of a configuration that holds one, is the dtype itself."""
        return dtype_of, (str(self),)

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
        *((f"int{b}", f"int{b}", "i") for b in (8, 16, 32, 64)),  # 64: for scalars alone (NKI 0.7)
        *((f"uint{b}", f"uint{b}", "u") for b in (8, 16, 32, 64)),  # 64: for what DMA moves (NKI 0.7)
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
int64 = TABLE["int64"]
_BY_NUMPY = {d.np: d for d in TABLE.values() if d.kind != "x" and d not in ("bool_", "tfloat32", "int64", "uint64")}
_BY_NUMPY[np.dtype(bool)] = TABLE["bool_"]


def dtype_of(value: Any) -> DType:
    """The NKI dtype that `value` names: a DType, a name, a NumPy dtype or scalar type (JAX's included).

    NumPy has no packed dtypes: an array of them has a dtype of that name, or one field of that name and the storage.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in TABLE:
        return TABLE[value]
    found = None
    if isinstance(value, (np.dtype, type)) or not hasattr(value, "shape"):  # a tensor or an array is no dtype
        try:
            kind = np.dtype(value)
            found = _BY_NUMPY.get(kind)
            packed = TABLE.get(kind.names[0] if kind.names and len(kind.names) == 1 else kind.name)
            if packed is not None and packed.kind == "x" and packed.itemsize == kind.itemsize:
                found = packed
        except (TypeError, ValueError):
            pass
    if found is None:
        raise NkiValidationError(
            f"{value!r} is not a dtype of NKI; expected one of {', '.join(TABLE)}", source="nki.language, data types"
        )
    return found


def round_to(values: Array, dtype: DType, out: Array) -> int:
    """out[...] = values rounded from float32 to `dtype`. `out` may have float32 storage (no low-precision rounding).

    Returns how many NaN became 0, because an integer has none: what the hardware makes of them is not documented.
    """
    if dtype.kind == "f":
        if dtype == "tfloat32" and values.dtype == F32:
            values = _round_to_tfloat32(values)
        elif dtype == "float8_e8m0fnu":
            _check_powers_of_two(values)
        if out.dtype is BFLOAT16 and values.dtype is F32 and values.shape == out.shape:
            round_to_bfloat16(values, out)
        else:
            np.copyto(out, values, casting="unsafe")
        return 0
    if dtype.kind == "x" and values.dtype != dtype.np:
        raise NkiValidationError(f"numbers cannot be cast to the packed dtype {dtype}")
    if values.dtype.kind in "iub":
        info = np.iinfo(dtype.np)
        if dtype.np.itemsize < values.dtype.itemsize or values.dtype.kind != dtype.kind:
            values = np.clip(values, info.min, info.max)
        np.copyto(out, values, casting="unsafe")
        return 0
    return _round_to_integer(values, dtype, out)


def _round_to_integer(values: Array, dtype: DType, out: Array) -> int:
    """Float values to nearest even, saturated at what `dtype` holds; returns how many were NaN."""
    info = np.iinfo(dtype.np)
    whole = np.rint(values)
    nan = np.isnan(whole)
    nans = int(np.count_nonzero(nan))
    if nans:
        whole[nan] = 0
    # The largest 32-bit integers are no float32: what is above the last float32 before them is set apart.
    beyond = whole.dtype.type(2.0 ** (info.bits - (info.min < 0)))
    last = np.nextafter(beyond, whole.dtype.type(0))
    above = whole >= beyond if last < info.max else None
    np.clip(whole, info.min, min(last, whole.dtype.type(info.max)), out=whole)
    np.copyto(out, whole, casting="unsafe")
    if above is not None:
        out[above] = info.max
    return nans


def _check_powers_of_two(values: Array) -> None:
    """float8_e8m0fnu holds 2^-127 .. 2^127 and NaN. How another number would be rounded is not documented."""
    mantissa, exponent = np.frexp(values)
    wrong = ~np.isnan(values) & ((mantissa != 0.5) | (np.abs(exponent - 1) > 127))
    if wrong.any():
        raise NkiValidationError(
            f"float8_e8m0fnu holds powers of two from 2^-127 to 2^127 and NaN, and {values[wrong].flat[0]:g} is cast "
            "to it; compute a power of two, or write the exponent plus 127 through .view(nl.uint8)",
            source="nki.language, float8_e8m0fnu",
        )


def _round_to_tfloat32(values: Array) -> Array:
    """float32 values with the low 13 mantissa bits rounded away, to nearest even; NaN and infinities stay."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
