"""The chip once more, as plainly as its rules can be written: at every moment everything is looked at.

It knows neither agenda nor what an event touches, and is as slow as that. What events ask of the chip and what they
wait for it takes from `works` and `hazards`, which have tests of their own; the order of what happens at one moment is
a rule like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from triptych.simulator.analysis.capacity import capacity_of, partition_bytes
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.timing.links import numbered
from triptych.simulator.timing.order import are_loads, by_need
from triptych.simulator.timing.queues import issuer_of
from triptych.simulator.timing.throttle import Throttle
from triptych.simulator.timing.work import CELLS, loads_of, works, works_of


@dataclass
class Tile:
    """A tensor on chip: room for it, from its first event to the end of its last."""

    memory: tuple[int, str]
    size: int
    events: list[int] = field(default_factory=list)
    there: bool = False
    gone: bool = False


class Plain:
    def __init__(self, trace: Any, work: Any, edges: Any, in_order: bool) -> None:
        self.trace, self.chip, self.work, self.edges, self.in_order = trace, trace.chip, list(work), edges, in_order
        events = trace.events
        self.spans: dict[int, dict[str, Any]] = {}
        self.issues: dict[int, tuple[float, Any, str]] = {}
        self.queue = [(e.core, w.queue or w.track) for e, w in zip(events, work, strict=True)]
        helpers = {(e.core, o.track) for e, w in zip(events, work, strict=True) for o in w.elsewhere if not in_order}
        self.queues = sorted({*self.queue, *helpers})
        self.turns = {
            core: [q for q in self.queues if q[0] == core and q[1].startswith("dma")] for core, _ in self.queues
        }
        self.lends = {q: [] for q in self.queues}
        for e, w, q in zip(events, work, self.queue, strict=True):
            for o in () if in_order else w.elsewhere:
                if (e.core, o.track) not in self.lends[q]:
                    self.lends[q].append((e.core, o.track))
        self.free_at = {self.issuer(q): 0.0 for q in self.queues}
        for core, name in self.queues:
            if issuer_of(name) == "dma by gpsimd":
                self.free_at[core, "dma by gpsimd"] = self.chip.launch_ns.value + self.chip.gpsimd_launch_ns.value
        self.last = dict.fromkeys(self.free_at)
        self.rings = {core: [0.0] * int(self.chip.dma_rings.value) for core in self.turns}
        self.moved = dict.fromkeys(self.turns)
        self.cells = {core: [self.chip.launch_ns.value] * CELLS for core in self.turns}
        self.ports: dict[tuple[int, str], tuple[float, int]] = {}
        self.clocks = {core: Throttle(self.chip) for core in self.turns}
        self.ready_at = [self.chip.launch_ns.value] * len(events)
        self.reason: list[tuple[Any, str]] = [(None, "start")] * len(events)
        self.arrived: list[int] = []
        self.seen_by_others: dict[int, float] = {}
        self.tiles = self.tiles_of(events)
        self.needs = [[tile for tile in self.tiles if i in tile.events] for i in range(len(events))]

    def issuer(self, queue: tuple[int, str]) -> tuple[int, str]:
        name = issuer_of(queue[1])
        return queue[0], "scalar" if name == "dma by scalar" else name

    def tiles_of(self, events: Any) -> list[Tile]:
        """In the order of their first use."""
        found: dict[tuple[int, int], Tile] = {}
        for index, event in enumerate(events):
            for region in event.reads + event.writes:
                a = region.allocation
                if a.buffer in ("sbuf", "psum") and a.address is None:
                    tile = found.setdefault(
                        (event.core, a.id), Tile((event.core, a.buffer), partition_bytes(a, self.chip))
                    )
                    if index not in tile.events:
                        tile.events.append(index)
        return list(found.values())

    def run(self) -> dict[int, dict[str, Any]]:
        now = self.chip.launch_ns.value
        while True:
            while self.step(now):
                pass
            times = [time for span in self.spans.values() for time in (span["free"], span["end"])]
            times += [at + self.work[i].lead for i, (at, _, _) in self.issues.items()]
            times += [*self.free_at.values(), *[port[0] for port in self.ports.values()], *self.ready_at]
            times += [time for some in (self.rings, self.cells) for each in some.values() for time in each]
            later = [time for time in times if time > now]
            if not later:
                return self.spans
            now = min(later)

    def step(self, now: float) -> bool:
        """Whether anything happens."""
        self.make_room(now)
        self.arrived = [i for i, (at, _, _) in self.issues.items() if at + self.work[i].lead <= now]
        before = len(self.spans), len(self.issues)
        for queue in self.queues:
            if self.waiting_to_move(queue):
                self.move(queue[0], now)
            self.dispatch(queue, now)
        for queue in self.queues:
            if self.free_at[self.issuer(queue)] > now:
                self.lend(queue, now)
        return (len(self.spans), len(self.issues)) != before

    def make_room(self, now: float) -> None:
        done = [t for t in self.tiles if not t.gone and all(i in self.spans for i in t.events)]
        leaving = [(max((self.spans[i]["end"], i) for i in tile.events), tile) for tile in done]
        leaving = [(end, tile) for end, tile in leaving if end[0] <= now]
        for memory in {tile.memory for tile in self.tiles}:
            self.admit(memory, now, None)
        for (_, last), tile in sorted(leaving, key=lambda pair: pair[0]):
            tile.gone = True
            self.admit(tile.memory, now, last)

    def admit(self, memory: tuple[int, str], now: float, left: int | None) -> None:
        mine = [tile for tile in self.tiles if tile.memory == memory]
        for tile in mine:
            if not tile.there:
                held = [t for t in mine if t.there and not t.gone]
                if held and sum(t.size for t in held) + tile.size > capacity_of(self.chip, memory[1]):
                    return
                tile.there = True
                for index in tile.events:
                    if now > self.ready_at[index]:
                        self.ready_at[index], self.reason[index] = now, (left, "room")

    def ready(self, queue: tuple[int, str], now: float) -> list[int]:
        """What of a queue could be issued if nothing else kept its issuer, by its place in the program."""
        left = [i for i, q in enumerate(self.queue) if q == queue and i not in self.spans and i not in self.issues]
        can = [i for i in left if self.ready_at[i] <= now and all(tile.there for tile in self.needs[i])]
        can = [i for i in can if all(p in self.spans for p in self.edges[i])]
        ordered = self.in_order or queue[1].startswith("dma")
        return [i for i in can if i == left[0]] if ordered else can

    def dispatch(self, queue: tuple[int, str], now: float) -> None:
        core, issuer = queue[0], self.issuer(queue)
        while True:
            ready = self.ready(queue, now)
            if not ready or self.free_at[issuer] > now:
                return
            index = ready[0]
            work = self.work[index]
            blocker, why = self.last[issuer], "engine"
            if work.port and (core, work.port) in self.ports:
                until, user = self.ports[core, work.port]
                if until > now:
                    return
                if until == now:
                    blocker, why = user, "port"
            if any(self.cells[core][cell] > now for cell in range(CELLS) if work.cells >> cell & 1):
                return
            if now > self.ready_at[index] and blocker is not None:
                issued = why == "engine" and bool(self.work[blocker].queue)
                self.reason[index] = blocker, "issue" if issued else why
            self.last[issuer] = index
            if work.queue:
                self.issues[index] = (now, *self.reason[index])
                self.free_at[issuer] = now + work.issue
            else:
                self.execute(index, queue, work, now)

    def lend(self, lender: tuple[int, str], now: float) -> None:
        for other in self.lends[lender]:
            if self.free_at[self.issuer(other)] > now or self.ready(other, now):
                continue
            for index in self.ready(lender, now):
                work = self.work[index]
                mine = [w for w in work.elsewhere if w.track == other[1]]
                if not mine or self.seen_by_others.get(index, 0.0) > now:
                    continue
                here = self.free_at[self.issuer(lender)] + work.busy + work.latency
                if now + mine[0].busy + mine[0].latency > here:
                    continue
                if mine[0].port and self.ports.get((lender[0], mine[0].port), (0.0, 0))[0] > now:
                    continue
                self.work[index], self.queue[index] = mine[0], other
                self.last[self.issuer(other)] = index
                self.execute(index, other, mine[0], now)
                break

    def execute(self, index: int, queue: tuple[int, str], work: Any, now: float) -> None:
        core = queue[0]
        busy = self.clocks[core].time(now, work.busy) if work.multiplies else work.busy
        between = self.chip.min_cycles.value / self.chip.tensor_ghz.value
        self.free_at[self.issuer(queue)] = now + (min(busy, between) if work.cells else busy)
        for cell in range(CELLS):
            if work.cells >> cell & 1:
                self.cells[core][cell] = now + busy
        if work.port:
            self.ports[core, work.port] = now + busy, index
        self.begin(index, queue[1], now, busy, work)

    def begin(self, index: int, track: str, now: float, busy: float, work: Any) -> None:
        after, why = self.reason[index]
        span = {
            "track": "dma" if work.queue else track,
            "start": now,
            "free": now + busy,
            "end": now + busy + work.latency,
        }
        self.spans[index] = {**span, "after": after, "why": why, "issue": self.issues.get(index)}
        for i, waits in enumerate(self.edges):
            if index in waits:
                in_turn = not work.queue and self.queue[i] == self.queue[index]
                soon = in_turn and (track == "tensor" or waits[index] != "data")
                at = now + busy if soon else now + busy + work.latency
                if soon and self.work[i].elsewhere:
                    self.seen_by_others[i] = max(now + busy + work.latency, self.seen_by_others.get(i, 0.0))
                if at > self.ready_at[i]:
                    self.ready_at[i], self.reason[i] = at, (index, waits[index])

    def waiting_to_move(self, queue: tuple[int, str]) -> list[int]:
        """The transfers of a queue that are at their first byte, in their order."""
        return [i for i in self.arrived if self.queue[i] == queue and i not in self.spans]

    def move(self, core: int, now: float) -> None:
        while True:
            turn = next((q for q in self.turns[core] if self.waiting_to_move(q)), None)
            if turn is None:
                return
            index = self.waiting_to_move(turn)[0]
            work = self.work[index]
            free = [self.rings[core][ring] for ring in work.rings]
            if min(free) > now:
                return
            self.turns[core] = [q for q in self.turns[core] if q != turn] + [turn]
            start = max(now, *free)
            if start > now or min(free) == now:
                self.reason[index] = self.moved[core], "rings"
            self.moved[core] = index
            for ring in work.rings:
                self.rings[core][ring] = max(self.rings[core][ring], now) + work.busy
            self.begin(index, "dma", start, work.busy, work)


def edges_of(trace: Any) -> Any:
    """What events wait for, with what two cores that meet wait for together."""
    edges, events = hazards(trace), trace.events
    meetings: dict[Any, dict[int, list[int]]] = {}
    for index, event in enumerate(events):
        if event.op == "core_barrier" or "pipe" in event.attributes:
            key = event.op, event.attributes.get("pipe")
            meetings.setdefault(key, {0: [], 1: []})[event.core].append(index)
    for sides in meetings.values():
        for pair in zip(sides[0], sides[1], strict=False):
            waits = {p for each in pair for p in edges[each]}
            for each in pair:
                same = [
                    i
                    for i in range(each)
                    if (events[i].core, events[i].engine) == (events[each].core, events[each].engine)
                ]
                waits |= set(same[-1:])
            for each in pair:
                for p in waits:
                    if p < min(pair):
                        edges[each].setdefault(p, "meeting")
    for index, event in enumerate(events):
        for region in event.reads:
            before = [
                i
                for i in range(index)
                if events[i].op == "core_barrier"
                and events[i].core == event.core
                and region.allocation.id in [r.allocation.id for r in events[i].reads]
            ]
            for barrier in before[-1:]:
                edges[index].setdefault(barrier, "data")
    return edges


def plain(trace: Any, order: str) -> list[dict[str, Any]] | None:
    """The spans of a trace, or None where it has no timeline."""
    edges, work = edges_of(trace), works(trace)
    n = len(trace.events)

    def end(spans: list[dict[str, Any]]) -> float:
        return max((span["end"] for span in spans), default=0.0)

    def run(trace: Any, work: Any, order: list[int], in_order: bool) -> list[list[dict[str, Any]]]:
        found = Plain(*arranged(trace, work, edges, order), in_order=in_order).run()
        back = {order[i]: moved_back(span, order) for i, span in found.items()}
        return [[back[i] for i in range(n)]] if len(back) == n else []

    written = list(range(n))
    if order == "program":
        return next(iter(run(trace, work, written, True)), None)
    whole = replace(trace, chip=replace(trace.chip, warm_up_ns=replace(trace.chip.warm_up_ns, value=0)))
    by_loads = by_need(are_loads(trace.events), *numbered(edges)).tolist()
    plans = run(whole, work, by_loads, False) or run(whole, work, written, False)
    least = trace.chip.launch_ns.value + max(loads_of(trace.chip, works_of(trace)).values(), default=0.0)
    if not plans or end(plans[0]) > 1.05 * least:
        plans += run(whole, work, written, True)
    if not plans:
        return None
    plan = min(plans, key=end)
    begun = [span["issue"][0] if span["issue"] else span["start"] for span in plan]
    given = [next((o for o in w.elsewhere if o.track == s["track"]), w) for w, s in zip(work, plan, strict=True)]
    return run(trace, given, sorted(written, key=begun.__getitem__), True)[0]


def arranged(trace: Any, work: Any, edges: Any, order: list[int]) -> tuple[Any, Any, Any]:
    """A trace with its work and edges in another order."""
    place = {old: new for new, old in enumerate(order)}
    waits = [{place[producer]: why for producer, why in edges[old].items()} for old in order]
    return replace(trace, events=[trace.events[old] for old in order]), [work[old] for old in order], waits


def moved_back(span: dict[str, Any], order: list[int]) -> dict[str, Any]:
    def old(after: Any) -> Any:
        return None if after is None else order[after]

    issue = span["issue"] and (span["issue"][0], old(span["issue"][1]), span["issue"][2])
    return {**span, "after": old(span["after"]), "issue": issue}
