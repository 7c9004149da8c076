"""The cost of a model's block on each chip, as tables and one chart: each number with its evidence and its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.harness.accelerators.catalogue import Catalogue, Price
from triptych.harness.cost.blocks import Block
from triptych.harness.cost.points import BOUND, ORDER, PREDICTED, Point, fastest
from triptych.harness.cost.service import SERVICES, Offer, Verdict, name, verdict, without_price
from triptych.harness.cost.whole import Whole
from triptych.harness.reports.charts.chart import Axis, Chart, Mark, Series
from triptych.harness.reports.formats import short

PREFILL = 2048  # rows whose $/PFLOP is told
SERVICE_HEAD = ("a block within", "chip", "evidence", "rows a kernel", "µs", "$/M tokens", "as cheap below, $/h")
PFLOP_HEAD = ("chip", "evidence", "rows", "TFLOP/s", "$/PFLOP", "$/M tokens", "from")
WHOLE_HEAD = ("a whole block", "chip", "evidence", "µs", "tokens/s", "$/M tokens")
PRICE_HEAD = ("chip", "$/hour", "kind", "region", "date", "source")
NOTE = (
    "A block is its seven projections, unless it is called whole; attention, norms, embedding, head and links "
    "between chips are not in it. Measured, predicted and published times are of different software and machines; a "
    "bound is no time that anybody reached, and is ranked with nothing. Every core of a chip runs blocks of its own "
    "for rows of its own, so that a block takes long on a small core."
)


@dataclass(frozen=True)
class Costs:
    """All that is told of one block."""

    block: Block
    points: Sequence[Point]
    priced: Mapping[str, Price]
    left_out: Sequence[str]
    verdicts: Sequence[Verdict]
    whole: Sequence[Whole] = ()

    @classmethod
    def of(
        cls,
        block: Block,
        points: Sequence[Point],
        priced: Mapping[str, Price],
        known: Catalogue,
        whole: Sequence[Whole] = (),
    ) -> Costs:
        """The costs of the fastest of these points at these prices."""
        points = fastest(points)
        verdicts = [found for us in SERVICES if (found := verdict(us, points, priced))]
        return cls(block, points, priced, without_price(known, known.chips, priced), verdicts, whole)

    @property
    def note(self) -> str:
        """What is in these costs, and what they must not be taken for."""
        return NOTE

    @property
    def tables(self) -> list[tuple[tuple[str, ...], list[list[str]], range]]:
        """Head, rows and the columns of numbers of each table."""
        return [
            (SERVICE_HEAD, self.service_rows(), range(3, 7)),
            (PFLOP_HEAD, self.pflop_rows(), range(2, 6)),
            (WHOLE_HEAD, self.whole_rows(), range(3, 6)),
            (PRICE_HEAD, self.price_rows(), range(1, 2)),
        ]

    @property
    def answers(self) -> list[str]:
        """Who is cheapest at each service, under which evidence, and up to which price."""
        lines = []
        said: Offer | None = None
        for one in self.verdicts:
            first = one.offers[0]
            if said is not None and first == said:
                continue  # more time changes nothing
            said = first
            holds = f", up to {money(one.holds)} an hour" if one.holds is not None else ""
            lines.append(
                f"if a block may take {short(one.us)} µs, {first.point.chip.name} is cheapest at "
                f"{money(first.usd)} a million tokens ({first.evidence}){holds}"
            )
        return lines

    def service_rows(self) -> list[list[str]]:
        """Each offer of each service, the cheapest first, then the bounds."""
        rows = []
        for one in self.verdicts:
            for number, offer in enumerate((*one.offers, *one.bounds)):
                turn = one.turns.get(name(offer.point))
                rows.append(
                    [
                        f"{short(one.us)} µs" if number == 0 else "",
                        offer.point.chip.name,
                        offer.evidence,
                        f"{offer.point.rows:,}",
                        short(offer.point.us),
                        money(offer.usd),
                        money(turn) if turn is not None else "",
                    ]
                )
        return rows

    def pflop_rows(self) -> list[list[str]]:
        """What large products cost, the cheapest first."""
        large = [p for p in self.points if p.rows == PREFILL and p.chip.name in self.priced]
        usd = {id(point): point.usd_per_pflop(self.priced[point.chip.name].usd_per_hour) for point in large}
        large.sort(key=lambda point: (point.evidence == BOUND, usd[id(point)], ORDER.index(point.evidence)))
        return [
            [
                point.chip.name,
                point.evidence,
                f"{point.rows:,}",
                short(point.tflop_per_s),
                money(usd[id(point)]),
                money(point.usd_per_million(self.priced[point.chip.name].usd_per_hour)),
                point.about,
            ]
            for point in large
        ]

    def whole_rows(self) -> list[list[str]]:
        """What whole blocks cost on NKI, by phase; nothing of the kind was published of the others."""
        return [
            [
                f"{one.phase.name}: {one.phase.what}",
                one.chip.name,
                PREDICTED,
                short(one.phase.chip_us),
                short(one.phase.chip_rate),
                money(one.usd_per_million(self.priced[one.chip.name].usd_per_hour)),
            ]
            for one in self.whole
            if one.chip.name in self.priced
        ]

    def price_rows(self) -> list[list[str]]:
        return [
            [chip, f"{price.usd_per_hour:.3f}", price.kind, price.region, price.date, price.source]
            for chip, price in self.priced.items()
        ]

    def chart(self) -> Chart | None:
        """Cost against the time of a block, a curve for each chip and evidence."""
        priced = [point for point in self.points if point.chip.name in self.priced]
        if not priced:
            return None
        cost = {id(p): p.usd_per_million(self.priced[p.chip.name].usd_per_hour) for p in priced}
        found = []
        for curve in dict.fromkeys(map(name, priced)):
            some = sorted((p for p in priced if name(p) == curve), key=lambda p: p.rows)
            marks = [Mark(p.us, cost[id(p)], f"{p.rows:,} rows, {short(p.us)} µs, {money(cost[id(p)])}") for p in some]
            family = {"AWS": "nki", "NVIDIA": "triton", "AMD": "torch"}.get(some[0].chip.vendor, "other")
            found.append(Series(some[0].chip.name, family, some[0].evidence, marks, joined=True))
        x = Axis.over("µs that a block takes", [p.us for p in priced])
        y = Axis.over("$ a million tokens", list(cost.values()))
        kinds = ", ".join(dict.fromkeys(price.kind for price in self.priced.values()))
        caption = f"{self.block.model}, projections of its {self.block.layers} blocks, bfloat16; prices: {kinds}"
        return Chart("Cost at equal service", caption, x, y, found)


def money(usd: float) -> str:
    """Dollars in three digits."""
    return f"${usd:.3g}"
