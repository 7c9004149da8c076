"""A case written out on the command line: `--case M=3,K=5,N=7,causal=True,regime=tiny`.

What `--fuzz` finds is repeated this way, and any other size, option and regime can be asked for.
"""

from __future__ import annotations

import ast
from typing import Any

from triptych.harness.comma_lists import comma_list
from triptych.harness.errors import UsageError, unknown
from triptych.harness.ops.case import Case, case_name, worded
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import REGIMES


def read(op: Op, text: str) -> Case:
    """The template that `text` writes out: every axis of `op`, any of its params, and a regime."""
    axes: dict[str, int] = {}
    params: dict[str, Any] = {}
    regime = "normal"
    known = params_of(op)
    for part in comma_list(text):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value:
            raise UsageError(f"--case takes NAME=VALUE,..., as in --case {example(op)}; got {part!r}.")
        if name in axes or name in params:
            raise UsageError(f"--case gives {name} twice in {text!r}.")
        if name in op.axes:
            if not value.isdecimal():
                raise UsageError(f"axis {name} of {op.name} takes a whole number; got {part!r}.")
            axes[name] = int(value)
        elif name == "regime":
            if value not in REGIMES:
                raise unknown("regime", value, REGIMES)
            regime = value
        elif name in known:
            params[name] = literal(value)
        else:
            raise unknown(f"axis or parameter of {op.name}", name, [*op.axes, *known, "regime"])
    missing = [axis for axis in op.axes if axis not in axes]
    if missing:
        raise UsageError(f"--case {text} leaves {op.name} without {', '.join(missing)}; give every axis.")
    axes = {axis: axes[axis] for axis in op.axes}
    return Case(op.name, case_name(axes, params, regime), axes, "", params, regime)


def write(case: Case) -> str:
    """What `read` reads."""
    pairs = {**case.axes, **case.params, **({} if case.regime == "normal" else {"regime": case.regime})}
    return ",".join(f"{name}={worded(value)}" for name, value in pairs.items())


def literal(text: str) -> Any:
    """A Python number, True, False or None; anything else is itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def params_of(op: Op) -> list[str]:
    """The params that any case of `op` has."""
    return list(dict.fromkeys(name for cases in op.case_sets.values() for case in cases for name in case.params))


def example(op: Op) -> str:
    return ",".join(f"{axis}=64" for axis in op.axes)
