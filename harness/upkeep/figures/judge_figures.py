"""`make judge-figures`: how much of what is wrong the harness catches, printed as Markdown.

Mutants of our own NKI, Triton and reference code (`mutation`), judged by the cases of their ops (`mutant_runs`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from triptych.harness.reports.markdown import markdown_table
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results import environment
from triptych.harness.upkeep.figures import mutant_runs, mutation
from triptych.harness.upkeep.figures.mutant_runs import PANELS, Fate

ROOT = Path(__file__).resolve().parents[3]
FILES = tuple(
    ROOT / name
    for name in (
        "kernels/nki/matmul.py",
        "kernels/nki/attention.py",
        "kernels/triton/matmul.py",
        "kernels/triton/attention.py",
        "reference/matmul.py",
        "reference/attention.py",
    )
)
KINDS = ("caught", "missed", "rounding", "equivalent")
STATUSES = ("failed", "error", "timeout")


def file_fates(path: Path, count: int, line: StatusLine, refused: list[str]) -> list[Fate]:
    """The fates of `count` mutants of one file, spread evenly over it.

    refused: takes drawn cases that the unchanged kernel does not pass
    """
    backend = PANELS.get(path.parent.name, "nki-sim")
    line.say(f"{path.relative_to(ROOT)}: references and tolerances")
    judging = mutant_runs.prepare(mutant_runs.cases_of(path, probing=False), backend)
    probing = mutant_runs.prepare(mutant_runs.cases_of(path, probing=True), backend, refused)
    chosen = list(mutation.spread(mutation.mutants(path), count))
    done: list[Fate] = []

    def told(fate: Fate) -> None:
        done.append(fate)
        line.say(f"{path.relative_to(ROOT)}: {len(done)} of {len(chosen)}, {counts(done)['caught']} caught")

    cores = environment.cores() or 1
    return mutant_runs.run(chosen, backend, judging, probing, processes=cores, on_fate=told)


def counts(fates: Sequence[Fate]) -> Counter[str]:
    return Counter(fate.kind for fate in fates)


def table(by_file: dict[Path, list[Fate]]) -> str:
    """One row a file: how many mutants, how they ended, and the share caught of those that change a result."""
    head = ["file", "mutants", *KINDS, "by failed", "by error", "by timeout", "caught of those that differ"]
    rows = []
    everything = [fate for fates in by_file.values() for fate in fates]
    for name, fates in [*((str(p.relative_to(ROOT)), f) for p, f in by_file.items()), ("all", everything)]:
        kinds, statuses = counts(fates), Counter(fate.status for fate in fates if fate.kind == "caught")
        differ = len(fates) - kinds["equivalent"] - kinds["rounding"]
        share = f"{kinds['caught']} of {differ} ({100 * kinds['caught'] / max(differ, 1):.1f} %)"
        counted = [len(fates), *(kinds[k] for k in KINDS), *(statuses[s] for s in STATUSES)]
        rows.append([name, *map(str, counted), share])
    return markdown_table(head, rows)


def listed(fates: Sequence[Fate]) -> str:
    """Every mutant that was not caught, with its place, its lines and what is known of it."""
    said: dict[str, Callable[[Fate], str]] = {
        "missed": lambda f: f"told only by {f.case}: {f.reason}",
        "rounding": lambda f: f"bits differ in {len(f.differs)} cases, at most {f.share:.2f} of the bound",
        "equivalent": lambda f: "the same bits everywhere",
    }
    blocks = []
    for kind in KINDS[1:]:
        for fate in (f for f in fates if f.kind == kind):
            place = f"{fate.mutant.path.relative_to(ROOT)}:{fate.mutant.line}"
            blocks.append(f"{kind}: {place} ({fate.mutant.operator}); {said[kind](fate)}\n{fate.mutant.diff()}")
    return "\n\n".join(blocks)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mutants", type=int, default=25, metavar="N", help="of each file, evenly spread (default: 25)"
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="as kernels/nki/matmul.py (default: all six)")
    arguments = parser.parse_args(argv)
    start = time.monotonic()
    files = [ROOT / name for name in arguments.files] or FILES
    line = StatusLine(sys.stderr)
    refused: list[str] = []
    by_file = {path: file_fates(path, arguments.mutants, line, refused) for path in files}
    line.clear()
    print(table(by_file))
    print(listed([fate for fates in by_file.values() for fate in fates]))
    print("\n".join(["", *refused]))
    print(f"\n{time.monotonic() - start:.0f} s on {environment.cores()} cores")
    return int(any(fate.kind == "missed" for fates in by_file.values() for fate in fates))


if __name__ == "__main__":
    sys.exit(main())
