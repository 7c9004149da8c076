"""Who triggers a transfer: when its first byte moves, and what else the trigger keeps waiting."""

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule
from triptych.simulator.timing.queues import FROM_SBUF, lead_ns, queue_of
from triptych.simulator.timing.reading.critical_path import critical_path, stalls, steps

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TRN2 = chip_of("trn2")
LAUNCH, VECTOR = TRN2.launch_ns.value, TRN2.vector_latency_ns.value
START, BY_HARDWARE = 740, 1330  # ns, trn2: from the begin of an issue to the first byte
GPSIMD, ISSUE = 1290, 600  # ns, trn2: GpSimd's first trigger after the launch, and a transfer that hardware issues
X = np.ones((128, 4096), np.float32)

OPEN, STATIC = {}, {"dge_mode": nisa.dge_mode.none}
SOFTWARE, HARDWARE = ({"dge_mode": mode} for mode in (nisa.dge_mode.swdge, nisa.dge_mode.hwdge))
SYNC, SCALAR = ({**HARDWARE, "engine": engine} for engine in (nisa.engine.sync, nisa.engine.scalar))


def timeline_of(program, target="trn2", order="overlapped", cores=1):
    def kernel(x):
        program(x)
        return x

    return schedule(simulator.run(simulator.jit(kernel)[cores], X, target=target).trace, order)


def spans_of(*program, **on):
    """The spans of a program by the core and the names that it gives its instructions."""
    found = timeline_of(*program, **on)
    return {(s.core, found.trace.events[s.index].name): s for s in found.spans}


def load(x, name, how, n=512):
    tile = nl.ndarray((128, n), nl.float32)
    nisa.dma_copy(tile, x[:, 0:n], name=name, **how)
    return tile


def filled(name, n):
    tile = nl.ndarray((128, n), nl.float32)
    nisa.memset(tile, 1.0, engine=nisa.engine.vector, name=name)
    return tile


@pytest.mark.parametrize(
    ("queue", "lead"),
    [("sync", BY_HARDWARE), ("scalar", BY_HARDWARE), ("gpsimd", START), ("static", START), ("cores", START)],
)
def test_hardware_takes_longer_to_the_first_byte(queue, lead):
    assert lead_ns(queue, TRN2) == lead
    if queue != "cores":
        assert lead_ns(f"{queue}, from SBUF", TRN2) == lead


@pytest.mark.parametrize(
    ("target", "how", "after"),
    [
        ("trn2", OPEN, GPSIMD + START),
        ("trn2", SOFTWARE, GPSIMD + START),
        ("trn2", STATIC, START),
        ("trn2", SYNC, BY_HARDWARE),
        ("trn2", SCALAR, BY_HARDWARE),
        ("trn3", OPEN, GPSIMD + START),
        ("trn1", OPEN, START),  # whose descriptors lie in HBM
    ],
)
@pytest.mark.parametrize("order", ["overlapped", "program"])
def test_the_first_byte_after_the_launch(target, how, after, order):
    spans = spans_of(lambda x: load(x, "load", how), target=target, order=order)
    assert spans[0, "load"].start_ns == chip_of(target).launch_ns.value + after
    assert spans[0, "load"].why == "start"


def test_gpsimd_of_each_core_triggers_its_first_as_late_and_others_at_their_pace():
    def program(x):
        for i in range(2):
            load(x, f"load {i}", SOFTWARE, 64)
        nisa.iota(nl.ndarray((128, 64), nl.int32), [[1, 64]], name="its own instruction")

    spans = spans_of(program, cores=2)
    for core in (0, 1):
        assert spans[core, "load 0"].start_ns == LAUNCH + GPSIMD + START
        assert spans[core, "load 1"].start_ns == LAUNCH + GPSIMD + 603 + START
        assert spans[core, "its own instruction"].start_ns == LAUNCH


def test_what_gpsimd_triggers_later_waits_for_its_data_alone():
    def program(x):
        a = filled("fill", 4096)
        nisa.dma_copy(nl.ndarray((128, 4096), nl.float32, nl.private_hbm), a, name="store", **SOFTWARE)

    spans = spans_of(program)
    filled_at = LAUNCH + (4096 + 64) / 0.96 + VECTOR
    assert filled_at > LAUNCH + GPSIMD and spans[0, "store"].start_ns == pytest.approx(filled_at + START)


@pytest.mark.parametrize(("how", "issued"), [(SCALAR, 3 * ISSUE), (SYNC, 0), (SOFTWARE, 0), (STATIC, 0)])
@pytest.mark.parametrize("order", ["overlapped", "program"])
def test_scalar_runs_nothing_while_it_triggers_transfers(how, issued, order):
    """Three loads are triggered from the launch on; what Scalar has to copy is there before the second."""

    def program(x):
        for i in range(3):
            load(x, f"load {i}", how, 64)
        nisa.activation(nl.ndarray((128, 8), nl.float32), nl.copy, filled("fill", 8), name="copy")

    spans = spans_of(program, order=order)
    ready = (64 + 64) / 0.96 + VECTOR
    assert spans[0, "copy"].start_ns == pytest.approx(LAUNCH + max(ready, issued))
    decided = ("issue", "load 2") if issued else ("data", "fill")
    assert (spans[0, "copy"].why, spans[0, "copy"].after) == (decided[0], spans[0, decided[1]].index)


def test_scalar_takes_a_copy_over_as_soon_as_it_has_triggered_its_last_transfer():
    """Nothing else happens at that moment: Vector copies, and no transfer has begun to move."""

    def program(x):
        for i in range(2):
            load(x, f"load {i}", SCALAR, 64)
        a = nl.ndarray((128, 512), nl.float32, nl.psum)
        nisa.memset(a, 1.0, engine=nisa.engine.vector)
        for i in range(4):
            nisa.tensor_copy(nl.ndarray((128, 512), nl.float32), a, name=f"copy {i}")

    spans = spans_of(program)
    assert min(s.start_ns for s in spans.values() if s.track == "scalar") == LAUNCH + 2 * ISSUE


@pytest.mark.parametrize(("how", "lead", "waits"), [(SCALAR, BY_HARDWARE, True), (SYNC, BY_HARDWARE, False)])
@pytest.mark.parametrize("order", ["overlapped", "program"])
def test_scalar_triggers_nothing_while_it_runs_an_instruction(how, lead, waits, order):
    """What is stored is there while Scalar copies 4096 elements, or what is loaded may be."""

    def program(x):
        nisa.activation(nl.ndarray((128, 4096), nl.float32), nl.copy, filled("long", 4096), name="copy")
        short = filled("short", 512)
        nisa.dma_copy(nl.ndarray((128, 512), nl.float32, nl.private_hbm), short, name="store", **how)

    spans = spans_of(program, order=order)
    copy, store = spans[0, "copy"], spans[0, "store"]
    assert copy.busy_ns == pytest.approx((4096 + 64 + 45) / 1.2 + 1283)  # and its table
    assert copy.start_ns < spans[0, "short"].end_ns < copy.free_ns
    assert store.start_ns == pytest.approx((copy.free_ns if waits else spans[0, "short"].end_ns) + lead)
    decided = ("engine", copy) if waits else ("data", spans[0, "short"])
    assert (store.why, store.after) == (decided[0], decided[1].index)


def test_both_queues_of_scalar_and_its_instructions_take_turns():
    """A load, a store and copies: none begins while another keeps Scalar."""

    def program(x):
        a = filled("fill", 8)
        for i in range(3):
            load(x, f"load {i}", SCALAR, 64)
            nisa.dma_copy(nl.ndarray((128, 8), nl.float32, nl.private_hbm), a, name=f"store {i}", **SCALAR)
            nisa.activation(nl.ndarray((128, 8), nl.float32), nl.copy, a, name=f"copy {i}")

    spans = spans_of(program)
    kept = [(s.start_ns, s.busy_ns) for (_, name), s in spans.items() if "copy" in name]
    kept += [(s.start_ns - BY_HARDWARE, ISSUE) for s in spans.values() if s.track == "dma"]
    kept.sort()
    assert len(kept) == 9 and kept[0][0] == LAUNCH
    assert [now + ns for now, ns in kept[:-1]] == pytest.approx([now for now, _ in kept[1:]])


@pytest.mark.parametrize("order", ["overlapped", "program"])
def test_the_critical_path_leads_through_an_issue_and_not_through_what_the_transfer_waited_for_later(order):
    """Scalar triggers three loads, of which two wait long for rings, and copies when it has triggered the last."""

    def program(x):
        tiles = [nl.ndarray((128, 4096), nl.float32) for _ in range(3)]
        nisa.dma_copy(tiles[0], x, name="load 0", **SCALAR)
        nisa.dma_copy(tiles[1], x, name="load 1", **SCALAR)
        nisa.dma_copy(tiles[2], x, name="load 2", **SCALAR)
        a = filled("fill", 8)
        for i in range(200):
            nisa.activation(a, nl.copy, a, name=f"copy {i}")
        for tile in tiles:
            nisa.tensor_tensor(a, a, tile[:, 0:8], nl.add, engine=nisa.engine.vector, name="sum")

    found = timeline_of(program, order=order)
    path = critical_path(found)
    names = [found.trace.events[span.index].name for span in path]
    assert names[-5:] == ["copy 1", "copy 0", "load 2", "load 1", "load 0"]
    first, last = path[-4], path[-3]
    assert last.why == "rings" and last.start_ns > first.start_ns == LAUNCH + 3 * ISSUE
    us = [(step.op, step.us) for step in steps(found, path)]
    assert [time for op, time in us if op == "dma_copy"] == pytest.approx([ISSUE / 1e3] * 3), "a line each"
    assert sum(time for _, time in us) == pytest.approx((path[0].end_ns - LAUNCH) / 1e3)
    (stall,) = [stall for stall in stalls(found) if stall.why == "issue"]
    assert (stall.track, stall.op, stall.waits_for) == ("scalar", "activation", "dma_copy")


@pytest.mark.parametrize(("rows", "skew"), [(1, 0), (8, 0), (9, 210), (128, 210)])
def test_rings_of_one_transfer_do_not_begin_together(rows, skew):
    """A ring has eight partitions: of one alone nothing is waited for."""

    def program(x):
        nisa.dma_copy(nl.ndarray((rows, 512), nl.float32), x[0:rows, 0:512], name="load")

    span = spans_of(program)[0, "load"]
    assert span.end_ns - span.start_ns - span.busy_ns == pytest.approx(TRN2.dma_end_ns.value + skew)


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_sums_by_dma_have_no_dge_unless_they_gather(target):
    def kernel(x, rows):
        index, tile = nl.ndarray((128, 1), nl.int32), nl.ndarray((128, 64), nl.float32)
        nisa.dma_copy(index, rows, name="load")
        nisa.dma_compute(tile, [x[:, 0:64], x[:, 64:128]], nl.add, name="sum")
        nisa.dma_compute(tile, [tile, x[:, 0:64].vector_select(0, index)], nl.add, name="gather")
        return x

    rows = np.arange(128, dtype=np.int32).reshape(128, 1)
    trace = simulator.run(kernel, X, rows, target=target).trace
    queues = {event.name: queue_of(event, trace.chip) for event in trace.events}
    assert queues == {"load": "gpsimd", "sum": "static", "gather": "gpsimd" + FROM_SBUF}
