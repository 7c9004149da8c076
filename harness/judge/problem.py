"""A problem: one case of an op on given inputs, with the float64 reference that every output is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.dtypes import dtype_of, finfo, is_float
from triptych.harness.ops import layouts
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp, RefusedInputs
from triptych.harness.ops.frameworks import on_arrays
from triptych.harness.ops.inputs import draw_inputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Output, Points
from triptych.harness.ops.outputs.naming import Outputs, listed, named
from triptych.harness.ops.outputs.parts import all_outputs, part
from triptych.harness.precision import round_to, saturates

DEFAULT = Output()


@dataclass(frozen=True, eq=False)
class Problem:
    """What every backend computes. The reference is evaluated once, when it is first asked for.

    op, case: what to compute, and at which sizes, dtype and params; drawn numbers and optional inputs that are left out
        are among the params.
    inputs: the arrays by name, in the dtypes that kernels get.
    known: what the reference gives for these inputs, where somebody has it already.
    order: the names of all inputs in the order in which kernels take them; empty for that of `inputs`.

    `reference`, `rounded`, `finite` and `dtype` are of an op with one output; `outputs` has such a problem for each.
    """

    op: Op
    case: Case
    inputs: Arrays
    known: Outputs | None = None
    order: Sequence[str] = ()

    @classmethod
    def of(cls, op: Op, case: Case, draw: int = 0) -> Problem:
        """The problem of a case; each `draw` has inputs of its own."""
        drawn = draw_inputs(op, case, draw)
        params = {**case.params, **drawn.constants}
        return cls(op, replace(case, params=params), drawn.arrays, order=drawn.names)

    def on(self, inputs: Arrays, known_reference: Array | None = None) -> Problem:
        """The same case on other inputs."""
        return replace(self, inputs=inputs, known=None if known_reference is None else {"": known_reference})

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the output."""
        return dtype_of(self.case.dtype)

    @property
    def arguments(self) -> dict[str, Any]:
        """Inputs and params by name, as a baseline or a reference takes them."""
        return {**self.inputs, **self.case.params}

    @property
    def changed(self) -> list[str]:
        """The names of the inputs that a kernel may change, but for those that are left out."""
        return [name for name in self.op.mutates if name in self.inputs]

    def own_inputs(self) -> Arrays:
        """The inputs for one call of a kernel: those that it changes are copies, in the same layout."""
        return {name: layouts.copy(x) if name in self.op.mutates else x for name, x in self.inputs.items()}

    def restoring(self, inputs: Arrays) -> Callable[[], None]:
        """What makes `inputs`, as `own_inputs` gave them, again what they were before a kernel changed them."""

        def restore() -> None:
            for name in self.changed:
                inputs[name][...] = self.inputs[name]

        return restore

    def positional(self, inputs: Arrays) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a kernel that takes `inputs` in their order and params by keyword."""
        params = dict(self.case.params)
        return [inputs[name] if name in inputs else params.pop(name) for name in self.order or inputs], params

    @cached_property
    def evaluated(self) -> Outputs:
        """All outputs by name, as the reference returns them of inputs in float64; None for one that it leaves out."""
        if self.known is not None:
            return self.known
        found = self.evaluate_all()
        if list(found) != [""] and all(value is None for value in found.values()):
            raise InvalidOp(f"the reference of {self.op.name} returns no output: there is nothing to compare")
        return found

    def evaluate_all(self) -> Outputs:
        """The reference of the inputs, evaluated anew."""
        found: Outputs = self._call(all_outputs(self.op, self.op.reference), widen(self.inputs))
        return found

    def answer(self, name: str) -> Array | None:
        """What a kernel without any error of its own would give for an output."""
        value, one = self.evaluated[name], self.outputs.get(name)
        if one is None:
            return None
        if isinstance(self.kind(name), Points):
            return np.asarray(value).astype(self.memory_of(name)[1])
        return round_to(one.checked(value), one.dtype).copy()

    @cached_property
    def given(self) -> dict[str, Any]:
        """What outputs that point somewhere point into: inputs, and outputs of the reference."""
        return {**self.inputs, **self.evaluated}

    @cached_property
    def outputs(self) -> dict[str, Problem]:
        """Each output that is not left out, as a problem of its own, whose op has no other."""
        return {name: self._output(name) for name, value in self.evaluated.items() if value is not None or not name}

    def kind(self, name: str) -> Output:
        """How an output is compared."""
        return self.op.outputs.get(name, DEFAULT)

    def _output(self, name: str) -> Problem:
        kind, dtype = self.kind(name), self._dtype_of_output(name)
        if list(self.evaluated) == [""] and dtype == self.case.dtype and kind is DEFAULT:
            return self
        op, case = part(self.op, name, kind, self.case.dtype), replace(self.case, dtype=dtype)
        if isinstance(kind, Points) and kind.into in self.inputs:
            op = replace(op, tolerance={"rtol": 0.0, "atol": 0.0})
        alone = Problem(op, case, self.inputs, order=self.order)
        seen = kind.seen(self.evaluated[name], {**widen(self.inputs), **self.evaluated})
        return replace(alone, known={"": alone.checked(seen)})

    def _dtype_of_output(self, name: str) -> str:
        kind, of_case = self.kind(name), self.case.dtype
        if isinstance(kind, Points):
            if kind.into not in self.given:
                known = ", ".join(self.given)
                raise InvalidOp(f"output {name} of {self.op.name} points into {kind.into!r}, and there is {known}")
            return self.inputs[kind.into].dtype.name if kind.into in self.inputs else self._dtype_of_output(kind.into)
        if kind.dtype:
            return kind.dtype
        if name in self.op.mutates:
            return self.inputs[name].dtype.name
        floats = is_float(dtype_of(of_case))
        dtype = np.asarray(self.evaluated[name]).dtype
        if dtype.kind in "iub" and (floats or name):
            return dtype.name
        return of_case if floats or not name else "float32"

    def named(self, returned: Any) -> Outputs:
        """What a kernel returned by the names of the outputs. MalformedOutput if there are more or fewer of them."""
        return named(returned, self.evaluated, self.op.mutates, self.inputs)

    def memory_of(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of an output, for whoever hands a kernel the memory to write it to."""
        value, kind = np.asarray(self.evaluated[name]), self.kind(name)
        dtype = dtype_of(kind.dtype) if kind.dtype else value.dtype if isinstance(kind, Points) else None
        return value.shape, self.outputs[name].dtype if dtype is None else dtype

    @cached_property
    def reference(self) -> Array:
        """The right output, in float64. InvalidOp if the reference refuses the inputs or returns no such array."""
        if list(self.evaluated) != [""]:
            raise InvalidOp(f"{self.op.name} gives {listed(list(self.evaluated))}: ask for those of `outputs`")
        return self.checked(self.evaluated[""])

    @cached_property
    def rounded(self) -> Array:
        """The reference in the output's dtype: what a kernel without any error of its own would return."""
        return round_to(self.reference, self.dtype)

    @cached_property
    def finite(self) -> Array:
        """Where the rounded reference is finite."""
        out: Array = np.isfinite(self.rounded.astype(np.float64))
        return out

    def evaluate(self, wide: Arrays) -> Array:
        """The reference of `wide` inputs, which are in float64 already, in the place of this problem's own."""
        return self.checked(self._call(self.op.reference, wide))

    def _call(self, reference: Callable[..., Any], wide: Arrays) -> Any:
        try:
            with np.errstate(all="ignore"):
                return on_arrays(reference)(**wide, **self.case.params)
        except ValueError as error:
            raise RefusedInputs(f"the reference refuses these inputs: {error}") from error

    def checked(self, returned: Any) -> Array:
        """What the reference returned as one array in float64."""
        if not isinstance(returned, (np.ndarray, np.generic, int, float)):
            what = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else f"a {type(returned).__name__}"
            raise InvalidOp(f"the reference of {self.op.name} returned {what}: it must return one array")
        reference = np.asarray(returned)
        if reference.size == 0:
            raise InvalidOp(f"the reference has no elements (shape {reference.shape}): there is nothing to compare")
        if is_float(reference.dtype) and reference.dtype != np.float64:
            raise InvalidOp(
                f"the reference returns {reference.dtype}: it must compute in float64, or its own rounding counts as "
                "truth; its inputs come in float64, so take the cast out of it"
            )
        reference = reference.astype(np.float64, copy=False)
        if saturates(self.dtype):
            largest = float(finfo(self.dtype).max)
            reference = np.clip(reference, -largest, largest)
        return reference


def widen(inputs: Arrays) -> Arrays:
    """Floating-point inputs in float64, as the reference gets them; indices and masks as they are."""
    return {name: x.astype(np.float64) if is_float(x.dtype) else x for name, x in inputs.items()}
