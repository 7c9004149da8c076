"""Products and transposes, microscaling formats, DMA and registers."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from calls.model import ANY, DMA, E8M0, Call, F, Operand, call, copied, f32, given, source, whole
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


FLOAT_PRODUCTS = ("bfloat16", "float16", "float8_e4m3", "float8_e5m2")


def _positive(*shape):
    """Numbers whose sums have nothing to cancel, so that a relative tolerance fits."""
    return lambda rng: np.abs(rng.standard_normal(shape)).astype(F)


@call
def nc_matmul(p, f):
    return Call(
        {
            "dst": Operand((4, f), ("float32",), ("psum",), refuses=("float16",)),
            "stationary": given(_positive(p, 4), FLOAT_PRODUCTS, ("sbuf",), refuses=("int8", "uint16", "float32")),
            "moving": given(_positive(p, f), FLOAT_PRODUCTS, ("sbuf",), refuses=("int8", "uint16", "float32")),
        },
        lambda dst, stationary, moving: nisa.nc_matmul(dst, stationary, moving, accumulate=False),
        lambda x: {"dst": x["stationary"].astype(np.float64).T @ x["moving"].astype(np.float64)},
        rtol={"dst": 1e-5},
    )


@call
def nc_transpose(p, f):
    p = min(p, 32)  # what the Vector Engine transposes
    return Call(
        {"dst": Operand((f, p), ANY), "data": source((p, f))},
        nisa.nc_transpose,
        lambda x: {"dst": x["data"].T},
        same_dtype=(("dst", "data"),),
        engines={"tensor": 2, "vector": 2},
        since=3,  # before, the Tensor Engine does not keep the dtype (test_tensor.py)
    )


def _scale_rows(rows, f):
    """Scales lie in the first four partitions of each quadrant."""
    mask = np.zeros((rows, f), bool)
    for q in range(0, rows, 32):
        mask[q : q + 4] = True
    return mask


@call
def nc_matmul_mx(p, f):
    rows = 32 * (1 + p % 2)

    def packed(columns):
        def make(rng):
            eights = _positive(rows, columns, 4)(rng).astype(ml_dtypes.float8_e5m2)
            return np.ascontiguousarray(eights).view(np.uint32)[..., 0]

        return given(make, ("float8_e5m2_x4",), ("sbuf",), refuses=("uint32", "float8_e5m2"))

    def scale(columns):
        read = _scale_rows(rows, columns)
        wrong = ("int8", "float32")
        return whole(120, 135, (rows, columns), (E8M0,), ("sbuf",), read=read, any_rows=True, refuses=wrong)

    def matrix(data, scales):
        values = np.ascontiguousarray(data).view(ml_dtypes.float8_e5m2).reshape(*data.shape, 4).astype(np.float64)
        mine = scales[_scale_rows(rows, data.shape[1])].reshape(-1, data.shape[1]).astype(np.float64)
        values *= np.exp2(np.repeat(mine, 8, axis=0) - 127)[..., None]
        return values.transpose(0, 2, 1).reshape(-1, data.shape[1])

    return Call(
        {
            "dst": Operand((4, f), ("float32", "bfloat16"), ("psum",), refuses=("float16",)),
            "stationary": packed(4),
            "moving": packed(f),
            "stationary_scale": scale(4),
            "moving_scale": scale(f),
        },
        lambda **tiles: nisa.nc_matmul_mx(**tiles, accumulate=False),
        lambda x: {"dst": matrix(x["stationary"], x["stationary_scale"]).T @ matrix(x["moving"], x["moving_scale"])},
        rtol={"dst": 1e-5},
    )


@call
def quantize_mx(p, f):
    rows = 32 * (1 + p % 2)

    def expected(x):
        values, scales = np.empty((rows, 4 * f)), np.zeros((rows, f))
        for q in range(0, rows, 8):
            for i in range(f):
                group = x["src"][q : q + 8, 4 * i : 4 * i + 4].astype(np.float64)
                exponent = int(np.floor(np.log2(np.abs(group).max()))) - 14
                scales[q // 32 * 32 + q % 32 // 8, i] = exponent + 127
                values[q : q + 8, 4 * i : 4 * i + 4] = group / 2.0**exponent
        packed = np.ascontiguousarray(values.astype(F).astype(ml_dtypes.float8_e5m2)).view(np.uint32)
        return {"dst": packed, "dst_scale": scales}

    return Call(
        {
            "dst": Operand((rows, f), ("float8_e5m2_x4",), ("sbuf",), refuses=("uint32", "float8_e5m2")),
            "src": given(_positive(rows, 4 * f), ("bfloat16", "float16"), ("sbuf",), refuses=("float32",)),
            "dst_scale": Operand((rows, f), (E8M0,), ("sbuf",), any_rows=True, refuses=("int8",)),
        },
        nisa.quantize_mx,
        expected,
        written={"dst_scale": lambda x: _scale_rows(rows, f)},
    )


@call
def dma_copy(p, f):
    return Call(
        {"dst": Operand((p, f), ANY, DMA), "src": source((p, f), buffers=DMA)},
        nisa.dma_copy,
        lambda x: {"dst": copied(x, "src")},
    )


@call
def dma_transpose(p, f):
    return Call(
        {"dst": Operand((f, p), ANY, ("sbuf",), rank=True), "src": source((p, f), buffers=DMA, rank=True)},
        nisa.dma_transpose,
        lambda x: {"dst": x["src"].T},
        same_dtype=(("dst", "src"),),
    )


@call
def dma_compute(p, f):
    return Call(
        {"dst": Operand((p, f), ANY, DMA), "a": source((p, f), buffers=DMA), "b": source((p, f), buffers=DMA)},
        lambda dst, a, b: nisa.dma_compute(dst, [a, b], nl.add),
        lambda x: {"dst": f32(x["a"]) + f32(x["b"])},
    )


@call
def register_load(p, f):
    return Call(
        {"src": given(lambda rng: rng.integers(0, 99, (1, 1)), ("int32", "uint8", "int16"), DMA)},
        lambda src: nisa.register_load(nisa.register_alloc(), src),
        lambda x: {},
    )


@call
def register_store(p, f):
    return Call(
        {"dst": Operand((1, 1), ("int32", "uint8", "float32"), DMA)},
        lambda dst: nisa.register_store(dst, nisa.register_alloc(f)),
        lambda x: {"dst": np.full((1, 1), f)},
    )
