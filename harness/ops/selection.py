"""Which cases of which ops: names are looked up, and one that names nothing is an error that lists what exists.

A name ignored would turn "all passed" into a lie.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from triptych.harness.errors import UsageError, unknown
from triptych.harness.ops import case_spec
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.op import Op


def pick(kind: str, wanted: Sequence[str], existing: Sequence[str]) -> list[str]:
    """`wanted` in the order of `existing`, each of them checked."""
    for word in wanted:
        if word not in existing:
            raise unknown(kind, word, existing)
    return [name for name in existing if name in wanted]


def pick_ops(globs: Sequence[str], ops: Mapping[str, Op]) -> dict[str, Op]:
    """The ops that match any of the globs; all of them without a glob. A glob that matches none is an error."""
    if not globs:
        return dict(ops)
    for glob in globs:
        if not fnmatch.filter(ops, glob):
            raise unknown("op", glob, ops, globs=True)
    return {name: op for name, op in ops.items() if any(fnmatch.fnmatchcase(name, glob) for glob in globs)}


def check_axes(axes: Mapping[str, Sequence[int]], ops: Mapping[str, Op]) -> None:
    """Every named axis must exist in every selected op."""
    for axis in axes:
        for op in ops.values():
            if axis not in op.axes:
                raise UsageError(f"{op.name} has no axis {axis!r}. Its axes: {', '.join(op.axes)}.")


def sets_of(ops: Iterable[Op]) -> list[str]:
    """The names of all case sets of some ops."""
    return list(dict.fromkeys(name for op in ops for name in op.case_sets))


def dtypes_of(ops: Iterable[Op]) -> list[str]:
    """All dtypes of some ops."""
    return list(dict.fromkeys(dtype for op in ops for dtype in op.dtypes))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which cases of an op are meant."""

    sets: Sequence[str] = ()
    names: str | None = None  # a glob of case names
    dtypes: Sequence[str] = ()  # none: the op's
    axes: Mapping[str, Sequence[int]] = field(default_factory=dict)  # sizes in place of the templates'
    seed: int = 0
    specs: Sequence[str] = ()  # cases that are written out, as "M=3,K=5,N=7"

    def cases(self, op: Op) -> Iterator[tuple[str, Case]]:
        """The op's selected cases, each with the set it is from; a case of two sets comes once."""
        dtypes = [dtype for dtype in self.dtypes if dtype in op.dtypes]
        if self.dtypes and not dtypes:
            return
        for text in self.specs:
            template = case_spec.read(op, text)
            for dtype in dtypes or op.dtypes:
                yield "", replace(template, dtype=dtype, seed=self.seed)
        seen = set()
        for name in self.sets:
            for case in cases_of(op, [name], dtypes or None, self.axes, self.seed) if name in op.case_sets else ():
                if (case.name, case.dtype) not in seen and (
                    self.names is None or fnmatch.fnmatchcase(case.name, self.names)
                ):
                    seen.add((case.name, case.dtype))
                    yield name, case

    def case_names(self, ops: Iterable[Op]) -> list[str]:
        """All cases that a glob of names could mean."""
        return list(dict.fromkeys(case.name for op in ops for _, case in replace(self, names=None).cases(op)))
