"""What was found out about a kernel beside its numbers: where it fails, whom to blame, whether it repeats its bits."""

from __future__ import annotations

from typing import Literal

from triptych.harness.results.record import Record


class Worst(Record, frozen=True, kw_only=True):
    """The element that is furthest beyond what is allowed."""

    index: list[int]
    axes: dict[str, int]  # the index by the names of its axes
    expected: float
    got: float
    error: float
    allowed: float


class Histogram(Record, frozen=True, kw_only=True):
    """How many elements have which error, in units of what is allowed there."""

    edges: list[float]
    counts: list[int]
    nonfinite: int


class Map(Record, frozen=True, kw_only=True):
    """A picture of a failing output in text; see `judge.failure.maps`."""

    of: str  # what it shows
    rows: int  # elements of a mark
    columns: int
    row_tile: int  # elements between two lines of the grid; 0 for none
    column_tile: int
    lines: list[str]


class Failure(Record, frozen=True, kw_only=True):
    """Where and by how much an output disagrees."""

    diagnosis: str
    worst: Worst
    histogram: Histogram
    map: Map


class Runs(Record, frozen=True, kw_only=True):
    """Whether a second run on the same inputs has the same bits."""

    identical: bool
    promised: bool


class Alone(Record, frozen=True, kw_only=True):
    """Whether a part of the batch alone has the bits that it has within the batch."""

    axis: str
    part: str  # "M = 12", or "M = 128-255"
    identical: bool
    promised: bool


class Invariance(Record, frozen=True, kw_only=True):
    """What further runs of a kernel that passed have shown; empty where there were none."""

    other_inputs: bool = False  # it was right on other inputs of the same shapes, too
    runs: Runs | None = None
    alone: Alone | None = None
    skipped: str | None = None  # why there were no more


class Instruction(Record, frozen=True, kw_only=True):
    """One executed instruction of a kernel, with its operands in words."""

    instruction: str
    line: str
    number: int
    reads: list[str]
    writes: list[str]
    difference: float | None = None  # of its result from that of the run without rounding, relative L2


class Attribution(Record, frozen=True, kw_only=True):
    """Whom a wrong result is to be blamed on."""

    cause: Literal["logic", "rounding", "emulator", "unknown"]
    text: str
    first_beyond_rounding: Instruction | None = None
    first_infinity: Instruction | None = None
    first_nan: Instruction | None = None
