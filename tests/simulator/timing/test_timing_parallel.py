"""What runs beside what, by hand: tiles of the Tensor Engine's array, and the queues that issue DMA."""

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule
from triptych.simulator.timing.timeline import Span, Timeline
from triptych.simulator.trace import Trace

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

CYCLE = 1 / 2.4  # trn2, ns, of the Tensor Engine
FULL = (512 + 7) * CYCLE
LAUNCH = chip_of("trn2").launch_ns.value
ISSUE, SOFTWARE, WRITTEN = 600, 603, 184  # ns a transfer by hardware, by GpSimd, and of descriptors that lie in HBM
BY_HARDWARE, BY_GPSIMD_FIRST, AS_WRITTEN = 1330, 1290 + 740, 740  # ns from the launch to the first byte of the first
X = np.ones((128, 4096), np.float32)


def spans_of(program, target="trn2", **options):
    """The spans of a program by the names that it gives its instructions, and its timeline."""

    def kernel(x):
        program(x)
        return x

    trace = simulator.run(kernel, X, target=target, options=Options(**options)).trace
    found = schedule(trace)
    return {trace.events[s.index].name: s for s in found.spans}, found


def matmuls(tiles, n=512, target="trn2"):
    """The spans of matmuls into a bank each, on tiles (row, column, rows, columns) of the array or None."""
    return timed(tiles, n, target)[0]


def timed(tiles, n=512, target="trn2"):
    """The same and their timeline; the engine is warmed up before."""

    def program(x):
        a, b = (nl.ndarray((128, w), nl.bfloat16) for w in (128, 512))
        nisa.memset(a, 1.0)
        nisa.memset(b, 1.0)
        warm = nl.ndarray((128, 512), nl.float32, nl.psum)
        for _ in range(40):
            nisa.nc_matmul(warm, a, b)
        for i, tile in enumerate(tiles):
            out = nl.ndarray((128, 512), nl.float32, nl.psum)
            if tile is None:
                nisa.nc_matmul(out[:, 0:n], a, b[:, 0:n], name=str(i))
                continue
            row, column, rows, columns = tile
            part = (slice(row, row + rows), slice(0, columns)), (slice(row, row + rows), slice(0, n))
            nisa.nc_matmul(
                out[0:columns, 0:n], a[part[0]], b[part[1]], tile_position=(row, column), tile_size=(rows, columns),
                name=str(i),
            )  # fmt: skip

    return spans_of(program, target)


@pytest.mark.parametrize(
    "tiles",
    [
        [(0, 0, 64, 128), (64, 0, 64, 128)],
        [(0, 32 * i, 128, 32) for i in range(4)],
        [(32 * i, 0, 32, 128) for i in range(4)],
        [(64 * (i % 2), 64 * (i // 2), 64, 64) for i in range(4)],
    ],
)
def test_tiles_of_the_array_run_in_parallel(tiles):
    """Each takes as long as alone; one is issued every 64 cycles."""
    spans = matmuls(tiles)
    starts = [spans[str(i)].start_ns for i in range(len(tiles))]
    assert np.diff(starts) == pytest.approx(64 * CYCLE)
    assert [spans[str(i)].busy_ns for i in range(len(tiles))] == pytest.approx([FULL] * len(tiles))


@pytest.mark.parametrize(
    ("tiles", "in_use"),
    [
        ([(32 * i, 0, 32, 128) for i in range(4)], FULL + 3 * 64 * CYCLE),
        ([(0, 0, 32, 128), (0, 0, 32, 128)], 2 * FULL),
        ([(0, 0, 32, 128), None, (0, 0, 32, 128)], 3 * FULL),
    ],
)
def test_tiles_that_are_in_use_together_count_once(tiles, in_use):
    spans, found = timed(tiles)
    before = [s for s in found.spans if s.track == "tensor" and s.start_ns < spans["0"].start_ns]
    assert found.busy["tensor"] * found.total_ns == pytest.approx(sum(s.busy_ns for s in before) + in_use)


def test_a_short_tile_within_a_long_one_adds_nothing():
    """Each core has its own array."""
    used = [(0, 250.0, 50.0), (0, 0.0, 200.0), (0, 50.0, 100.0), (1, 100.0, 60.0), (0, 190.0, 20.0)]
    spans = [Span(i, core, "tensor", at, ns, at + ns, None, "start") for i, (core, at, ns) in enumerate(used)]
    spans.append(Span(5, 0, "vector", 10.0, 100.0, 110.0, None, "start"))  # which has nothing to do with it
    found = Timeline(Trace(chip_of("trn2"), ""), "program", spans, 1000.0).busy
    assert found == {"tensor": 0.26, "vector": 0.1}


@pytest.mark.parametrize(
    "tiles",
    [
        [(0, 0, 64, 128), (0, 0, 64, 128)],  # the same tile
        [(0, 0, 64, 128), (0, 64, 128, 64)],  # a quarter in common
        [None, (0, 0, 32, 32)],
        [(0, 0, 32, 32), None],
        [None, None],
    ],
)
def test_what_needs_the_same_part_of_the_array_takes_turns(tiles):
    spans = matmuls(tiles)
    assert spans["1"].start_ns == pytest.approx(spans["0"].start_ns + FULL)


def test_a_tile_that_is_busy_holds_up_those_behind_it():
    """Matmuls are issued in turn: the third, whose tile is free, waits behind the second."""
    spans = matmuls([(0, 0, 64, 128), (0, 0, 64, 128), (64, 0, 64, 128)])
    assert spans["2"].start_ns == pytest.approx(spans["1"].start_ns + 64 * CYCLE)


def test_the_tensor_engine_of_each_core_has_its_own_clock():
    """Both cores multiply at one time; one did so long before, and the other's engine is cold: half as fast."""

    def kernel(x):
        core = nl.program_id(0)
        a, b = (nl.ndarray((128, w), nl.bfloat16) for w in (128, 512))
        nisa.memset(a, 1.0)
        nisa.memset(b, 1.0)
        product = nl.ndarray((128, 512), nl.float32, nl.psum)
        if core == 0:
            for _ in range(40):
                nisa.nc_matmul(product, a, b)
        else:
            for _ in range(20):
                nisa.tensor_copy(b, b, engine=nisa.engine.vector)
        nisa.nc_matmul(product, a, b, name="last")
        return x

    trace = simulator.run(simulator.jit(kernel)[2], X, target="trn2").trace
    spans = {trace.events[s.index].core: s for s in schedule(trace).spans if trace.events[s.index].name == "last"}
    assert spans[1].start_ns > LAUNCH + 1000
    assert [spans[core].busy_ns for core in (0, 1)] == pytest.approx([FULL, 2 * FULL])


@pytest.mark.parametrize(
    ("m", "n", "cycles"),
    [(8, 8, 8), (8, 32, 32), (64, 8, 64), (128, 8, 64), (128, 100, 100), (8, 512, 512), (128, 512, 512)],
)
def test_a_small_matmul_takes_the_longer_of_its_weights_and_what_it_streams(m, n, cycles):
    """max(min(64, M), N) cycles of the array and 7 more."""

    def program(x):
        a, b = (nl.ndarray((128, w), nl.bfloat16) for w in (128, 512))
        nisa.memset(a, 1.0)
        nisa.memset(b, 1.0)
        nisa.nc_matmul(nl.ndarray((m, n), nl.float32, nl.psum), a[:, 0:m], b[:, 0:n], name="mm")

    spans, _ = spans_of(program, "trn1")
    assert spans["mm"].busy_ns == pytest.approx((cycles + 7) / 2.8)


def loads(*how, p=1, n=128):
    """A program that loads small tiles, each on a ring of its own and as `how` says."""

    def program(x):
        tile = nl.ndarray((128, n), nl.float32)
        for i, keywords in enumerate(how):
            nisa.dma_copy(tile[8 * i : 8 * i + p], x[0:p, 0:n], name=str(i), **keywords)

    return program


HARDWARE = {"dge_mode": nisa.dge_mode.hwdge}
BY_SYNC, BY_SCALAR = ({**HARDWARE, "engine": e} for e in (nisa.engine.sync, nisa.engine.scalar))
BY_GPSIMD, STATIC, OPEN = ({"dge_mode": m} for m in (nisa.dge_mode.swdge, nisa.dge_mode.none, nisa.dge_mode.unknown))


@pytest.mark.parametrize(
    ("how", "apart"),
    [
        ([OPEN, OPEN, OPEN], [SOFTWARE, SOFTWARE]),  # which leaves it to GpSimd
        ([BY_GPSIMD, OPEN], [SOFTWARE]),  # one queue
        ([HARDWARE, BY_SYNC, OPEN], [ISSUE, BY_GPSIMD_FIRST - (BY_HARDWARE + ISSUE)]),  # two
        ([BY_SYNC, BY_SCALAR, BY_SYNC, BY_SCALAR], [0, ISSUE, 0]),  # two, each with its own DGE
        ([BY_GPSIMD] * 3, [SOFTWARE] * 2),
        ([STATIC] * 3, [WRITTEN] * 2),
        ([STATIC, OPEN, BY_SYNC], [BY_GPSIMD_FIRST - AS_WRITTEN, BY_HARDWARE - BY_GPSIMD_FIRST]),  # three queues
    ],
)
def test_who_makes_the_descriptors_decides_how_often_a_transfer_is_issued(how, apart):
    spans, _ = spans_of(loads(*how))
    starts = [spans[str(i)].start_ns for i in range(len(how))]
    assert np.diff(starts) == pytest.approx(apart, abs=1e-6)


def test_a_queue_keeps_the_programs_order_and_no_other_queue_waits_for_it():
    """The second load goes where a slow Vector instruction still reads, and the third is behind it."""

    def program(x):
        a, b, c = (nl.ndarray((128, 4096), nl.float32) for _ in range(3))
        nisa.dma_copy(a, x, name="first")
        nisa.tensor_copy(nl.ndarray((128, 4096), nl.float32), a, name="slow")
        nisa.dma_copy(a, x, name="second")
        nisa.dma_copy(b, x, name="behind")
        nisa.dma_copy(c[:, 0:64], x[:, 0:64], **BY_SCALAR, name="beside")

    spans, _ = spans_of(program)
    assert spans["second"].start_ns == pytest.approx(spans["slow"].end_ns + 740)
    assert spans["behind"].start_ns == pytest.approx(spans["second"].start_ns + spans["second"].busy_ns)
    assert spans["beside"].start_ns < spans["slow"].end_ns


def test_what_leaves_sbuf_does_not_hold_up_the_loads_behind_it():
    def program(x):
        a, b = (nl.ndarray((128, 4096), nl.float32) for _ in range(2))
        nisa.memset(a, 1.0, name="slow")
        nisa.dma_copy(nl.ndarray((128, 4096), nl.float32, nl.private_hbm), a, name="store")
        nisa.dma_copy(b, x, name="load")

    spans, _ = spans_of(program)
    assert spans["load"].start_ns == LAUNCH + BY_GPSIMD_FIRST < spans["slow"].end_ns < spans["store"].start_ns


def test_the_queues_of_one_trigger_share_its_issue():
    """Loads and stores wait for different things, and GpSimd issues both: never two within 603 ns."""

    def program(x):
        a = nl.ndarray((16, 128), nl.float32)
        nisa.memset(a, 1.0)
        for i in range(4):
            nisa.dma_copy(nl.ndarray((16, 128), nl.float32, nl.private_hbm), a, name=f"store {i}")
            nisa.dma_copy(nl.ndarray((16, 128), nl.float32), x[0:16, 0:128], name=f"load {i}")

    spans, _ = spans_of(program)
    starts = sorted(span.start_ns for span in spans.values() if span.track == "dma")
    assert len(starts) == 8 and np.diff(starts) == pytest.approx(SOFTWARE)


def test_rings_take_the_queues_in_turn():
    """Large loads of one queue and small ones of another wait at once, and move one of each in turn."""

    def program(x):
        for i in range(4):
            nisa.dma_copy(nl.ndarray((128, 4096), nl.float32), x, dge_mode=nisa.dge_mode.none, name=f"large {i}")
        for i in range(3):
            nisa.dma_copy(nl.ndarray((128, 128), nl.float32), x[:, 0:128], **BY_SCALAR, name=f"small {i}")

    spans, _ = spans_of(program)
    order = sorted(spans, key=lambda name: spans[name].start_ns)
    assert order == ["large 0", "small 0", "large 1", "small 1", "large 2", "small 2", "large 3"]
    moved = 8 * (5.9 + 16384 / 24.375)
    assert spans["small 1"].start_ns == pytest.approx(spans["large 1"].start_ns + moved)


def test_an_exchange_begins_when_both_cores_are_there():
    def kernel(x):
        core = nl.program_id(0)
        mine, theirs = nl.ndarray((128, 512), nl.float32), nl.ndarray((128, 512), nl.float32)
        nisa.memset(mine, 1.0)
        for _ in range(20 if core == 0 else 0):
            nisa.activation(mine, nl.copy, mine)
        nisa.sendrecv(mine, theirs, 1 - core, 1 - core, 0)
        return x

    timeline = simulator.on("trn2").predict(simulator.jit(kernel)[2], np.ones((1, 1), np.float32)).timeline
    ops = [(timeline.trace.events[span.index].op, span) for span in timeline.spans]
    first, second = [span for op, span in ops if op == "sendrecv"]
    assert (first.start_ns, first.end_ns) == (second.start_ns, second.end_ns)
    assert first.start_ns >= max(span.end_ns for op, span in ops if op == "activation")
