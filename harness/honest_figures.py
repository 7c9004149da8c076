"""Part of `make judge-figures`: how many right kernels the judge rejects, printed as Markdown. The goal is none.

Every variant (`honest_variants`) runs on every case of the sets smoke, edge and adversarial, in every dtype of its op
and on further seeds; "closest" is the largest error of any of them as a share of its bound.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from triptych.harness import environment, ops, tables
from triptych.harness.honest_variants import HONEST
from triptych.harness.judge import judge
from triptych.harness.judge_figures import say
from triptych.harness.records import Case, Evidence, Result, Status
from triptych.harness.tolerance import expect
from triptych.harness.truth import OpError

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
    table = ops.builtin()
    return [case for name in OPS for seed in seeds for case in ops.cases(table[name], SETS, None, {}, seed)]


def judged(case: Case) -> list[Run]:
    """Every variant of the case's op."""
    op = ops.builtin()[case.op]
    inputs = ops.make_inputs(op, case)
    try:
        expected = expect(op, case, inputs)
    except OpError as error:
        return [Run(case, "the case itself", 0.0, str(error))]
    runs = []
    for name, kernel in HONEST[case.op].items():
        with np.errstate(all="ignore"):
            out = kernel(**inputs, **case.params)
        verdict = judge(op, case, inputs, out, expected=expected)
        result = Result(op.name, case.name, case.dtype, name, None, Evidence.HOST, verdict.status)
        result.metrics, result.tolerance = verdict.metrics, verdict.tolerance
        reason = None if verdict.status is Status.PASSED else verdict.reason
        runs.append(Run(case, name, tables.share_of_bound(result) or 0.0, reason))
    return runs


def sweep(seeds: Sequence[int]) -> Iterator[Run]:
    """All of them, on all cores."""
    work = cases(seeds)
    with multiprocessing.get_context("spawn").Pool(environment.cores() or 1) as pool:
        for done, runs in enumerate(pool.imap_unordered(judged, work, chunksize=4), 1):
            yield from runs
            say(f"honest variants: {done} of {len(work)} cases")
    say("")


def table(runs: Sequence[Run]) -> str:
    """One row a variant."""
    rows: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        rows.setdefault((run.case.op, run.variant), []).append(run)
    lines = ["| op | variant | runs | rejected | closest |", "| --- | --- | --- | --- | --- |"]
    for (op, variant), some in sorted(rows.items()):
        rejected = sum(run.reason is not None for run in some)
        lines.append(f"| {op} | {variant} | {len(some)} | {rejected} | {max(run.share for run in some):.2f} |")
    rejected = sum(run.reason is not None for run in runs)
    lines.append(f"| all | | {len(runs)} | {rejected} | {max(run.share for run in runs):.2f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds of each case (default: 3)")
    arguments = parser.parse_args(argv)
    start = time.monotonic()
    runs = list(sweep(range(arguments.seeds)))
    print(table(runs))
    for run in runs:
        if run.reason is not None:
            print(f"\nrejected: {run.case.op} {run.case.name} {run.case.dtype} seed {run.case.seed}, {run.variant}")
            print(f"    {run.reason}")
    print(f"\n{time.monotonic() - start:.0f} s on {environment.cores()} cores")
    return int(any(run.reason is not None for run in runs))


if __name__ == "__main__":
    sys.exit(main())
