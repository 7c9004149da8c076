"""softmax, rms_norm and selection by a condition: several instructions each.

Reduced columns are spread over their tile by views that repeat a free dimension, which every engine reads. Which
instructions NKI takes is not documented; these are ours.
"""

from __future__ import annotations

from typing import Any

from triptych.simulator.engines.scalar import activation
from triptych.simulator.engines.vector.elementwise import reciprocal, tensor_copy, tensor_tensor
from triptych.simulator.engines.vector.select import tensor_copy_predicated
from triptych.simulator.engines.vector.tensor_scalar import tensor_scalar
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language.common import function, into, is_number, new, result_of, same_dtype, spread, tile
from triptych.simulator.language.movement import copy
from triptych.simulator.language.reductions import Axis, reduced
from triptych.simulator.operands.operands import describe
from triptych.simulator.operands.operators import OPS
from triptych.simulator.tensors.tensor import NkiTensor


@function
def softmax(x: NkiTensor, axis: Axis = -1, dtype: Any = None) -> NkiTensor:
    """exp(x - max(x)) / sum(exp(x - max(x))) over `axis`, in float32.

    On NeuronCore-v4 too by the Scalar Engine: its guide calls nisa.exponential useful for a softmax, and nothing says
    that this function takes it.
    """
    largest = reduced("maximum", x, axis, "float32", keepdims=True)
    below = into(new(x.shape, "float32"), tensor_tensor, x, spread(largest, x.shape), OPS["subtract"])
    powers = into(new(x.shape, "float32"), activation, OPS["exp"], below)
    total = reduced("add", powers, axis, "float32", keepdims=True)
    reciprocal(total, total)
    return into(result_of(x, dtype), tensor_tensor, powers, spread(total, x.shape), OPS["multiply"])


@function
def rms_norm(
    x: NkiTensor, w: NkiTensor, axis: Axis, n: int, epsilon: float = 1e-06, dtype: Any = None, compute_dtype: Any = None
) -> NkiTensor:
    """x / sqrt(sum(x^2) / n + epsilon) * w, the sum over `axis`; tiles in between are float32, or `compute_dtype`."""
    tile(x=x, w=w)
    if w.shape != x.shape:
        raise NkiValidationError(f"w must have x's shape, got {w.shape} and {x.shape}; use nl.broadcast_to")
    if not is_number(n):
        raise NkiValidationError(f"n must be a number, got {describe(n)}")
    inner = "float32" if compute_dtype is None else compute_dtype
    squares = into(new(x.shape, inner), activation, OPS["square"], x)
    total = reduced("add", squares, axis, inner, keepdims=True)
    square_mean = new(total.shape, inner)
    tensor_scalar(square_mean, total, OPS["multiply"], 1 / n, op1=OPS["add"], operand1=epsilon)
    factor = into(new(total.shape, inner), tensor_scalar, square_mean, OPS["rsqrt"], None)
    normal = into(new(x.shape, inner), tensor_tensor, x, spread(factor, x.shape), OPS["multiply"])
    return into(result_of(x, dtype), tensor_tensor, normal, w, OPS["multiply"])


@function
def where(condition: NkiTensor, x: NkiTensor, y: NkiTensor, dtype: Any = None) -> NkiTensor:
    """x where `condition` is not 0, else y, in `dtype` or in x's."""
    tile(condition=condition, x=x, y=y)
    if not condition.shape == x.shape == y.shape:
        raise NkiValidationError(
            f"condition, x and y must have the same shape, got {condition.shape}, {x.shape} and {y.shape}"
        )
    predicate = into(new(condition.shape, "uint8"), tensor_scalar, condition, OPS["not_equal"], 0.0)
    dst = into(result_of(x, dtype), tensor_copy, y)
    tensor_copy_predicated(dst, x if same_dtype(x, dst.dtype) else copy(x, dst.dtype), predicate)
    return dst
