"""`make own-mutants ROOM=judge`: how many small faults in a room's own source its tests see, as Markdown.

A seeded sample of faults is planted, one after the other, in a copy of the project, and the tests that reach the line
are run, the quickest first, until one fails. What survives is a gap in the tests or no fault at all: each is printed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from triptych.harness.reports.markdown import markdown_table
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.upkeep.figures.mutation import Mutant
from triptych.harness.upkeep.own_mutants import faults, runs

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 300.0  # for the tests of one fault


def sample(room: str, count: int, seed: int) -> list[Mutant]:
    """So many of the faults of a room, in the order of its files."""
    every = list(faults.of_room(ROOT / "harness" / room))
    random.Random(seed).shuffle(every)
    chosen = itertools.islice(filter(faults.is_fault, every), count)
    return sorted(chosen, key=lambda fault: (str(fault.path), fault.line))


def table(ended: Sequence[tuple[Mutant, str | None]]) -> str:
    """One row a file: how many faults, and how many of them the tests see."""
    rows = []
    for path in [*dict.fromkeys(fault.path for fault, _ in ended), None]:
        some = [how for fault, how in ended if path in (None, fault.path)]
        seen = sum(how is not None for how in some)
        name = "all" if path is None else str(path.relative_to(ROOT))
        rows.append([name, str(len(some)), str(seen), f"{100 * seen / max(1, len(some)):.0f} %"])
    return markdown_table(["file", "faults", "seen", "share"], rows)


def described(fault: Mutant, tests: int) -> str:
    place = f"{fault.path.relative_to(ROOT)}:{fault.line}"
    return f"{place} in {fault.function or 'the module'} ({fault.operator}), reached by {tests} tests\n{fault.diff()}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", help="a folder of harness/, as judge")
    parser.add_argument("--faults", type=int, default=50, metavar="N", help="how many are planted (default: 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (default: 0)")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    chosen = sample(arguments.room, arguments.faults, arguments.seed)
    runs.warm_up()
    line = StatusLine(sys.stderr)
    ended: list[tuple[Mutant, str | None]] = []
    unseen = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = runs.Copy(ROOT, Path(folder))
        line.say(f"{arguments.room}: which tests reach which lines")
        reach = copy.reach(arguments.room, runs.mirrored(ROOT, arguments.room))
        for fault in chosen:
            tests = reach.of(fault.path.name, fault.line)
            ended.append((fault, copy.detects(fault, tests, LIMIT_S)))
            if ended[-1][1] is None:
                unseen += 1
                print(f"unseen: {described(fault, len(tests))}\n", flush=True)
            line.say(f"{arguments.room}: {len(ended)} of {len(chosen)} faults, {unseen} unseen")
    line.clear()
    print(table(ended))
    print(f"\nseed {arguments.seed}, {time.monotonic() - started:.0f} s")
    return int(unseen > 0)


if __name__ == "__main__":
    sys.exit(main())
