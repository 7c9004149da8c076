"""What each event asks of the chip: a track, for how long, and how much later its result is there.

The occupation is the instruction's cost (`analysis.costs`); on Vector and Scalar also the cycles of an access and of
columns that it reads beside a tile, and on Scalar of a tile in SBUF; an activation function that is no copy always
reads a bias. Beyond it an engine takes a fixed latency to write, signal and be read by the next, which instructions
that do not depend on each other hide. A transfer occupies the queue that issues it, starts a fixed time after that, and
is known to have ended a fixed time after its last byte. The first use of an activation function loads its table.

Which queue issues a transfer: triptych.simulator.timing.queues.

A matmul in tiling mode takes the cells of the array, 32 x 32, that its tile covers; matmuls on other cells run beside
it (nki/api/nki/isa/__init__.py, nc_matmul).

Engines that share a port take turns: on NeuronCore-v2 Vector and GpSimd in SBUF, and Vector and Scalar in PSUM; later
Vector in its faster modes and GpSimd, and Vector and Scalar in one PSUM bank
(nki/guides/architecture/trainium_inferentia2_arch.rst, trainium2_arch.rst).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from triptych.simulator.analysis.descriptors import descriptors
from triptych.simulator.chip.record import Chip
from triptych.simulator.machine.table import row_of
from triptych.simulator.timing.forms import forms
from triptych.simulator.timing.queues import issue_ns, lead_ns, queue_of
from triptych.simulator.trace import Event, Trace

SBUF_PORT, PSUM_PORT = "SBUF port of Vector and GpSimd", "PSUM port of Vector and Scalar"
PORTS = (None, SBUF_PORT, PSUM_PORT)


@dataclass(slots=True)  # frozen ones take three times as long to make
class Work:
    """What one event asks for. Times are nanoseconds."""

    core: int
    track: str
    busy: float
    latency: float  # from the end of the occupation to the use of the result
    issue: float = 0.0  # DMA: how long the queue that issues it is busy
    lead: float = 0.0  # DMA: from the issue to the first byte
    rings: range = range(0)  # DMA: which move it
    port: str | None = None  # shared with another engine
    queue: str = ""  # DMA: which issues it
    cells: int = 0  # a bit for each of the 16 cells of the Tensor Engine's array; 0 where no matmul is tiled
    multiplies: bool = False  # whether it uses the array of the Tensor Engine
    elsewhere: tuple[Work, ...] = ()  # the same on the other engines to which the compiler may give it


class Works(NamedTuple):
    """What the events of a trace ask for, each once."""

    kinds: list[Work]
    first: list[Event]  # an event that asks for each
    of_event: list[int]  # the number of each event's


def works(trace: Trace) -> list[Work]:
    """The work of each event; events of one form share it."""
    kinds, _, of_event = works_of(trace)
    return [kinds[number] for number in of_event]


def works_of(trace: Trace, compiled: Any = None) -> Works:
    """What the events of a trace ask for.

    compiled: simulator/compiled/walks.c, or None where it is not built
    """
    of_event, first = forms(trace, compiled)
    cores = len({event.core for event in first})
    chip = _shared_memory(trace.chip, cores)
    latencies = {
        "tensor": chip.tensor_latency_ns.value,
        "vector": chip.vector_latency_ns.value,
        "scalar": chip.scalar_latency_ns.value,
        "gpsimd": chip.gpsimd_latency_ns.value,
        "sync": 0.0,
    }
    access = {
        "vector": chip.access_cycles.value / chip.vector_ghz.value,
        "scalar": chip.access_cycles.value / chip.scalar_ghz.value,
    }
    tiled = any(["tile" in event.attributes for event in first])

    def on_engine(event: Event, loads_table: bool) -> Work:
        cost = row_of(event.op).cost(event, chip)
        cells = _cells(event) if tiled and event.engine == "tensor" else 0
        if event.op == "core_barrier":  # accesses nothing on chip, and multiplies nothing
            return Work(event.core, event.engine, cost, latencies[event.engine], cells=cells)
        busy = cost + access.get(event.engine, 0.0) + _operands(event, chip)
        if loads_table:
            busy += chip.table_load_ns.value
        port, latency = _port(event, chip, cost), latencies[event.engine]
        multiplies = event.engine == "tensor"
        return Work(event.core, event.engine, busy, latency, port=port, cells=cells, multiplies=multiplies)

    def of_form(event: Event, loads_table: bool) -> Work:
        if event.engine == "dma":
            return _transfer(event, chip, row_of(event.op).cost(event, chip))
        work = on_engine(event, loads_table)
        if "open" in event.attributes:
            work.elsewhere = tuple([on_engine(other, loads_table) for other in _elsewhere(event, chip)])
        return work

    found = Works([of_form(event, False) for event in first], first, of_event)
    loading: dict[tuple[int, str], int] = {}  # the form of the event that loads a table
    for number, event in enumerate(first):
        if "activat" in event.op:
            loading.setdefault((event.core, str(event.attributes["op"])), number)
    for number in loading.values():
        of_event[of_event.index(number)] = len(found.kinds)
        found.kinds.append(of_form(first[number], True))
        first.append(first[number])
    if any([work.elsewhere for work in found.kinds]):
        _keep_on_vector(trace.chip, found)
    return found


def _operands(event: Event, chip: Chip) -> float:
    """What an instruction takes for the columns that it reads, one element a partition, and on Scalar for SBUF."""
    most = max([r.free_size for r in event.reads], default=1)
    columns = sum(r.free_size == 1 for r in event.reads) if most > 1 else 0
    if event.engine == "vector":
        return chip.operand_cycles.value / chip.vector_ghz.value if columns else 0.0
    if event.engine != "scalar" or not event.reads:
        return 0.0
    if "activat" in event.op and _function(event) != "copy":
        columns = max(columns + (not event.attributes["bias"]), 1)
    in_sbuf = event.reads[0].allocation.buffer == "sbuf"
    cycles = columns * chip.scalar_operand_cycles.value + in_sbuf * chip.scalar_sbuf_cycles.value
    return cycles / chip.scalar_ghz.value


def _function(event: Event) -> str:
    """The activation function; activate2 also has the operators of the steps before it."""
    op = event.attributes["op"]
    return str(op[-1] if isinstance(op, tuple) else op)


def _elsewhere(event: Event, chip: Chip) -> list[Event]:
    """A Vector instruction that the kernel left open, on each other engine that can run it.

    GpSimd cannot reach PSUM. Scalar casts through float32, which holds no integer of four bytes, and has no copy on
    NeuronCore-v2.
    """
    regions = (*event.reads, *event.writes)
    engines = []
    if chip.generation > 2 and not any([r.dtype.is_int and r.dtype.itemsize == 4 for r in regions]):
        engines.append("scalar")
    if not any([r.allocation.buffer == "psum" for r in regions]):
        engines.append("gpsimd")
    return [
        Event(event.op, engine, event.reads, event.writes, event.line, event.core, event.name, event.attributes)
        for engine in engines
    ]


def loads_of(chip: Chip, works: Works) -> dict[tuple[int, str], float]:
    """How long each track of each core is occupied in all; DMA and tiled matmuls, the mean of its rings or cells."""
    rings = chip.dma_rings.value
    counts = np.bincount(works.of_event, minlength=len(works.kinds)).tolist()
    loads: dict[tuple[int, str], float] = {}
    for each, count in zip(works.kinds, counts, strict=True):
        part = len(each.rings) / rings if each.queue else each.cells.bit_count() / CELLS if each.cells else 1.0
        of_track = each.core, each.track
        loads[of_track] = loads.get(of_track, 0.0) + count * each.busy * part
    return loads


def _keep_on_vector(chip: Chip, works: Works) -> None:
    """What is left open stays on Vector where another part of the core has more to do.

    So it is in AWS's last step of its matmul ladder on Trn2: 5,403 instructions on Vector, of 5,120 copies left open.
    """
    loads = loads_of(chip, works)
    most = {core: max((ns, track) for (c, track), ns in loads.items() if c == core)[1] for core, _ in loads}
    for each in works.kinds:
        if most[each.core] != "vector":
            each.elsewhere = ()


CELLS = 16  # of 32 rows x 32 columns


def _cells(event: Event) -> int:
    """The cells of the array that a matmul takes: bit 4 r + c for rows from 32 r and columns from 32 c."""
    if "tile" not in event.attributes:
        return (1 << CELLS) - 1
    row, column, rows, columns = event.attributes["tile"]
    return sum(
        1 << 4 * r + c
        for r in range(row // 32, (row + rows) // 32)
        for c in range(column // 32, (column + columns) // 32)
    )


def _shared_memory(chip: Chip, cores: int) -> Chip:
    """The chip, with as much DMA as the HBM that so many cores share can feed."""
    if cores < 2 or chip.hbm_cores.value < 2:
        return chip
    share = min(chip.dma_gb_per_s.value, chip.hbm_gb_per_s.value / cores)
    return replace(chip, dma_gb_per_s=replace(chip.dma_gb_per_s, value=share))


def _transfer(event: Event, chip: Chip, busy: float) -> Work:
    rings = range(int(chip.dma_rings.value))
    if event.op == "dma_copy" and event.reads and event.writes:
        rings = descriptors(event.reads, event.writes, chip).rings
    queue = queue_of(event, chip)
    issue = issue_ns(queue, chip)
    start = lead_ns(queue, chip)
    known = chip.dma_end_ns.value + (chip.dma_skew_ns.value if len(rings) > 1 else 0.0)
    return Work(event.core, "dma", busy, known, issue, start, rings, queue=f"dma by {queue}")


def _port(event: Event, chip: Chip, cost: float) -> str | None:
    if event.engine not in ("vector", "scalar", "gpsimd"):
        return None
    regions = (*event.reads, *event.writes)
    if chip.generation == 2:
        if any([r.allocation.buffer == "psum" for r in regions]):
            return PSUM_PORT
        return None if event.engine == "scalar" else SBUF_PORT
    if event.engine == "gpsimd":
        return SBUF_PORT
    if event.engine == "vector" and event.op in ("tensor_copy", "tensor_scalar", "tensor_tensor"):
        n = max([r.free_size for r in regions])
        if n > chip.min_cycles.value and cost < 0.75 * n / chip.vector_ghz.value:
            return SBUF_PORT
    return None
