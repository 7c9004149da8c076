"""A trace as the clock takes it: what each event asks for, waits for and needs room for, in numbers.

A kernel of a million instructions asks for a few dozen things. Each stands once, with numbers in the place of names, so
that what happens at one moment looks nothing up.
"""

from __future__ import annotations

from typing import NamedTuple

from triptych.simulator.analysis.hazards import Edges
from triptych.simulator.timing.queues import issuer_of
from triptych.simulator.timing.room import Tenants
from triptych.simulator.timing.work import PORTS, Work, Works
from triptych.simulator.trace import Trace


class Ask(NamedTuple):
    """What events of one form ask for: `Work` in numbers. Times are nanoseconds."""

    busy: float
    latency: float
    issue: float
    lead: float
    least: float  # how long it keeps its issuer at least
    queue: int
    first: int  # DMA: of the rings that move it
    behind: int  # DMA: the ring behind the last of them
    port: int  # from 1; 0 for none
    cells: int
    multiplies: bool
    elsewhere: tuple[int, ...]  # the asks for the same on other engines


class Line(NamedTuple):
    """A queue: what one engine has to run, or what is issued as DMA in one order."""

    core: int
    issuer: int
    moves: bool  # it issues DMA
    adds: bool  # its results add up in PSUM


class Label(NamedTuple):
    """What a span says of its event's ask."""

    core: int
    track: str
    rings: int


class Program(NamedTuple):
    """All that decides a timeline, but for the order of the events."""

    trace: Trace
    works: Works
    waits: list[Edges]
    tenants: Tenants
    asked: list[int]  # of each event, the number of its ask
    asks: list[Ask]
    labels: list[Label]  # of each ask
    lines: list[Line]  # by core and name, as queues come at one moment
    issuers: list[float]  # when each can issue first
    cores: int
    launch: float
    between_tiles: float  # from one matmul on a part of the array to the next


def program_of(trace: Trace, works: Works, waits: list[Edges], tenants: Tenants) -> Program:
    """The numbers of a trace whose events do that work and wait so."""
    chip = trace.chip
    launch, between_tiles = chip.launch_ns.value, chip.min_cycles.value / chip.tensor_ghz.value
    kinds = [*works.kinds, *[other for each in works.kinds for other in each.elsewhere]]
    numbers = {id(each): number for number, each in enumerate(kinds)}
    tracks = sorted({(each.core, each.queue or each.track) for each in kinds})
    cores = sorted({core for core, _ in tracks})
    issuers: dict[tuple[int, str], int] = {}  # queues of one trigger are issued by one, Scalar's by Scalar itself
    lines: list[Line] = []
    free: list[float] = []
    for core, name in tracks:
        trigger = issuer_of(name)
        issuer = core, "scalar" if trigger == "dma by scalar" else trigger
        if issuer not in issuers:
            issuers[issuer] = len(free)
            free.append(launch + chip.gpsimd_launch_ns.value if trigger == "dma by gpsimd" else 0.0)
        lines.append(Line(cores.index(core), issuers[issuer], name.startswith("dma"), name == "tensor"))

    def ask_of(work: Work) -> Ask:
        least = min(work.busy, between_tiles) if work.cells else work.busy
        return Ask(
            work.busy,
            work.latency,
            work.issue,
            work.lead,
            work.issue if work.queue else least,
            tracks.index((work.core, work.queue or work.track)),
            work.rings.start,
            work.rings.stop,
            PORTS.index(work.port),
            work.cells,
            work.multiplies,
            tuple([numbers[id(other)] for other in work.elsewhere]),
        )

    return Program(
        trace,
        works,
        waits,
        tenants,
        works.of_event,
        [ask_of(each) for each in kinds],
        [Label(each.core, each.track, len(each.rings)) for each in kinds],
        lines,
        free,
        len(cores),
        launch,
        between_tiles,
    )
