"""How one output of an op is compared, and its dtype: small records for `Op.outputs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from triptych.harness.arrays import Array


class MalformedOutput(Exception):
    """What a kernel returned is not what its op gives; one sentence."""


@dataclass(frozen=True)
class Output:
    """One output of an op: numbers by the tolerance that the judge derives, integers and bools exactly.

    - `dtype` is by default that of the reference's integers and bools, that of a changed input, and else the case's.
    - `axes` and `corruptions` are of this output what `Op.out` and `Op.corruptions` are of the only one.
    """

    dtype: str = ""
    _: KW_ONLY
    axes: Sequence[str] = ()
    corruptions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def bounds(self) -> Mapping[str, Any] | None:
        """The tolerance of this output; None is that of the op."""
        return None

    def seen(self, value: Any, given: Mapping[str, Any]) -> Any:
        """What is compared of a `value`; `given` has the inputs and the reference's outputs by name."""
        return value

    def check(self, value: Array, given: Mapping[str, Any]) -> None:
        """MalformedOutput if a kernel's `value` has nothing to be compared."""


@dataclass(frozen=True)
class Float(Output):
    """Floating-point numbers with a tolerance of their own: {"budget": 3}, {"rtol": 0.01, "atol": 0}."""

    _: KW_ONLY
    tolerance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bounds(self) -> Mapping[str, Any] | None:
        return self.tolerance or None


@dataclass(frozen=True)
class Exact(Output):
    """Every element must be equal, floating-point ones too."""

    @property
    def bounds(self) -> Mapping[str, Any]:
        return {"rtol": 0.0, "atol": 0.0}


@dataclass(frozen=True)
class Codes(Output):
    """Quantised numbers, which may be off by `step`: what lies between two codes may go either way."""

    _: KW_ONLY
    step: float = 1

    @property
    def bounds(self) -> Mapping[str, Any]:
        return {"rtol": 0.0, "atol": float(self.step)}


@dataclass(frozen=True)
class Unordered(Output):
    """Numbers whose order along `axis` means nothing: both sides are sorted before they are compared."""

    _: KW_ONLY
    axis: int = -1

    def seen(self, value: Any, given: Mapping[str, Any]) -> Any:
        return np.sort(value, axis=self.axis)


@dataclass(frozen=True)
class Points(Output):
    """Indices along `axis` of the input or output `into`, compared by what they point at, so that ties may go any way.

    Those of one row must differ and lie within it. What they point at is compared in order, or with `ordered=False`
    sorted; exactly if `into` is an input, by the derived tolerance if it is an output.
    """

    _: KW_ONLY
    into: str
    axis: int = -1
    ordered: bool = True

    def seen(self, value: Any, given: Mapping[str, Any]) -> Any:
        indices = np.asarray(value).astype(np.int64)
        pointed = np.take_along_axis(np.asarray(given[self.into]), indices, self.axis)
        return pointed if self.ordered else np.sort(pointed, axis=self.axis)

    def check(self, value: Array, given: Mapping[str, Any]) -> None:
        if value.dtype.kind not in "iu":
            raise MalformedOutput(f"it points into {self.into} and is {value.dtype}; it must hold integers")
        size = given[self.into].shape[self.axis]
        outside = (value < 0) | (value >= size)
        if outside.any():
            first = tuple(int(i) for i in np.unravel_index(int(np.argmax(outside)), value.shape))
            raise MalformedOutput(
                f"{int(outside.sum())} of {value.size} indices are outside of {self.into}, which has {size} elements "
                f"along axis {self.axis}; the first at {list(first)}: {value[first]}"
            )
        repeated = np.diff(np.sort(value.astype(np.int64), axis=self.axis), axis=self.axis) == 0
        if repeated.any():
            raise MalformedOutput(f"{int(repeated.sum())} of {value.size} indices repeat another one of their row")
