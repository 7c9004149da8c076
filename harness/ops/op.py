"""What an op is: the meaning of one operation, where its panels are, and what it promises."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.ops.case import Case, WatchedCase, in_every_regime, in_regime, template
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.regimes import SHORT
from triptych.harness.ops.shapes import Input, Shapes, shape_of

Inputs = Callable[[Case, np.random.Generator], Mapping[str, Any]]
Template = Case | Mapping[str, Any]
SHORT_SET = "adversarial-short"
COMMON_TILES = (16, 32, 64, 128, 256, 512)  # of an axis for which an op names none
Corruption = Callable[[Case, Arrays, Array], "tuple[Any, Any] | None"]  # see `Op.corruptions`


@dataclass(frozen=True)
class BatchInvariance:
    """What an op promises of a part of its batch: computed alone, it has the bits that it has within the batch."""

    axis: str  # of the case, which the parts lie along: "M"
    inputs: Mapping[str, int]  # the dimension of each input that runs along it: {"lhsT": 1}; other inputs stay whole
    out: int | Mapping[str, int]  # the dimension of the output that runs along it; of several, of those named
    promised: Mapping[str, int]  # backend -> how many neighbours stay together: 1 is each by itself, 128 whole tiles
    why: str  # why the promise holds, and where it does not


Alone = BatchInvariance  # its name before, which users' files may hold


@dataclass(frozen=True, eq=False)
class Op:
    """The meaning of one operation and where its panels are.

    Every callable takes the arrays of `inputs` and the case's params by keyword, so that all panels compute on the same
    bytes. The reference gets the arrays widened to float64, as tensors if it is written in PyTorch or JAX. A
    declaration needs `name`, `inputs`, `reference` and `cases`; the rest has defaults:

    - `inputs` is a generator, or the shape of each input in axes: {"x": ("M", "N")}; an `Input` in the place of a shape
      has a dtype or a range of its own. A generator returns arrays by name, numbers, and None for an optional input
      that is left out. Its arrays in float64 are rounded to the case's dtype; all others stay as they are.
    - `mutates` names the inputs that the kernels change in place. What they are after the call is compared as an output
      is; a change of any other input is an error. The reference changes them too, or returns what they become.
    - `outputs` is needed where an output's dtype or way of comparison is not the default: {"values": Output(),
      "indices": Points(into="x")}, in the order in which the reference returns them. By default floats are judged by
      the derived tolerance in the case's dtype, integers and bools exactly, and a changed input in its own dtype.
    - `cases` maps set names ("smoke", "edge", "adversarial", "model") to templates, or is a list of templates, which is
      then the set "smoke". A template is a `Case` with an empty dtype (one with a dtype runs in that one only, unless
      another is asked for) or a dict such as {"M": 128, "N": 96, "causal": True, "groups": 4}: integers are axes, the
      rest params. An integer is a param too if the reference takes it by name, the shape of no input has it, and
      `axes` does not list it.
    - `tiles`, `limits` and `multiples` say where sizes matter: {"K": (128, 1024)}, {"D": 128}, {"H": "Hkv"}. `--fuzz`
      draws sizes around the tiles and within the limits. An op without a set "adversarial" gets its first set in every
      regime, and its set "edge" in ascending order, unless its inputs are a generator that returns no float64;
      "adversarial-short", which `check` runs as well unless told, is the smallest case of a few regimes of that set.
      With a Triton panel the set has a case whose inputs are not contiguous: launchers take strides, call
      `.contiguous()`, or the op says in `unsupported` that its kernel does not take the regime "strided".
    - `shapes` is the shape of each input in axes, where `inputs` is a generator and all are of the case's dtype: with
      it a profile draws nothing.
    - `honest` are baselines of the same dtype whose error bounds that of a kernel; the first is the one that is
      reported. Without any, the judge derives four from the reference.
    - `tolerance` replaces the derived tolerance, or its factor 2: {"budget": 3}, {"rtol": 0.01, "atol": 0}, or such
      by dtype, {"bfloat16": {"budget": 3}}. The command line and the environment go before it.
    - `out` names the axes of the output, ("M", "N"): a failure is described in them, and in their tiles.
    - `corruptions` are wrong outputs that the tolerance must not accept, beside those that suit every op: name ->
      function of the case, its inputs and the reference, which returns an index into the output and the wrong values
      there, or None where the case leaves nothing to corrupt.
    - `strict_nonfinite`: of inputs with NaN and infinities, the output has its own exactly where the reference has
      them, also where the formula leaves it open (`judge.nonfinite`).
    - `repeatable`: two runs on the same inputs give the same bits. `alone` promises more (see `BatchInvariance`).
    - `nki` and `triton` are "path/to/file.py:function", relative paths from the file that declares the op, or functions
      of that file. The Triton launcher takes inputs, out= and params by keyword.
    """

    name: str
    inputs: Inputs | Shapes
    reference: Callable[..., Any]  # float64 inside and out, in NumPy, PyTorch or JAX
    cases: Mapping[str, Sequence[Template]] | Sequence[Template]
    _: KW_ONLY
    summary: str = ""  # one line with the equation and shapes; by default the first of the reference's docstring
    axes: Sequence[str] = ()  # by default those of the cases
    dtypes: Sequence[str] = ("float32", "bfloat16", "float16")
    tiles: Mapping[str, Sequence[int]] = field(default_factory=dict)  # axis -> sizes where kernels start another tile
    limits: Mapping[str, int] = field(default_factory=dict)  # axis -> the largest size that the kernels take
    multiples: Mapping[str, str] = field(default_factory=dict)  # axis -> the axis that it is a multiple of
    shapes: Mapping[str, Sequence[str | int]] | None = None
    honest: Sequence[Callable[..., Array]] = ()
    flops: Callable[[Mapping[str, int], Mapping[str, Any]], int] | None = None  # (axes, params)
    bytes: Callable[[Mapping[str, int], Mapping[str, Any], int], int] | None = None  # (axes, params, itemsize)
    nki: str | Callable[..., Any] | None = None
    triton: str | Callable[..., Any] | None = None
    torch: Callable[..., Any] | None = None  # takes torch tensors by keyword, and returns them
    unsupported: Callable[[Case, str, str], str | None] | None = None  # (case, backend, target or "") -> why, or None
    tolerance: Mapping[str, Any] = field(default_factory=dict)
    out: Sequence[str] = ()
    corruptions: Mapping[str, Corruption] = field(default_factory=dict)
    repeatable: bool = True
    strict_nonfinite: bool = False
    alone: BatchInvariance | None = None
    mutates: Sequence[str] = ()
    outputs: Mapping[str, Output] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dtypes", "mutates"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} of op {self.name} takes a sequence, as ({getattr(self, name)!r},)")
        check_tolerance(self.name, self.tolerance)
        shapes = plain_shapes(self.inputs if isinstance(self.inputs, Mapping) else self.shapes)
        object.__setattr__(self, "shapes", shapes)
        seen = dict.fromkeys(
            axis for templates in self.declared_sets.values() for case in templates for axis in case.axes
        )
        first_line = next(iter((self.reference.__doc__ or "").strip().splitlines()), "")
        normalised = {
            "axes": tuple(self.axes) or tuple(seen),
            "summary": self.summary or first_line,
        }
        for name, value in normalised.items():
            object.__setattr__(self, name, value)
        if self.alone is not None and self.alone.axis not in self.axes:
            known = ", ".join(self.axes)
            raise ValueError(f"op {self.name} promises bits along axis {self.alone.axis!r}; it has {known}")

    def tiles_along(self, axis: str) -> Sequence[int]:
        """The sizes at which a kernel may start another tile of an axis."""
        return self.tiles.get(axis, COMMON_TILES)

    def dtype_of_input(self, name: str, case: Case) -> str:
        """The dtype that an input which is given as a shape has in a case."""
        declared = self.inputs[name] if isinstance(self.inputs, Mapping) else None
        return (declared.dtype if isinstance(declared, Input) else "") or case.dtype

    @cached_property
    def integer_params(self) -> frozenset[str]:
        """What the reference takes by name and is no input and no axis: an integer of this name is a param."""
        shapes = self.shapes or {}
        sized = {axis for shape in shapes.values() for axis in shape}
        return frozenset(named_parameters(self.reference)) - sized - {*shapes, *self.axes}

    @cached_property
    def declared_sets(self) -> Mapping[str, tuple[Case, ...]]:
        """The templates of the op's own cases by the name of their set."""
        sets = self.cases if isinstance(self.cases, Mapping) else {"smoke": self.cases}
        options = self.integer_params
        return {name: tuple(template(self.name, case, options) for case in some) for name, some in sets.items()}

    @cached_property
    def case_sets(self) -> Mapping[str, tuple[Case, ...]]:
        """The templates of the op's cases by the name of their set, "adversarial" among them."""
        found = dict(self.declared_sets)
        first = next((case for cases in found.values() for case in cases), None)
        if first is not None and "adversarial" not in found and self._can_be_moved(first):
            found["adversarial"] = (
                *in_every_regime(next(iter(found.values())), strided=self.triton is not None),
                *(in_regime(case, "sorted") for case in found.get("edge", ())),  # whose last element counts
            )
        adversarial = found.get("adversarial", ())
        templates = [case for cases in found.values() for case in cases]
        if self.triton is not None and templates and all(case.regime != "strided" for case in adversarial):
            found["adversarial"] = (*adversarial, in_regime(templates[0], "strided"))
        short = [smallest(found["adversarial"], regime) for regime in SHORT] if adversarial else []
        if any(short):
            found[SHORT_SET] = tuple(case for case in short if case is not None)
        return found

    def _can_be_moved(self, case: Case) -> bool:
        """Whether inputs can be in a regime: given as shapes, by a generator that asks for it, or in float64."""
        if not callable(self.inputs):
            return True
        watched = WatchedCase.of(replace(case, dtype=case.dtype or self.dtypes[0]))
        try:
            drawn = self.inputs(watched, np.random.default_rng(0))
            arrays = [x for x in drawn.values() if isinstance(x, np.ndarray)]
            return watched.asked or any(x.dtype == np.float64 and x.size for x in arrays)
        except Exception:  # whoever draws the case says what is wrong
            return False


def plain_shapes(shapes: Shapes | None) -> Mapping[str, Sequence[str | int]] | None:
    """The shapes without what else is said of an input."""
    return None if shapes is None else {name: shape_of(declared) for name, declared in shapes.items()}


def smallest(cases: Sequence[Case], regime: str) -> Case | None:
    """The smallest case of a regime."""
    some = [case for case in cases if case.regime == regime]
    return min(some, key=lambda case: math.prod(case.axes.values()), default=None)


def named_parameters(function: Callable[..., Any]) -> list[str]:
    """What a function can be given by name; nothing of one that has no signature to ask."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def check_tolerance(op: str, tolerance: Mapping[str, Any]) -> None:
    """ValueError, in one sentence, if the tolerance that an op declares makes no sense."""
    names = ("rtol", "atol", "budget")
    for name, value in tolerance.items():
        inner = value if isinstance(value, Mapping) else {name: value}
        wrong = [key for key in inner if key not in names]
        if wrong:
            raise ValueError(
                f"op {op} has a tolerance with {wrong[0]!r}; it takes {', '.join(names)}, or a dtype's name with such"
            )
        for key, bound in inner.items():
            if not isinstance(bound, (int, float)):
                raise ValueError(f"op {op} has a tolerance whose {key} is {bound!r}; it takes a number")
