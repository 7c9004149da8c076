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
for 1.48 GB) because they do not fit in SBUF and the compiler spilled. The occupation of DMA is "DMA packet time", the
sum over the 16 rings.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, InFile, OnPage, Point, Tensor, active
from triptych.harness.measured.sources import SDK

_K, _M, _N = 8192, 4096, 8192
_CASE = "4096x8192 @ 8192x8192"
_EXAMPLES = "nki/examples/matrix_multiplication/matrix_multiplication_nki_kernels.py"
_TABLE = "aws-neuron-sdk v2.26.1 nki/tutorials/matrix_multiplication.rst, table at the end"
_GUIDE = "nki/guides/tutorials/kernel-optimization.rst"


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


def _trn2(version: int, ms: float, tensor_ms: float, packet_ms: float) -> list[Point]:
    """Total, occupation of the Tensor Engine and of the rings. The first kernel of the page is a single tile."""
    call = _call(OnPage(SDK, _GUIDE, version - 1, "matrix_multiply_kernel"), "trn2", "float32")
    source = f"aws-neuron-sdk@81ce03ae {_GUIDE}, nki/img/how-to/v{version}"
    spilled = "moved more than its source asks for: the compiler spilled" if version > 3 else ""
    case = f"{_CASE} float32"
    return [
        Point(call, case, ms * 1e3, f"{ms:.3f} ms", f"{source}-full.png", "A", "calibration"),
        Point(
            call,
            case,
            tensor_ms * 1e3,
            f"{tensor_ms:.2f} ms",
            f"{source}-pe.png",
            "A",
            "calibration",
            "Tensor Engine active",
            active("tensor"),
        ),
        Point(
            call,
            case,
            packet_ms / 16 * 1e3,
            f"{packet_ms:.2f} ms on 16 rings",
            f"{source}-dma.png",
            "A",
            "calibration",
            "DMA rings active, mean",
            active("dma"),
            spilled,
        ),
    ]


LADDER_POINTS = (
    _trn1("tiled", 51.80),
    _trn1("hoist_load", 42.96),
    _trn1("block_free_dimension", 22.07),
    _trn1("fully_optimized", 6.97),
    *_trn2(2, 39.895, 34.82, 519.58),
    *_trn2(3, 28.198, 28.16, 402.07),
    *_trn2(4, 28.414, 28.28, 390.69),
    *(v5 := _trn2(5, 28.302, 28.16, 81.73)),
    Point(
        v5[0].call,
        v5[0].case,
        2990.0,
        "2.99 ms",
        f"aws-neuron-sdk@81ce03ae {_GUIDE}, nki/img/how-to/v5-vec.png",
        "A",
        "calibration",
        "Vector Engine active",
        active("vector"),
    ),
)
