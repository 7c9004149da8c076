"""Cost at equal service: what each chip costs if a block may take so long, and at which price the verdict turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from triptych.harness.accelerators.catalogue import Catalogue, Chip, Price
from triptych.harness.cost.points import BOUND, ORDER, Point
from triptych.harness.errors import UsageError, unknown

SERVICES = (100.0, 300.0, 1e3, 3e3, 1e4, 3e4)  # microseconds that a block may take


@dataclass(frozen=True)
class Offer:
    """The cheapest that a chip can do within a service, at a price."""

    point: Point
    price: Price
    usd: float  # a million tokens

    @property
    def evidence(self) -> str:
        return self.point.evidence


@dataclass(frozen=True)
class Verdict:
    """Who is cheapest if a block may take `us`, and the price an hour at which each other chip would be as cheap.

    A bound is what nobody reached: it is told, and ranked with nothing.
    """

    us: float
    offers: Sequence[Offer]  # the cheapest first
    bounds: Sequence[Offer]  # the least that a chip could cost
    turns: Mapping[str, float]  # of a chip and evidence: the price at which it equals the cheapest
    holds: float | None  # the price up to which the cheapest stays so; None where it is alone


def name(point: Point) -> str:
    """A chip with its evidence: a curve."""
    return f"{point.chip.name}, {point.evidence}"


def prices(known: Catalogue, kind: str, given: Mapping[str, float]) -> dict[str, Price]:
    """The price of each chip: what the user gives, else the lowest of a kind; a chip without any is left out."""
    names = [chip.name for chip in known.chips]
    for wanted in given:
        if wanted not in names:
            raise unknown("chip", wanted, names)
    found = {}
    for chip in known.chips:
        if chip.name in given:
            own = Price(
                chip=chip.name, usd_per_hour=given[chip.name], kind="on-demand", region="yours", date="", source="given"
            )
            found[chip.name] = own
        elif offers := known.prices_of(chip, kind):
            found[chip.name] = offers[0]
    if not found:
        raise UsageError(f"the file has no price of the kind {kind!r}.")
    return found


def without_price(known: Catalogue, chips: Iterable[Chip], priced: Mapping[str, Price]) -> list[str]:
    """A sentence for each chip that cannot be priced."""
    lines = []
    for chip in chips:
        if chip.name not in priced:
            other = [price.kind for price in known.prices_of(chip)]
            why = f"only {', '.join(dict.fromkeys(other))}" if other else "no public price of it was found"
            lines.append(f"{chip.name} is left out: {why}")
    return lines


def verdict(us: float, points: Sequence[Point], priced: Mapping[str, Price]) -> Verdict | None:
    """The offers within a service: of each curve the cheapest point that is fast enough. None if there is none."""
    best: dict[str, Offer] = {}
    for point in points:
        price = priced.get(point.chip.name)
        if price is None or point.us > us:
            continue
        offer = Offer(point, price, point.usd_per_million(price.usd_per_hour))
        key = name(point)
        if key not in best or offer.usd < best[key].usd:
            best[key] = offer
    ranked = sorted(best.values(), key=lambda offer: (offer.usd, ORDER.index(offer.evidence)))
    offers = [offer for offer in ranked if offer.evidence != BOUND]
    if not offers:
        return None
    first = offers[0]
    others = [offer for offer in offers if offer.point.chip != first.point.chip]
    turns = {name(o.point): o.price.usd_per_hour * first.usd / o.usd for o in others}
    holds = first.price.usd_per_hour * others[0].usd / first.usd if others else None
    return Verdict(us, offers, [offer for offer in ranked if offer.evidence == BOUND], turns, holds)
