"""What the parts of the harness hand to each other: a case, an op, a result.

A `Case` says what to run, an `Op` says what it means, a `Result` says what came of it and with which evidence. The JSON
document of the command line is a list of `Result.to_dict()`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.harness.ops.defaults import baselines, drawn

Array = NDArray[Any]
Arrays = dict[str, Array]


class Status(str, enum.Enum):
    """How one case on one backend ended."""

    PASSED = "passed"
    FAILED = "failed"  # ran, and disagrees with the reference
    ERROR = "error"  # raised, crashed, wrote out of bounds, left output unwritten, returned a wrong shape
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"  # documented not to be done by the kernel or the hardware, or inputs that judge nothing
    SKIPPED = "skipped"  # the backend is not here; the reason says why

    def __str__(self) -> str:
        return self.value


class Evidence(str, enum.Enum):
    """What kind of machine a number comes from. Speeds are ranked only within one kind."""

    REFERENCE = "reference"
    SIMULATED = "simulated"  # numbers computed by the NKI simulator
    PREDICTED = "predicted"  # a time computed by a model of the chip
    INTERPRETED = "interpreted"  # Triton's interpreter on a CPU
    DEVICE = "device"  # measured on an accelerator
    HOST = "host"  # measured on this CPU

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Case:
    """One point at which an op is checked or timed: sizes, options, dtype, input regime and seed."""

    op: str
    name: str  # unique within (op, dtype): "64x128x96", "llama-3.1-8b/q_proj/s128"
    axes: Mapping[str, int]  # {"M": 64, "K": 128, "N": 96}
    dtype: str  # "float32", "bfloat16", "float16"; "" in a template
    params: Mapping[str, Any] = field(default_factory=dict)  # {"causal": True}
    regime: str = "normal"  # how inputs are drawn
    seed: int = 0


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


def template(op: str, case: Case | Mapping[str, Any]) -> Case:
    """`case` as a template of `op`: a dict's integers are axes; "name", "regime", "dtype" its own; the rest params."""
    if isinstance(case, Case):
        return replace(case, op=op)
    axes = {k: v for k, v in case.items() if isinstance(v, int) and not isinstance(v, bool)}
    params = {k: v for k, v in case.items() if k not in axes and k not in ("name", "regime", "dtype")}
    regime = case.get("regime", "normal")
    name = case.get("name") or case_name(axes, params, regime)
    return Case(op, name, axes, case.get("dtype", ""), params, regime)


def in_every_regime(templates: Sequence[Case]) -> tuple[Case, ...]:
    """`templates` in every regime but the ordinary one."""
    from triptych.harness.ops.regimes import HARD

    return tuple(in_regime(case, regime) for regime in HARD for case in templates)


def in_regime(case: Case, regime: str) -> Case:
    """`case` in another regime, and called so."""
    return replace(case, regime=regime, name=f"{case.name.removesuffix('-' + case.regime)}-{regime}")


def case_name(axes: Mapping[str, int], params: Mapping[str, Any], regime: str) -> str:
    """The name of a case that has none of its own: sizes in the order of the axes, then what is out of the ordinary."""
    return "-".join(["x".join(map(str, axes.values())), *marks(params, regime)])


def marks(params: Mapping[str, Any], regime: str) -> list[str]:
    """What is out of the ordinary in a case, as words of its name."""
    options = [k if v is True else f"{k}={v}" for k, v in params.items() if v is not False]
    return [*options, *([] if regime == "normal" else [regime])]


@dataclass
class Result:
    """What came of one case on one backend."""

    op: str
    case: str
    dtype: str
    backend: str
    target: str | None
    evidence: Evidence
    status: Status
    reason: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    tolerance: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    repro: str = ""
    regime: str = "normal"  # how the inputs were drawn
    fingerprint: str = ""  # of what decided it (`resume`); empty unless the run can be resumed
    notes: list[str] = field(default_factory=list)  # what the kernel's run was warned of
    failure: dict[str, Any] = field(default_factory=dict)  # where and by how much it disagrees; empty if it does not
    invariance: dict[str, Any] = field(default_factory=dict)  # whether other runs and parts of a batch have these bits
    parity: dict[str, Any] = field(default_factory=dict)  # the difference from every backend that ran the case before
    attribution: dict[str, Any] = field(default_factory=dict)  # of a failure: {"cause", "text", ..}

    @property
    def place(self) -> str:
        """`nki-sim[trn2]`, or the backend alone where it has no targets; with a profile's changes to chip and order."""
        changes = [f"{field}={value:g}" for field, value in self.timing.get("settings", {}).items()]
        order = ["program order"] if self.timing.get("order") == "program" else []
        inside = ", ".join([*([self.target] if self.target else []), *changes, *order])
        return f"{self.backend}[{inside}]" if inside else self.backend

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; numbers that JSON has no name for (nan, inf) become strings."""
        return {
            "op": self.op,
            "case": self.case,
            "dtype": self.dtype,
            "regime": self.regime,
            "backend": self.backend,
            "target": self.target,
            "evidence": str(self.evidence),
            "status": str(self.status),
            "reason": self.reason,
            "metrics": plain(self.metrics),
            "tolerance": plain(self.tolerance),
            "timing": plain(self.timing),
            "repro": self.repro,
            **({"fingerprint": self.fingerprint} if self.fingerprint else {}),
            "notes": list(self.notes),
            "failure": plain(self.failure),
            "invariance": plain(self.invariance),
            "parity": plain(self.parity),
            "attribution": plain(self.attribution),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Result:
        return cls(**{**d, "evidence": Evidence(d["evidence"]), "status": Status(d["status"])})


def plain(value: Any) -> Any:
    """`value` with NumPy scalars and non-finite floats replaced by what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
