"""Points of a cost curve: how long a chip takes for a block of so many rows, and how that is known.

    tokens/s = rows / time x kernels side by side      $/million tokens = $/hour / 3600 / (tokens/s) x 1e6 x blocks
    $/PFLOP  = $/hour / 3600 / (FLOP/s) x 1e15

A chip of several cores runs a block on each, for rows of its own. A published rate is of large products: where the
memory's peak allows less, the point is no more than a bound, and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.harness.accelerators.catalogue import Catalogue, Chip
from triptych.harness.cost.blocks import DTYPE, NAME, Block
from triptych.harness.results.origin import machine_of
from triptych.harness.results.profile import Outcome
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Measured, Predicted

MEASURED, PREDICTED, PUBLISHED, BOUND = "measured", "predicted", "published", "bound"
ORDER = (MEASURED, PREDICTED, PUBLISHED, BOUND)


@dataclass(frozen=True)
class Point:
    """One chip at one number of rows."""

    chip: Chip
    rows: int  # of each kernel
    us: float  # of a block
    block: Block
    evidence: str  # one of ORDER
    about: str  # the software, and where the number is from

    @property
    def tokens_per_s(self) -> float:
        """Tokens that pass through one block, of the whole chip."""
        return self.rows * self.chip.cores / self.us * 1e6

    @property
    def tflop_per_s(self) -> float:
        return self.block.flops(self.rows) * self.chip.cores / self.us / 1e6

    def usd_per_million(self, usd_per_hour: float) -> float:
        """Of a million tokens through all blocks of the model."""
        return usd_per_hour / 3600 / self.tokens_per_s * 1e6 * self.block.layers

    def usd_per_pflop(self, usd_per_hour: float) -> float:
        return usd_per_hour / 3600 / self.tflop_per_s * 1e3


def of_results(
    runs: Iterable[tuple[Mapping[str, Any], Sequence[Outcome]]], block: Block, known: Catalogue
) -> Iterator[Point]:
    """The points of a block whose projections were all measured, or predicted, by one backend of one run."""
    for env, outcomes in runs:
        times: dict[tuple[str, str, str, int], dict[str, float]] = defaultdict(dict)
        chips: dict[str, Chip] = {}
        for outcome in outcomes:
            name, timing = NAME.fullmatch(outcome.case), outcome.timing
            if name is None or timing is None or name["model"] != block.model or outcome.dtype != DTYPE:
                continue
            if isinstance(timing, Measured) and timing.evidence is Evidence.DEVICE:
                chip, evidence = known.of_gpus(machine_of(env, outcome.node).get("gpus") or []), MEASURED
            elif isinstance(timing, Predicted) and not getattr(timing, "settings", None):
                chip, evidence = known.of_target(outcome.target), PREDICTED
            else:
                continue
            if chip is not None:
                about = f"{outcome.op} on {outcome.backend_label}, {str(env.get('utc') or '')[:10]}"
                chips[about] = chip
                times[about, evidence, name["model"], int(name["rows"])][name["projection"]] = timing.us
        for (about, evidence, _, rows), found in times.items():
            us = block.us(found)
            if us is not None:
                yield Point(chips[about], rows, us, block, evidence, about)


def of_publications(block: Block, known: Catalogue, rows: Sequence[int], chips: Sequence[Chip]) -> Iterator[Point]:
    """The points that a chip's best published rate gives, and bounds where there is none or memory is slower."""
    for chip in chips:
        rate = known.rate_of(chip, DTYPE)
        for count in rows:
            flops, moved = block.flops(count) * chip.cores, block.bytes(count) * chip.cores
            bound = chip.bound_us(flops, moved, DTYPE)
            if rate is None or flops / (rate.tflop_per_s * 1e6) < moved / (chip.hbm_gb_per_s * 1e3):
                yield Point(chip, count, bound, block, BOUND, "peak of the data sheet")
                continue
            us = flops / (rate.tflop_per_s * 1e6)
            yield Point(chip, count, us, block, PUBLISHED, f"{rate.software}; {rate.of}; {rate.source}")


def fastest(points: Iterable[Point]) -> list[Point]:
    """Of each chip, evidence and number of rows the fastest point: several kernels may do the same."""
    best: dict[tuple[str, str, int], Point] = {}
    for point in points:
        key = point.chip.name, point.evidence, point.rows
        if key not in best or point.us < best[key].us:
            best[key] = point
    return list(best.values())
