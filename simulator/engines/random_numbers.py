"""Random numbers on the Vector and the GpSimd Engine, and what is made of them.

**The bits are not the chip's.** Every engine here has one XORWOW generator a state and partition: four states on
Vector and one on GpSimd, six words each, as rand_set_state documents them for NeuronCore-v4. The order of words and
states, how a seed becomes a state and Vector's older generator (an LFSR before v4, trainium3_arch.rst) are not
documented. What holds is what the instructions promise: a seed or a restored state repeats its sequence. A run repeats
itself, because every engine starts from seed 0, and so does each core: the two cores of a launch draw the same numbers
unless the kernel seeds them apart (what an engine holds before a seed is not documented).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triptych.simulator.analysis import costs
from triptych.simulator.dtypes import F32, Array
from triptych.simulator.engines import xorwow
from triptych.simulator.enums import engine as eng
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.machine.instructions import choose, instruction
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.plan import Plan
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.accumulators import check_float32
from triptych.simulator.operands.operands import (
    bits,
    column,
    in_buffer,
    in_dtype,
    on_chip,
    per_partition,
    put,
    put_bits,
    same_tile,
    without_gpsimd_in_psum,
)
from triptych.simulator.tensors.partitions import partitions_of
from triptych.simulator.tensors.tensor import NkiTensor

_STATES = {eng.vector: 4, eng.gpsimd: 1}
_INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
_RAND2 = ("float8_e4m3", "float8_e5m2", "float16", "bfloat16", "float32", "tfloat32", *_INTEGERS)


def _generator(on: eng) -> Array:
    """The states [128, S, 6] of an engine, which last as long as its core runs."""
    m = machine()
    states = m.generators.get(on)
    if states is None:
        states = m.generators[on] = xorwow.seeded(0, int(m.chip.partitions.value), _STATES[on])
    return states


def _draw(on: eng, t: NkiTensor) -> Array:
    """32 random bits for each element of a tile."""
    return xorwow.draw(_generator(on)[partitions_of(t)], t.free_size).reshape(t.shape)


def _uniform(t: NkiTensor) -> Array:
    """A float32 in [0, 1) for each element of a tile: the upper 24 of Vector's bits, all of which are exact there."""
    return (_draw(eng.vector, t) >> np.uint32(8)).astype(F32) * F32.type(2.0**-24)


@instruction(eng.vector, eng.gpsimd, cost=costs.either)
def rng(dst: NkiTensor, engine: eng = eng.vector, name: str | None = None) -> Plan:
    """dst[P, F] = the low bits of 32 random ones, for an integer dtype; the bits are not the chip's."""
    on_chip(dst=dst)
    on = _engine(engine, 3, eng.vector, eng.gpsimd)
    without_gpsimd_in_psum(on, dst)
    in_dtype(_INTEGERS, dst=dst)
    return Plan(on, (), (dst,), _bits, (dst, on))


def _bits(dst: NkiTensor, on: eng) -> None:
    put_bits(dst, _draw(on, dst).astype(bits(dst).dtype))


@instruction(eng.vector, cost=costs.quarter, since=4)
def rand2(dst: NkiTensor, min: Any, max: Any, name: str | None = None) -> Plan:
    """dst[P, F] = min + (max - min) * a uniform number in [0, 1), in float32; the numbers are not the chip's."""
    on_chip(dst=dst)
    in_dtype(_RAND2, dst=dst)
    low, low_tiles = per_partition(min, dst, "min")
    high, high_tiles = per_partition(max, dst, "max")
    check_float32("min", low_tiles)
    check_float32("max", high_tiles)
    tiles = (*low_tiles, *high_tiles)
    if not tiles:
        _check_order(low, high, min, max)
    return Plan(eng.vector, tiles, (dst,), _between, (dst, low, high))


def _between(dst: NkiTensor, min: Any, max: Any) -> None:
    low, high = column(min, dst), column(max, dst)
    _check_order(low, high, min, max)
    put(dst, np.minimum(low + (high - low) * _uniform(dst), high))


def _check_order(low: Any, high: Any, min: Any, max: Any) -> None:
    if not np.all(low < high):
        raise NkiValidationError(f"min must be less than max, got {min!r} and {max!r}")


@instruction(eng.vector, cost=costs.streamed)
def dropout(dst: NkiTensor, data: NkiTensor, prob: Any, name: str | None = None) -> Plan:
    """dst[P, F] = 0 with probability prob, a number or a column, else data[P, F]; which ones are not the chip's."""
    on_chip(dst=dst, data=data)
    same_tile("dst and data", dst, data)
    if dst.dtype != data.dtype:
        raise NkiValidationError(f"dst and data must have the same dtype, got {dst.dtype} and {data.dtype}")
    limit, tiles = per_partition(prob, data, "prob")
    if not tiles and not 0 <= prob <= 1:
        raise NkiValidationError(f"prob is a probability, from 0 to 1, got {prob!r}")
    if not data.dtype.is_float:
        check_float32("prob, for data that is not floating-point,", tiles)
    elif tiles and not tiles[0].dtype.is_float:
        raise NkiValidationError(f"prob must have a floating-point dtype, got {tiles[0]!r}")
    return Plan(eng.vector, (data, *tiles), (dst,), _drop, (dst, data, limit))


def _drop(dst: NkiTensor, data: NkiTensor, limit: Any) -> None:
    source = bits(data)
    put_bits(dst, np.where(_uniform(data) < column(limit, data), source.dtype.type(0), source))


@instruction(eng.vector, cost=costs.streamed.assumed())
def set_rng_seed(src_seeds: NkiTensor, name: str | None = None) -> Plan:
    """Seed the Vector Engine's generators from one 32-bit value [1, 1]; the same seed gives the same numbers."""
    on_chip(src_seeds=src_seeds)
    if src_seeds.shape != (1, 1) or src_seeds.dtype.itemsize != 4 or src_seeds.dtype.kind == "x":
        raise NkiValidationError(f"src_seeds must be (1, 1) of 32 bits, got {src_seeds!r}")
    return Plan(eng.vector, (src_seeds,), (), _seed, (src_seeds,))


def _seed(src_seeds: NkiTensor) -> None:
    seed = int(src_seeds.array.view(np.uint32)[0, 0])
    states = _generator(eng.vector)
    states[...] = xorwow.seeded(seed, states.shape[0], _STATES[eng.vector])


@instruction(eng.gpsimd, eng.vector, cost=costs.either, since=3)
def rand_set_state(src_seeds: NkiTensor, engine: eng = eng.gpsimd, name: str | None = None) -> Plan:
    """The generators of the tile's partitions = src_seeds[P, 6] on GpSimd, [P, 24] on Vector, XORWOW's words."""
    in_buffer(MemoryRegion.sbuf, src_seeds=src_seeds)
    on = _engine(engine, 4, eng.gpsimd, eng.vector)
    _check_state("src_seeds", src_seeds, on)
    return Plan(on, (src_seeds,), (), _set_state, (src_seeds, on))


def _set_state(src_seeds: NkiTensor, on: eng) -> None:
    words = src_seeds.array.reshape(-1, _STATES[on], xorwow.WORDS)
    _generator(on)[partitions_of(src_seeds)] = words


@instruction(eng.gpsimd, eng.vector, cost=costs.either, since=3)
def rand_get_state(dst: NkiTensor, engine: eng = eng.gpsimd, name: str | None = None) -> Plan:
    """dst[P, 6] on GpSimd, [P, 24] on Vector = the words of the generators of the tile's partitions."""
    on_chip(dst=dst)
    on = _engine(engine, 4, eng.gpsimd, eng.vector)
    without_gpsimd_in_psum(on, dst)
    _check_state("dst", dst, on)
    return Plan(on, (), (dst,), _get_state, (dst, on))


def _get_state(dst: NkiTensor, on: eng) -> None:
    put_bits(dst, _generator(on)[partitions_of(dst)])


def _engine(asked: Any, since: int, first: eng, later: eng) -> eng:
    """`first`, or `later` from a generation on."""
    on = choose(asked, first, later)
    chip = machine().chip
    if on is later and chip.generation < since:
        raise NkiValidationError(
            f"engine {on.name} needs NeuronCore-v{since} or newer here, and the target is {chip.name}"
        )
    return on


def _check_state(what: str, t: NkiTensor, on: eng) -> None:
    words = _STATES[on] * xorwow.WORDS
    if t.dtype != "uint32" or t.ndim != 2 or t.shape[1] != words:
        raise NkiValidationError(f"{what} must be [P, {words}] in uint32 on the {on.name} engine, got {t!r}")
