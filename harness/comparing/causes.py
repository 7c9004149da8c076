"""Where the difference between two predictions of one case comes from: engine by engine, and line by line.

Lines are those of two texts: a line is the same where a longest common subsequence (difflib's) finds it again, and a
block that was replaced by one of the same length is taken line by line.
"""

from __future__ import annotations

import linecache
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from triptych.harness.profiling.lanes import bytes_moved
from triptych.harness.profiling.numbers import location
from triptych.harness.results.timing import Predicted, Profiled
from triptych.simulator.timing import Prediction

Line = tuple[str, int]  # file and number
Where = tuple["Line | None", "Line | None"]  # in base and in new


@dataclass(frozen=True)
class EngineChange:
    """How long an engine is busy, in microseconds, on the core that occupies it most."""

    engine: str
    base_us: float
    new_us: float


@dataclass
class Spent:
    """What a line costs."""

    critical_us: float = 0.0
    bytes: int = 0
    instructions: int = 0


@dataclass(frozen=True)
class LineChange:
    """A line that costs something else than before."""

    place: str  # `kernel.py:12`, or `kernel.py:12 → 14`
    text: str
    base: Spent
    new: Spent

    @property
    def critical_us(self) -> float:
        return self.new.critical_us - self.base.critical_us


@dataclass(frozen=True)
class Causes:
    """Why one prediction is longer than the other. The lines are those that changed, the largest change first."""

    base_us: float
    new_us: float
    engines: Sequence[EngineChange]
    lines: Sequence[LineChange] = field(default_factory=tuple)


def causes(base: Prediction, new: Prediction) -> Causes:
    tracks = dict.fromkeys([*base.busy, *new.busy])
    engines = [
        EngineChange(track, base.busy.get(track, 0) * base.total_us, new.busy.get(track, 0) * new.total_us)
        for track in tracks
    ]
    return Causes(base.total_us, new.total_us, engines, lines(spent(base), spent(new)))


def causes_of_timings(base: Predicted, new: Predicted) -> Causes:
    """What two documents say, without the kernels: engines, and lines of the critical path that both profiles name."""
    engines = [
        EngineChange(
            track, base.busy_share.get(track, 0) * base.predicted_us, new.busy_share.get(track, 0) * new.predicted_us
        )
        for track in dict.fromkeys([*base.busy_share, *new.busy_share])
    ]
    found: list[LineChange] = []
    if isinstance(base, Profiled) and isinstance(new, Profiled):
        steps = [{(step.line, step.op): step for step in side.critical} for side in (base, new)]
        for at in dict.fromkeys([*steps[0], *steps[1]]):
            a, b = (Spent(side[at].us, 0, side[at].count) if at in side else Spent() for side in steps)
            if a != b:
                found.append(LineChange(at[0], at[1], a, b))
    lines = sorted(found, key=lambda c: (-abs(c.critical_us), c.place))
    return Causes(base.predicted_us, new.predicted_us, engines, lines)


def spent(prediction: Prediction) -> dict[Line, Spent]:
    """What each source line costs: its share of the critical path, bytes of its DMA, instructions that it issued."""
    found: dict[Line, Spent] = defaultdict(Spent)
    for event in prediction.events:
        cost = found[event.line]
        cost.instructions += 1
        cost.bytes += bytes_moved(event) if event.engine == "dma" else 0
    for step in prediction.critical:
        found[step.line].critical_us += step.us
    return found


def lines(base: Mapping[Line, Spent], new: Mapping[Line, Spent]) -> list[LineChange]:
    """The lines that cost something else."""
    found = []
    for before, after in matched(base, new):
        a = base.get(before, Spent()) if before else Spent()
        b = new.get(after, Spent()) if after else Spent()
        if (a.bytes, a.instructions) != (b.bytes, b.instructions) or abs(a.critical_us - b.critical_us) > 1e-6:
            text = linecache.getline(*(after or before or ("", 0))).strip()
            found.append(LineChange(place(before, after), text, a, b))
    return sorted(found, key=lambda c: (-abs(c.critical_us), -abs(c.new.bytes - c.base.bytes), c.place))


def place(before: Line | None, after: Line | None) -> str:
    if after is None:
        return f"{location(before)}, gone" if before else ""
    if before is None:
        return f"{location(after)}, new"
    return location(after) if before[1] == after[1] else f"{location(after)}, was {before[1]}"


def matched(base: Iterable[Line], new: Iterable[Line]) -> Iterator[Where]:
    """Every line of both sides, with its counterpart where it has one."""
    base, new = dict.fromkeys(base), dict.fromkeys(new)
    there = counterparts({path for path, _ in base}, {path for path, _ in new})
    numbers = {path: numbering(path, other) for path, other in there.items()}
    taken = set()
    for path, number in base:
        to = numbers.get(path, {}).get(number)
        after = (there[path], to) if to is not None and (there[path], to) in new else None
        taken.add(after)
        yield (path, number), after
    yield from ((None, line) for line in new if line not in taken)


def counterparts(base: set[str], new: set[str]) -> dict[str, str]:
    """The file in `new` of each file in `base`: itself, one of the same name, or the only other."""
    found = {path: path for path in base & new}
    for path in base - new:
        same = [other for other in new - base if Path(other).name == Path(path).name]
        if len(same) == 1:
            found[path] = same[0]
    left, others = base - found.keys(), new - set(found.values())
    if len(left) == len(others) == 1:
        found[left.pop()] = others.pop()
    return found


def numbering(base: str, new: str) -> dict[int, int]:
    """The number in `new` of each line of `base` that is still there."""
    before, after = ([line.rstrip() for line in linecache.getlines(path)] for path in (base, new))
    found: dict[int, int] = {}
    for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and b - a == d - c):
            found.update(zip(range(a + 1, b + 1), range(c + 1, d + 1), strict=True))
    return found
