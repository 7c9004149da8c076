"""What the Tensor Engine's array and PSUM allow to a matmul: dtypes, sizes, banks, tiles and accumulation."""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator import enums
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.machine import Machine, machine
from triptych.simulator.memory.layout import reach
from triptych.simulator.tensors.tensor import NkiTensor

Given = tuple[int, ...] | None  # rows and columns, if they are given
FP8 = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")
_DTYPES = (*FP8, "bfloat16", "float16", "tfloat32", "float32")
GEN2_PSUM = (
    'nki/api/nki/isa/__init__.py, nc_matmul, Data types; on Inf2 with NKI 0.6.0: "nc_matmul dst dtype must '
    'be float32 on gen2", aws-neuron/nki-samples#134'
)
GEN2_TRANSPOSE = (
    'contributed/decode_attention.py of aws-neuron/nki-samples on trn1 with NKI 0.6.0: "nc_matmul (transpose mode) dst '
    'dtype must be float32 on gen2"; nki/api/nki/isa/__init__.py, nc_transpose, has the dtype of data'
)


def check_untiled(position: Any) -> None:
    """Indirect operands are incompatible with row tiles of the array."""
    if position and tuple(position) != (0, 0):
        raise NkiValidationError(f"with an indirect view tile_position must be (0, 0) or unset, got {tuple(position)}")


def contraction_rows(m: Machine, stationary: NkiTensor, moving: NkiTensor, perf_mode: enums.matmul_perf_mode) -> int:
    """How many contraction rows one partition holds: 2 in double_row, else 1."""
    if perf_mode is enums.matmul_perf_mode.none:
        return 1
    if perf_mode is not enums.matmul_perf_mode.double_row:
        raise NkiValidationError(f"perf_mode must be a nisa.matmul_perf_mode, got {perf_mode!r}")
    if m.chip.generation < 3:
        raise NkiValidationError(f"perf_mode double_row needs NeuronCore-v3 or newer, and the target is {m.chip.name}")
    for what, t in (("stationary", stationary), ("moving", moving)):
        if t.ndim != 3 or t.shape[1] != 2 or t.dtype not in FP8:
            raise NkiValidationError(f"double_row needs {what} of shape [K, 2, free] in float8, got {t!r}")
    return 2


def check_dtypes(m: Machine, dst: NkiTensor, stationary: NkiTensor, moving: NkiTensor, is_transpose: bool) -> None:
    for what, t in (("stationary", stationary), ("moving", moving)):
        if t.dtype not in _DTYPES or (t.dtype == "float8_e4m3fn" and m.chip.generation < 4):
            known = ", ".join(d for d in _DTYPES if m.chip.generation >= 4 or d != "float8_e4m3fn")
            raise NkiValidationError(f"{what} must be one of {known} on {m.chip.name}, got {t.dtype}")
    if (stationary.dtype.itemsize == 4) != (moving.dtype.itemsize == 4):
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
        raise NkiValidationError(
            f"dst must be {allowed} on {m.chip.name}, got {dst.dtype}",
            source=GEN2_PSUM if m.chip.generation < 3 else None,
        )


def check_sizes(
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
    limit = m.chip.moving_fmax.value * (2 if dst.dtype == "bfloat16" else 1)
    if n > limit:
        raise NkiValidationError(
            f"the free size of moving is at most {limit:.0f} on {m.chip.name}, got {n}; split it over several matmuls"
        )
    if dst.shape[0] != big_m or dst.free_size != n:
        raise NkiValidationError(
            f"dst must be [{big_m}, {n}] (free size of stationary, free size of moving), got {dst.shape}"
        )
    check_bank(m, dst)


def check_bank(m: Machine, dst: NkiTensor) -> None:
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


def check_tiling(
    m: Machine, k: int, columns: int, position: Given, size: Given, rows_only: bool = False
) -> tuple[int, ...]:
    """The tile of the array, its position and size; none is given as ().

    Tiles have 32, 64 or 128 rows and columns, from multiples of these.

    The instruction's text describes column tiles, and its parameters' text excludes them (start_column must be 0 and
    column_size 128). The text was taken: nki-library's decoding kernels work in column tiles.
    """
    if not position and not size:
        return ()
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
    return (*position, *size)


def check_accumulate(accumulate: Any) -> bool | None:
    """`accumulate` as Python's own value."""
    if not isinstance(accumulate, (bool, np.bool_, type(None))):
        raise NkiValidationError(f"accumulate must be True, False or None, got {accumulate!r}")
    return None if accumulate is None else bool(accumulate)


def accumulating(dst: NkiTensor, *operands: Any) -> Any:
    """Where a matmul that may add to dst does: True, False, or a mask of the elements to add to.

    The last of its operands is `accumulate`: True, or None to add to what a matmul has written.
    What a matmul adds to has to be a matmul's on v2 and v3. Zeros that another engine wrote are let pass: the page
    calls the result undefined, and kernels that begin so are right on trn1 (trnsci/trnfft, on trn1.2xlarge).
    """
    m, accumulate = machine(), operands[-1]
    if m.origins:  # what a matmul adds to may rest on memory that nothing wrote
        _check_sum(m, dst)
    elif dst.storage.started is True:  # all of the tensor, whatever is asked
        return True
    if accumulate is None:
        started, written = dst.storage.through_this(dst.layout)
        if started is True:
            return True
        if m.chip.generation >= 4 or written is False:
            return np.logical_or(started, written) if m.origins else written
        _check_foreign(m, dst, np.logical_and(written, np.logical_not(started)))
        return started
    started = dst.storage.started_at(dst.layout)
    if started is True:
        return True
    dst.check_written()
    if m.chip.generation < 4:
        _check_foreign(m, dst, np.logical_not(started))
    return True


def _check_sum(m: Machine, dst: NkiTensor) -> None:
    """A sum that a matmul began, and that counts as unwritten, is read like any operand."""
    started = dst.storage.started_at(dst.layout)
    if started is not False and np.any(started & ~np.asarray(dst.storage.written_at(dst.layout))):
        m.reads_unwritten(dst)


def _check_foreign(m: Machine, dst: NkiTensor, foreign: Any) -> None:
    """On v2 and v3, adding to what memset or tensor_copy wrote is undefined; zeros give the same result either way."""
    if np.any(np.logical_and(foreign, dst.f32() != 0)):
        if m.options.check_accumulation:
            raise NkiValidationError(
                f"accumulating onto PSUM that another engine initialised is undefined on {m.chip.name}; begin with "
                "accumulate=False and add the old value with the Vector Engine"
            )
        return
    if np.any(foreign):
        m.note(
            f"adds to zeros that no matmul wrote to PSUM, which is documented as undefined on {m.chip.name}; let the "
            "first matmul overwrite, accumulate=False (nki/api/nki/isa/__init__.py, nc_matmul)"
        )
