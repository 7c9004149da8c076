"""From case sets to cases: every template in every dtype and size that is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from triptych.harness.ops.case import Case, case_name, marks
from triptych.harness.ops.op import Op


def cases_of(
    op: Op, sets: Sequence[str], dtypes: Sequence[str] | None, overrides: Mapping[str, Sequence[int]], seed: int
) -> list[Case]:
    """The cases of `sets`, each in every dtype (the template's own, unless `dtypes` asks) and every overridden size."""
    for kind, asked, existing in (
        ("case set", sets, op.case_sets),
        ("dtype", dtypes or (), op.dtypes),
        ("axis", overrides, op.axes),
    ):
        for name in asked:
            if name not in existing:
                raise ValueError(f"op {op.name} has no {kind} {name!r}; it has {', '.join(existing)}")
    found: dict[tuple[str, str], Case] = {}
    for template in itertools.chain.from_iterable(op.case_sets[name] for name in sets):
        for values in itertools.product(*overrides.values()):
            case = resize(template, dict(zip(overrides, values, strict=True)))
            for dtype in dtypes or ([case.dtype] if case.dtype else op.dtypes):
                found.setdefault((case.name, dtype), replace(case, dtype=dtype, seed=seed))
    return list(found.values())


def resize(case: Case, sizes: Mapping[str, int]) -> Case:
    """`case` with other sizes, and a name that says so."""
    if all(case.axes.get(axis) == size for axis, size in sizes.items()):
        return case
    axes = {**case.axes, **sizes}
    if case.name == case_name(case.axes, case.params, case.regime):
        return replace(case, axes=axes, name=case_name(axes, case.params, case.regime))
    changes = ",".join(f"{axis}={size}" for axis, size in sizes.items())
    if len(sizes) == len(axes):  # nothing is left of the sizes that the case is named after
        return replace(case, axes=axes, name="-".join([changes, *marks(case.params, case.regime)]))
    return replace(case, axes=axes, name=f"{case.name}@{changes}")
