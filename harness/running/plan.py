"""From a request to tasks: every name is looked up, and the cases meet the backends.

A plan also knows the command line that runs one of its tasks alone.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.collection import builtin, declared
from triptych.harness.errors import UsageError, unknown
from triptych.harness.judge.bounds import KEYS, Bounds, requested_bounds
from triptych.harness.ops import case_spec
from triptych.harness.ops.case import Case, carried
from triptych.harness.ops.op import SHORT_SET, Op
from triptych.harness.ops.selection import Selection, check_axes, dtypes_of, pick, pick_ops, sets_of
from triptych.harness.results.status import Evidence
from triptych.harness.running.request import Request
from triptych.harness.running.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Some cases of some ops, on some backends."""

    ops: Mapping[str, Op]
    selection: Selection
    backends: Sequence[Backend]
    targets: Sequence[str] = ()  # to simulate; none: each backend's default
    sources: Mapping[str, str] = field(default_factory=dict)  # op -> the user's file that declares it
    timed: bool = False
    stand_ins: Sequence[str] = ()  # case sets of which no time is predicted and which only who is named interprets
    named: Sequence[str] = ()  # the backends that the user names
    tolerance: Bounds | None = None  # that was asked for
    jobs: int | None = None  # workers at once; None: one a core

    @cached_property
    def tasks(self) -> list[Task]:
        """Every (op, case, backend, target), the backends of one case side by side: its reference is computed once."""
        found = [
            Task(
                op.name,
                self.sources.get(op.name),
                carried(case, op.declared_sets),
                backend.name,
                target,
                bench=self.times(backend, group),
                repro=self.repro(op, group, case, backend, target),
                left_out=self.left_out(op, group, backend),
            )
            for op in self.ops.values()
            for group, case in self.selection.cases(op)
            for backend in self.backends
            for target in targets_of(backend, self.targets)
        ]
        if not found and self.selection.names is not None:
            names = self.selection.case_names(self.ops.values())
            raise unknown("case", self.selection.names, names, globs=True)
        return slow_ones_once(found)

    def times(self, backend: Backend, group: str) -> bool:
        """Whether to time a backend on the cases of a set.

        The clocks of the interpreter and of the reference say nothing about a kernel, and have the machine to
        themselves meanwhile: they are read only if the user names the backend.
        """
        if group in self.stand_ins and backend.evidence is Evidence.SIMULATED:
            return False
        return self.timed and (not backend.slow_clock or backend.name in self.named)

    def left_out(self, op: Op, group: str, backend: Backend) -> str:
        """Why a backend that is here and has a kernel is not asked for the cases of a set; empty if it is."""
        interpreted = backend.evidence is Evidence.INTERPRETED and getattr(op, backend.panel) is not None
        if group not in self.stand_ins or not interpreted or backend.name in self.named or backend.missing():
            return ""
        return f"the interpreter takes minutes for the sizes of {group}; --backend {backend.name} runs them"

    def repro(self, op: Op, group: str, case: Case, backend: Backend, target: str | None) -> str:
        """The command line that runs one task alone; a case of no set is written out. Empty for an op of no file."""
        source = self.sources.get(op.name)
        if source is None and builtin().get(op.name) is not op:
            return ""
        line = ["triptych", "bench" if self.timed else "check", op.name]
        line += ["--kernel", source] if source else []
        line += ["--cases", group, "-k", case.name] if group else ["--case", case_spec.write(case)]
        line += ["--dtype", case.dtype, "--backend", backend.name]
        line += ["--target", target] if target else []
        for axis in self.selection.axes if group else ():
            line += ["-a", f"{axis}={case.axes[axis]}"]
        bounds = [(name, getattr(self.tolerance, name, None)) for name in KEYS]
        line += ["--seed", str(case.seed), *(f"--{name}={value:g}" for name, value in bounds if value is not None)]
        return shlex.join(line)


def slow_ones_once(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, of which each kernel is run again though it takes long in its largest case alone."""
    largest: dict[tuple[str, str, str | None], Task] = {}
    for task in tasks:
        if task.left_out:
            continue
        other = largest.setdefault((task.op, task.backend, task.target), task)
        if math.prod(task.case.axes.values()) > math.prod(other.case.axes.values()):
            largest[task.op, task.backend, task.target] = task
    chosen = set(map(id, largest.values()))
    return [replace(task, though_slow=id(task) in chosen) for task in tasks]


def plan(request: Request, ops: Mapping[str, Op] | None = None) -> Plan:
    """What a request means; `ops` are those that it may choose from, if not those of its file or ours."""
    required = pick("backend", request.required, list(BACKENDS))
    wanted = [*request.backends, *required] if request.backends else list(BACKENDS)
    backends = [BACKENDS[name] for name in pick("backend", wanted, list(BACKENDS))]
    tolerance = request.tolerance or tolerance_of_environment()  # before a file is loaded, which may change it
    if ops is None:
        files = declared(request.sources)
        sources = {name: path for path, some in files for name in some}
        ops = {name: op for _, some in files for name, op in some.items()} if files else builtin()
    else:
        sources = dict.fromkeys(ops, request.source) if request.source else {}
    chosen = pick_ops(request.ops, ops)
    check_axes(request.axes, chosen)
    if request.specs and request.axes and not request.sets:
        raise UsageError("--case gives every axis itself; -a is for the cases of a set.")
    check_targets(request.targets, backends)
    known_sets = sets_of(chosen.values())
    usual = [name for name in request.default_sets if name in known_sets]
    if set(usual) <= {SHORT_SET}:  # which goes with another
        usual = [name for name in known_sets if name != SHORT_SET]
    selection = Selection(
        sets=pick("case set", request.sets, known_sets) or ([] if request.specs else usual),
        names=request.names,
        dtypes=pick("dtype", request.dtypes, dtypes_of(chosen.values())),
        axes=request.axes,
        seed=request.seed,
        specs=request.specs,
    )
    return Plan(
        ops=chosen,
        selection=selection,
        backends=backends,
        targets=request.targets,
        sources=sources,
        timed=request.timed,
        stand_ins=request.stand_ins,
        named=request.backends,
        tolerance=tolerance,
        jobs=request.jobs,
    )


def tolerance_of_environment() -> Bounds | None:
    """What the environment's variables ask of the tolerance."""
    try:
        return requested_bounds()
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def targets_of(backend: Backend, wanted: Sequence[str]) -> list[str | None]:
    """The targets to run a backend on: those asked for, else its default; [None] for a backend without targets."""
    if not backend.default_targets:
        return [None]
    if not wanted:
        return list(backend.default_targets)
    return [target for target in backend.targets if target in wanted]


def check_targets(wanted: Sequence[str], backends: Sequence[Backend]) -> None:
    """A target must exist, and one of the selected backends must have it."""
    have = list(dict.fromkeys(target for backend in backends for target in backend.targets)) if wanted else []
    for target in wanted:
        if not have:
            names = ", ".join(backend.name for backend in backends)
            verb = "has" if len(backends) == 1 else "have"
            raise UsageError(f"--target {target} applies to no selected backend ({names} {verb} no targets).")
        if target not in have:
            raise unknown("target", target, have)
