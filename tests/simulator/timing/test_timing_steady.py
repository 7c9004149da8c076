"""Steady loops: a schedule of few rounds against that of all, and what is not steady."""

import functools

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import ShapeDtype
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import Prediction, Span, schedule, steady
from triptych.simulator.timing.steady import Loop, shortened, steady_loop
from triptych.simulator.timing.timeline import Issue

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

ROUNDS, EVENTS = 120, 8  # of the loop, and of a round


def product(round_, x, w, out):
    """One round: two loads, four products of their own sum, what leaves PSUM, and a store."""
    a, total = nl.ndarray((128, 128), "float32"), nl.ndarray((128, 512), "float32", nl.psum)
    b, done = nl.ndarray((128, 8, 512), "float32"), nl.ndarray((128, 512), "float32")  # 12 rounds fill SBUF
    nisa.dma_copy(a, x[:, 0:128])
    nisa.dma_copy(b[:, 0], x)
    for _ in range(4):
        nisa.nc_matmul(total, a, b[:, 0])
    nisa.tensor_tensor(done, total, w, nl.add)
    nisa.dma_copy(out[round_], done)


@functools.cache
def traced(body, rounds=ROUNDS):
    """The trace of so many rounds between the load of what all use and a last store."""

    def kernel(x):
        out = nl.ndarray((rounds, 128, 512), "float32", nl.shared_hbm)
        w, last = nl.ndarray((128, 512), "float32"), nl.ndarray((128, 512), "float32")
        nisa.dma_copy(w, x)
        for round_ in range(rounds):
            body(round_, x, w, out)
        nisa.tensor_copy(last, w)
        nisa.dma_copy(out[0], last)
        return out

    return simulator.run(kernel, ShapeDtype((128, 512), "float32"), target="trn2").trace


def test_few_rounds_say_how_long_all_take():
    trace = traced(product)
    whole, some = schedule(trace, "program"), schedule(trace, "program", whole=0)
    assert whole.left_out is None and some.left_out is not None
    assert some.left_out.period == EVENTS and some.left_out.rounds >= ROUNDS // 2 - 3
    assert some.total_ns == pytest.approx(whole.total_ns, rel=max(some.left_out.error, 1e-4))
    assert [(s.index, s.track, s.rings) for s in some.spans] == [(s.index, s.track, s.rings) for s in whole.spans]
    for got, expected in zip(some.spans, whole.spans, strict=True):
        assert got.start_ns == pytest.approx(expected.start_ns, rel=0.01)
        assert got.after is None or got.after < len(trace.events)
    assert (
        str(some.left_out) in repr(Prediction(some, "trn2")) and str(some.left_out) in Prediction(some, "trn2").advice
    )


def test_a_short_trace_is_scheduled_whole():
    trace = traced(product)
    assert schedule(trace).left_out is None
    assert schedule(trace, whole=len(trace.events)).left_out is None


def test_what_is_left_out_is_the_middle_of_the_loop():
    trace = traced(product)
    loop = steady_loop(trace)
    assert loop is not None and loop.period == EVENTS and loop.rounds > ROUNDS - 5
    short = shortened(trace, loop, 4, steady._first_uses(trace))
    assert len(short.events) == len(trace.events) - (loop.rounds - 4) * EVENTS
    assert short.events[: loop.start] == trace.events[: loop.start]
    assert [e.op for e in short.events[-2:]] == ["tensor_copy", "dma_copy"]
    for found, expected in zip(short.events[-2:], trace.events[-2:], strict=True):
        assert found.reads == expected.reads and found.writes == expected.writes  # which come from outside the loop


def test_what_follows_a_loop_uses_the_tensors_of_the_last_round_that_is_left():
    kept = []

    def body(round_, x, w, out):
        product(round_, x, w, out)
        kept[:] = [nl.ndarray((128, 512), "float32"), *kept[:1]]
        nisa.tensor_copy(kept[0], w)
        if round_ == ROUNDS - 1:
            nisa.tensor_copy(w, kept[0])

    trace = traced(body)
    loop = steady_loop(trace)
    short = shortened(trace, loop, 4, steady._first_uses(trace))
    after = short.events[loop.start + 4 * loop.period :]
    seen = {r.allocation.id for e in short.events for r in e.writes}
    assert len(after) < 2 * loop.period and all(r.allocation.id in seen | {0} for e in after for r in e.reads)


def growing(round_, x, w, out):
    """The width changes from round to round."""
    a = nl.ndarray((128, 512), "float32")
    nisa.dma_copy(a, x)
    nisa.tensor_copy(a[:, 0 : 8 + round_], w[:, 0 : 8 + round_])
    nisa.dma_copy(out[round_], a)


def looking_back(round_, x, w, out):
    """Each round reads what half as many rounds before it wrote: the distance grows."""
    a = nl.ndarray((128, 512), "float32")
    nisa.dma_copy(a, out[round_ // 2] if round_ else x)
    nisa.tensor_copy(a, w)
    nisa.dma_copy(out[round_], a)


@pytest.mark.parametrize("body", [growing, looking_back])
def test_a_loop_that_is_not_steady_is_scheduled_whole(body):
    trace = traced(body, 20)
    loop = steady_loop(trace)
    assert loop is None or loop.rounds < 4
    assert schedule(trace, whole=0).spans == schedule(trace).spans


def tiles_alone(x):
    """Rounds of two events, which wait for nothing but each other; a copy of the last round's tile follows."""
    for _ in range(40):
        a = nl.ndarray((128, 8), "float32")
        nisa.memset(a, 0.0)
        nisa.activation(nl.ndarray((128, 8), "float32"), nl.exp, a)
    nisa.tensor_copy(nl.ndarray((128, 8), "float32"), a)
    return x


def test_a_loop_may_begin_with_the_program_and_lose_one_round():
    trace = simulator.run(tiles_alone, np.ones((1, 1), np.float32), target="trn2").trace
    loop = steady_loop(trace)
    assert loop == Loop(0, 2, 40)
    short = shortened(trace, loop, 39, steady._first_uses(trace))
    assert short.events[-1].reads[0].allocation is short.events[-3].writes[0].allocation


def test_a_loop_of_few_rounds_is_scheduled_whole():
    trace = traced(product, rounds=6)
    assert schedule(trace, whole=0).left_out is None


def test_a_total_that_still_changes_is_not_taken(monkeypatch):
    trace = traced(product)
    assert schedule(trace, "program", whole=0).left_out is not None
    monkeypatch.setattr(steady, "STEADY", -1.0)
    assert schedule(trace, "program", whole=0).left_out is None


def test_the_shortest_trace_of_which_a_round_can_be_left_out():
    """Eight rounds are scheduled at least, and eight events are compared at a time."""
    assert steady._repeated(np.full(9, 5)) == Loop(0, 1, 9)
    for few in (1, 7, 8):
        assert steady._repeated(np.full(few, 5)) is None
    assert steady._repeated(np.tile([1, 2, 3, 4], 9)) == Loop(0, 4, 9)
    assert steady._repeated(np.tile([1, 2, 3, 4], 8)) is None


def decoys(separations):
    """Eight zeros again and again, with so many events between that are like no other."""
    fresh = iter(range(1000, 10**6))
    return [number for n in separations for number in [0] * 8 + [next(fresh) for _ in range(n)]]


@pytest.mark.parametrize(
    ("numbers", "loop"),
    [
        ([*[5] * 30, *[1, 2, 3, 4] * 20], Loop(30, 4, 20)),  # 12 rounds of 4 are left out, or 22 of 1
        ([*[5] * 90, *[1, 2, 3, 4] * 20], Loop(0, 1, 90)),
        ([*range(1, 9), *[11, 12, 13] * 20, *range(50, 60)], Loop(8, 3, 20)),
        ([1, 1, 2, 2] * 20, Loop(0, 4, 20)),  # an event alone is like the next
        # Periods are tried by how many events lie between like places: the loop's, 3, between 142.
        ([*decoys(range(1, 41)), *[1, 2, 3] * 50], Loop(8 * 40 + 40 * 41 // 2, 3, 50)),
        ([*decoys(range(500, 532)), *[1, 2, 3] * 50], Loop(8 * 32 + 32 * 1031 // 2, 3, 50)),  # 31 others come first
        ([*decoys(range(500, 533)), *[1, 2, 3] * 50], None),  # 32 others
    ],
)
def test_the_loop_in_which_most_is_left_out(numbers, loop):
    assert steady._repeated(np.array(numbers)) == loop


def test_a_tensor_of_the_loop_is_known_by_its_first_use():
    trace = traced(product)
    loop = steady_loop(trace)
    firsts = steady._first_uses(trace)
    first_load, product_of_it = trace.events[loop.start], trace.events[loop.start + 2]
    tensor = first_load.writes[0].allocation.id
    assert product_of_it.reads[0].allocation.id == tensor and firsts[tensor] == (loop.start, 1)


@pytest.mark.parametrize(("each", "rounds"), [(28_671, 9), (28_672, 8)])
def test_how_many_rounds_fill_sbuf(each, rounds):
    """SBUF has 224 KiB a partition. Each tensor counts where it is used first, and once."""

    def body(round_, x, w, out):
        a = nl.ndarray((128, each), "int8")
        nisa.memset(a[:, 0:1], 0)
        nisa.memset(a[:, 1:2], 0)
        nisa.dma_copy(out[round_], w)

    trace = traced(body, 40)
    loop = steady_loop(trace)
    assert steady._filling(trace, loop, steady._first_uses(trace)) == rounds


def test_the_rounds_that_are_left_out_stand_in_the_middle():
    """Four rounds of two events after one before them: of six, the third and fourth are like the second."""
    after = [None, 0, 1, 0, 1, None, 4, 5, 6, 8]
    spans = [
        Span(i, 0, "dma", 10.0 * i, 5.0, 10.0 * i + 7, after[i], "rings", 16, Issue(10.0 * i - 1, after[i], "data"))
        for i in range(10)
    ]
    found = steady._with_rounds(spans, Loop(1, 2, 6), 4, 100.0)
    assert [s.issue for s in found] == [(s.start_ns - 1, s.after, "data") for s in found]
    assert [(s.index, s.start_ns, s.end_ns, s.after) for s in found] == [
        (0, 0, 7, None),
        (1, 10, 17, 0),
        (2, 20, 27, 1),
        (3, 30, 37, 0),
        (4, 40, 47, 1),
        (5, 130, 137, 0),  # what a round waits for before the loop is no round later
        (6, 140, 147, 3),
        (7, 230, 237, 0),
        (8, 240, 247, 5),
        (9, 250, 257, None),
        (10, 260, 267, 8),
        (11, 270, 277, 9),
        (12, 280, 287, 10),
        (13, 290, 297, 12),
    ]
