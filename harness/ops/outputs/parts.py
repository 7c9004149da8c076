"""Each output of an op as an op of its own, with one output: what judges a single array judges several so.

The reference and the baselines of such a part are those of the op, of whose results one is picked. Whatever these are
written in they stay: arrays in, arrays out, or tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.inputs import rounded_inputs
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.outputs.naming import Outputs, flatten, listed, renamed


def part(op: Op, name: str, kind: Output, dtype: str) -> Op:
    """The op that has the output called `name` alone.

    dtype: of the whole op's case; the part's own case has that of the output, and draws the same inputs.
    """

    def inputs(case: Case, rng: np.random.Generator) -> dict[str, Any]:
        return rounded_inputs(op, replace(case, dtype=dtype), rng)

    return replace(
        op,
        inputs=inputs,
        shapes=op.shapes,
        reference=picked(op, op.reference, name, kind),
        honest=tuple(picked(op, baseline, name, kind) for baseline in op.honest),
        tolerance=op.tolerance if kind.bounds is None else kind.bounds,
        out=kind.axes or (op.out if not name else ()),
        corruptions=kind.corruptions or (op.corruptions if not name else {}),
        outputs={},
        mutates=(),
        alone=None,
    )


def picked(op: Op, function: Callable[..., Any], name: str, kind: Output) -> Callable[..., Any]:
    """`function`, the reference of an op or a baseline, as one that returns what is compared of one output."""
    every = all_outputs(op, function)

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        outputs = every(**arguments)
        return kind.seen(outputs[name], {**arguments, **outputs})

    return call


def all_outputs(op: Op, function: Callable[..., Any]) -> Callable[..., Outputs]:
    """`function` as one that returns all outputs by name.

    Inputs that the op changes are handed over as copies. A function that changes them has its results there; one that
    changes nothing returns what they become, by their names or after its other results.
    """
    declared = [name for name in op.outputs if name not in op.mutates]

    @functools.wraps(function)
    def call(**arguments: Any) -> Outputs:
        unknown = [name for name in op.mutates if name not in arguments]
        if unknown:
            raise InvalidOp(f"op {op.name} mutates {unknown[0]!r}, which is no input; it has {', '.join(arguments)}")
        mutates = [name for name in op.mutates if arguments[name] is not None]
        own = {name: copied(x) if name in mutates else x for name, x in arguments.items()}
        returned = function(**own)
        leaves = {} if returned is None and mutates else flatten(returned)
        changed = {name: own[name] for name in mutates}
        if mutates and not any(differ(own[name], arguments[name]) for name in mutates):
            leaves, changed = split(op, mutates, leaves)
        named = renamed(leaves, declared) if declared else leaves
        if named is None:
            what = f"the reference of {op.name} returns {listed(list(leaves))}"
            raise InvalidOp(
                f"{what}, and the op declares {listed(declared)}: let `outputs` name them all, in this order"
            )
        return {**named, **changed}

    return call


def split(op: Op, mutates: Sequence[str], leaves: Outputs) -> tuple[Outputs, Outputs]:
    """What a function that changes nothing returned: its other results, and what the inputs of `mutates` become."""
    last = mutates if set(mutates) <= set(leaves) else list(leaves)[-len(mutates) :]
    if len(last) != len(mutates):
        raise InvalidOp(
            f"the reference of {op.name} changes none of {', '.join(mutates)} and returns {listed(list(leaves))}: "
            "let it write to them as the kernel does, or return what they become after its other results"
        )
    changed = dict(zip(mutates, [leaves[name] for name in last], strict=True))
    rest = {name: value for name, value in leaves.items() if name not in last}
    return ({"": next(iter(rest.values()))} if list(rest) == ["0"] else rest), changed


def copied(x: Any) -> Any:
    """An array or tensor of its own; JAX's, which nobody can change, as they are."""
    if isinstance(x, np.ndarray):
        return x.copy()
    return x.clone() if hasattr(x, "clone") else x


def differ(a: Any, b: Any) -> bool:
    """Whether two arrays or tensors of one shape differ in an element; NaNs are equal."""
    return a is not b and bool(((a != b) & ~((a != a) & (b != b))).any())
