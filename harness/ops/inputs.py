"""The bytes that every panel computes on."""

from __future__ import annotations

import zlib

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import rounded


def make_inputs(op: Op, case: Case, draw: int = 0) -> Arrays:
    """The inputs of `case`: the same bytes for every backend, other ones for every other `draw`.

    The dtype is no part of the seed: bfloat16 inputs are the float32 ones, rounded.
    """
    rng = np.random.default_rng([case.seed, zlib.crc32(f"{op.name}/{case.name}".encode()), draw])
    arrays = op.inputs(case, rng)
    wrong = [x for x in arrays.values() if not isinstance(x, np.ndarray)] if isinstance(arrays, dict) else [arrays]
    if wrong:
        raise TypeError(f"the inputs of {op.name} must be NumPy arrays by name; got a {type(wrong[0]).__name__}")
    wide = {name: x for name, x in arrays.items() if x.dtype == np.float64}
    return {**arrays, **rounded(wide, case.dtype)}
