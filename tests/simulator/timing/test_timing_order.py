"""The order in which transfers are issued, and what else decides when they move, by hand."""

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule
from triptych.simulator.timing.links import numbered
from triptych.simulator.timing.order import are_loads, by_need
from triptych.simulator.timing.work import works

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

X = np.ones((128, 512), np.float32)
ISSUE = 603  # ns a transfer that is left open, by GpSimd
LAUNCH = chip_of("trn2").launch_ns.value
FIRST = LAUNCH + 740  # ns, trn2: when the first transfer moves whose descriptors lie in HBM


def traced(program, target="trn2"):
    def kernel(x):
        program(x)
        return x

    options = Options(check_uninitialized=False, check_capacity=False)
    return simulator.run(kernel, X, target=target, options=options).trace


def tile(n=512, dtype="float32", p=128, **more):
    return nl.ndarray((p, n), dtype, nl.sbuf, **more)


def order_of(program):
    trace = traced(program)
    return [trace.events[i].name for i in by_need(are_loads(trace.events), *numbered(hazards(trace)))]


def test_loads_come_before_what_needs_them_first():
    def program(x):
        a, b, c = tile(), tile(), tile()
        for name, t in (("load a", a), ("load b", b), ("load c", c)):
            nisa.dma_copy(t, x, name=name)
        nisa.activation(tile(), nl.exp, c, name="use c")
        nisa.tensor_tensor(tile(), a, c, nl.add, name="use a and c")
        nisa.activation(tile(), nl.exp, b, name="use b")

    assert order_of(program) == ["load c", "use c", "load a", "use a and c", "load b", "use b"]
    trace = traced(program)
    starts = {}
    for order in ("overlapped", "program"):
        spans = {trace.events[s.index].name: s for s in schedule(trace, order).spans}
        starts[order] = sorted((name for name in spans if "load" in name), key=lambda name: spans[name].start_ns)
        assert [s.index for s in schedule(trace, order).spans] == list(range(6))
    assert starts == {"overlapped": ["load c", "load a", "load b"], "program": ["load a", "load b", "load c"]}


def test_queues_take_turns_also_when_one_has_no_more():
    """Behind a transfer on all rings wait three of one queue and one of another, each on a ring of its own."""

    def program(x):
        nisa.dma_copy(tile(), x, dge_mode=nisa.dge_mode.none)
        for i in range(4):
            mode = nisa.dge_mode.hwdge if i == 3 else nisa.dge_mode.none
            rows = slice(8 * i, 8 * i + 8)
            nisa.dma_copy(tile()[rows], x[rows], dge_mode=mode)

    first, *others = schedule(traced(program), "program").spans
    assert {(s.start_ns, s.why, s.rings) for s in others} == {(first.free_ns, "rings", 1)} and first.rings == 16
    assert [s.after for s in others] == [4, 1, 2, 0]  # the other queue's first: the first transfer had its turn


def test_a_load_through_another_comes_before_both():
    def program(x):
        a, b = tile(), tile()
        nisa.dma_copy(a, x, name="into a")
        nisa.memset(tile(), 1.0, name="beside")
        nisa.dma_copy(b, a, name="a to b")
        nisa.memset(tile(), 1.0, name="beside too")
        nisa.activation(tile(), nl.exp, b, name="use b")

    assert order_of(program) == ["beside", "beside too", "into a", "a to b", "use b"]


def test_what_a_load_waits_for_stays_before_it_and_stores_stay():
    """b is read before it is loaded, and what follows overwrites what was stored and loaded."""

    def program(x):
        a, b = tile(), tile()
        nisa.memset(b, 1.0, name="fill b")
        nisa.activation(a, nl.exp, b, name="read b")
        nisa.dma_copy(b, x, name="load b")
        nisa.dma_copy(nl.ndarray((128, 512), "float32", nl.private_hbm), a, name="store a")
        nisa.memset(a, 1.0, name="fill a")
        nisa.memset(b, 2.0, name="fill b again")

    assert order_of(program) == ["fill b", "read b", "store a", "fill a", "load b", "fill b again"]


@pytest.mark.parametrize(
    ("target", "p", "n", "dtype", "queue"),
    [
        ("trn2", 128, 128, "bfloat16", "static"),  # hardware makes descriptors for 16 rows alone
        ("trn2", 16, 128, "bfloat16", "sync"),
        ("trn2", 16, 64, "bfloat16", "static"),
        ("trn2", 8, 128, "bfloat16", "static"),
        ("trn2", 16, 128, "float32", "static"),
        ("trn1", 16, 128, "bfloat16", "static"),
    ],
)
def test_who_issues_a_transpose(target, p, n, dtype, queue):
    def program(x):
        source = nl.ndarray((p, n), dtype, nl.private_hbm)
        nisa.dma_transpose(tile(p, dtype, n), source)
        nisa.dma_transpose(tile(p, dtype, n), tile(n, dtype, p))

    from_hbm, from_sbuf = works(traced(program, target))
    assert (from_hbm.queue, from_sbuf.queue) == (f"dma by {queue}", f"dma by {queue}, from SBUF")
    assert from_hbm.issue == from_sbuf.issue == {"static": 184, "sync": 600}[queue]


@pytest.mark.parametrize(("target", "queue", "issue"), [("trn1", "static", 184), ("trn2", "gpsimd", ISSUE)])
def test_who_issues_what_is_left_open(target, queue, issue):
    (work,) = works(traced(lambda x: nisa.dma_copy(tile(), x), target))
    assert (work.queue, work.issue) == (f"dma by {queue}", issue)


def test_transfers_on_other_rings_move_at_once_and_on_the_same_in_turn():
    def program(x):
        for name, rows in (("low", slice(0, 64)), ("high", slice(64, 128)), ("middle", slice(60, 68))):
            nisa.dma_copy(tile()[rows], x[rows], dge_mode=nisa.dge_mode.none, name=name)

    trace = traced(program)
    spans = {trace.events[s.index].name: s for s in schedule(trace).spans}
    row = 5.9 + 2048 / 24.375
    assert [works(trace)[i].rings for i in range(3)] == [range(8), range(8, 16), range(7, 9)]
    assert spans["low"].start_ns == FIRST and spans["low"].busy_ns == pytest.approx(8 * row)
    assert spans["high"].start_ns == FIRST + 184
    assert spans["middle"].start_ns == pytest.approx(spans["high"].free_ns) and spans["middle"].why == "rings"
    assert spans["middle"].busy_ns == pytest.approx(4 * row)


def test_a_transfer_begins_on_each_ring_when_that_is_free():
    """The second waits for the first on half of its rings, and has left the others when the third needs them."""

    def program(x):
        low, high = slice(0, 64), slice(64, 128)
        for name, rows in (("low", low), ("all", slice(0, 128)), ("high", high), ("low again", low)):
            nisa.dma_copy(tile()[rows], x[rows], dge_mode=nisa.dge_mode.none, name=name)

    trace = traced(program)
    spans = {trace.events[s.index].name: s for s in schedule(trace).spans}
    moved = 8 * (5.9 + 2048 / 24.375)
    assert spans["low"].start_ns == FIRST
    assert spans["all"].start_ns == pytest.approx(FIRST + moved)  # on the rings that are free last
    assert spans["all"].free_ns == pytest.approx(FIRST + 2 * moved)
    assert spans["high"].start_ns == pytest.approx(FIRST + 184 + moved) and spans["high"].why == "rings"
    assert spans["low again"].start_ns == pytest.approx(spans["all"].free_ns)


def test_tensors_with_addresses_ask_for_no_room():
    """Two of 200 KiB a partition share their bytes, and a third without an address has 200 KiB for itself."""

    def program(x):
        for name in ("first", "second"):
            nisa.memset(tile(51_200, address=(0, 0)), 1.0, name=name)
        nisa.memset(tile(51_200), 1.0, engine=nisa.engine.gpsimd, name="beside")

    trace = traced(program)
    spans = {trace.events[s.index].name: s for s in schedule(trace).spans}
    assert spans["beside"].start_ns == spans["first"].start_ns == LAUNCH
    assert {s.why for s in spans.values()} == {"start", "order"}


def test_a_copy_is_taken_over_when_what_it_overwrites_can_be_seen():
    """Tensors with addresses make no room when they are used for the last time, which is a moment for others."""

    def program(x):
        a, b = tile(address=(0, 0)), tile(address=(0, 2048))
        for t, name in ((a, "a"), (b, "b"), (tile(8192), "long")):
            nisa.memset(t, 1.0, engine=nisa.engine.vector, name=name)
        nisa.tensor_copy(b, a, name="copy")

    trace = traced(program)
    spans = {trace.events[s.index].name: s for s in schedule(trace).spans}
    assert spans["copy"].track == "scalar" and spans["copy"].start_ns == spans["b"].end_ns < spans["long"].free_ns


@pytest.mark.parametrize(
    ("buffer", "n", "shares"), [("psum", 84, False), ("psum", 88, True), ("sbuf", 84, False), ("sbuf", 88, True)]
)
def test_vector_holds_gpsimd_up_in_its_faster_modes(buffer, n, shares):
    """Twice as fast from PSUM, four times in SBUF, but 64 cycles at least: less than 3/4 n from 86 elements on."""
    trace = traced(lambda x: nisa.tensor_copy(tile(n, "bfloat16"), nl.ndarray((128, n), "bfloat16", buffer_of[buffer])))
    assert (works(trace)[0].port is not None) == shares


buffer_of = {"psum": nl.psum, "sbuf": nl.sbuf}
