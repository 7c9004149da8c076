"""Tensor Engine: the 128 x 128 systolic array. It reads SBUF and writes PSUM, and accumulates in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import round_to
from triptych.simulator.engines.matmul_limits import (
    FP8,
    GEN2_TRANSPOSE,
    accumulating,
    check_accumulate,
    check_bank,
    check_dtypes,
    check_sizes,
    check_tiling,
    check_untiled,
    contraction_rows,
)
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.machine.table import Indirect
from triptych.simulator.memory.storage import PSUM, SBUF
from triptych.simulator.operands.operands import in_buffer, move_transposed, on_chip, put, scratch, target
from triptych.simulator.tensors.tensor import NkiTensor

Array = NDArray[Any]
_V3_ARCH = "nki/guides/architecture/trainium2_arch.rst"
_TENSOR = enums.engine.tensor
_INDIRECT = (*FP8, "bfloat16", "float16")


def _check_indirect(operands: dict[str, Any]) -> None:
    """The documented dtypes are those of operands; dst is one too, so that of its two dtypes bfloat16 is left."""
    check_untiled(operands.get("tile_position"))
    for what in ("dst", "stationary", "moving"):
        t = operands[what]
        if isinstance(t, NkiTensor) and t.index is not None and t.dtype not in _INDIRECT:
            raise NkiValidationError(f"an indirect {what} must be {', '.join(_INDIRECT)}, got {t!r}")
    moving = operands["moving"]
    if operands.get("is_transpose") and isinstance(moving, NkiTensor) and moving.index is not None:
        raise NkiValidationError("moving cannot be an indirect view in a transpose")


@instruction(
    enums.engine.tensor, cost=costs.matmul, indirect=Indirect(("stationary", "moving"), group=32, check=_check_indirect)
)
def nc_matmul(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    perf_mode: enums.matmul_perf_mode = enums.matmul_perf_mode.none,
    name: str | None = None,
) -> Plan:
    """dst[M, N] (+)= stationary[K, M].T @ moving[K, N], K on the partitions, in float32.

    `accumulate` False overwrites, True adds, None overwrites what no matmul onto this tensor has written yet and adds
    to the rest. In `double_row` the contraction is split over the partitions and a first free dimension of 2:
    [K, 2, M] and [K, 2, N].
    """
    m = machine()
    in_buffer(SBUF, stationary=stationary, moving=moving)
    in_buffer(PSUM, dst=dst)
    rows = contraction_rows(m, stationary, moving, perf_mode)
    if is_transpose and rows > 1:
        raise NkiValidationError("perf_mode double_row does not go with is_transpose", source=_V3_ARCH)
    check_dtypes(m, dst, stationary, moving, is_transpose)
    k, columns, n = sizes = (stationary.shape[0], stationary.free_size // rows, moving.free_size // rows)
    check_sizes(m, dst, stationary, moving, sizes)
    check_tiling(m, k, columns, tile_position, tile_size)
    if rows > 1 and tile_size and tile_size[1] != 128:
        raise NkiValidationError("perf_mode double_row does not go with column tiles")
    flips = is_transpose and m.chip.generation >= 3
    if flips and k != n:
        raise _no_identity()
    ones = (stationary if is_stationary_onezero else None, moving if is_moving_onezero else None)
    adds = check_accumulate(accumulate)
    extra: dict[str, Any] = {"transpose": True} if is_transpose else {}
    if tile_size:
        extra["tile"] = (*tile_position, *tile_size)
    if any(t is not None and t.dtype == "float32" for t in ones):
        extra["onezero"] = True  # half the passes
    return Plan(
        _TENSOR,
        (stationary, moving),
        (dst,),
        _permute if flips else _multiply,
        (dst, stationary, moving, rows, *ones, adds),
        decide=None if adds is False else accumulating,
        by_matmul=True,
        multiplies=not flips and rows == 1 and ones == (None, None),
        rows=rows,
        **extra,
    )


def _multiply(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    rows: int,
    ones: NkiTensor | None,
    more_ones: NkiTensor | None,
    accumulate: Any,
    onto: Any = False,
) -> None:
    if ones is not None or more_ones is not None:
        _check_ones(stationary=ones, moving=more_ones)
    left, right = stationary.f32(), moving.f32()
    if left.ndim > 2 or right.ndim > 2:
        left, right = _matrix(left), _matrix(right)
    if rows > 1:
        left, right = _deep(left, rows), _deep(right, rows)
    shape = left.shape[1], right.shape[1]
    out = target(dst, shape)
    product = np.matmul(left.T, right, out=out if onto is False else scratch(shape))
    _add(dst, product, out, onto)


def _deep(matrix: Array, rows: int) -> Array:
    """[K, rows * M] as [rows * K, M]: the contraction split over partitions and a first free dimension."""
    k = matrix.shape[0]
    return matrix.reshape(k, rows, -1).transpose(1, 0, 2).reshape(rows * k, -1)


def _add(dst: NkiTensor, product: Array, out: Array, onto: Any) -> None:
    """Write a product, or its sum with what stands there, in float32 and rounded to dst's dtype."""
    if onto is not False:
        old = dst.f32() if onto is True else np.where(onto, dst.f32(), np.float32(0))
        product = np.add(product, old if old.ndim == 2 else _matrix(old), out=out)
    if product is not dst.array:
        round_to(product.reshape(dst.shape), dst.dtype, dst.array)
    dst.storage.wrote(dst.layout, by_matmul=True)


def _no_identity() -> NkiValidationError:
    return NkiValidationError("is_transpose takes an identity matrix as moving (nl.shared_identity_matrix)")


def _check_ones(**hinted: NkiTensor | None) -> None:
    """A hint of ones and zeros that is not true raises."""
    for what, t in hinted.items():
        if t is not None and t.dtype == "float32":
            values = t.f32()
            if not np.logical_or(values == 0, values == 1).all():
                raise NkiValidationError(
                    f"is_{what}_onezero says that {what} holds ones and zeros only, and it does not"
                )


def _matrix(a: Array) -> Array:
    return a.reshape(a.shape[0], -1)


def _permute(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    rows: int,
    ones: Any,
    more: Any,
    accumulate: Any,
    onto: Any = False,
) -> None:
    """stationary.T bit for bit, as is_transpose gives it; moving has to be the identity."""
    _check_ones(stationary=ones, moving=more)
    if not np.array_equal(identity := _matrix(moving.f32()), np.eye(len(identity))):
        raise _no_identity()
    product = _matrix(stationary.f32()).T
    _add(dst, product, target(dst, product.shape), onto)


def _pick_transposer(data: NkiTensor, dst: NkiTensor, asked: enums.engine) -> enums.engine:
    """Tensor from SBUF to PSUM, as the 0.4.0 notes say; the stub's 'based on the input shape' names no rule."""
    if asked is enums.engine.unknown:
        to_psum = data.buffer is SBUF and dst.buffer is PSUM
        return enums.engine.tensor if to_psum else enums.engine.vector
    return choose(asked, enums.engine.tensor, enums.engine.vector)


@instruction(enums.engine.tensor, enums.engine.vector, cost=costs.transpose, order="late")
def nc_transpose(
    dst: NkiTensor, data: NkiTensor, engine: enums.engine = enums.engine.unknown, name: str | None = None
) -> Plan:
    """dst[F, P] = data[P, F].T, free dimensions flattened; Tensor from SBUF to PSUM up to 128 x 128, Vector 32 x 32."""
    m = machine()
    on = _check_transposed(m, dst, data, engine)
    compute = _by_identity if m.chip.generation < 3 and on is _TENSOR else move_transposed
    return Plan(on, (data,), (dst,), compute, (dst, data))


def _by_identity(dst: NkiTensor, data: NkiTensor) -> None:
    """On v2 a transpose is a product with the identity, and 0 * inf and 0 * nan are nan."""
    values = _matrix(data.f32())
    put(dst, values.T if np.isfinite(values).all() else values.T @ np.eye(data.shape[0], dtype=np.float32))


def _check_transposed(m: Machine, dst: NkiTensor, data: NkiTensor, engine: enums.engine) -> enums.engine:
    """The engine that transposes data into dst, once it is known to be able to."""
    on_chip(dst=dst, data=data)
    on = _pick_transposer(data, dst, engine)
    if on is _TENSOR:
        in_buffer(SBUF, data=data)
        in_buffer(PSUM, dst=dst)
    p, f = data.shape[0], data.free_size
    limit = 128 if on is _TENSOR else 32
    if p > limit or f > limit:
        raise NkiValidationError(f"the {on.name} engine transposes at most {limit} x {limit}, got {data.shape}")
    if (dst.shape[0], dst.free_size) != (f, p):
        raise NkiValidationError(f"dst must hold {f} partitions of {p} elements, got {dst.shape}")
    if on is _TENSOR and m.chip.generation < 3:
        if not data.dtype.is_float:
            raise NkiValidationError(
                f"on {m.chip.name} the Tensor Engine transposes by a product, of floats; got data in {data.dtype}; "
                "take engine=nisa.engine.vector, or DMA"
            )
        if dst.dtype != "float32":
            raise NkiValidationError(
                f"dst of a Tensor Engine transpose must be float32 on {m.chip.name}, got {dst.dtype}; copy it to "
                f"{data.dtype} afterwards",
                source=GEN2_TRANSPOSE,
            )
    elif dst.dtype != data.dtype:
        raise NkiValidationError(f"a transpose keeps the dtype: dst must be {data.dtype}, got {dst.dtype}")
    if on is _TENSOR:
        check_bank(m, dst)
    return on
