"""What waits for what, by hand: two cores that meet, loops on registers, and tensors for which there is never room."""

import dataclasses

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import KernelError, Options
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule, scheduler
from triptych.simulator.trace import Event

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

FILL, COPY = (512 + 64) / 0.96, (512 / 2 + 64) / 0.96  # trn2, ns: of 512 float32 elements on Vector
TRN2 = chip_of("trn2")
VECTOR = TRN2.vector_latency_ns.value  # ns until its result can be used
START, END = TRN2.dma_start_ns.value, TRN2.dma_skew_ns.value + TRN2.dma_end_ns.value
LAUNCH, TEARDOWN = TRN2.launch_ns.value, TRN2.teardown_ns.value
X = np.ones((128, 512), np.float32)


def tile():
    return nl.ndarray((128, 512), nl.float32, nl.sbuf)


def named(trace, order="overlapped"):
    """The spans of a trace by (core, name), and its timeline."""
    found = schedule(trace, order)
    return {(s.core, trace.events[s.index].name): s for s in found.spans}, found


def two_cores(program, order="overlapped"):
    """A program that is given its core's number, a tile and a tensor that the cores share."""

    def kernel(x):
        shared = nl.ndarray((128, 512), nl.float32, nl.shared_hbm)
        a = tile()
        nisa.memset(a, 1.0, name="fill")
        program(nl.program_id(0), a, shared)
        return x

    options = Options(check_races=False)
    return named(simulator.run(nki.jit(kernel)[2], X, target="trn2", options=options).trace, order)


@pytest.mark.parametrize("order", ["overlapped", "program"])
def test_a_barrier_waits_for_what_comes_before_it_on_both_cores(order):
    """Core 1 stores late, so both go on when its bytes are there; what core 0 does then is no matter to core 1."""

    def program(core, a, shared):
        for i in range(1 if core == 0 else 20):
            nisa.tensor_copy(a, a, name=f"before {i}")
        nisa.dma_copy(shared[64 * core : 64 * core + 64], a[0:64], name="store")
        nisa.core_barrier(shared, (0, 1), name="barrier")
        for i in range(100):
            nisa.tensor_copy(tile(), a, engine=nisa.engine.vector, name=f"after {i}")
        nisa.dma_copy(shared[64 * core : 64 * core + 64], a[0:64], name="store again")

    spans, found = two_cores(program, order)
    moved = 8 * (5.9 + 2048 / 22.375)  # 64 rows on 8 rings; two cores share 716 GB/s
    written = LAUNCH + (FILL + VECTOR) + 20 * (COPY + VECTOR)
    stored = written + START + moved + END
    assert spans[1, "store"].end_ns == pytest.approx(stored)
    assert [spans[core, "barrier"].start_ns for core in (0, 1)] == pytest.approx([stored, stored])
    copied = written + 100 * COPY - VECTOR  # none of the copies waits for the barrier
    assert spans[1, "after 99"].free_ns == pytest.approx(copied + VECTOR, abs=1)
    assert found.total_ns < written + 101 * COPY + 3000 + TEARDOWN


@pytest.mark.parametrize("slow", [0, 1])
def test_a_barrier_waits_for_the_queue_of_the_other_core(slow):
    """What stands before it on its engine touches nothing that is shared, and still has to be over on both cores."""

    def program(core, a, shared):
        if core == slow:
            nisa.iota(nl.ndarray((128, 8192), nl.int32), [[1, 8192]], name="busy")
        nisa.core_barrier(shared, (0, 1), engine=nisa.engine.gpsimd, name="barrier")

    spans, _ = two_cores(program)
    over = LAUNCH + (150 + 8192) / 1.2
    assert spans[slow, "busy"].free_ns == pytest.approx(over)
    assert spans[slow, "barrier"].start_ns == pytest.approx(over)
    assert spans[1 - slow, "barrier"].start_ns == pytest.approx(over + TRN2.gpsimd_latency_ns.value)  # GpSimd's latency


@pytest.mark.parametrize("engine", ["gpsimd", "vector", "scalar", "tensor"])
def test_a_barrier_keeps_its_engine_on_both_cores_and_what_overwrites_waits_for_its_end(engine):
    def program(core, a, shared):
        nisa.core_barrier(shared, (0, 1), engine=nisa.engine[engine], name="first")
        nisa.core_barrier(shared, (0, 1), engine=nisa.engine[engine], name="second")
        nisa.dma_copy(shared[64 * core : 64 * core + 64], a[0:64], dge_mode=nisa.dge_mode.none, name="store")

    spans, _ = two_cores(program)
    takes, known = TRN2.barrier_ns.value, getattr(TRN2, f"{engine}_latency_ns").value
    for core in (0, 1):
        first, second, store = (spans[core, name] for name in ("first", "second", "store"))
        assert first.track == second.track == engine and first.busy_ns == second.busy_ns == takes
        assert second.start_ns == pytest.approx(first.start_ns + takes + known)  # when the other core's is known
        assert store.start_ns == pytest.approx(second.start_ns + takes + known + START)


@pytest.mark.parametrize("order", ["overlapped", "program"])
def test_what_reads_the_data_of_a_barrier_waits_for_its_end_and_nothing_else_does(order):
    """The barrier's engine is blocked and no other (nki/api/nki/isa/__init__.py, core_barrier)."""

    def program(core, a, shared):
        other = nl.ndarray((128, 512), nl.float32, nl.private_hbm)
        how = {"dge_mode": nisa.dge_mode.none}
        nisa.dma_copy(other, a, name="store of another", **how)
        nisa.dma_copy(shared[64 * core : 64 * core + 64], a[0:64], name="store", **how)
        nisa.core_barrier(shared, (0, 1), name="barrier")
        nisa.dma_copy(tile(), shared, name="load", **how)
        nisa.dma_copy(tile(), other, name="load of another", dge_mode=nisa.dge_mode.hwdge)

    spans, _ = two_cores(program, order)
    for core in (0, 1):
        barrier, load, other = (spans[core, name] for name in ("barrier", "load", "load of another"))
        assert barrier.busy_ns == TRN2.barrier_ns.value and barrier.start_ns >= spans[1 - core, "store"].end_ns
        assert load.start_ns == pytest.approx(barrier.end_ns + START)
        assert (load.why, load.after) == ("data", barrier.index)
        assert other.issue.at_ns == spans[core, "store of another"].end_ns


def test_until_the_last_ring_has_begun_only_who_needs_the_result_waits():
    """The skew is no time of the rings: they take the next transfer as soon."""

    def kernel(x):
        for i in range(2):
            t, u = tile(), tile()
            nisa.dma_copy(t, x, name=f"load {i}")
            nisa.tensor_copy(u, t, engine=nisa.engine.vector, name=f"copy {i}")
            nisa.dma_copy(nl.ndarray((128, 512), nl.float32, nl.private_hbm), u, name=f"store {i}")
        return x

    trace = simulator.run(nki.jit(kernel), X, target="trn2").trace
    assert TRN2.dma_skew_ns.value == 210
    later = dataclasses.replace(TRN2, dma_skew_ns=dataclasses.replace(TRN2.dma_skew_ns, value=310.0))
    (before, found), (after, changed) = named(trace), named(dataclasses.replace(trace, chip=later))
    for name, waits in {"load 0": 0, "load 1": 0, "copy 0": 100, "copy 1": 100, "store 0": 100, "store 1": 100}.items():
        assert after[0, name].start_ns == pytest.approx(before[0, name].start_ns + waits)
        assert after[0, name].busy_ns == before[0, name].busy_ns
    assert changed.total_ns == pytest.approx(found.total_ns + 200)  # of a load and of a store


def test_a_symmetric_kernel_takes_longer_for_its_barrier_itself_alone():
    def program(barrier):
        def run(core, a, shared):
            half = shared[64 * core : 64 * core + 64]
            nisa.dma_copy(half, a[0:64])
            if barrier:
                nisa.core_barrier(shared, (0, 1))
            b = tile()
            nisa.dma_copy(b[0:64], half)
            for _ in range(100):
                nisa.tensor_copy(b[0:64], b[0:64])
            nisa.dma_copy(half, b[0:64])

        return two_cores(run)[1].total_ns

    with_barrier, without = program(True), program(False)
    assert with_barrier == pytest.approx(without + TRN2.barrier_ns.value + TRN2.gpsimd_latency_ns.value, abs=1)


def test_a_meeting_waits_for_nothing_that_comes_later():
    """As a program may be told by its events: one core is at the barrier while the other still copies."""
    line = ("k.py", 1)

    def event(op, engine, core):
        return Event(op, engine, (), (), line, core, None, {})

    events = [
        event("iota", "gpsimd", 0), event("core_barrier", "gpsimd", 0),
        event("iota", "gpsimd", 1), event("core_barrier", "gpsimd", 1),
    ]  # fmt: skip
    edges = [{}, {}, {}, {2: "data"}]
    scheduler._join_meetings(events, edges)
    assert edges == [{}, {0: "meeting"}, {}, {2: "data", 0: "meeting"}]


def test_cores_that_do_not_meet_do_not_wait_for_each_other():
    def program(core, a, shared):
        for i in range(10 - 10 * core):
            nisa.tensor_copy(a, a, name=f"slow {i}")
        nisa.dma_copy(shared, a, name="store")
        nisa.dma_copy(tile(), shared, name="load")

    spans, _ = two_cores(program)
    moved = 8 * (5.9 + 2048 / 22.375)  # of 358 GB/s, half of the stack's
    for core in (0, 1):
        own = spans[core, "store"].end_ns
        assert spans[core, "load"].start_ns == pytest.approx(own + START)
    assert spans[0, "store"].busy_ns == pytest.approx(moved)
    assert spans[0, "store"].start_ns > spans[1, "load"].end_ns


def one_core(program, options=None):
    def kernel(x):
        program(x)
        return x

    trace = simulator.run(kernel, X, target="trn2", options=options or Options()).trace
    return trace


@pytest.mark.parametrize("order", ["overlapped", "program"])
@pytest.mark.parametrize("loop", ["fori", "while"])
def test_a_loop_body_waits_for_its_register(loop, order):
    def program(x):
        n = nl.ndarray((1, 1), nl.int32, nl.sbuf)
        nisa.memset(n, 1, name="fill")
        for i in range(30):
            nisa.tensor_copy(n, n, name=f"slow {i}")
        a = tile()
        nisa.memset(a, 1.0, engine=nisa.engine.gpsimd, name="beside")
        bound = nisa.register_alloc()
        nisa.register_load(bound, n)

        def body(counter):
            nisa.activation(tile(), nl.copy, a, name="body")
            if loop == "while":
                zero = nisa.register_alloc()
                nisa.register_move(zero, 0)
                return zero
            return None

        nl.while_loop(bound, body) if loop == "while" else nl.fori_loop(0, bound, body)

    trace = one_core(program)
    spans, _ = named(trace, order)
    loaded = spans[0, "slow 29"].end_ns
    assert loaded > spans[0, "beside"].end_ns + 1000
    assert spans[0, "body"].start_ns == pytest.approx(loaded)


def test_a_dynamic_address_waits_for_its_register():
    def program(x):
        n = nl.ndarray((1, 1), nl.int32, nl.sbuf)
        nisa.memset(n, 1)
        for i in range(10):  # until GpSimd could have issued the load
            nisa.tensor_copy(n, n, name=f"slow {i}")
        row = nisa.register_alloc()
        nisa.register_load(row, n)
        nisa.dma_copy(nl.ndarray((64, 512), nl.float32), x.ap([[512, 64], [1, 512]], scalar_offset=row), name="load")

    spans, _ = named(one_core(program))
    assert spans[0, "load"].start_ns == pytest.approx(spans[0, "slow 9"].end_ns + START)


@pytest.mark.parametrize("columns", [512, 16384])
def test_an_instruction_begins_when_the_last_that_it_waits_for_ends(columns):
    """A fill on GpSimd, whose end is known before the load moves, and ends before it or behind it."""

    def program(x):
        filled, loaded = nl.ndarray((128, columns), nl.float32), tile()
        nisa.memset(filled, 1.0, engine=nisa.engine.gpsimd, name="fill")
        nisa.dma_copy(loaded, x, name="load")
        nisa.tensor_tensor(tile(), filled[:, 0:512], loaded, nl.add, engine=nisa.engine.vector, name="use")

    for order in ("overlapped", "program"):
        spans, _ = named(one_core(program), order)
        fill, load, use = (spans[0, name] for name in ("fill", "load", "use"))
        assert (fill.end_ns > load.end_ns) is (columns == 16384)
        assert use.start_ns == max(fill.end_ns, load.end_ns)


def test_a_deadlock_of_room_is_an_error_that_says_what_is_asked_for():
    """Three tensors of 100 KiB a partition live at once in any order; SBUF has 224."""

    def program(x):
        a, b, c = tensors = [nl.ndarray((128, 25600), nl.float32, nl.sbuf) for _ in range(3)]
        for t in tensors:
            nisa.memset(t, 1.0)
        for t, other in ((a, b), (b, c), (a, c)):
            nisa.tensor_tensor(t, t, other, nl.add)

    trace = one_core(program, Options(check_capacity=False))
    for order, stuck in (("overlapped", 3), ("program", 4)):
        said = f"{stuck} of 6 instructions .* memset .* 102400 bytes a partition of sbuf"
        with pytest.raises(KernelError, match=said) as error:
            schedule(trace, order)
        assert "leave 24576 of sbuf on core 0" in str(error.value)


def test_a_program_that_fits_in_another_order_alone_has_an_overlapped_timeline():
    def program(x):
        tensors = [nl.ndarray((128, 25600), nl.float32, nl.sbuf) for _ in range(3)]
        for t in tensors:
            nisa.memset(t, 1.0)
        for t in tensors:
            nisa.tensor_copy(t, t)

    trace = one_core(program, Options(check_capacity=False))
    assert len(schedule(trace).spans) == 6
    with pytest.raises(KernelError, match="can never run"):
        schedule(trace, "program")


def test_the_overlapped_schedule_is_never_slower_than_the_programs():
    """Vector would take the long copy, which is ready first, and the chain on Scalar behind "critical" would wait."""

    def program(x):
        a, b, c = tile(), nl.ndarray((128, 8192), nl.float32), tile()
        nisa.memset(b, 1.0, engine=nisa.engine.gpsimd)
        nisa.memset(a, 1.0, engine=nisa.engine.gpsimd)
        nisa.activation(c, nl.exp, a)
        nisa.tensor_copy(c, c, name="critical")
        for _ in range(20):
            nisa.activation(c, nl.exp, c)
        nisa.tensor_copy(nl.ndarray((128, 8192), nl.float32), b, name="long")

    trace = one_core(program)
    spans, found = named(trace)
    assert spans[0, "critical"].start_ns < spans[0, "long"].start_ns
    assert found.total_ns == schedule(trace, "program").total_ns and found.order == "overlapped"
