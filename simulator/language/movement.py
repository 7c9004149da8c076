"""Data movement: between HBM and SBUF, between tiles, transposed, broadcast, gathered and multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from triptych.simulator.engines.dma import dma_copy, dma_transpose
from triptych.simulator.engines.gpsimd.gather import nc_n_gather
from triptych.simulator.engines.matmul_limits import GEN2_PSUM
from triptych.simulator.engines.tensor import nc_matmul, nc_transpose
from triptych.simulator.engines.vector.elementwise import memset, tensor_copy
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language.common import KNOWN_ISSUES, function, into, new, result_of, same_dtype, spread, tile
from triptych.simulator.machine.machine import machine
from triptych.simulator.memory.storage import PSUM, SBUF
from triptych.simulator.operands.operands import describe, in_buffer
from triptych.simulator.tensors.tensor import NkiTensor

_MATMUL_DTYPES = ("float32", "tfloat32", "bfloat16", "float16")
_MOVING = 512  # free size of y in nl.matmul, on every generation


def _in_hbm(**tensors: Any) -> None:
    for what, t in tensors.items():
        if not isinstance(t, NkiTensor) or t.on_chip:
            raise NkiValidationError(f"{what} must be a tensor in HBM, got {describe(t)}")


@function
def load(src: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A tile in SBUF with what `src`, in HBM, holds."""
    _in_hbm(src=src)
    return into(result_of(src, dtype), dma_copy, src)


@function
def store(dst: NkiTensor, value: NkiTensor) -> None:
    """`dst`, in HBM, gets what the tile `value`, in SBUF, holds."""
    _in_hbm(dst=dst)
    if isinstance(value, NkiTensor) and value.buffer is PSUM:
        raise NkiValidationError(
            f"value must be a tile in SBUF, got {value!r}; copy it there first, with nl.copy or nisa.tensor_copy",
            source="release-notes/components/nki.rst, NKI 0.3.0, Known Issues",
        )
    in_buffer(SBUF, value=value)
    dma_copy(dst, value)


@function
def load_transpose2d(src: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A tile [P, F] in SBUF with the transpose of src[F, P], which is in HBM."""
    _in_hbm(src=src)
    if src.ndim != 2:
        raise NkiValidationError(f"src must have two dimensions, got {src.shape}")
    dst = into(new((src.shape[1], src.shape[0]), src.dtype), dma_transpose, src)
    return dst if same_dtype(src, dtype) else copy(dst, dtype)


@function
def copy(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """A copy of x in SBUF; bit for bit where the dtype stays."""
    tile(x=x)
    return into(result_of(x, dtype), tensor_copy, x)


@function
def transpose(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """The transpose of a 2-D tile, in PSUM.

    A cast is one more copy there, because a transpose keeps the dtype; on NeuronCore-v2 it goes straight to `dtype`,
    which must be float32.
    """
    tile(x=x)
    if x.ndim != 2:
        raise NkiValidationError(f"x must have two dimensions, got {x.shape}")
    straight = dtype is not None and x.buffer is SBUF and machine().chip.generation < 3
    flipped = into(new((x.shape[1], x.shape[0]), dtype if straight else x.dtype, PSUM), nc_transpose, x)
    if straight or same_dtype(x, dtype):
        return flipped
    return into(new(flipped.shape, dtype, PSUM), tensor_copy, flipped)


@function
def matmul(x: NkiTensor, y: NkiTensor, transpose_x: bool = False) -> NkiTensor:
    """x[K, M].T @ y[K, N], in PSUM and in x's dtype: a device run shows that, and the page says nothing.

    Source: aws-neuron/nki-samples#134, contributed/decode_attention.py on Inf2 with NKI 0.6.0, "nc_matmul dst dtype
    must be float32 on gen2, got bfloat16".
    """
    if not transpose_x:
        raise NkiValidationError(
            "nl.matmul(x, y) without transpose_x=True is not supported: hand it x with the contraction on its "
            "partitions, and transpose_x=True",
            source=KNOWN_ISSUES,
        )
    in_buffer(SBUF, x=x, y=y)
    if y.free_size > _MOVING:
        raise NkiValidationError(f"the free size of y is at most {_MOVING}, got {y.shape}")
    if x.dtype != "float32" and machine().chip.generation < 4:
        raise NkiValidationError(
            f"nl.matmul gives its result x's dtype, {x.dtype}, and {machine().chip.name} has matmuls in float32 alone; "
            "use nisa.nc_matmul with a dst in float32",
            source=GEN2_PSUM,
        )
    return into(new((x.free_size, y.free_size), x.dtype, PSUM), nc_matmul, x, y, accumulate=False)


@function
def gather_flattened(data: NkiTensor, indices: NkiTensor, axis: int = 0, dtype: Any = None) -> NkiTensor:
    """A tile of indices' shape with data[p, indices[p, k]], free dimensions flattened; in SBUF, by GpSimd.

    The documentation says that indices select from the free dimension, and gives `axis` a default of 0, which is the
    partition. What another axis means it does not say, so only the default is taken.
    """
    tile(data=data, indices=indices)
    if axis != 0:
        raise NkiValidationError(f"axis must be 0, its default: indices select from the free dimensions; got {axis!r}")
    gathered = into(new(indices.shape, data.dtype), nc_n_gather, data, indices)
    return gathered if same_dtype(data, dtype) else copy(gathered, dtype)


@function
def expand_dims(x: NkiTensor, axis: int) -> NkiTensor:
    """A view of x with a dimension of size 1 at `axis` of the new shape."""
    if not isinstance(x, NkiTensor):
        raise NkiValidationError(f"x must be a tensor, got {describe(x)}")
    if not isinstance(axis, int):
        raise NkiValidationError(f"axis must be an integer, got {describe(axis)}")
    return x.expand_dim(axis + x.ndim + 1 if axis < 0 else axis)


@function
def broadcast_to(x: NkiTensor, shape: Sequence[int], dtype: Any = None) -> NkiTensor:
    """x with its dimensions of size 1 repeated up to `shape`; x itself where nothing changes.

    Free dimensions are a view that the copy reads. One partition is repeated over `shape[0]` by the Tensor Engine, as a
    product with ones (nki/guides/tutorials/fused_mamba.rst), which is exact; dtypes that it does not take go by DMA, in
    copies that double.
    """
    tile(x=x)
    shape = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(shape) != x.ndim or any(a not in (1, b) for a, b in zip(x.shape, shape, strict=True)):
        raise NkiValidationError(
            f"shape must have x's rank, and x's size or any size over 1 in each dimension; got {x.shape} and {shape}"
        )
    if x.shape == shape:
        return x if same_dtype(x, dtype) else copy(x, dtype)
    if x.shape[0] != shape[0]:
        return _over_partitions(x, shape, x.dtype if dtype is None else dtype)
    return into(new(shape, x.dtype if dtype is None else dtype), tensor_copy, spread(x, shape))


def _over_partitions(x: NkiTensor, shape: tuple[int, ...], dtype: Any) -> NkiTensor:
    row = into(new((1, *shape[1:]), x.dtype), tensor_copy, spread(x, (1, *shape[1:])))
    row = row.reshape((1, row.free_size))
    dst = new(shape, dtype)
    flat = dst.reshape((shape[0], row.free_size))
    if x.dtype not in _MATMUL_DTYPES:
        dma_copy(flat[0:1], row)
        done = 1
        while done < shape[0]:
            more = min(done, shape[0] - done)
            dma_copy(flat[done : done + more], flat[0:more])
            done += more
        return dst
    ones = into(new((1, shape[0]), x.dtype), memset, 1)
    for start in range(0, row.free_size, _MOVING):
        part = slice(start, min(start + _MOVING, row.free_size))
        dst_psum = new((shape[0], part.stop - part.start), "float32", PSUM)
        nc_matmul(dst_psum, ones, row[:, part], accumulate=False)
        tensor_copy(flat[:, part], dst_psum)
    return dst
