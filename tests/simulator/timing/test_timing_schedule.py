"""Timelines worked out by hand, what no timeline may do, and more work and faster chips."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych import simulator
from triptych.simulator import KernelError, Options
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import predict_trace, schedule, scheduler
from triptych.simulator.timing.arrays import Run

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TRN2 = chip_of("trn2")
LAUNCH, TEARDOWN = TRN2.launch_ns.value, TRN2.teardown_ns.value
FILL = (512 + 64) / 0.96  # trn2, ns: memset of 512 float32 elements on Vector
COPY = (512 / 2 + 64) / 0.96  # tensor_copy of them
EXP = (512 + 64 + 110 + 45) / 1.2  # a function of them on Scalar
TABLE = TRN2.table_load_ns.value
VECTOR, SCALAR = TRN2.vector_latency_ns.value, TRN2.scalar_latency_ns.value  # until the result can be used
START, END = TRN2.dma_start_ns.value, TRN2.dma_skew_ns.value + TRN2.dma_end_ns.value


def timeline(program, target="trn2", order="overlapped", change=None):
    """The spans of a program by the names that it gives its instructions, and the total."""

    def kernel(x):
        program()
        return x

    trace = simulator.run(kernel, np.ones((1, 1), np.float32), target=target).trace
    if change:
        trace = dataclasses.replace(trace, chip=change(trace.chip))
    found = schedule(trace, order)
    return {trace.events[s.index].name: s for s in found.spans}, found.total_ns


def tile(n=512, dtype="float32", buffer=nl.sbuf, p=128):
    return nl.ndarray((p, n), dtype, buffer)


def filled(name, n=512, **options):
    t = tile(n, **options)
    nisa.memset(t, 1.0, name=name)
    return t


def test_an_empty_kernel_is_launched_and_torn_down():
    spans, total = timeline(lambda: None)
    assert spans == {} and total == LAUNCH + TEARDOWN


def test_engines_overlap_what_does_not_depend():
    def program():
        a = filled("a")
        nisa.tensor_copy(tile(), a, name="vector")
        nisa.activation(tile(), nl.exp, a, name="scalar")

    spans, total = timeline(program)
    ready = LAUNCH + FILL + VECTOR
    assert spans["a"].start_ns == LAUNCH and spans["a"].end_ns == pytest.approx(ready)
    assert spans["vector"].start_ns == pytest.approx(ready)
    assert spans["scalar"].start_ns == pytest.approx(ready)
    assert spans["scalar"].busy_ns == pytest.approx(EXP + TABLE)  # and loads its table
    assert total == pytest.approx(ready + EXP + TABLE + SCALAR + TEARDOWN)


def test_a_dependence_across_engines_waits_for_the_result():
    def program():
        a = filled("a")
        b = tile()
        nisa.activation(b, nl.square, a, name="scalar")
        nisa.tensor_copy(tile(), b, name="vector")

    spans, _ = timeline(program)
    assert spans["vector"].start_ns == pytest.approx(spans["scalar"].start_ns + EXP + TABLE + SCALAR)
    assert spans["vector"].why == "data" and spans["vector"].after == 1


def test_one_engine_follows_at_once_unless_it_needs_the_result():
    def program():
        a = filled("a")
        b = tile()
        nisa.tensor_copy(b, a, name="first")
        nisa.tensor_copy(tile(), a, engine=nisa.engine.vector, name="beside")
        nisa.tensor_copy(tile(), b, engine=nisa.engine.vector, name="after")

    spans, _ = timeline(program)
    assert spans["beside"].start_ns == pytest.approx(spans["first"].start_ns + COPY)
    assert spans["after"].start_ns == pytest.approx(spans["beside"].start_ns + COPY)  # b is there by then

    spans, _ = timeline(lambda: chain(3))
    assert spans["2"].start_ns - spans["1"].start_ns == pytest.approx(COPY + VECTOR)


@pytest.mark.parametrize(
    ("memory", "n", "target", "dtype", "engines"),
    [
        (nl.sbuf, 512, "trn2", "int8", {"vector", "scalar", "gpsimd"}),
        (nl.sbuf, 512, "trn2", "float32", {"vector", "scalar"}),  # a faster mode of Vector, which holds GpSimd's port
        (nl.psum, 512, "trn2", "float32", {"vector", "scalar"}),  # GpSimd cannot reach PSUM
        (nl.sbuf, 512, "trn2", "int32", {"vector", "gpsimd"}),  # Scalar casts
        (nl.psum, 512, "trn1", "float32", {"vector"}),  # where Scalar has no copy, and GpSimd the same port
        (nl.sbuf, 512, "trn1", "float32", {"vector"}),
        (nl.sbuf, 512, "trn2", "bfloat16", {"vector"}),  # Vector has done them sooner
        (
            nl.sbuf,
            2,
            "trn2",
            "float32",
            {"vector", "scalar", "gpsimd"},
        ),  # 128 cycles on Vector, 107 to 127 ns on others
    ],
)
def test_an_idle_engine_takes_what_is_left_open_and_waits_for_vector(memory, n, target, dtype, engines):
    def program():
        a = tile(n, dtype, memory)
        nisa.memset(a, 1 if "int" in dtype else 1.0)
        for i in range(4):
            nisa.tensor_copy(tile(n, dtype), a, name=str(i))
        for i in range(4):
            nisa.tensor_copy(tile(n, dtype), a, engine=nisa.engine.vector, name=f"asked {i}")

    spans, _ = timeline(program, target)
    assert {spans[str(i)].track for i in range(4)} == engines
    assert {spans[f"asked {i}"].track for i in range(4)} == {"vector"}
    spans, _ = timeline(program, target, order="program")
    assert {spans[str(i)].track for i in range(4)} == {"vector"}


def test_an_engine_that_is_busy_takes_nothing_over():
    """Scalar runs an activation of its own first, which is longer than all the copies."""

    def program():
        a, long = tile(512, buffer=nl.psum), tile(8192)
        nisa.memset(long, 1.0, engine=nisa.engine.gpsimd)
        nisa.memset(a, 1.0)
        nisa.activation(tile(8192), nl.copy, long, name="long")
        for i in range(20):
            nisa.tensor_copy(tile(), a, name=str(i))
        for _ in range(2):
            nisa.tensor_copy(tile(), a, engine=nisa.engine.vector)

    spans, _ = timeline(program)
    on_scalar = sorted([s for s in spans.values() if s.track == "scalar"], key=lambda s: s.start_ns)
    assert len(on_scalar) > 2
    assert all(a.free_ns <= b.start_ns for a, b in zip(on_scalar, on_scalar[1:], strict=False))


def test_what_vector_has_time_for_stays_there():
    """Copies that come one at a time, as those of AWS's last step of its matmul ladder."""

    def program():
        a = filled("a")
        for i in range(4):
            b = tile()
            nisa.activation(b, nl.square, a)
            nisa.tensor_copy(a, b, name=str(i))

    spans, _ = timeline(program)
    assert {spans[str(i)].track for i in range(4)} == {"vector"}


@pytest.mark.parametrize(("loads", "engines"), [(4, {"vector"}), (0, {"vector", "scalar"})])
def test_copies_stay_on_vector_where_something_else_has_more_to_do(loads, engines):
    def program():
        x = nl.ndarray((128, 4096), "float32", nl.private_hbm)
        a = filled("a")
        for i in range(4):
            nisa.tensor_copy(tile(), a, name=str(i))
        for i in range(loads):
            nisa.dma_copy(x, tile(4096), name=f"store {i}")

    trace = traced_program(program)
    spans = {trace.events[s.index].name: s for s in schedule(trace).spans}
    assert {spans[str(i)].track for i in range(4)} == engines


def test_who_takes_a_copy_over_waits_until_it_sees_what_was_written_there():
    """Vector could overwrite what it wrote a moment ago; to others it is written its latency later."""

    def program():
        a, b = filled("a"), filled("b")
        for i in range(3):
            filled(f"more {i}")
        nisa.tensor_copy(b, a, name="copy")

    spans, _ = timeline(program)
    assert spans["copy"].track != "vector" and spans["b"].end_ns > spans["more 0"].start_ns
    assert spans["copy"].start_ns == spans["b"].end_ns


def traced_program(program):
    def kernel(x):
        program()
        return x

    options = Options(check_uninitialized=False)
    return simulator.run(kernel, np.ones((1, 1), np.float32), target="trn2", options=options).trace


def chain(n):
    t = filled("0")
    for i in range(1, n):
        before, t = t, tile()
        nisa.tensor_copy(t, before, name=str(i))


def matmuls(count):
    """Matmuls of 512 columns in bfloat16 that add to one tile."""
    a, b = filled("a", 128, dtype="bfloat16"), filled("b", dtype="bfloat16")
    product = tile(buffer=nl.psum)
    for i in range(count):
        nisa.nc_matmul(product, a, b, accumulate=i > 0, name=str(i))


def test_matmuls_that_add_to_one_tile_follow_at_once():
    spans, _ = timeline(lambda: matmuls(60))
    step = (512 + 7) / 2.4
    assert spans["0"].busy_ns == pytest.approx(2 * step)  # the engine has not been in use
    assert spans["59"].start_ns - spans["58"].start_ns == pytest.approx(step)
    slow = sum(span.busy_ns > 1.5 * step for name, span in spans.items() if name.isdigit())
    assert slow == math.ceil(1.5 * 3413.3 / (2 * step)) == 12  # which begin in the first half window or in the next


def test_matmuls_of_trn1_are_slower_once_the_engine_was_in_use_for_a_window():
    spans, _ = timeline(lambda: matmuls(60), "trn1")
    step, found = (512 + 7) / 2.8, [spans[str(i)].busy_ns for i in range(60)]
    whole = math.ceil(1.5 * 3413.3 / step)  # which begin in the first half window or in the next
    assert whole == 28 and found == pytest.approx([step] * whole + [step / 0.875] * (60 - whole))


def test_transfers_are_issued_in_turn_and_share_the_rings():
    source = {}

    def program():
        source["x"] = nl.ndarray((128, 4096), "float32", nl.private_hbm)
        nisa.dma_copy(source["x"], filled("a", 4096), name="store")
        for i in range(3):
            nisa.dma_copy(tile(4096), source["x"], name=str(i))

    spans, _ = timeline(program)
    moved = 8 * (5.9 + 16384 / 24.375)  # 8 rows of 16 KiB a ring
    assert spans["store"].start_ns == pytest.approx(spans["a"].end_ns + START)
    assert spans["store"].end_ns == pytest.approx(spans["store"].start_ns + moved + END)
    assert spans["0"].start_ns == pytest.approx(spans["store"].end_ns + START)
    assert spans["1"].start_ns == pytest.approx(spans["0"].start_ns + moved) and spans["1"].why == "rings"
    assert spans["2"].start_ns == pytest.approx(spans["1"].start_ns + moved)


def test_small_transfers_wait_for_their_issue():
    def program():
        x = nl.ndarray((16, 128), "float32", nl.private_hbm)
        nisa.dma_copy(x, filled("a", 128, p=16), name="store")
        for i in range(3):
            nisa.dma_copy(tile(128, p=16), x, name=str(i))

    spans, _ = timeline(program)
    assert spans["0"].busy_ns == pytest.approx(8 * (5.9 + 512 / 24.375))  # two rings have eight rows each
    assert spans["2"].start_ns - spans["1"].start_ns == pytest.approx(603) and spans["2"].why == "issue"


def buffered(n):
    """A program that loads tiles of n float32 and sums each."""

    def program():
        x = nl.ndarray((128, n), "float32", nl.private_hbm)
        nisa.dma_copy(x, filled("a", n), name="store")
        for i in range(4):
            t = tile(n)
            nisa.dma_copy(t, x, name=f"load {i}")
            nisa.tensor_reduce(tile(1), nl.add, t, axis=1, name=f"sum {i}")

    return program


def test_room_decides_whether_loads_run_ahead():
    """SBUF has 224 KiB a partition: of two tiles of 100 KB one loads while the other is summed, of two of 120 not."""
    spans, _ = timeline(buffered(25_000))
    assert spans["load 1"].start_ns < spans["sum 0"].start_ns + 1000

    spans, _ = timeline(buffered(30_000))
    assert spans["load 1"].why == "room" and spans["load 1"].start_ns == pytest.approx(spans["sum 0"].end_ns + START)


def test_room_is_free_when_the_last_use_has_ended_whichever_began_last():
    def program():
        a, b = tile(32_768), tile(32_768)  # of 56 K
        nisa.memset(a, 1.0, engine=nisa.engine.vector)
        nisa.tensor_copy(tile(8192), a[:, 0:8192], engine=nisa.engine.gpsimd, name="long")
        more = filled("more")
        nisa.tensor_tensor(tile(64), more[:, 0:64], a[:, 0:64], nl.add, name="short")
        nisa.memset(b[:, 0:64], 1.0, engine=nisa.engine.vector, name="next")

    spans, _ = timeline(program)
    assert spans["short"].start_ns > spans["long"].start_ns and spans["short"].end_ns < spans["long"].end_ns
    assert spans["next"].start_ns == spans["long"].end_ns


def test_psum_has_eight_banks():
    def program():
        a, b = filled("a", 128, dtype="bfloat16"), filled("b", dtype="bfloat16")
        for i in range(9):
            product = tile(buffer=nl.psum)
            nisa.nc_matmul(product, a, b, name=str(i))
            nisa.reciprocal(tile(), product, name=f"out {i}")  # takes eight cycles an element

    spans, _ = timeline(program)
    assert [spans[str(i)].why for i in range(1, 8)] == ["engine"] * 7
    assert spans["8"].why == "room" and spans["8"].start_ns == pytest.approx(spans["out 0"].end_ns)


@pytest.mark.parametrize(("target", "apart"), [("trn1", True), ("trn2", False)])
def test_vector_and_scalar_take_turns_in_psum_of_the_first_generation(target, apart):
    def program():
        a, b = filled("a", 128, dtype="bfloat16"), filled("b", dtype="bfloat16")
        product = tile(buffer=nl.psum)
        nisa.nc_matmul(product, a, b)
        nisa.tensor_copy(tile(), product, name="vector")
        nisa.activation(tile(), nl.copy, product, name="scalar")

    spans, _ = timeline(program, target)
    first, second = sorted((spans["vector"], spans["scalar"]), key=lambda s: s.start_ns)
    assert (second.start_ns >= first.free_ns) == (second.why == "port") == apart


@pytest.mark.parametrize(("dtype", "apart"), [("bfloat16", True), ("float32", True), ("float8_e4m3", False)])
def test_gpsimd_and_the_vector_engines_faster_modes_take_turns(dtype, apart):
    def program():
        a = filled("a", 4096, dtype=dtype)
        nisa.tensor_copy(tile(4096, dtype), a, name="vector")
        nisa.tensor_copy(tile(4096, dtype), a, engine=nisa.engine.gpsimd, name="gpsimd")

    spans, _ = timeline(program)
    first, second = sorted((spans["vector"], spans["gpsimd"]), key=lambda s: s.start_ns)
    assert (second.start_ns >= first.free_ns) == (second.why == "port") == apart


def test_program_order_keeps_a_queue_as_it_is_written():
    def program():
        a = filled("a")
        b = tile()
        nisa.activation(b, nl.exp, a, name="exp")
        nisa.tensor_copy(tile(), b, name="needs exp")
        nisa.tensor_copy(tile(), a, name="does not")

    spans, _ = timeline(program)
    assert spans["does not"].start_ns < spans["needs exp"].start_ns
    spans, _ = timeline(program, order="program")
    assert spans["does not"].start_ns == pytest.approx(spans["needs exp"].free_ns)


@pytest.mark.parametrize(("waits", "tried"), [(False, False), (True, True)])
def test_the_programs_order_is_tried_where_no_track_is_always_busy(waits, tried, monkeypatch):
    def busy():
        tiles = [filled(str(i)) for i in range(20)]
        nisa.activation(tile(), nl.copy, tiles[0])  # beside it

    trace = traced_program((lambda: chain(20)) if waits else busy)
    asked, as_written = [], scheduler._as_written
    monkeypatch.setattr(scheduler, "_as_written", lambda *given: asked.append(1) or as_written(*given))
    schedule(trace)
    assert bool(asked) == tried


@pytest.mark.parametrize(("longer", "tried"), [(0.0, False), (1.0, True)])
def test_which_orders_are_tried(longer, tried, monkeypatch):
    """Loads in order of need fit here; the program's order is tried from a twentieth more than the least on."""
    trace = traced_program(lambda: chain(2))
    least = trace.chip.launch_ns.value + 1000.0
    end = scheduler.WORTH_TRYING * least + longer
    asked = []

    def run(runs):
        return Run(end, list, lambda: (np.arange(len(trace.events)), runs.asked))

    monkeypatch.setattr(scheduler, "loads_of", lambda *given: {(0, "vector"): 1000.0, (0, "dma"): 10.0})
    monkeypatch.setattr(scheduler, "_by_need", run)
    monkeypatch.setattr(scheduler, "_by_readiness", lambda *given: asked.append("readiness"))
    monkeypatch.setattr(scheduler, "_as_written", lambda runs, limit: asked.append(limit) or run(runs))
    schedule(trace)
    assert asked == ([end * (1 + 1e-9)] if tried else [])


def test_where_loads_find_no_room_in_order_of_need_engines_take_what_is_ready(monkeypatch):
    def program():
        here, there = filled("here"), nl.ndarray((128, 512), nl.float32, nl.private_hbm)
        nisa.dma_copy(there, here)
        loaded = tile()
        nisa.dma_copy(loaded, there)
        nisa.tensor_copy(tile(), loaded, engine=nisa.engine.vector)  # waits, and what follows does not
        for _ in range(8):
            nisa.tensor_copy(tile(), here, engine=nisa.engine.vector)

    def no_room(runs):
        raise KernelError("no room")

    trace = traced_program(program)
    monkeypatch.setattr(scheduler, "_by_need", no_room)
    assert schedule(trace).total_ns < schedule(trace, "program").total_ns


def test_an_order_that_does_not_exist():
    with pytest.raises(KernelError, match="'random' is unknown; expected one of overlapped, program"):
        timeline(lambda: chain(2), order="random")


@st.composite
def programs(draw):
    """Instructions on a few tiles, drawn at random: [(kind, source, destination)]."""
    step = st.tuples(st.sampled_from(("copy", "exp", "gpsimd", "load", "store", "matmul")), *[st.integers(0, 3)] * 2)
    return draw(st.lists(step, min_size=1, max_size=25))


def execute(steps):
    tiles = [filled(f"fill {i}") for i in range(4)]
    hbm = nl.ndarray((128, 512), "float32", nl.private_hbm)
    nisa.dma_copy(hbm, tiles[0], name="first store")
    for n, (kind, a, b) in enumerate(steps):
        src, dst, name = tiles[a], tiles[b], f"{kind} {n}"
        if kind == "copy":
            nisa.tensor_copy(dst, src, name=name)
        elif kind == "exp":
            nisa.activation(dst, nl.exp, src, name=name)
        elif kind == "gpsimd":
            nisa.tensor_copy(dst, src, engine=nisa.engine.gpsimd, name=name)
        elif kind == "load":
            nisa.dma_copy(dst, hbm, name=name)
        elif kind == "store":
            nisa.dma_copy(hbm, src, name=name)
        else:
            product = tile(buffer=nl.psum)
            nisa.nc_matmul(product, src[:, 0:128], dst, name=name)
            tiles[b] = tile()
            nisa.tensor_copy(tiles[b], product, name=f"out {n}")


def traced(steps, target="trn2"):
    def kernel(x):
        execute(steps)
        return x

    return simulator.run(kernel, np.ones((1, 1), np.float32), target=target).trace


@settings(max_examples=25)
@given(programs(), st.sampled_from(("overlapped", "program")), st.sampled_from(("trn1", "trn2", "trn3")))
def test_no_event_starts_before_what_it_depends_on_has_ended(steps, order, target):
    trace = traced(steps, target)
    found = schedule(trace, order)
    assert [s.index for s in found.spans] == list(range(len(trace.events)))
    by_track = {}
    for span, edges in zip(found.spans, hazards(trace), strict=True):
        assert span.start_ns >= trace.chip.launch_ns.value
        by_track.setdefault(span.track, []).append(span)
        for producer, why in edges.items():
            before = found.spans[producer]
            in_order = span.track == before.track != "dma" and (why != "data" or span.track == "tensor")
            assert span.start_ns >= (before.free_ns if in_order else before.end_ns) - 1e-6
    for track, spans in by_track.items():
        spans.sort(key=lambda s: s.start_ns)
        if track == "dma":  # every ring moves one transfer at a time
            for span in spans:
                at_once = [s for s in spans if s.start_ns <= span.start_ns < s.free_ns]
                assert sum(s.rings for s in at_once) <= 16
        else:
            assert all(a.free_ns <= b.start_ns + 1e-6 for a, b in zip(spans, spans[1:], strict=False))


@settings(max_examples=25)
@given(programs(), st.sampled_from(("tensor_ghz", "vector_ghz", "scalar_ghz", "gpsimd_ghz", "dma_gb_per_s")))
def test_more_work_is_never_faster_and_a_faster_chip_never_slower(steps, field):
    """In program order and without ports and throttling; a greedy scheduler has the anomalies that Graham found."""
    trace = traced([s for s in steps if s[0] != "gpsimd"])
    plain = predict_trace(trace, "program", {"warm_up_ns": 0}).total_us
    shorter = dataclasses.replace(trace, events=trace.events[:-1])
    assert predict_trace(shorter, "program", {"warm_up_ns": 0}).total_us <= plain + 1e-9
    faster = {"warm_up_ns": 0, field: 2 * getattr(chip_of("trn2"), field).value}
    assert predict_trace(trace, "program", faster).total_us <= plain + 1e-9
