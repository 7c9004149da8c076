"""What an op is: the meaning of one operation, where its panels are, and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.ops.case import Case, in_every_regime, in_regime, template
from triptych.harness.ops.defaults import baselines, drawn

Inputs = Callable[[Case, np.random.Generator], Arrays]
Corruption = Callable[[Case, Arrays, Array], "tuple[Any, Any] | None"]  # see `Op.corruptions`


@dataclass(frozen=True)
class Alone:
    """What an op promises of a part of its batch: computed alone, it has the bits that it has within the batch."""

    axis: str  # of the case, which the parts lie along: "M"
    inputs: Mapping[str, int]  # the dimension of each input that runs along it: {"lhsT": 1}; other inputs stay whole
    out: int  # the dimension of the output that runs along it
    promised: Mapping[str, int]  # backend -> how many neighbours stay together: 1 is each by itself, 128 whole tiles
    why: str  # why the promise holds, and where it does not


@dataclass(frozen=True, init=False, eq=False)
class Op:
    """The meaning of one operation and where its panels are.

    Every callable takes the arrays of `inputs` and the case's params by keyword, so that all panels compute on the same
    bytes. The reference gets the arrays widened to float64. A declaration needs `name`, `inputs`, `reference` and
    `cases`; the rest has defaults:

    - `inputs` is a generator, or the shape of each input in axes: {"x": ("M", "N")}. Arrays that it returns in float64
      are rounded to the case's dtype.
    - `cases` maps set names ("smoke", "edge", "adversarial", "model") to templates, or is a list of templates, which is
      then the set "smoke". A template is a `Case` with an empty dtype (one with a dtype runs in that one only, unless
      another is asked for) or a dict such as {"M": 128, "N": 96, "causal": True}: integers are axes, the rest params.
    - `tiles`, `limits` and `multiples` say where sizes matter: {"K": (128, 1024)}, {"D": 128}, {"H": "Hkv"}. `--fuzz`
      draws sizes around the tiles and within the limits. An op without a set "adversarial" gets its first set in every
      regime, and its set "edge" in ascending order, if its inputs are given as shapes.
    - `shapes` is the shape of each input in axes, where `inputs` is a generator and all are of the case's dtype: with
      it a profile draws nothing.
    - `honest` are baselines of the same dtype whose error bounds that of a kernel; the first is the one that is
      reported. Without any, the harness derives four from the reference (`defaults.baselines`).
    - `tolerance` replaces the derived tolerance, or its factor 2: {"budget": 3}, {"rtol": 0.01, "atol": 0}, or such
      by dtype, {"bfloat16": {"budget": 3}}. The command line and the environment go before it.
    - `out` names the axes of the output, ("M", "N"): a failure is described in them, and in their tiles.
    - `corruptions` are wrong outputs that the tolerance must not accept, beside those that suit every op: name ->
      function of the case, its inputs and the reference, which returns an index into the output and the wrong values
      there, or None where the case leaves nothing to corrupt.
    - `repeatable`: two runs on the same inputs give the same bits. `alone` promises more (see `Alone`).
    - `nki` and `triton` are "path/to/file.py:function", relative paths from the file that declares the op, or functions
      of that file. The Triton launcher takes inputs, out= and params by keyword.
    """

    name: str
    summary: str  # one line with the equation and shapes
    axes: tuple[str, ...]
    dtypes: tuple[str, ...]
    inputs: Inputs
    shapes: Mapping[str, Sequence[str | int]] | None  # of the inputs, in axes
    reference: Callable[..., Array]  # float64 inside and out
    honest: tuple[Callable[..., Array], ...]
    cases: Mapping[str, tuple[Case, ...]]  # set name -> templates
    tiles: Mapping[str, tuple[int, ...]]  # axis -> the sizes at which a kernel starts another tile
    limits: Mapping[str, int]  # axis -> the largest size that the kernels take
    multiples: Mapping[str, str]  # axis -> the axis that it is a multiple of
    flops: Callable[[Mapping[str, int], Mapping[str, Any]], int] | None  # (axes, params)
    bytes: Callable[[Mapping[str, int], Mapping[str, Any], int], int] | None  # (axes, params, itemsize)
    nki: str | Callable[..., Any] | None
    triton: str | Callable[..., Any] | None
    torch: Callable[..., Any] | None  # takes torch tensors by keyword, returns one
    unsupported: Callable[[Case, str, str], str | None] | None  # (case, backend, target or "") -> why, or None
    tolerance: Mapping[str, Any]
    out: tuple[str, ...]
    corruptions: Mapping[str, Corruption]
    repeatable: bool
    alone: Alone | None

    def __init__(
        self,
        name: str,
        inputs: Inputs | Mapping[str, Sequence[str | int]],
        reference: Callable[..., Array],
        cases: Mapping[str, Sequence[Case | Mapping[str, Any]]] | Sequence[Case | Mapping[str, Any]],
        *,
        summary: str = "",
        axes: Sequence[str] = (),
        dtypes: Sequence[str] = ("float32", "bfloat16", "float16"),
        tiles: Mapping[str, Sequence[int]] | None = None,
        limits: Mapping[str, int] | None = None,
        multiples: Mapping[str, str] | None = None,
        shapes: Mapping[str, Sequence[str | int]] | None = None,
        honest: Sequence[Callable[..., Array]] = (),
        flops: Callable[[Mapping[str, int], Mapping[str, Any]], int] | None = None,
        bytes: Callable[[Mapping[str, int], Mapping[str, Any], int], int] | None = None,
        nki: str | Callable[..., Any] | None = None,
        triton: str | Callable[..., Any] | None = None,
        torch: Callable[..., Any] | None = None,
        unsupported: Callable[[Case, str, str], str | None] | None = None,
        tolerance: Mapping[str, Any] | None = None,
        out: Sequence[str] = (),
        corruptions: Mapping[str, Corruption] | None = None,
        repeatable: bool = True,
        alone: Alone | None = None,
    ) -> None:
        if isinstance(dtypes, str):
            raise ValueError(f"dtypes of op {name} takes a sequence, as ({dtypes!r},)")
        sets = cases if isinstance(cases, Mapping) else {"smoke": cases}
        templates = {name_of_set: tuple(template(name, c) for c in some) for name_of_set, some in sets.items()}
        if isinstance(inputs, Mapping) and templates and "adversarial" not in templates:
            templates["adversarial"] = (
                *in_every_regime(next(iter(templates.values()))),
                *(in_regime(case, "sorted") for case in templates.get("edge", ())),  # whose last element counts
            )
        seen_axes = dict.fromkeys(axis for some in templates.values() for c in some for axis in c.axes)
        known_axes = tuple(axes) or tuple(seen_axes)
        if alone is not None and alone.axis not in known_axes:
            raise ValueError(f"op {name} promises bits along axis {alone.axis!r}; it has {', '.join(known_axes)}")
        fields = {
            "name": name,
            "summary": summary or next(iter((reference.__doc__ or "").strip().splitlines()), ""),
            "axes": known_axes,
            "dtypes": tuple(dtypes),
            "inputs": drawn(inputs) if isinstance(inputs, Mapping) else inputs,
            "shapes": inputs if isinstance(inputs, Mapping) else shapes,
            "reference": reference,
            "honest": tuple(honest) or baselines(reference),
            "cases": templates,
            "tiles": {axis: tuple(sizes) for axis, sizes in (tiles or {}).items()},
            "limits": dict(limits or {}),
            "multiples": dict(multiples or {}),
            "flops": flops,
            "bytes": bytes,
            "nki": nki,
            "triton": triton,
            "torch": torch,
            "unsupported": unsupported,
            "tolerance": declared_tolerance(name, tolerance or {}),
            "out": tuple(out),
            "corruptions": dict(corruptions or {}),
            "repeatable": repeatable,
            "alone": alone,
        }
        for field_name, value in fields.items():
            object.__setattr__(self, field_name, value)

    @property
    def honest_by_default(self) -> bool:
        """Whether its baselines are the reference in other arithmetic."""
        return self.honest[0].__module__ == baselines.__module__


def declared_tolerance(op: str, tolerance: Mapping[str, Any]) -> dict[str, Any]:
    """`tolerance` of an op, checked; ValueError in one sentence."""
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
    return dict(tolerance)
