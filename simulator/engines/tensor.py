"""Tensor Engine: the 128 x 128 systolic array. It reads SBUF and writes PSUM, and accumulates in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator import enums
from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import DType, round_to
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import Machine, NkiInstruction, machine
from triptych.simulator.machine.table import Indirect
from triptych.simulator.memory.layout import reach
from triptych.simulator.memory.storage import PSUM, SBUF
from triptych.simulator.operands.operands import bits, in_buffer, on_chip, put, scratch, target, transpose_bits
from triptych.simulator.tensors.tensor import NkiTensor, as_shape

Array = NDArray[Any]
_FP8 = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")
_V3_ARCH = "nki/guides/architecture/trainium2_arch.rst"
_TENSOR = enums.engine.tensor
_INDIRECT = (*_FP8, "bfloat16", "float16")
_DTYPES = (*_FP8, "bfloat16", "float16", "tfloat32", "float32")


def _seen(t: NkiTensor) -> tuple[Any, ...]:
    """What checks see of an operand, beside where it lies. (The hash of an enumeration's member is slow.)"""
    return t.shape, t.dtype, id(t.buffer)


def check_untiled(position: Any) -> None:
    """Indirect operands are incompatible with row tiles of the array."""
    if position and tuple(position) != (0, 0):
        raise NkiValidationError(f"with an indirect view tile_position must be (0, 0) or unset, got {tuple(position)}")


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
) -> NkiInstruction:
    """dst[M, N] (+)= stationary[K, M].T @ moving[K, N], K on the partitions, in float32.

    `accumulate` False overwrites, True adds, None overwrites what no matmul onto this tensor has written yet and adds
    to the rest. In `double_row` the contraction is split over the partitions and a first free dimension of 2:
    [K, 2, M] and [K, 2, N].
    """
    m = machine()
    plain = type(dst) is type(stationary) is type(moving) is NkiTensor
    if not plain or dst.index or stationary.index or moving.index:
        in_buffer(SBUF, stationary=stationary, moving=moving)
        in_buffer(PSUM, dst=dst)
    # The checks depend on nothing else than this key, and a kernel repeats few of them many times.
    operands = (dst.layout, id(dst.buffer)), _seen(stationary), _seen(moving)
    key = (operands, is_transpose, id(perf_mode), tile_position, tile_size)
    sizes = m.checked.get(key)
    if sizes is None:
        in_buffer(SBUF, stationary=stationary, moving=moving)
        in_buffer(PSUM, dst=dst)
        rows = _rows(m, stationary, moving, perf_mode)
        if is_transpose and rows > 1:
            raise NkiValidationError("perf_mode double_row does not go with is_transpose", source=_V3_ARCH)
        _check_dtypes(m, dst, stationary, moving, is_transpose)
        sizes = (rows, stationary.shape[0], stationary.free_size // rows, moving.free_size // rows)
        _check_sizes(m, dst, stationary, moving, sizes[1:])
        _check_tiling(m, *sizes[1:3], tile_position, tile_size)
        if rows > 1 and tile_size and tile_size[1] != 128:
            raise NkiValidationError("perf_mode double_row does not go with column tiles")
        m.checked[key] = sizes
    rows, k, big_m, n = sizes
    m.check_reads((stationary, moving))
    extra: dict[str, Any] = {"transpose": True} if is_transpose else {}
    if is_stationary_onezero or is_moving_onezero:
        extra |= _halved(stationary if is_stationary_onezero else None, moving if is_moving_onezero else None)

    state = _accumulating(m, dst, accumulate)
    out = target(dst, (big_m, n))
    if is_transpose and m.chip.generation >= 3:
        result = _permuted(m, stationary, moving)
    else:
        left, right = stationary.f32(), moving.f32()
        if rows > 1:
            left = left.reshape(k, rows, big_m).transpose(1, 0, 2).reshape(rows * k, big_m)
            right = right.reshape(k, rows, n).transpose(1, 0, 2).reshape(rows * k, n)
        result = np.matmul(_matrix(left).T, _matrix(right), out=out if state is False else scratch((big_m, n)))
    if state is not False:
        old = dst.f32() if state is True else np.where(state, dst.f32(), np.float32(0))
        result = np.add(result, old.reshape(big_m, n), out=out)
    if result is not dst.array:
        round_to(as_shape(result, dst.shape), dst.dtype, dst.array)
    dst.storage.wrote(dst.layout, by_matmul=True)
    return m.record(
        "nc_matmul",
        _TENSOR,
        (stationary, moving) if state is False else (stationary, moving, dst),
        (dst,),
        name,
        rows=rows,
        **extra,
    )


def _halved(stationary: NkiTensor | None, moving: NkiTensor | None) -> dict[str, Any]:
    """What the hints of ones and zeros change: half the passes of a float32 matmul. A hint that is not true raises."""
    hinted = {"stationary": stationary, "moving": moving}
    wide = {what: t for what, t in hinted.items() if t is not None and t.dtype == "float32"}
    for what, t in wide.items():
        values = t.f32()
        if not np.logical_or(values == 0, values == 1).all():
            raise NkiValidationError(f"is_{what}_onezero says that {what} holds ones and zeros only, and it does not")
    return {"onezero": True} if wide else {}


def _matrix(a: Array) -> Array:
    return a if a.ndim == 2 else a.reshape(a.shape[0], -1)


def _rows(m: Machine, stationary: NkiTensor, moving: NkiTensor, perf_mode: enums.matmul_perf_mode) -> int:
    """How many contraction rows one partition holds: 2 in double_row, else 1."""
    if perf_mode is enums.matmul_perf_mode.none:
        return 1
    if perf_mode is not enums.matmul_perf_mode.double_row:
        raise NkiValidationError(f"perf_mode must be a nisa.matmul_perf_mode, got {perf_mode!r}")
    if m.chip.generation < 3:
        raise NkiValidationError(f"perf_mode double_row needs NeuronCore-v3 or newer, and the target is {m.chip.name}")
    for what, t in (("stationary", stationary), ("moving", moving)):
        if t.ndim != 3 or t.shape[1] != 2 or t.dtype not in _FP8:
            raise NkiValidationError(f"double_row needs {what} of shape [K, 2, free] in float8, got {t!r}")
    return 2


def _check_dtypes(m: Machine, dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, is_transpose: bool) -> None:
    for what, t in (("stationary", stationary), ("moving", moving)):
        if t.dtype not in _DTYPES or (t.dtype == "float8_e4m3fn" and m.chip.generation < 4):
            known = ", ".join(d for d in _DTYPES if m.chip.generation >= 4 or d != "float8_e4m3fn")
            raise NkiValidationError(f"{what} must be one of {known} on {m.chip.name}, got {t.dtype}")
    wide = [t.dtype in ("float32", "tfloat32") for t in (stationary, moving)]
    if wide[0] != wide[1]:
        raise NkiValidationError(
            f"float32 and tfloat32 operands mix only with each other, got {stationary.dtype} and {moving.dtype}"
        )
    if {stationary.dtype, moving.dtype} >= {"float8_e4m3", "float8_e4m3fn"}:
        raise NkiValidationError("float8_e4m3 and float8_e4m3fn cannot be mixed in one matmul")
    if is_transpose and m.chip.generation >= 3:
        if dst.dtype != stationary.dtype:
            raise NkiValidationError(f"a transpose keeps the dtype: dst must be {stationary.dtype}, got {dst.dtype}")
    elif dst.dtype != "float32" and not (dst.dtype == "bfloat16" and m.chip.generation >= 4):
        allowed = "float32 or bfloat16" if m.chip.generation >= 4 else "float32"
        raise NkiValidationError(f"dst must be {allowed} on {m.chip.name}, got {dst.dtype}")


def _check_sizes(
    m: Machine, dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, sizes: tuple[int, int, int]
) -> None:
    k, big_m, n = sizes
    if moving.shape[0] != k:
        raise NkiValidationError(
            f"stationary and moving contract over their partitions and need the same number, got {stationary.shape} "
            f"and {moving.shape}"
        )
    if big_m > m.chip.stationary_fmax.value:
        raise NkiValidationError(
            f"the free size of stationary is at most {m.chip.stationary_fmax.value:.0f}, got {big_m}; split it over "
            "several matmuls"
        )
    limit = m.chip.moving_fmax.value * (2 if dst.dtype == "bfloat16" and m.chip.generation >= 4 else 1)
    if n > limit:
        raise NkiValidationError(
            f"the free size of moving is at most {limit:.0f} on {m.chip.name}, got {n}; split it over several matmuls"
        )
    if dst.shape[0] != big_m or dst.free_size != n:
        raise NkiValidationError(
            f"dst must be [{big_m}, {n}] (free size of stationary, free size of moving), got {dst.shape}"
        )
    _check_bank(m, dst)


def _check_bank(m: Machine, dst: NkiTensor) -> None:
    """Until NeuronCore-v4 the Tensor Engine's result fits into one bank, which begins where a tensor in PSUM does."""
    if m.chip.generation >= 4:
        return
    bank = int(m.chip.psum_bank_bytes.value)
    allocation, size = dst.storage.allocation, dst.dtype.itemsize
    start = dst.offset * size % (allocation.nbytes // allocation.shape[0])
    before, behind = reach(dst.shape[1:], dst.strides[1:])
    first, last = start + before * size, start + behind * size
    if first // bank != last // bank:
        raise NkiValidationError(
            f"dst must lie in one PSUM bank of {bank} bytes per partition, and spans bytes {first} to {last}",
            source=m.chip.psum_bank_bytes.source,
        )


def _check_tiling(
    m: Machine, k: int, columns: int, position: tuple[int, ...], size: tuple[int, ...], rows_only: bool = False
) -> None:
    """Tiles of the array: 32, 64 or 128 rows by as many columns, each from a multiple of its own size.

    The instruction's text describes column tiles, and its parameters' text excludes them (start_column must be 0 and
    column_size 128). The text was taken: nki-library's decoding kernels work in column tiles.
    """
    if not position and not size:
        return
    if not (position and size):
        raise NkiValidationError("tile_position and tile_size are given together or not at all")
    sizes = (32, 64, 128) if m.chip.generation >= 3 else (64, 128)
    fits = len(position) == len(size) == 2 and all(
        s in allowed and start in range(0, 128, s)
        for start, s, allowed in zip(position, size, (sizes, (128,) if rows_only else sizes), strict=True)
    )
    if not fits:
        of = "rows, all 128 columns" if rows_only else "rows and columns"
        raise NkiValidationError(
            f"tiling takes {', '.join(map(str, sizes))} {of} on {m.chip.name}, each from a multiple of that; got "
            f"tile_position={tuple(position)}, tile_size={tuple(size)}"
        )
    if k > size[0]:
        raise NkiValidationError(f"a row tile of {size[0]} holds at most {size[0]} partitions, got {k}")
    if columns > size[1]:
        raise NkiValidationError(
            f"a column tile of {size[1]} holds a stationary of at most {size[1]} columns, got {columns}"
        )


def _permuted(m: Machine, stationary: NkiTensor, moving: NkiTensor) -> Array:
    """stationary.T bit for bit, as is_transpose gives it; moving has to be the identity."""
    square = moving.shape[0] == moving.free_size
    if not square or (m.options.data and not np.array_equal(_matrix(moving.f32()), np.eye(moving.shape[0]))):
        raise NkiValidationError("is_transpose takes an identity matrix as moving (nl.shared_identity_matrix)")
    return _matrix(stationary.f32()).T


def _accumulating(m: Machine, dst: NkiTensor, accumulate: bool | None) -> Any:
    """False to overwrite, True to add, or a mask of the elements to add to."""
    if accumulate is False:
        return False
    if not isinstance(accumulate, (bool, np.bool_, type(None))):
        raise NkiValidationError(f"accumulate must be True, False or None, got {accumulate!r}")
    if accumulate is not None and not accumulate:
        return False
    if accumulate is None:
        started, written = dst.storage.through_this(dst.layout)
        if started is True:
            return True
        if m.chip.generation >= 4 or written is False:
            return written
        _check_foreign(m, dst, np.logical_and(written, np.logical_not(started)))
        return started
    if dst.storage.started_at(dst.layout) is True:
        return True
    dst.check_written()
    if m.chip.generation < 4:
        raise NkiValidationError(
            "accumulate=True adds to PSUM that no matmul has initialised, which is undefined on this generation; start "
            "with accumulate=False"
        )
    return True


def _check_foreign(m: Machine, dst: NkiTensor, foreign: Array) -> None:
    """On v2 and v3, adding to what memset or tensor_copy wrote is undefined; zeros give the same result either way."""
    if np.any(np.logical_and(foreign, dst.f32() != 0)):
        raise NkiValidationError(
            f"accumulating onto PSUM that another engine initialised is undefined on {m.chip.name}; begin with "
            "accumulate=False and add the old value with the Vector Engine"
        )


def _pick_transposer(data: NkiTensor, dst: NkiTensor, asked: enums.engine) -> enums.engine:
    """Tensor from SBUF to PSUM, as the 0.4.0 notes say; the stub's 'based on the input shape' names no rule."""
    if asked is enums.engine.unknown:
        to_psum = data.buffer is SBUF and dst.buffer is PSUM
        return enums.engine.tensor if to_psum else enums.engine.vector
    return choose(asked, enums.engine.tensor, enums.engine.vector)


@instruction(enums.engine.tensor, enums.engine.vector, cost=costs.transpose, order="late")
def nc_transpose(
    dst: NkiTensor, data: NkiTensor, engine: enums.engine = enums.engine.unknown, name: str | None = None
) -> NkiInstruction:
    """dst[F, P] = data[P, F].T, free dimensions flattened; Tensor from SBUF to PSUM up to 128 x 128, Vector 32 x 32."""
    m = machine()
    if not (type(dst) is type(data) is NkiTensor) or dst.index or data.index:
        on_chip(dst=dst, data=data)
    key = ("nc_transpose", _seen(dst), dst.layout, _seen(data), engine)
    on = m.checked.get(key)
    if on is None:
        on = m.checked[key] = _check_transposed(m, dst, data, engine)
    m.check_reads((data,))
    p = data.shape[0]
    if m.chip.generation < 3 and on is _TENSOR and data.dtype.is_float and not np.isfinite(data.f32()).all():
        # On v2 a transpose is a product with the identity, and 0 * inf and 0 * nan are nan.
        put(dst, _matrix(data.f32()).T @ np.eye(p, dtype=np.float32))
    else:
        flipped = bits(dst)
        if dst.ndim == 2:
            transpose_bits(flipped, _matrix(bits(data)))
        else:
            np.copyto(flipped, _matrix(bits(data)).T.reshape(dst.shape))
        dst.wrote()
    return m.record("nc_transpose", on, (data,), (dst,), name)


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
    _check_transpose(data, dst, (f, p), data.dtype)
    if on is _TENSOR:
        _check_bank(m, dst)
    return on


def _check_transpose(data: NkiTensor, dst: NkiTensor, expected: tuple[int, int], dtype: DType) -> None:
    if (dst.shape[0], dst.free_size) != expected:
        raise NkiValidationError(f"dst must hold {expected[0]} partitions of {expected[1]} elements, got {dst.shape}")
    if dst.dtype != dtype:
        raise NkiValidationError(f"a transpose keeps the dtype: dst must be {dtype}, got {dst.dtype}")
