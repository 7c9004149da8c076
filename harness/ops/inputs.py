"""The bytes that every panel computes on: drawn by the op's own generator, or from the shapes of its inputs."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.ops.case import Case, WatchedCase
from triptych.harness.ops.layouts import in_strides
from triptych.harness.ops.op import Inputs, Op
from triptych.harness.ops.regimes import in_regime, normal, round_inputs
from triptych.harness.ops.shapes import Input, Shapes, shape_of

FIRST_ALONE = ("one-hot", "subnormal")  # regimes of the first input alone: products of two such are mostly zero


@dataclass(frozen=True)
class Drawn:
    """What an op is called with beside its params: arrays, and what is none, by name."""

    arrays: Arrays
    constants: Mapping[str, Any]  # numbers, and None where an optional input is left out
    names: Sequence[str]  # of both, in the order of the op's inputs


def make_inputs(op: Op, case: Case, draw: int = 0) -> Arrays:
    """The arrays of `case`: the same bytes for every backend, other ones for every other `draw`."""
    return draw_inputs(op, case, draw).arrays


def draw_inputs(op: Op, case: Case, draw: int = 0) -> Drawn:
    """The inputs of `case`, reproducibly.

    Those of the regime "strided" are drawn as normal ones are, and laid out in memory afterwards. The dtype is no part
    of the seed: bfloat16 inputs are the float32 ones, rounded.
    """
    rng = np.random.default_rng([case.seed, zlib.crc32(f"{op.name}/{case.name}".encode()), draw])
    strided = case.regime == "strided"
    found = rounded_inputs(op, replace(case, regime="normal") if strided else case, rng)
    arrays = {name: x for name, x in found.items() if isinstance(x, np.ndarray)}
    constants = {name: x for name, x in found.items() if name not in arrays}
    return Drawn(in_strides(arrays, draw) if strided else arrays, constants, tuple(found))


def rounded_inputs(op: Op, case: Case, rng: np.random.Generator) -> dict[str, Any]:
    """What the generator gives, its arrays in float64 rounded to the case's dtype, and in the case's regime.

    The float64 arrays of a generator that does not ask for the regime are moved into it.
    """
    generator = op.inputs if callable(op.inputs) else generator_of(op.inputs)
    watched = WatchedCase.of(case)
    found: Any = generator(watched, rng)
    values = found.items() if isinstance(found, dict) else [("", found)]
    wrong = [x for name, x in values if not name or not isinstance(x, (np.ndarray, np.generic, int, float, type(None)))]
    if wrong:
        raise TypeError(
            f"the inputs of {op.name} must be NumPy arrays by name, numbers or None; got a {type(wrong[0]).__name__}"
        )
    plain = {name: x.item() if isinstance(x, np.generic) else x for name, x in values}
    wide = {name: x for name, x in plain.items() if isinstance(x, np.ndarray) and x.dtype == np.float64}
    if not watched.asked:
        wide = {name: moved(x, case, first=name == next(iter(wide))) for name, x in wide.items()}
    return {**plain, **{name: round_inputs({name: x}, case.dtype)[name].reshape(x.shape) for name, x in wide.items()}}


def moved(x: Array, case: Case, first: bool, dtype: str = "") -> Array:
    """Normal numbers in the regime of a case, as that of the `first` input or of a further one, of the case's dtype."""
    if not x.ndim or not x.size or (case.regime in FIRST_ALONE and not first):
        return x
    if case.regime == "negative" and not first:
        return np.abs(x)  # products and sums are negative then as well
    return np.asarray(in_regime(x, case.regime, dtype or case.dtype))


def generator_of(shapes: Shapes) -> Inputs:
    """A generator of one array for each entry of {"x": ("M", "N")}, drawn in the case's regime.

    Those with a range of their own, integers and bools are in no regime (`Input`).
    """

    def inputs(case: Case, rng: np.random.Generator) -> Arrays:
        arrays: Arrays = {}
        first = True
        for name, sizes in sizes_of(shapes, case).items():
            own = shapes[name]
            dtype = own.dtype if isinstance(own, Input) and own.dtype else case.dtype
            if isinstance(own, Input) and (own.bounded or not is_float(dtype_of(dtype))):
                arrays[name] = own.within_bounds(sizes, dtype, case, rng)
                continue
            x = moved(normal(rng, *sizes), case, first, dtype)
            arrays[name] = round_inputs({name: x}, dtype)[name].reshape(sizes)
            first = False
        return arrays

    return inputs


def sizes_of(shapes: Shapes, case: Case) -> dict[str, tuple[int, ...]]:
    """{"x": ("M", "N")} in the sizes of a case."""
    found = {}
    for name, declared in shapes.items():
        shape = shape_of(declared)
        for axis in shape:
            if isinstance(axis, str) and axis not in case.axes:
                raise ValueError(f"input {name} has axis {axis!r}, which case {case.name} does not give a whole number")
        found[name] = tuple([case.axes[axis] if isinstance(axis, str) else axis for axis in shape])
    return found
