"""Other inputs for a kernel that ran: numbers that cost nothing, and the memory of the first ones to hold them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from triptych.harness.backends.sealed import Sealed
from triptych.harness.dtypes import is_float
from triptych.harness.judge.problem import Problem


def moved(problem: Problem) -> Problem:
    """The problem with every number of its inputs of floats in the next one's place."""
    return replace(
        problem, inputs={name: np.roll(x, 1) if is_float(x.dtype) else x for name, x in problem.inputs.items()}
    )


@contextmanager
def refilled(problem: Problem, second: Problem) -> Iterator[Problem]:
    """`second` with its inputs in the memory of the first ones; as it is where they do not fit.

    What a kernel is to return has the shapes of the first outputs, so that nothing need be evaluated for them.
    """
    inputs, other = problem.inputs, second.inputs
    if not all(x.shape == other[name].shape and x.flags.writeable for name, x in inputs.items()):
        with Sealed(other):
            yield second
        return
    before = {name: x.copy() for name, x in inputs.items()}
    try:
        for name, x in inputs.items():
            x[...] = other[name]
        with Sealed(inputs):
            yield replace(second, inputs=inputs, known=problem.evaluated)
    finally:
        for name, x in inputs.items():
            x[...] = before[name]
