"""The arrays of a kernel as axes: from the shapes of its inputs those of its outputs, and what batching can fold.

    Signature({"x": "M N", "gain": "N"}, {"out": "M N"})

An axis called * is of any size. An output has the dtype of the first input; one that is called "d" and the name of an
input, a gradient, has that input's; sums over a row, `loss` and `lse`, are float32, and float64 where all is float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SUMS = ("loss", "lse")


@dataclass(frozen=True, eq=False)
class Signature:
    """inputs, outputs: the axes of each array, by name, separated by blanks."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{name}[{axes.replace(' ', ', ')}]" for name, axes in self.inputs.items())

    def results(self, operator: str, names: Sequence[str], arrays: Sequence[Any]) -> list[jax.ShapeDtypeStruct]:
        """The outputs' shapes and dtypes; ValueError if the inputs' shapes do not go together."""
        sizes: dict[str, int] = {}
        for name, x in zip(names, arrays, strict=True):
            axes = self.inputs[name].split()
            fits = len(axes) == len(x.shape) and all(
                axis == "*" or sizes.setdefault(axis, n) == n for axis, n in zip(axes, x.shape, strict=True)
            )
            if not fits:
                given = ", ".join(f"{name} {tuple(x.shape)}" for name, x in zip(names, arrays, strict=True))
                raise ValueError(f"{operator} takes {self}; got {given}")
        dtypes = {name: x.dtype for name, x in zip(names, arrays, strict=True)}
        first = dtypes[names[0]]
        return [
            jax.ShapeDtypeStruct(tuple(sizes[axis] for axis in axes.split()), dtype_of_output(name, dtypes, first))
            for name, axes in self.outputs.items()
        ]

    def folded(self, names: Sequence[str]) -> str | None:
        """The axis that another batch can be folded into: the first of every output, and nowhere another one."""
        axis = next(iter(self.outputs.values())).split()[0]
        given = [self.inputs[name] for name in names]
        alone = all(axis not in axes.split()[1:] for axes in (*given, *self.outputs.values()))
        led = all(axes.split()[0] == axis for axes in self.outputs.values()) and any(
            axes.split()[0] == axis for axes in given
        )
        return axis if alone and led else None


def dtype_of_output(name: str, inputs: Mapping[str, np.dtype], first: np.dtype) -> np.dtype:
    """See the head of this file."""
    if name in SUMS:
        return np.dtype(np.float64) if first == jnp.float64 else np.dtype(np.float32)
    return inputs.get(name.removeprefix("d"), first)
