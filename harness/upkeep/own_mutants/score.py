"""`make own-mutants ROOM=judge`: how many small faults in a room's own source its tests see, as Markdown.

A room is a folder of harness/ or simulator/; `ROOM="timing analysis"` judges two by the tests of both, and
`ROOM=simulator` is a whole house.

A seeded sample of faults is planted, one after the other, in a copy of the project, and the tests that reach the line
are run, the quickest first, until one fails. What survives is a gap in the tests or no fault at all: each is printed,
and what `faults` leaves out is said there.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from triptych.harness.reports.markdown import markdown_table
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.upkeep.figures.mutation import Mutant
from triptych.harness.upkeep.own_mutants import faults, runs, warm
from triptych.harness.upkeep.own_mutants.warm import Tried

ROOT = Path(__file__).resolve().parents[3]


def folder_of(room: str) -> Path:
    """The folder of a room, or of a house; ValueError with what there is if there is none of that name."""
    houses = [Path("harness"), Path("simulator")]
    rooms = [path.parent.relative_to(ROOT) for house in houses for path in sorted((ROOT / house).glob("*/__init__.py"))]
    for folder in [*houses, *rooms]:
        if folder.name == room:
            return folder
    raise ValueError(f"no room is called {room!r}; there are {', '.join(folder.name for folder in [*houses, *rooms])}")


def sample(folders: Sequence[Path], count: int, seed: int) -> list[Mutant]:
    """So many of the faults of some rooms, in the order of their files."""
    every = [fault for folder in folders for fault in faults.of_room(ROOT / folder)]
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


def described(one: Tried) -> str:
    fault = one.fault
    place = f"{fault.path.relative_to(ROOT)}:{fault.line} in {fault.function or 'the module'}"
    return f"{place} ({fault.operator}), reached by {len(one.tests)} tests\n{fault.diff()}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="+", type=folder_of, help="folders of harness/ or simulator/, as judge")
    parser.add_argument("--faults", type=int, default=50, metavar="N", help="how many are planted (default: 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (default: 0)")
    arguments = parser.parse_args(argv)
    chosen = sample(arguments.rooms, arguments.faults, arguments.seed)
    name = " ".join(folder.name for folder in arguments.rooms)
    runs.warm_up()
    line = StatusLine(os.fdopen(os.dup(2), "w"))  # the processes print elsewhere
    seen: list[bool] = []

    def tell(one: Tried) -> None:
        seen.append(one.how is not None)
        line.say(f"{name}: {len(seen)} of {len(chosen)} faults, {seen.count(False)} unseen in Python")

    with tempfile.TemporaryDirectory() as folder:
        line.say(f"{name}: which tests reach which lines")
        tests = [f"tests/{room}" for room in arguments.rooms]
        ended = warm.try_either_way(ROOT, Path(folder), arguments.rooms, tests, chosen, tell)
    line.clear()
    for one in ended:
        if one.how is None:
            print(f"unseen: {described(one)}\n")
    print(table([(one.fault, one.how) for one in ended]))
    spent = sum(one.cpu_s for one in ended)
    print(f"\nseed {arguments.seed}, {spent / max(1, len(ended)):.1f} s of a processor a fault")
    return int(any(one.how is None for one in ended))


if __name__ == "__main__":
    sys.exit(main())
