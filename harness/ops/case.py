"""What a case is: one point at which an op is checked or timed, and how it is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from triptych.harness.ops.regimes import HARD


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


class WatchedCase(Case):
    """A case that notes whether somebody asks for its regime."""

    asked = False

    @classmethod
    def of(cls, case: Case) -> WatchedCase:
        return cls(**{field.name: getattr(case, field.name) for field in fields(case)})

    def __getattribute__(self, name: str) -> Any:
        if name == "regime":
            object.__setattr__(self, "asked", True)
        return super().__getattribute__(name)


def template(op: str, case: Case | Mapping[str, Any], options: Collection[str] = ()) -> Case:
    """`case` as a template of `op`: a dict's integers are axes; "name", "regime", "dtype" its own; the rest params.

    options: names whose integers are params
    """
    if isinstance(case, Case):
        return replace(case, op=op)
    axes = {k: v for k, v in case.items() if isinstance(v, int) and not isinstance(v, bool) and k not in options}
    params = {k: v for k, v in case.items() if k not in axes and k not in ("name", "regime", "dtype")}
    regime = case.get("regime", "normal")
    name = case.get("name") or case_name(axes, params, regime)
    return Case(op, name, axes, case.get("dtype", ""), params, regime)


def in_every_regime(templates: Sequence[Case], strided: bool) -> tuple[Case, ...]:
    """`templates` in every regime but the ordinary one and, unless the kernels know of strides, the one of those."""
    regimes = [regime for regime in HARD if strided or regime != "strided"]
    return tuple(in_regime(case, regime) for regime in regimes for case in templates)


def in_regime(case: Case, regime: str) -> Case:
    """`case` in another regime, and called so."""
    return replace(case, regime=regime, name=f"{case.name.removesuffix('-' + case.regime)}-{regime}")


@dataclass(frozen=True)
class OfTemplate:
    """A param that another process cannot be sent, as an object of a class of the user's file: where it has its own."""

    set: str
    index: int
    param: str


def carried(case: Case, templates: Mapping[str, Sequence[Case]]) -> Case:
    """`case` for another process: objects among its params as the place where an op's templates have them."""
    params = {
        name: value if is_plain(value) else place_of(name, value, templates) for name, value in case.params.items()
    }
    return replace(case, params=params)


def restored(case: Case, templates: Mapping[str, Sequence[Case]]) -> Case:
    """The case that was `carried`, with the objects of this process's templates."""
    params = {
        name: templates[value.set][value.index].params[value.param] if isinstance(value, OfTemplate) else value
        for name, value in case.params.items()
    }
    return replace(case, params=params)


def place_of(name: str, value: Any, templates: Mapping[str, Sequence[Case]]) -> Any:
    for key, some in templates.items():
        for index, template in enumerate(some):
            if template.params.get(name) is value:
                return OfTemplate(key, index, name)
    return value


def is_plain(value: Any) -> bool:
    """Whether a param is a number, a text, None, or made of such."""
    if isinstance(value, (tuple, list)):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def worded(value: Any) -> str:
    """A param in words that are the same in every process: `Config(factor=3.0;causal=True)`, `float32`, `gelu`."""
    if is_plain(value):
        return str(value)
    if hasattr(value, "__name__"):
        return str(value.__name__)
    fields = getattr(value, "__dict__", None)
    if not fields:
        return type(value).__name__ if " at 0x" in str(value) else str(value)
    return f"{type(value).__name__}({';'.join(f'{name}={worded(inner)}' for name, inner in fields.items())})"


def case_name(axes: Mapping[str, int], params: Mapping[str, Any], regime: str) -> str:
    """The name of a case that has none of its own: sizes in the order of the axes, then what is out of the ordinary."""
    return "-".join(["x".join(map(str, axes.values())), *marks(params, regime)])


def marks(params: Mapping[str, Any], regime: str) -> list[str]:
    """What is out of the ordinary in a case, as words of its name."""
    options = [k if v is True else f"{k}={worded(v)}" for k, v in params.items() if v is not False]
    return [*options, *([] if regime == "normal" else [regime])]
