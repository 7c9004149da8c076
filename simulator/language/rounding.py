"""ceil, floor and trunc, and sine, cosine and tangent beyond [-pi, pi]: several instructions each.

No engine has an operator for them, and the documentation does not say which instructions NKI takes; these are ours.

    floor(x) = t - (t > x) and ceil(x) = t + (t < x), with t = x rounded to the nearest integer by a cast to int32.
    From 2^23 on a float32 is an integer already, and stays as it is, as do infinities and NaN.

    sin(x) = sin(r) with r = x - 2 pi k and k = round(x / 2 pi), 2 pi split into three parts whose products with k are
    exact up to k = 2^15 (Cody and Waite), so that sin is right to 4e-7 for |x| up to 2^16 pi, about 205,887.
    cos(x) = sin(pi / 2 - |r|) and tan(x) = sin(x) / cos(x), which is right to 4e-7 (1 + tan(x)^2).

The documentation promises accuracy for any argument of nl.sin (nki/api/nki.api.shared.rst) and does not say how. More
parts of 2 pi would not reach far; arguments beyond 2^16 pi are noted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from triptych.simulator.dtypes import dtype_of
from triptych.simulator.engines.scalar import activation
from triptych.simulator.engines.vector.elementwise import memset, reciprocal, tensor_copy, tensor_tensor
from triptych.simulator.engines.vector.select import tensor_copy_predicated
from triptych.simulator.engines.vector.tensor_scalar import scalar_tensor_tensor, tensor_scalar
from triptych.simulator.language.common import function, into, new, result_of, tile
from triptych.simulator.language.movement import copy
from triptych.simulator.machine.machine import machine
from triptych.simulator.operands.operators import OPS
from triptych.simulator.tensors.tensor import NkiTensor

_WHOLE = 2.0**23  # from here on every float32 is an integer
_MAGIC = 1.5 * 2.0**23  # adding it and taking it away rounds a float32 below 2^22 to the nearest integer
_HIGH = 6.28125  # 2 pi in 8 bits, the next 9 bits, and the rest
_MIDDLE = math.floor((2 * math.pi - _HIGH) * 2.0**18) / 2.0**18
_LOW = 2 * math.pi - _HIGH - _MIDDLE
_FAR = 2.0**16 * math.pi
_PI = float(np.nextafter(np.float32(math.pi), np.float32(0)))  # the largest float32 below pi


def _floor(x: NkiTensor, up: bool) -> NkiTensor:
    """floor(x), or ceil(x) if `up`, in a float32 tile. NaN is kept away from the cast to int32."""
    dst = into(new(x.shape, "float32"), tensor_copy, x)
    small = into(new(x.shape, "uint8"), tensor_scalar, dst, OPS["abs"], None, op1=OPS["less"], operand1=_WHOLE)
    within = into(new(x.shape, "float32"), memset, 0)
    tensor_copy_predicated(within, dst, small)
    nearest = into(new(x.shape, "int32"), tensor_copy, within)
    beyond = into(new(x.shape, "float32"), tensor_tensor, nearest, within, OPS["less" if up else "greater"])
    whole = into(new(x.shape, "float32"), tensor_tensor, nearest, beyond, OPS["add" if up else "subtract"])
    tensor_copy_predicated(dst, whole, small)
    return dst


def _to_whole(x: NkiTensor, dtype: Any, up: bool) -> NkiTensor:
    """floor(x), or ceil(x) if `up`, in `dtype` or in x's; of integers a copy."""
    tile(x=x)
    wanted = x.dtype if dtype is None else dtype_of(dtype)
    if x.dtype.is_int:
        return copy(x, wanted)
    whole = _floor(x, up)
    return whole if whole.dtype == wanted else copy(whole, wanted)


@function
def floor(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """The largest integer that is not above x."""
    return _to_whole(x, dtype, up=False)


@function
def ceil(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """The smallest integer that is not below x."""
    return _to_whole(x, dtype, up=True)


@function
def trunc(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """x without its fraction: floor(|x|) with x's sign."""
    tile(x=x)
    if x.dtype.is_int:
        return _to_whole(x, dtype, up=False)
    size = into(new(x.shape, "float32"), tensor_scalar, x, OPS["abs"], None)
    sign = into(new(x.shape, "float32"), activation, OPS["sign"], x)
    return into(result_of(x, dtype), tensor_tensor, _floor(size, up=False), sign, OPS["multiply"])


def _turns(x: NkiTensor) -> NkiTensor:
    """round(x / 2 pi) in a float32 tile."""
    turns = new(x.shape, "float32")
    tensor_scalar(turns, x, OPS["multiply"], 0.5 / math.pi, op1=OPS["add"], operand1=_MAGIC)
    tensor_scalar(turns, turns, OPS["subtract"], _MAGIC)
    return turns


def _less(x: NkiTensor, turns: NkiTensor, part: float) -> NkiTensor:
    """x - part * turns in a float32 tile."""
    return into(new(x.shape, "float32"), scalar_tensor_tensor, turns, OPS["multiply"], -part, OPS["add"], x)


def _reduced(x: NkiTensor) -> NkiTensor:
    """r in [-pi, pi] with x = r + 2 pi k, in a float32 tile.

    Near half a turn the rounding of x / 2 pi may pick the neighbour of k; r is then a little beyond pi, and one more
    turn brings it back.
    """
    beyond = int(np.count_nonzero(np.abs(x.f32()) > _FAR))
    turns = _turns(x)
    if beyond:
        machine().note_values(
            f"{beyond} of {x.size} arguments are beyond 2^16 pi, where the range reduction here is not accurate"
        )
    rest = _less(_less(_less(x, turns, _HIGH), turns, _MIDDLE), turns, _LOW)
    rest = _less(rest, _turns(rest), 2 * math.pi)
    tensor_scalar(rest, rest, OPS["minimum"], _PI, op1=OPS["maximum"], operand1=-_PI)
    return rest


def _cosine(dst: NkiTensor, reduced: NkiTensor) -> None:
    quarter = new(reduced.shape, "float32")
    tensor_scalar(quarter, reduced, OPS["abs"], None, op1=OPS["subtract"], operand1=0.5 * math.pi, reverse1=True)
    activation(dst, OPS["sin"], quarter)


@function
def sin(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """sin(x), with range reduction before the activation."""
    tile(x=x)
    return into(result_of(x, dtype), activation, OPS["sin"], _reduced(x))


@function
def cos(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """cos(x), with range reduction."""
    tile(x=x)
    dst = result_of(x, dtype)
    _cosine(dst, _reduced(x))
    return dst


@function
def tan(x: NkiTensor, dtype: Any = None) -> NkiTensor:
    """tan(x) = sin(x) / cos(x), with range reduction."""
    tile(x=x)
    reduced = _reduced(x)
    sine, cosine = new(x.shape, "float32"), new(x.shape, "float32")
    activation(sine, OPS["sin"], reduced)
    _cosine(cosine, reduced)
    reciprocal(cosine, cosine)
    return into(result_of(x, dtype), tensor_tensor, sine, cosine, OPS["multiply"])
