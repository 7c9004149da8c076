"""From the words of a command line to the tasks they mean.

A word that names nothing is an error that lists what exists: a name ignored would turn "all passed" into a lie.
"""

from __future__ import annotations

import difflib
import fnmatch
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.harness.backends import Backend
    from triptych.harness.ops.case import Case
    from triptych.harness.ops.op import Op
    from triptych.harness.running.runner import Task

CASE_SETS = ("smoke", "edge", "adversarial", "model", "model-long")  # for --help; what an op has is in its `case_sets`
DTYPES = ("float32", "bfloat16", "float16")


class UsageError(Exception):
    """What was asked for does not exist or makes no sense; exit code 2."""


def unknown(kind: str, word: str, existing: Iterable[str], globs: bool = False) -> UsageError:
    """The error for a name that does not exist: the closest one, or the glob that would do, and all there are."""
    names = list(existing)
    close = difflib.get_close_matches(word, names, n=1)
    if globs and any(word in name for name in names):
        close = [f"*{word}*"]
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return UsageError(f"unknown {kind} {word!r}{hint} There is: {', '.join(names) or 'nothing'}.")


def words(text: str) -> list[str]:
    """`a,b , c` as ["a", "b", "c"]; empty parts are dropped."""
    return [part.strip() for part in text.split(",") if part.strip()]


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


def axis_values(texts: Sequence[str]) -> dict[str, list[int]]:
    """`M=256,1024` (brackets allowed) as {"M": [256, 1024]}."""
    axes: dict[str, list[int]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip()
        try:
            numbers = [int(value) for value in words(values.strip().strip("[]"))]
        except ValueError:
            numbers = []
        if not equals or not name or not numbers:
            raise UsageError(f"-a takes AXIS=value,value,... with whole numbers, as in -a M=256,1024; got {text!r}.")
        if any(number < 0 for number in numbers):
            raise UsageError(f"an axis cannot be negative; got {text!r}.")
        if name in axes:
            raise UsageError(f"-a names axis {name} twice; give all its values at once, as in -a {name}=256,1024.")
        axes[name] = numbers
    return axes


def check_axes(axes: Mapping[str, Sequence[int]], ops: Mapping[str, Op]) -> None:
    """Every named axis must exist in every selected op."""
    for axis in axes:
        for op in ops.values():
            if axis not in op.axes:
                raise UsageError(f"{op.name} has no axis {axis!r}. Its axes: {', '.join(op.axes)}.")


def targets_of(backend: Backend, wanted: Sequence[str]) -> list[str | None]:
    """The targets to run a backend on: those asked for, else its default; [None] for a backend without targets."""
    if not backend.targets:
        return [None]
    if not wanted:
        return list(backend.default_targets)
    return [target for target in backend.targets if target in wanted]


def check_targets(wanted: Sequence[str], backends: Sequence[Backend]) -> None:
    """A target must exist, and one of the selected backends must have it."""
    have = list(dict.fromkeys(target for backend in backends for target in backend.targets))
    for target in wanted:
        if not have:
            names = ", ".join(backend.name for backend in backends)
            verb = "has" if len(backends) == 1 else "have"
            raise UsageError(f"--target {target} applies to no selected backend ({names} {verb} no targets).")
        if target not in have:
            raise unknown("target", target, have)


@dataclass(frozen=True)
class Selection:
    """Everything a command line says about what to run."""

    command: str  # the command that repeats one result: "check" or "bench"
    source: str | None  # the user's file
    sets: Sequence[str]
    names: str | None  # a glob of case names
    dtypes: Sequence[str]
    axes: Mapping[str, Sequence[int]]
    targets: Sequence[str]
    seed: int
    named: Sequence[str] = ()  # backends that the command line names
    judgement: Sequence[str] = ()  # the tolerance that was asked for, as options
    written: Sequence[str] = ()  # cases that the command line writes out

    def cases(self, op: Op) -> Iterator[tuple[str, Case]]:
        """The op's selected cases, each with the set it is from; a case of two sets comes once."""
        from triptych.harness.ops.case_spec import read
        from triptych.harness.ops.cases import cases_of

        dtypes = [dtype for dtype in self.dtypes if dtype in op.dtypes]
        if self.dtypes and not dtypes:
            return
        for text in self.written:
            template = read(op, text)
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

    def tasks(self, ops: Mapping[str, Op], backends: Sequence[Backend]) -> list[Task]:
        """Every (op, case, backend, target), the backends of one case side by side: its reference is computed once."""
        from triptych.harness.running.runner import Task

        found = [
            Task(
                op.name,
                self.source,
                case,
                backend.name,
                target,
                bench=self.timed(backend, group),
                repro=self.repro(op, group, case, backend, target),
            )
            for op in ops.values()
            for group, case in self.cases(op)
            for backend in backends
            for target in targets_of(backend, self.targets)
        ]
        if not found and self.names is not None:
            raise unknown("case", self.names, self.case_names(ops.values()), globs=True)
        return found

    def case_names(self, ops: Iterable[Op]) -> list[str]:
        """All cases that -k could name."""
        return list(dict.fromkeys(case.name for op in ops for _, case in replace(self, names=None).cases(op)))

    def timed(self, backend: Backend, group: str) -> bool:
        """Whether to time a backend on the cases of a set.

        The clocks of the interpreter and of the reference say nothing about a kernel and run for minutes at a model's
        sizes: there they are read only if the command line names the backend.
        """
        slow = str(backend.evidence) in ("interpreted", "reference")
        return self.command != "check" and (not slow or group == "smoke" or backend.name in self.named)

    def repro(self, op: Op, group: str, case: Case, backend: Backend, target: str | None) -> str:
        """The command line that runs one task alone; a case of no set is written out."""
        from triptych.harness.ops.case_spec import write

        line = ["triptych", self.command, op.name]
        line += ["--kernel", self.source] if self.source else []
        line += ["--cases", group, "-k", case.name] if group else ["--case", write(case)]
        line += ["--dtype", case.dtype, "--backend", backend.name]
        line += ["--target", target] if target else []
        for axis in self.axes if group else ():
            line += ["-a", f"{axis}={case.axes[axis]}"]
        return shlex.join([*line, "--seed", str(case.seed), *self.judgement])
