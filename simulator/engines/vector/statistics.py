"""Vector Engine: mean and variance of each partition, in two instructions.

bn_stats summarises the even and the odd elements of up to 512 as (count, mean, variance * count); bn_aggr merges any
number of such triples (Chan, Golub and LeVeque's update):

    n = sum c_i,  mean = sum c_i m_i / n,  variance = (sum v_i + sum c_i (m_i - mean)^2) / n
"""

from __future__ import annotations

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32, Array
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.operands.operands import on_chip, put, scratch
from triptych.simulator.tensors.tensor import NkiTensor


@instruction(eng.vector, cost=costs.streamed, order="late")
def bn_stats(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> Plan:
    """dst[P, 6] = (count, mean, variance * count) of data's even elements, then of its odd ones."""
    on_chip(dst=dst, data=data)
    limit = machine().chip.bn_stats_fmax
    if data.free_size > limit.value:
        raise NkiValidationError(
            f"data has at most {limit.value:.0f} elements per partition (nl.tile_size.bn_stats_fmax), got "
            f"{data.shape}; summarise it in parts and merge them with bn_aggr",
            source=limit.source,
        )
    _check_columns(dst, data, 6)
    return Plan(eng.vector, (data,), (dst,), _summarise, (dst, data))


def _summarise(dst: NkiTensor, data: NkiTensor) -> None:
    x = data.f32().reshape(data.shape[0], -1)
    p, n = x.shape
    if n % 2:
        triples = np.stack((_triples(x[:, 0::2].copy()), _triples(x[:, 1::2].copy())), axis=1)
    else:
        both = scratch((p, 2, n // 2))
        np.copyto(both, x.reshape(p, n // 2, 2).transpose(0, 2, 1))
        triples = _triples(both)
    put(dst, triples.reshape(p, 6))


def _triples(x: Array) -> Array:
    """(count, mean, variance * count) of the last dimension of x, which is used up.

    No elements give (0, 0, 0), which bn_aggr ignores; that case is undocumented.
    """
    *outer, n = x.shape
    out = np.zeros((*outer, 3), F32)
    if n:
        mean = np.add.reduce(x, axis=-1, keepdims=True)
        mean /= n
        out[..., 0] = n
        out[..., 1:2] = mean
        np.subtract(x, mean, out=x)
        np.square(x, out=x)
        np.add.reduce(x, axis=-1, out=out[..., 2])
    return out


@instruction(eng.vector, cost=costs.aggregate, order="late")
def bn_aggr(dst: NkiTensor, data: NkiTensor, name: str | None = None) -> Plan:
    """dst[P, 2] = (mean, variance) of all elements that data's (count, mean, variance * count) triples stand for."""
    on_chip(dst=dst, data=data)
    if data.free_size % 3:
        raise NkiValidationError(f"data holds triples, a multiple of 3 elements per partition; got {data.shape}")
    _check_columns(dst, data, 2)
    return Plan(eng.vector, (data,), (dst,), _merge, (dst, data))


def _merge(dst: NkiTensor, data: NkiTensor) -> None:
    triples = data.f32().reshape(data.shape[0], -1, 3)
    count, mean, moment = triples[..., 0], triples[..., 1], triples[..., 2]
    total = count.sum(axis=1, keepdims=True)
    centre = (count * mean).sum(axis=1, keepdims=True) / total
    spread = moment.sum(axis=1, keepdims=True) + (count * np.square(mean - centre)).sum(axis=1, keepdims=True)
    put(dst, np.concatenate((centre, spread / total), axis=1))


def _check_columns(dst: NkiTensor, data: NkiTensor, columns: int) -> None:
    if dst.shape[0] != data.shape[0] or dst.free_size != columns:
        raise NkiValidationError(f"dst must be ({data.shape[0]}, {columns}), got {dst.shape}")
