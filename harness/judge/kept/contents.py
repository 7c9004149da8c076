"""A prepared case as bytes, and back: its reference's outputs, and each output's tolerance, units and leeway.

Inputs are drawn anew; what is rounded is rounded anew. Arrays come back with the bits, dtype and order in memory that
they had, so that every number that is computed from them is the same; what has no such form is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.precision import round_to
from triptych.harness.results.measures import Tolerance

ALIGNED = 64  # bytes, at which each array starts


class Stored(msgspec.Struct, frozen=True):
    """Where an array lies: `axes` are those of the memory, from the slowest on; `scalar` for one of NumPy's numbers."""

    start: int
    dtype: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    scalar: bool = False


class Output(msgspec.Struct, frozen=True):
    """What is expected of an output; `reference` where leeway makes it another than the problem's."""

    tolerance: Tolerance
    unit: Stored | None
    may_be_nan: Stored | None
    reference: Stored | None


class Contents(msgspec.Struct, frozen=True):
    evaluated: dict[str, Stored | None]
    outputs: dict[str, Output]


class NotKept(Exception):
    """It has no form in which it would come back as it is."""


class Packed:
    """Arrays one after the other."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.length = 0

    def add(self, x: Any) -> Stored | None:
        """Where an array, a number of NumPy's or None now lies."""
        if x is None:
            return None
        if not isinstance(x, np.generic) and type(x) is not np.ndarray or x.dtype.kind not in "biuf":
            raise NotKept
        array = np.asarray(x)
        axes = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
        memory = array.transpose(axes)
        if not memory.flags.c_contiguous or not array.dtype.isnative:
            raise NotKept
        place = Stored(self.length, array.dtype.str, array.shape, axes, isinstance(x, np.generic))
        data = memory.reshape(-1).view(np.uint8).data
        self.parts += [data, bytes(-len(data) % ALIGNED)]
        self.length += len(data) + len(self.parts[-1])
        return place


def pack(prepared: PreparedCase) -> list[Any]:
    """The bytes of a prepared case, in parts. NotKept if it has no such."""
    packed, problem = Packed(), prepared.problem
    evaluated = {name: packed.add(x) for name, x in problem.evaluated.items()}
    outputs = {}
    for name, one in prepared.outputs.items():
        expected, reference = one.expected, one.problem.reference
        other = None if expected.reference is reference else packed.add(expected.reference)
        unit, leeway = packed.add(expected.unit), packed.add(expected.may_be_nan)
        outputs[name] = Output(expected.tolerance, unit, leeway, other)
    head = msgspec.msgpack.encode(Contents(evaluated, outputs))
    start = len(head).to_bytes(8, "little")
    return [start, head, bytes(-(len(head) + 8) % ALIGNED), *packed.parts]


def unpack(problem: Problem, data: memoryview) -> PreparedCase:
    """The prepared case of a problem whose `pack` this is."""
    length = int.from_bytes(data[:8], "little")
    contents = msgspec.msgpack.decode(data[8 : 8 + length], type=Contents)
    arrays = data[8 + length + -(length + 8) % ALIGNED :]

    def array(place: Stored | None) -> Any:
        if place is None:
            return None
        shape = [place.shape[axis] for axis in place.axes]
        flat = np.frombuffer(arrays, place.dtype, int(np.prod(shape, dtype=np.int64)), place.start)
        found = flat.reshape(shape).transpose(np.argsort(place.axes))
        return found[()] if place.scalar else found

    known = replace(problem, known={name: array(place) for name, place in contents.evaluated.items()})
    outputs = {name: prepared(known.outputs[name], one, array) for name, one in contents.outputs.items()}
    return PreparedCase(known, outputs)


def prepared(problem: Problem, one: Output, array: Callable[[Stored | None], Any]) -> Prepared:
    """One output with what is expected of it."""
    reference, rounded = array(one.reference), problem.rounded
    if reference is None:
        reference = problem.reference
    else:
        rounded = round_to(reference, problem.dtype)
    return Prepared(problem, Expected(reference, rounded, one.tolerance, array(one.unit), array(one.may_be_nan)))
