"""What the outputs of an op are called.

An op gives what its reference returns, an array or a tuple, list or dict of them, however deep, and after these the
inputs that it changes (`Op.mutates`). Their names are keys, fields and indices, joined by dots, unless `Op.outputs`
gives others in the same order; the only output of an op that names none is called "".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.ops.outputs.kinds import MalformedOutput

Outputs = dict[str, Any]  # by name: an array, or None where an option leaves the output out


@dataclass(frozen=True)
class Returned:
    """What a kernel that changes inputs gave: its return value, and what those inputs are afterwards."""

    value: Any
    changed: Mapping[str, Any]


def flatten(value: Any, prefix: str = "") -> Outputs:
    """The leaves of a tuple, list or dict by name; a leaf alone is called ""."""
    if isinstance(value, Mapping):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = [(str(i), inner) for i, inner in enumerate(value)]
    else:
        return {prefix: value}
    found: Outputs = {}
    for key, inner in items:
        found.update(flatten(inner, f"{prefix}.{key}" if prefix else key))
    return found


def renamed(leaves: Outputs, names: Sequence[str]) -> Outputs | None:
    """The leaves in the order of `names`, or by these where one side only counts its own; None if neither fits."""
    if set(leaves) == set(names):
        return {name: leaves[name] for name in names}
    if len(leaves) != len(names) or not (counted(leaves) or counted(names)):
        return None
    return dict(zip(names, leaves.values(), strict=True))


def counted(names: Iterable[str]) -> bool:
    """Whether outputs are called by their places in a tuple alone."""
    return all(name.replace(".", "").isdigit() for name in names if name)


def named(
    returned: Any, expected: Outputs, mutates: Sequence[str] = (), inputs: Mapping[str, Array] | None = None
) -> Outputs:
    """What a kernel returned, by the names that the reference's outputs have; MalformedOutput if it is not as many.

    A kernel need not return what the reference leaves out, and may return more if that is nothing of its own: numbers
    and words of its launch, its inputs as they were, and those that it changed.
    """
    value, changed = (returned.value, dict(returned.changed)) if isinstance(returned, Returned) else (returned, {})
    names = [name for name in expected if name not in mutates]
    leaves = {} if value is None else flatten(value)
    there = [name for name in names if expected[name] is not None]

    def without_the_rest() -> Iterator[Outputs]:
        yield {name: leaf for name, leaf in leaves.items() if leaf is not None}
        arrays = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
        yield arrays
        known = [*(inputs or {}).values(), *changed.values()]
        yield {name: leaf for name, leaf in arrays.items() if not any(is_copy(leaf, x) for x in known)}

    found = renamed(leaves, names)
    if found is None:
        found = next((fit for some in without_the_rest() if (fit := renamed(some, there)) is not None), None)
    if found is None and names == [""]:
        found = {"": value}  # of which the judge says what it is
    if found is None:
        raise MalformedOutput(
            f"the kernel returned {listed(list(leaves))} where the reference gives {listed(names)}: return them in "
            "this order, or a dict by these names"
        )
    return {**found, **changed}


def is_copy(a: Array, b: Array) -> bool:
    """Whether both hold the same numbers, in whichever shape."""
    return (a.size, a.dtype) == (b.size, b.dtype) and a.tobytes() == b.tobytes()


def in_words(name: str, mutates: Sequence[str] = ()) -> str:
    """What a sentence calls an output."""
    if name in mutates:
        return f"input {name} after the call"
    return f"output {name}" if name else "the output"


def listed(names: Sequence[str]) -> str:
    """How many outputs there are, and their names, where they have any."""
    called = [name for name in names if name]
    if not names:
        return "no output"
    return f"{len(names)} output{'s' * (len(names) > 1)}" + (f" ({', '.join(called)})" if called else "")
