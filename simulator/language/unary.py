"""Functions of one operand, element by element.

Those that the Scalar Engine has as activation functions are one activation. The documentation places rsqrt on GpSimd
(release notes of NKI 0.5.0) and says that Vector is the precise place for a reciprocal; invert and logical_not are an
exclusive or with a constant.
"""

from __future__ import annotations

from typing import Any

from triptych.simulator.engines.scalar import activation
from triptych.simulator.engines.vector.elementwise import reciprocal as vector_reciprocal
from triptych.simulator.engines.vector.tensor_scalar import tensor_scalar
from triptych.simulator.language.common import declare, function, into, result_of, tile
from triptych.simulator.operands.operators import OPS, Op
from triptych.simulator.tensors.tensor import NkiTensor

_ELSEWHERE = ("copy", "rsqrt", "reciprocal", "sin")  # activation functions whose wrapper is something else


def _declare(op: Op) -> None:
    def call(x: NkiTensor, dtype: Any = None) -> NkiTensor:
        tile(x=x)
        return into(result_of(x, dtype), activation, op, x)

    declare(op.name, f"{op.name} of each element, an activation function of the Scalar Engine.", call)


for _op in OPS.values():
    if _op.act is not None and _op.name not in _ELSEWHERE:
        _declare(_op)


def _declare_with(name: str, op: str, operand: Any, summary: str) -> None:
    """One tensor_scalar with a number."""

    def call(x: NkiTensor, dtype: Any = None) -> NkiTensor:
        tile(x=x)
        return into(result_of(x, dtype), tensor_scalar, x, OPS[op], operand)

    declare(name, summary, call)


_declare_with("rsqrt", "rsqrt", None, "1 / sqrt(x), on GpSimd, which cannot read PSUM.")
_declare_with("negative", "multiply", -1.0, "-x, a product in float32.")
_TRUTH = "1 where x is 0, else 0: an exclusive or with 1, documented for x of 0 and 1."
_declare_with("logical_not", "logical_xor", True, _TRUTH)
_declare_with("invert", "bitwise_xor", -1, "~x of integers: an exclusive or with all ones.")


@function
def reciprocal(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """1 / x, on the Vector Engine."""
    tile(x=x)
    return into(result_of(x, dtype), vector_reciprocal, x)
