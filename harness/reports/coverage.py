"""What a run that passed did not try: it is part of what the green line means.

Case sets that were not asked for, ops that have none of those asked for, sizes and params that are all alike, inputs of
one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from triptych.harness.ops.case import Case
from triptych.harness.ops.op import SHORT_SET, Op
from triptych.harness.ops.selection import Selection
from triptych.harness.running.tasks import Task

ALIKE = 8  # a common divisor of all sizes that hides a tile which is not full


def not_covered(selection: Selection, ops: Mapping[str, Op], tasks: Sequence[Task]) -> list[str]:
    """A line for each op of which something was left out; none where the command line picks single cases."""
    if selection.names is not None or selection.specs:
        return []
    found = []
    for op in ops.values():
        cases = {task.case.name: task.case for task in tasks if task.op == op.name}
        if cases:
            missing = [
                *sets_not_chosen(op, selection.sets),
                *constant_sizes(op, list(cases.values())),
                *constant_params(list(cases.values())),
            ]
        else:
            missing = [f"anything: it has no case of {', '.join((*selection.sets, *selection.dtypes))}"]
        if missing:
            found.append(f"not tried of {op.name}: {'; '.join(missing)}")
    return found


def sets_not_chosen(op: Op, chosen: Sequence[str]) -> list[str]:
    """The op's sets that were not chosen; those of whole models are for speed."""
    left = [name for name in op.case_sets if name not in (*chosen, SHORT_SET, "model", "model-long")]
    found = [
        f"the case set {name} ({len(op.case_sets[name])} case{'s' * (len(op.case_sets[name]) != 1)})" for name in left
    ]
    if all(case.regime == "normal" for cases in op.case_sets.values() for case in cases):
        found.append("inputs that are not normal numbers, for which it has no set adversarial")
    return found


def constant_sizes(op: Op, cases: Sequence[Case]) -> list[str]:
    """Axes that had one size alone, or multiples of a large number alone."""
    found = []
    for axis in op.axes:
        sizes = sorted({case.axes[axis] for case in cases if axis in case.axes})
        common = gcd(*sizes)
        if len(sizes) == 1:
            found.append(f"{axis} other than {sizes[0]}")
        elif common >= ALIKE:
            found.append(f"{axis} that is no multiple of {common}")
    return found


def constant_params(cases: Sequence[Case]) -> list[str]:
    """Params that had one value alone: a kernel may have it written in."""
    names = dict.fromkeys(name for case in cases for name in case.params)
    found = []
    for name in names:
        first, *others = [case.params.get(name, "its default") for case in cases]
        if all(value == first for value in others):
            found.append(f"{name} other than {first}")
    return found
