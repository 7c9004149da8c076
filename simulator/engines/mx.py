"""NeuronCore-v4's microscaling formats: quantisation on the Vector Engine and matmul on the Tensor Engine.

A packed x4 element holds four fp8 or fp4 values, the first in its lowest bits (nki/deep-dives/src/mxfp-matmul,
mx_cpu_utils.py: the order is AWS's tutorial's, on whose kernels this agrees with its reference in NumPy).
32 values, 8 partitions x 4 of one element, share a scale X = 2^(s - 127), where s is the byte of a scale tile; 255 is
NaN. Scales lie in the quadrant of 32 partitions of their values, four partitions of it, from an offset of 0, 4, 8 or 12
(nki/deep-dives/mxfp-matmul.rst):

    value[32q + 8i + j, f, e] * X[32q + i, f]        i < 4, j < 8, e < 4
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.analysis.regions import check_start
from triptych.simulator.dtypes import F32, Array, round_to
from triptych.simulator.engines.matmul_limits import (
    accumulating,
    check_accumulate,
    check_sizes,
    check_tiling,
    check_untiled,
)
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.dynamic import same_view
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.machine.unwritten import leave_padding
from triptych.simulator.memory.storage import PSUM, SBUF
from triptych.simulator.operands.operands import in_buffer, in_dtype
from triptych.simulator.tensors.partitions import partitions_of
from triptych.simulator.tensors.tensor import NkiTensor

_GUIDE = "nki/deep-dives/mxfp-matmul.rst"
_FP8: dict[str, Any] = {"float8_e5m2_x4": ml_dtypes.float8_e5m2, "float8_e4m3fn_x4": ml_dtypes.float8_e4m3fn}
_EMAX = {"float8_e5m2_x4": 15, "float8_e4m3fn_x4": 8}
_LARGEST = {"float8_e5m2_x4": 57344, "float8_e4m3fn_x4": 448}
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], F32)  # e2m1, by its bits
_BIAS = 127


@instruction(eng.vector, cost=costs.quarter, since=4, own_starts=True)
def quantize_mx(dst: NkiTensor, src: NkiTensor, dst_scale: NkiTensor, name: str | None = None) -> Plan:
    """dst[P, F/4] = src[P, F] / X packed by four in float8, X = 2^(floor(log2 of a group's largest) - Emax + 1).

    Emax is 8 for e4m3fn and 15 for e5m2; a group of zeros has the smallest X, 2^-127, which no X goes below. A value
    that is not finite raises: what becomes of its group is not documented. Nor is what stands in the other 28 rows of a
    quadrant of dst_scale. AWS's tests of it compare them with zeros on Trn3 (nki-library 2.29, test_quantize_to_mx.py:
    "zero padding"), so what nothing wrote of them is read as zeros, the remark `scale-padding`.
    """
    in_buffer(SBUF, dst=dst, src=src, dst_scale=dst_scale)
    p, f = src.shape[0], src.free_size
    in_dtype(("bfloat16", "float16"), src=src)
    in_dtype(_FP8, dst=dst)
    _check_partitions("src", src)
    check_start(dst.region)
    if f % 4:
        raise NkiValidationError(f"src must have a multiple of 4 elements per partition, got {src.shape}")
    if dst.shape[0] != p or dst.free_size != f // 4:
        raise NkiValidationError(f"dst must have {p} partitions of {f // 4} packed elements, got {dst.shape}")
    rows = _scale_rows("dst_scale", dst_scale, p, f // 4)
    operands = (dst, src, dst_scale, rows)
    return Plan(eng.vector, (src,), (dst, dst_scale), _quantize, operands, marks=_mark_quantized)


def _quantize(dst: NkiTensor, src: NkiTensor, dst_scale: NkiTensor, rows: Array) -> None:
    m, p, f = machine(), src.shape[0], src.free_size
    x = src.f32().reshape(p // 8, 8, f // 4, 4)
    largest = np.abs(x).max(axis=(1, 3))
    if not np.isfinite(largest).all():
        raise NkiValidationError("src holds a NaN or an infinity, whose scale is not documented")

    emax = _EMAX[dst.dtype] - (not m.options.as_nki_0_3)  # since 0.5.0 X is twice the OCP's, so that none is clamped
    exponent = np.frexp(largest)[1] - 1 - emax  # frexp: largest = mantissa in [1/2, 1) * 2^e
    exponent = np.where(largest == 0, -_BIAS, np.maximum(exponent, -_BIAS))
    scaled = np.ldexp(x, -exponent[:, None, :, None])
    if m.options.as_nki_0_3:
        scaled = np.clip(scaled, -_LARGEST[dst.dtype], _LARGEST[dst.dtype])
    np.copyto(dst.array, scaled.astype(_FP8[dst.dtype], order="C").view(np.uint32).reshape(dst.shape))
    powers = np.ldexp(F32.type(1), exponent) if dst_scale.dtype.is_float else exponent + _BIAS
    dst_scale.array[rows] = powers.astype(dst_scale.array.dtype).reshape(len(rows), *dst_scale.shape[1:])


def _mark_quantized(dst: NkiTensor, src: NkiTensor, dst_scale: NkiTensor, rows: Array) -> None:
    dst.wrote()
    chosen = np.zeros(dst_scale.shape, bool)
    chosen[rows] = True
    dst_scale.wrote_where(chosen)
    if partitions_of(dst_scale).start % 32 == 0:
        padding = np.ones(dst_scale.shape, bool)
        padding[rows], padding[src.shape[0] :] = False, False
        leave_padding(machine(), dst_scale, padding)


def _check_indirect(operands: dict[str, Any]) -> None:
    """Values and their scales are one tensor: both are chosen by one index, or neither is."""
    check_untiled(operands.get("tile_position"))
    for what in ("stationary", "moving"):
        pair = [operands[what], operands[f"{what}_scale"]]
        indices = [t.index.source for t in pair if isinstance(t, NkiTensor) and t.index is not None]
        if len(indices) == 1 or (indices and not same_view(*indices)):
            raise NkiValidationError(f"{what} and {what}_scale are indirect by the same index, or neither of them is")


@instruction(
    eng.tensor,
    cost=costs.matmul.assumed(),
    since=4,
    indirect=Indirect(
        ("stationary", "moving"), also=("stationary_scale", "moving_scale"), group=32, check=_check_indirect
    ),
    own_starts=True,
)
def nc_matmul_mx(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    stationary_scale: NkiTensor,
    moving_scale: NkiTensor,
    tile_position: tuple[int, ...] | None = None,
    tile_size: tuple[int, ...] | None = None,
    accumulate: bool | None = None,
    name: str | None = None,
) -> Plan:
    """dst[M, N] (+)= sum over K and 4 of stationary[K, M, 4] X[K/8, M] * moving[K, N, 4] Y[K/8, N], in float32.

    `accumulate` as in nc_matmul. It takes the cycles of a bfloat16 matmul of the same shape, with four times the
    contraction (nki/guides/architecture/trainium3_arch.rst).
    """
    m = machine()
    in_buffer(SBUF, stationary=stationary, moving=moving, stationary_scale=stationary_scale, moving_scale=moving_scale)
    in_buffer(PSUM, dst=dst)
    for what, t in (("stationary", stationary), ("moving", moving)):
        if t.dtype.kind != "x":
            raise NkiValidationError(f"{what} must be {', '.join(_FP8)} or float4_e2m1fn_x4, got {t!r}")
        _check_partitions(what, t)
    check_start(dst.region)
    in_dtype(("float32", "bfloat16"), dst=dst)
    k, big_m, n = stationary.shape[0], stationary.free_size, moving.free_size
    if big_m % 2:
        raise NkiValidationError(f"the free size of stationary must be even, got {stationary.shape}")
    check_sizes(m, dst, stationary, moving, (k, big_m, n))
    tile = check_tiling(m, k, big_m, tile_position, tile_size, rows_only=True)
    tiled: dict[str, Any] = {"tile": tile} if tile else {}
    _scale_rows("stationary_scale", stationary_scale, k, big_m)
    rows = _scale_rows("moving_scale", moving_scale, k, n)
    adds = check_accumulate(accumulate)
    read = (stationary, moving, stationary_scale, moving_scale)
    return Plan(
        eng.tensor,
        read,
        (dst,),
        _multiply,
        (dst, *read, rows, adds),
        needs=_check_scaled,
        decide=None if adds is False else accumulating,
        by_matmul=True,
        rows=1,
        **tiled,
    )


def _check_scaled(
    dst: NkiTensor, left: NkiTensor, right: NkiTensor, left_scale: NkiTensor, right_scale: NkiTensor, *more: Any
) -> None:
    m = machine()
    m.check_reads((left, right))
    for t in (left_scale, right_scale):
        if t.storage.missing:
            m.check_reads([t[q : q + 4] for q in range(0, left.shape[0], 32)])


def _multiply(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    stationary_scale: NkiTensor,
    moving_scale: NkiTensor,
    rows: Array,
    accumulate: Any,
    onto: Any = False,
) -> None:
    k, big_m, n = stationary.shape[0], stationary.free_size, moving.free_size
    left = _values(stationary) * _scales(stationary_scale, rows)
    right = _values(moving) * _scales(moving_scale, rows)
    result = left.transpose(0, 2, 1).reshape(4 * k, big_m).T @ right.transpose(0, 2, 1).reshape(4 * k, n)
    if onto is not False:
        result += np.where(onto, dst.f32(), F32.type(0)).reshape(big_m, n)
    round_to(result.reshape(dst.shape), dst.dtype, dst.array)
    dst.storage.wrote(dst.layout, by_matmul=True)


def _check_partitions(what: str, t: NkiTensor) -> None:
    check_start(t.region)
    if t.shape[0] % 32:
        raise NkiValidationError(f"{what} must have a multiple of 32 partitions, got {t.shape}")


def _scale_rows(what: str, scale: NkiTensor, partitions: int, columns: int) -> Array:
    """The partitions of a scale tile that hold scales: four of each quadrant."""
    in_dtype(("float8_e8m0fnu", "uint8"), **{what: scale})
    start = partitions_of(scale).start % 32
    if start not in (0, 4, 8, 12):
        raise NkiValidationError(
            f"{what} must start 0, 4, 8 or 12 partitions into a quadrant, got {start}", source=_GUIDE
        )
    least = partitions - 28
    if scale.shape[0] < least or scale.free_size != columns:
        raise NkiValidationError(
            f"{what} must have {least} partitions or more, so that every quadrant's four are in it, of {columns} "
            f"elements; got {scale.shape}",
            source=_GUIDE,
        )
    return (np.arange(0, partitions, 32)[:, None] + np.arange(4)).reshape(-1)


def _scales(scale: NkiTensor, rows: Array) -> Array:
    """X for each partition and element of the packed tile: [P, F, 1]."""
    stored = scale.array[rows].reshape(len(rows), -1)
    if scale.dtype.is_float:
        powers = stored.astype(F32)
    else:
        powers = np.ldexp(F32.type(1), stored.astype(np.int32) - _BIAS)
        powers[stored == 255] = np.nan
    return np.repeat(powers, 8, axis=0)[..., None]


def _values(t: NkiTensor) -> Array:
    """The four values of each packed element, in float32: [P, F, 4]."""
    packed: Array = np.ascontiguousarray(t.array).reshape(t.shape[0], -1)
    if t.dtype in _FP8:
        eights: Array = packed.view(_FP8[t.dtype]).reshape(*packed.shape, 4).astype(F32)
        return eights
    fours: Array = _FP4[packed[..., None] >> np.array([0, 4, 8, 12], np.uint16) & np.uint16(15)]
    return fours
