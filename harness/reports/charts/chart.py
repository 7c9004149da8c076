"""A chart: two axes, series of marks, and lines that are bounds. Places are in units of the SVG's view box.

A mark says its evidence by its shape: what was measured is filled, what was predicted is hollow, what others published
is a diamond, and a bound is a line without marks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from triptych.harness.reports.formats import short

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis from a power of ten, or of two, to another."""

    label: str
    low: float
    high: float
    base: float = 10

    @classmethod
    def over(cls, label: str, values: Sequence[float], base: float = 10) -> Axis:
        """The axis that holds these positive values."""
        low = base ** math.floor(math.log(min(values), base) - 1e-9)
        high = base ** math.ceil(math.log(max(values), base) + 1e-9)
        return cls(label, low, high if high > low else low * base, base)

    def at(self, value: float) -> float:
        """The place of a value: 0 is the low end, 1 the high end."""
        return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels: powers of the base, between them halves where there is room."""
        powers = round(math.log(self.high / self.low, self.base))
        step = max(1, math.ceil(powers / 8))
        values = [self.low * self.base**i for i in range(0, powers + 1, step)]
        if powers <= 2 and self.base == 10:
            values = sorted({v * m for v in values for m in (1, 2, 5) if v * m <= self.high * 1.0001})
        return [(self.at(value), tick(value)) for value in values]


def tick(value: float) -> str:
    """A value at an axis: 1e6 as 1M."""
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{short(value / factor)}{suffix}"
    return short(value)


@dataclass(frozen=True)
class Mark:
    x: float
    y: float
    words: str  # that the pointer on it shows


@dataclass(frozen=True)
class Series:
    """Marks of one backend and one evidence; `joined` ones lie on a line."""

    label: str
    family: str
    evidence: str
    marks: Sequence[Mark]
    joined: bool = False

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(mark.x, mark.y) for mark in self.marks]


@dataclass(frozen=True)
class Bound:
    """A line that nothing can lie above, or below."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A picture with its caption, which says device, versions, statistic, spread and date."""

    title: str
    caption: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    bounds: Sequence[Bound] = field(default_factory=tuple)

    @property
    def size(self) -> tuple[int, int, int, int, int, int]:
        return WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def px(self, value: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * self.x.at(value):.1f}"

    def py(self, value: float) -> str:
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.y.at(value):.1f}"

    @property
    def x_ticks(self) -> list[tuple[str, str]]:
        return [(f"{LEFT + (WIDTH - LEFT - RIGHT) * at:.1f}", words) for at, words in self.x.ticks]

    @property
    def y_ticks(self) -> list[tuple[str, str]]:
        return [(f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * at:.1f}", words) for at, words in self.y.ticks]

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """The points as an SVG path."""
        return "M" + "L".join(f"{self.px(x)} {self.py(y)}" for x, y in points)
