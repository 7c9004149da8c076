"""AWS's two ladders of matrix multiplication, 4096x8192 @ 8192x8192, from naive to blocked in every dimension.

Trn1, bfloat16: the table of the tutorial of releases 2.20 to 2.26.1 (nki.benchmark, p99 of the core's latency). The
kernels are its ports in nki/examples. What they move, as transfers of 128 rows:

    tiled        lhsT 32768 of 256 B, rhs 32768 of 1 KiB, out 512 of 1 KiB: 5.44 GB
    hoisted      lhsT 2048 of 256 B, rhs 32768 of 1 KiB, out 512: 4.43 GB
    free dims    lhsT 2048 of 256 B, rhs 16384 of 1 KiB, out 512: 2.28 GB
    all dims     lhsT 1024 of 4 KiB, rhs 512 of 2 KiB, out 256 of 2 KiB: 0.74 GB

The first three need 103 to 105 GB/s whatever the length of their rows; the last is bound by 5.99 ms of matmuls.

Trn2, float32: the guide to kernel optimization, whose profiles are pictures; the kernels stand on the same page. They
move twice the bytes, in rows twice as long. The share of memory bandwidth that the profiles print, of 716 GB/s, gives
10.87 and 8.86 GB for the first two, which is what the kernels ask for; the others moved more (8.66 for 4.56 and 1.82
for 1.48 GB) because they do not fit in SBUF and the compiler spilled, so their DMA is not comparable. The occupation of
DMA is "DMA packet time", the sum over the 16 rings.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, InFile, OnPage, Point, Tensor, active
from triptych.harness.measured.sources import SDK

_K, _M, _N = 8192, 4096, 8192
_CASE = "4096x8192 @ 8192x8192"
_EXAMPLES = "nki/examples/matrix_multiplication/matrix_multiplication_nki_kernels.py"
_TABLE = "aws-neuron-sdk v2.26.1 nki/tutorials/matrix_multiplication.rst, table at the end"
_GUIDE = "nki/guides/tutorials/kernel-optimization.rst"
_PICTURE = f"aws-neuron-sdk@81ce03ae {_GUIDE}, nki/img/how-to/v"
_FLOAT32 = f"{_CASE} float32"


def _call(kernel: InFile | OnPage, target: str, dtype: str) -> Call:
    return Call(kernel, target, (Tensor(dtype, (_K, _M)), Tensor(dtype, (_K, _N))))


def _trn1(name: str, ms: float) -> Point:
    return Point(
        _call(InFile(SDK, _EXAMPLES, f"nki_matmul_{name}_"), "trn1", "bfloat16"),
        f"{_CASE} bfloat16",
        ms * 1e3,
        f"{ms:.2f} ms, p99",
        _TABLE,
        "A",
        "calibration",
    )


def _trn2(version: int, ms: float, tensor_ms: float) -> list[Point]:
    """Total and occupation of the Tensor Engine. The first kernel of the page is a single tile."""
    call = _call(OnPage(SDK, _GUIDE, version - 1, "matrix_multiply_kernel"), "trn2", "float32")
    return [
        Point(call, _FLOAT32, ms * 1e3, f"{ms:.3f} ms", f"{_PICTURE}{version}-full.png", "A", "calibration"),
        _part(call, version, "Tensor Engine", tensor_ms, f"{tensor_ms:.2f} ms", "pe", "tensor"),
    ]


def _part(call: Call, version: int, what: str, ms: float, printed: str, picture: str, track: str) -> Point:
    """Occupation of a part of the chip."""
    return Point(
        call,
        _FLOAT32,
        ms * 1e3,
        printed,
        f"{_PICTURE}{version}-{picture}.png",
        "A",
        "calibration",
        f"{what} active",
        active(track),
    )


def _rings(call: Call, version: int, ms: float) -> Point:
    return _part(call, version, "DMA rings, mean", ms / 16, f"{ms:.2f} ms on 16 rings", "dma", "dma")


_V2, _V3, _V4, _V5 = (
    _trn2(2, 39.895, 34.82),
    _trn2(3, 28.198, 28.16),
    _trn2(4, 28.414, 28.28),
    _trn2(5, 28.302, 28.16),
)
LADDER_POINTS = (
    _trn1("tiled", 51.80),
    _trn1("hoist_load", 42.96),
    _trn1("block_free_dimension", 22.07),
    _trn1("fully_optimized", 6.97),
    *_V2,
    _rings(_V2[0].call, 2, 519.58),
    *_V3,
    _rings(_V3[0].call, 3, 402.07),
    *_V4,
    *_V5,
    _part(_V5[0].call, 5, "Vector Engine", 2.99, "2.99 ms", "vec", "vector"),
)
