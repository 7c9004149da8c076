"""What the harness says of mutants: each runs on the cases of its op until one tells it from a right kernel.

References, tolerances and the outputs of the unchanged kernels are prepared once; every mutant then runs in a process
forked from there, with a memory limit and a time limit, two or more at a time. A mutant of a reference is judged the
other way round: the outputs of the unchanged NKI kernel against the mutated reference.

One that passes every case goes on to a larger *probing set*: the remaining dtype, another seed, and drawn cases
(`drawn_cases`). What becomes of it:

    caught       a case of the sets smoke, edge and adversarial is failed, error or timeout
    missed       only the probing set tells it: a hole in the cases
    rounding     it passes everywhere, but some bits of its outputs differ from the unchanged kernel's
    equivalent   it passes everywhere, with the very same bits

The op that is called as the file is has all of this. The others in the file, which differ from it by an option or in
how operands lie, have the cases that `check` runs unless told (smoke and adversarial-short) and fewer drawn ones.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.sealed import Sealed
from triptych.harness.collection import builtin
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import expect
from triptych.harness.judge.verdict import Verdict
from triptych.harness.ops import cases, drawn_cases, loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import SHORT_SET, Op
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.ops.selection import Selection
from triptych.harness.reports import figures
from triptych.harness.results.status import Status
from triptych.harness.running import memory_limit
from triptych.harness.upkeep.figures.mutation import Mutant

SETS = ("smoke", "edge", "adversarial")
DTYPES = ("float32", "bfloat16")
PROBE_DTYPE = "float16"
DRAWN, FEW_DRAWN = 60, 12  # cases of the probing set that are drawn, of the op called as the file and of others
MEMORY = 4 * 2**30
LIMIT_S = 120.0  # for all cases of a mutant
PANELS = {"nki": "nki-sim", "triton": "triton-cpu"}  # folder of the kernels -> backend


@dataclass(frozen=True)
class Judged:
    """A problem with all that it is judged by, and what the unchanged kernel gave."""

    prepared: PreparedCase
    out: Outputs


@dataclass
class Fate:
    """What became of a mutant."""

    mutant: Mutant
    kind: str  # "caught", "missed", "rounding", "equivalent"
    status: str = ""  # of the case that told it: failed, error, timeout
    case: str = ""
    reason: str = ""
    share: float = 0.0  # of the bound, the largest of a survivor
    differs: list[str] = field(default_factory=list)  # cases in which a survivor's bits differ


def of_file(file: Path) -> dict[str, Op]:
    """The ops whose kernel of the panel that its folder is named after is in this file, or whose reference is.

    Of the latter those that have an NKI kernel, which is what such a file's mutants judge.
    """
    panel = file.parent.name

    def is_in(op: Op) -> bool:
        if panel == "reference":
            return op.nki is not None and op.reference.__module__ == f"triptych.reference.{file.stem}"
        return Path(loading.split_function(str(getattr(op, panel)))[0]).stem == file.stem

    return {op.name: op for op in builtin().values() if is_in(op)}


def cases_of(file: Path, probing: bool) -> list[tuple[Op, Case]]:
    """The cases that judge a file's mutants, or those of the probing set; the cheapest first."""
    found = []
    for op in of_file(file).values():
        is_main = op.name == file.stem
        sets = [name for name in (SETS if is_main else ("smoke", SHORT_SET)) if name in op.case_sets]
        if not probing:
            found += [(op, case) for case in cases.cases_of(op, sets, DTYPES, {}, 0)]
            continue
        if is_main:
            found += [(op, case) for case in cases.cases_of(op, ["edge", "adversarial"], [PROBE_DTYPE], {}, 1)]
        found += [(op, case) for case in drawn(op, DRAWN if is_main else FEW_DRAWN)]
    return sorted(found, key=lambda pair: drawn_cases.work(pair[0], pair[1].axes, pair[1].params))


def drawn(op: Op, count: int) -> list[Case]:
    """Cases as `check --fuzz` draws them, always the same."""
    import hypothesis
    from hypothesis import HealthCheck, Phase

    cases: list[Case] = []

    def keep(case: Case) -> None:
        cases.append(case)

    given: Any = hypothesis.given(drawn_cases.drawing({op.name: op}, Selection()))
    seeded: Any = hypothesis.seed(0)
    test: Any = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )(seeded(given(keep)))
    test()
    return cases


def prepare(pairs: Iterable[tuple[Op, Case]], backend: str, refused: list[str] | None = None) -> list[Judged]:
    """Everything that mutants are judged by.

    RuntimeError if the unchanged kernel does not pass, or if nothing of an op can be judged.

    refused: takes what the unchanged kernel does not pass, where that is no reason to stop
    """
    panel, target = BACKENDS[backend], default_target(backend)
    judging = []
    asked: set[str] = set()  # ops
    for op, case in pairs:
        if panel.supports(op, case, target):
            continue
        asked.add(op.name)
        try:
            problem = Problem.of(op, case)
            prepared = expected(problem)
        except InvalidOp:
            continue  # a case that judges nothing, as drawn ones may
        with np.errstate(all="ignore"):
            out = problem.named(panel.run(problem, target))
        verdict = prepared.judge(out)
        if verdict.status is not Status.PASSED:
            said = f"the unchanged {op.name} fails {case.name} {case.dtype} on {backend}: {verdict.reason}"
            if refused is None:
                raise RuntimeError(said)
            refused.append(said)
            continue
        judging.append(Judged(prepared, out))
    left_out = asked - {one.prepared.problem.op.name for one in judging}
    if left_out:
        raise RuntimeError(f"no case of {', '.join(sorted(left_out))} can be judged on {backend}")
    return judging


def expected(problem: Problem) -> PreparedCase:
    """As `judge.prepared.prepare`, without asking what wrong outputs the tolerance would accept."""
    return PreparedCase(problem, {name: Prepared(one, expect(one)) for name, one in problem.outputs.items()})


def same_bits(some: Outputs, others: Outputs) -> bool:
    """Whether outputs are the same to the last bit; one that is left out is None."""
    pairs = [(some[name], others.get(name)) for name in some]
    return all(a is b or (a is not None and b is not None and a.tobytes() == b.tobytes()) for a, b in pairs)


def default_target(backend: str) -> str | None:
    return next(iter(BACKENDS[backend].default_targets), None)


def run(
    mutants: Sequence[Mutant],
    backend: str,
    judging: Sequence[Judged],
    probing: Sequence[Judged],
    processes: int,
    on_fate: Callable[[Fate], None] = lambda _: None,
) -> list[Fate]:
    """The fates of mutants of one file, in their order; `processes` run at a time."""
    context = multiprocessing.get_context("fork")
    waiting, fates = list(enumerate(mutants)), {}
    running: dict[multiprocessing.connection.Connection, tuple[int, Any, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < processes:
                i, mutant = waiting.pop(0)
                mine, theirs = context.Pipe(duplex=False)
                arguments = (theirs, mutant, backend, judging, probing, Path(folder) / str(i))
                process = context.Process(target=_child, args=arguments)
                process.start()
                theirs.close()
                running[mine] = i, process, time.monotonic() + LIMIT_S
            for pipe in multiprocessing.connection.wait(list(running), timeout=0.2):
                assert isinstance(pipe, multiprocessing.connection.Connection)
                i, process, _ = running.pop(pipe)
                try:
                    fates[i] = pipe.recv()
                except EOFError:
                    process.join()
                    fates[i] = Fate(mutants[i], "caught", "error", reason=f"the process ended ({process.exitcode})")
                process.join()
                on_fate(fates[i])
            for pipe, (i, process, end) in list(running.items()):
                if time.monotonic() > end:
                    process.kill()
                    process.join()
                    del running[pipe]
                    fates[i] = Fate(mutants[i], "caught", "timeout", reason="it did not come to an end")
                    on_fate(fates[i])
    return [fates[i] for i in range(len(mutants))]


def _child(
    pipe: multiprocessing.connection.Connection,
    mutant: Mutant,
    backend: str,
    judging: Sequence[Judged],
    probing: Sequence[Judged],
    folder: Path,
) -> None:
    memory_limit.apply(MEMORY)
    folder.mkdir()
    path = folder / mutant.path.name
    path.write_text(mutant.source, encoding="utf-8")
    judged = _reference(path) if mutant.path.parent.name == "reference" else _kernel(path, backend)
    pipe.send(fate(mutant, judged, judging, probing))
    pipe.close()


def fate(
    mutant: Mutant,
    judged: Callable[[Judged], tuple[Verdict, bool]],
    judging: Sequence[Judged],
    probing: Sequence[Judged],
) -> Fate:
    """Run the cases one after the other; the first that does not pass decides."""
    survivor = Fate(mutant, "equivalent")
    for kind, some in (("caught", judging), ("missed", probing)):
        for one in some:
            case = one.prepared.problem.case
            where = f"{case.op} {case.name} {case.dtype}"
            try:
                with np.errstate(all="ignore"):
                    verdict, same = judged(one)
            except (Exception, SystemExit) as error:
                return Fate(mutant, kind, "error", where, f"{type(error).__name__}: {str(error).splitlines()[:1]}")
            if verdict.status is not Status.PASSED:
                return Fate(mutant, kind, str(verdict.status), where, verdict.reason or "")
            if not same:
                survivor.kind = "rounding"
                survivor.differs.append(where)
                survivor.share = max(survivor.share, figures.share_of_bound(verdict) or 0.0)
    return survivor


def _kernel(path: Path, backend: str) -> Callable[[Judged], tuple[Verdict, bool]]:
    """Judge the mutated kernel file in the place of the op's own."""
    panel, target = BACKENDS[backend], default_target(backend)

    def judged(one: Judged) -> tuple[Verdict, bool]:
        problem = one.prepared.problem
        function = str(getattr(problem.op, panel.panel)).rpartition(":")[2]
        changes: dict[str, Any] = {panel.panel: f"{path}:{function}"}
        mutated = replace(problem, op=replace(problem.op, **changes), known=problem.evaluated)
        with Sealed(problem.inputs):
            out = problem.named(panel.run(mutated, target))
        return one.prepared.judge(out), same_bits(one.out, out)

    return judged


def _reference(path: Path) -> Callable[[Judged], tuple[Verdict, bool]]:
    """Judge the unchanged kernel's output by the mutated reference."""
    module = loading.load(path)

    def judged(one: Judged) -> tuple[Verdict, bool]:
        problem = one.prepared.problem
        function = getattr(module, problem.op.reference.__name__)
        mutated = Problem(replace(problem.op, reference=function), problem.case, problem.inputs)
        verdict = expected(mutated).judge(one.out)
        return verdict, verdict.status is Status.PASSED and same_bits(problem.evaluated, mutated.evaluated)

    return judged
