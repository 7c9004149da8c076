"""The bytes that every panel computes on: drawn by the op's own generator, or from the shapes of its inputs."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.ops.case import Case
from triptych.harness.ops.layouts import in_strides
from triptych.harness.ops.op import Inputs, Op, Shapes
from triptych.harness.ops.regimes import in_regime, normal, round_inputs

FIRST_ALONE = ("one-hot", "subnormal")  # regimes of the first input alone: products of two such are mostly zero


def make_inputs(op: Op, case: Case, draw: int = 0) -> Arrays:
    """The inputs of `case`: the same bytes for every backend, other ones for every other `draw`.

    Those of the regime "strided" are drawn as normal ones are, and laid out in memory afterwards. The dtype is no part
    of the seed: bfloat16 inputs are the float32 ones, rounded.
    """
    rng = np.random.default_rng([case.seed, zlib.crc32(f"{op.name}/{case.name}".encode()), draw])
    generator = op.inputs if callable(op.inputs) else generator_of(op.inputs)
    strided = case.regime == "strided"
    arrays = generator(replace(case, regime="normal") if strided else case, rng)
    wrong = [x for x in arrays.values() if not isinstance(x, np.ndarray)] if isinstance(arrays, dict) else [arrays]
    if wrong:
        raise TypeError(f"the inputs of {op.name} must be NumPy arrays by name; got a {type(wrong[0]).__name__}")
    wide = {name: x for name, x in arrays.items() if x.dtype == np.float64}
    rounded = {**arrays, **round_inputs(wide, case.dtype)}
    return in_strides(rounded, draw) if strided else rounded


def generator_of(shapes: Shapes) -> Inputs:
    """A generator of one array for each entry of {"x": ("M", "N")}, drawn in the case's regime."""

    def inputs(case: Case, rng: np.random.Generator) -> Arrays:
        arrays: Arrays = {}
        for name, sizes in sizes_of(shapes, case).items():
            x = normal(rng, *sizes)
            if arrays and case.regime in FIRST_ALONE:
                arrays[name] = x
            elif arrays and case.regime == "negative":  # products and sums are negative then as well
                arrays[name] = np.abs(x)
            else:
                arrays[name] = in_regime(x, case.regime, case.dtype)
        return round_inputs(arrays, case.dtype)

    return inputs


def sizes_of(shapes: Shapes, case: Case) -> dict[str, tuple[int, ...]]:
    """{"x": ("M", "N")} in the sizes of a case."""
    found = {}
    for name, shape in shapes.items():
        for axis in shape:
            if isinstance(axis, str) and axis not in case.axes:
                raise ValueError(f"input {name} has axis {axis!r}, which case {case.name} does not give a whole number")
        found[name] = tuple([case.axes[axis] if isinstance(axis, str) else axis for axis in shape])
    return found
