"""What one more instruction costs on Trn1 (trn1.2xlarge, SDK 2.32, NKI 0.6.0), as kernels of our own in repeated.py.

foxl-ai/kiln measured each repeated 16 and 272 times, into tiles of a ring of four, and took the difference over 256.
Of the Tensor Engine's it is not known why a product of one row, or of eight columns, takes twice as long as a full one.
"""

from __future__ import annotations

from triptych.harness.measured.records import Call, Ours, Point, Tensor, pitch

_SOURCE = "foxl-ai/kiln@a04d1fab docs/neuron-notes.md, Engine rates"
_COUNT = 64


def _matmul(dtype: str, rows: int, columns: int, streamed: int, ns: int) -> Point:
    call = Call(
        Ours("matmuls", "repeated.py"),
        "trn1",
        (Tensor(dtype, (rows, columns)), Tensor(dtype, (rows, streamed)), _COUNT),
    )
    return _point(call, f"{rows}x{columns}x{streamed} {dtype}", "nc_matmul", ns)


def _tile(kind: str, width: int, op: str, ns: int) -> Point:
    call = Call(Ours("on_tiles", "repeated.py"), "trn1", (Tensor("float32", (128, 2112)), kind, width, _COUNT))
    return _point(call, f"{kind}, 128x{width} float32", op, ns)


def _point(call: Call, case: str, op: str, ns: int) -> Point:
    return Point(call, case, ns / 1e3, f"{ns} ns", _SOURCE, "C", "validation", f"{op} to {op}", pitch(op))


RATE_POINTS = (
    _matmul("bfloat16", 128, 128, 512, 219),
    _matmul("bfloat16", 128, 128, 128, 48),
    _matmul("bfloat16", 128, 128, 256, 175),
    _matmul("float32", 128, 128, 512, 1150),
    _matmul("bfloat16", 128, 8, 512, 421),
    _matmul("bfloat16", 128, 8, 128, 68),
    _matmul("bfloat16", 64, 128, 512, 271),
    _matmul("bfloat16", 1, 128, 512, 373),
    _matmul("float32", 128, 1, 128, 233),
    _tile("max in psum", 512, "tensor_reduce", 494),
    _tile("max", 2048, "tensor_reduce", 1908),
    _tile("copy from psum", 512, "tensor_copy", 447),
    _tile("two scalars and psum", 512, "scalar_tensor_tensor", 505),
    _tile("product", 512, "tensor_tensor", 1039),
    _tile("product with psum", 512, "tensor_tensor", 494),
    _tile("scale", 2048, "tensor_scalar", 1894),
    _tile("count", 2112, "tensor_scalar_reduce", 2154),
    _tile("add", 128, "tensor_reduce", 147),
    _tile("exp and sum in psum", 512, "activation_reduce", 466),
    _tile("activation in psum", 512, "activation", 383),
    _tile("activation", 128, "activation", 106),
    _tile("exp and sum", 2048, "activation_reduce", 1574),
)
