"""Part of `make judge-figures`: how many right kernels the judge rejects, printed as Markdown. The goal is none.

Every NumPy variant (`honest_variants`) runs on every case of the sets smoke, edge and adversarial, in every dtype of
its op and on further seeds; our own kernels with other tiles (`retiled`) run on those cases as their mutants do.
"closest" is the largest error of any run as a share of its bound.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triptych.harness.collection import builtin
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import expect
from triptych.harness.judge.verdict import judge
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.reports import figures
from triptych.harness.reports.markdown import code, markdown_table
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results import environment
from triptych.harness.results.status import Status
from triptych.harness.upkeep.figures import mutant_runs
from triptych.harness.upkeep.figures.honest_variants import HONEST
from triptych.harness.upkeep.figures.mutant_runs import PANELS, Fate
from triptych.harness.upkeep.figures.retiled import CHANGES, ROOT, retiled

SETS = ("smoke", "edge", "adversarial")
OPS = ("matmul", "attention")


@dataclass(frozen=True)
class Run:
    """One variant on one case."""

    case: Case
    variant: str
    share: float
    reason: str | None  # why it was rejected


def cases(seeds: Sequence[int]) -> list[Case]:
    ops = builtin()
    return [case for name in OPS for seed in seeds for case in cases_of(ops[name], SETS, None, {}, seed)]


def judged(case: Case) -> list[Run]:
    """Every variant of the case's op."""
    op = builtin()[case.op]
    problem = Problem.of(op, case)
    try:
        expected = expect(problem)
    except InvalidOp as error:
        return [Run(case, "the case itself", 0.0, str(error))]
    runs = []
    for name, kernel in HONEST[case.op].items():
        with np.errstate(all="ignore"):
            out = kernel(**problem.arguments)
        verdict = judge(problem, out, expected)
        reason = None if verdict.status is Status.PASSED else verdict.reason
        runs.append(Run(case, name, figures.share_of_bound(verdict) or 0.0, reason))
    return runs


def sweep(seeds: Sequence[int]) -> Iterator[Run]:
    """All of them, on all cores."""
    work = cases(seeds)
    line = StatusLine(sys.stderr)
    with multiprocessing.get_context("spawn").Pool(environment.cores() or 1) as pool:
        for done, runs in enumerate(pool.imap_unordered(judged, work, chunksize=4), 1):
            yield from runs
            line.say(f"honest variants: {done} of {len(work)} cases")
    line.clear()


def with_other_tiles() -> Iterator[tuple[Path, int, list[Fate]]]:
    """Each kernel file, how many cases judge its variants, and what became of them."""
    line = StatusLine(sys.stderr)
    for name in CHANGES:
        path = ROOT / name
        line.say(f"{name} with other tiles")
        backend = PANELS[path.parent.name]
        judging = mutant_runs.prepare(mutant_runs.cases_of(path, probing=False), backend)
        yield path, len(judging), mutant_runs.run(retiled(path), backend, judging, [], environment.cores() or 1)
    line.clear()


def as_table(runs: Sequence[Run], files: Sequence[tuple[Path, int, Sequence[Fate]]]) -> str:
    """One row a variant."""
    by_variant: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_variant.setdefault((f"NumPy, {run.case.op.removesuffix('_tiled')}", run.variant), []).append(run)
    rows = [
        (*key, len(some), sum(run.reason is not None for run in some), f"{max(run.share for run in some):.2f}")
        for key, some in sorted(by_variant.items())
    ]
    for path, cases, fates in files:
        for fate in fates:
            closest = "the same bits" if fate.kind == "equivalent" else f"{fate.share:.2f}"
            rows.append(
                (code(str(path.relative_to(ROOT))), fate.mutant.operator, cases, int(fate.kind == "caught"), closest)
            )
    rows.append(("all", "", sum(row[2] for row in rows), sum(row[3] for row in rows), ""))
    header = ("kernel", "variant", "runs", "rejected", "closest")
    return markdown_table(header, [list(map(str, row)) for row in rows])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds of each case (default: 3)")
    arguments = parser.parse_args(argv)
    start = time.monotonic()
    runs, files = list(sweep(range(arguments.seeds))), list(with_other_tiles())
    print(as_table(runs, files), end="")
    rejected = [
        f"{run.case.op} {run.case.name} {run.case.dtype} seed {run.case.seed}, {run.variant}: {run.reason}"
        for run in runs
        if run.reason is not None
    ]
    rejected += [
        f"{fate.case}, {fate.mutant.operator} ({path.relative_to(ROOT)}): {fate.reason}"
        for path, _, fates in files
        for fate in fates
        if fate.kind == "caught"
    ]
    for line in rejected:
        print(f"\nrejected: {line}")
    print(f"\n{time.monotonic() - start:.0f} s on {environment.cores()} cores")
    return int(bool(rejected))


if __name__ == "__main__":
    sys.exit(main())
