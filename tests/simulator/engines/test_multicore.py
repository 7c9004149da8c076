"""Two cores: exchange, barriers, what never ends and what races."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from kernel_parts import in_sbuf

from triptych import simulator
from triptych.simulator import KernelError, NkiError, Options
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

STRICT = Options(strict=True)
X = np.random.default_rng(0).standard_normal((128, 8)).astype(np.float32)
HALVES = (slice(0, 64), slice(64, 128))


EVERY_RACE = Options(strict=frozenset({"race-without-effect"}))  # launch/test_simulate_kernel.py has the others


def on_two_cores(kernel, *arguments, target="trn2", options=EVERY_RACE):
    return simulator.run(nki.jit(kernel)[2], *arguments, target=target, options=options)


def swapped(x, pipe=0, dma_engine=nisa.dma_engine.dma):
    """Each core loads its half of x and gives it to the other, which stores it where it came to."""
    core = nl.program_id(0)
    mine = in_sbuf(x[HALVES[core]])
    theirs = nl.ndarray(mine.shape, mine.dtype)
    nisa.sendrecv(mine, theirs, 1 - core, 1 - core, pipe, dma_engine)
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nisa.dma_copy(dst=out[HALVES[core]], src=theirs)
    return out


@pytest.mark.parametrize("how", ["dma", "gpsimd_dma"])
def test_sendrecv_exchanges_tiles(how):
    run = on_two_cores(lambda x: swapped(x, dma_engine=getattr(nisa.dma_engine, how)), X)
    np.testing.assert_array_equal(run.outputs, np.concatenate([X[64:], X[:64]]))
    assert [e.core for e in run.trace.events if e.op == "sendrecv"] == [0, 1]


def both_reduced(x, op, buffer=nl.sbuf, into="float32"):
    """Each core brings its half of x, and stores op of both halves where its own was."""
    core = nl.program_id(0)
    mine, result = (nl.ndarray((64, x.shape[1]), x.dtype, buffer) for _ in range(2))
    nisa.dma_copy(dst=mine, src=x[HALVES[core]])
    nisa.sendrecv_compute(mine, result, 1 - core, 1 - core, op)
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nisa.dma_copy(dst=out[HALVES[core]], src=result)
    return out


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.private_hbm], ids=["sbuf", "hbm"])
@pytest.mark.parametrize("op", ["add", "maximum", "minimum"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_sendrecv_compute_reduces_what_both_cores_bring(op, dtype, buffer, cast):
    x = (100 * X).astype(np.int32) if dtype == "int32" else cast(X, dtype)
    run = on_two_cores(lambda x: both_reduced(x, getattr(nl, op), buffer), x)
    one, other = (x[half].astype(np.float32) for half in HALVES)
    expected = getattr(np, op)(one, other)
    expected = expected.astype(np.int32) if dtype == "int32" else cast(expected, dtype)
    np.testing.assert_array_equal(run.outputs, np.concatenate([expected, expected]))
    exchanged = [e for e in run.trace.events if e.op == "sendrecv_compute"]
    assert [e.core for e in exchanged] == [0, 1] and simulator.predict_trace(run.trace).total_us > 0


def through_shared(x, barrier=True, overlap=0):
    """Each core writes its half of a shared tensor; after the barrier each reads the half of the other."""
    core = nl.program_id(0)
    middle = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    first, last = (0, 64 + overlap) if core == 0 else (64, 128)
    nisa.dma_copy(dst=middle[first:last], src=in_sbuf(x[first:last]))
    if barrier:
        nisa.core_barrier(middle, (0, 1))
    theirs = in_sbuf(middle[HALVES[1 - core]])
    nisa.dma_copy(dst=out[HALVES[core]], src=theirs)
    return out


def test_a_barrier_shows_what_the_other_core_wrote():
    run = on_two_cores(through_shared, X)
    np.testing.assert_array_equal(run.outputs, np.concatenate([X[64:], X[:64]]))


def test_a_barrier_on_data_in_sbuf_is_one_with_a_remark():
    def kernel(x):
        middle, out = (nl.ndarray(x.shape, x.dtype, nl.shared_hbm) for _ in range(2))
        core = nl.program_id(0)
        for _ in range(core + 1):  # so that the cores' tiles have different names
            mine = in_sbuf(x[HALVES[core]])
        nisa.dma_copy(dst=middle[HALVES[core]], src=mine)
        nisa.core_barrier(mine, (0, 1))
        nisa.dma_copy(dst=out[HALVES[core]], src=in_sbuf(middle[HALVES[1 - core]]))
        return out

    with pytest.raises(NkiError, match="data must be a tensor in shared HBM"):
        on_two_cores(kernel, X, options=Options(strict=frozenset({"barrier-buffer"})))
    with pytest.warns(simulator.SimulatorWarning, match="data must be a tensor in shared HBM"):
        run = on_two_cores(kernel, X)
    np.testing.assert_array_equal(run.outputs, np.concatenate([X[64:], X[:64]]))


def test_without_a_barrier_the_data_is_not_there():
    with pytest.raises(simulator.Uninitialized, match="nothing has written"):
        on_two_cores(lambda x: through_shared(x, barrier=False), X, options=STRICT)
    with pytest.raises(NkiError, match="core 0 and core 1 race"):
        on_two_cores(lambda x: through_shared(x, barrier=False), X)


def test_two_cores_that_write_one_element_race():
    with pytest.raises(NkiError) as caught:
        on_two_cores(lambda x: through_shared(x, overlap=1), X)
    message = str(caught.value)
    assert "core 0 and core 1 race" in message and message.count("dma_copy at test_multicore.py:") == 2
    relaxed = on_two_cores(lambda x: through_shared(x, overlap=1), X, options=Options(check_races=False))
    np.testing.assert_array_equal(relaxed.outputs, np.concatenate([X[64:], X[:64]]))


# Every combination of who writes and who reads one element, with and without a barrier between
@pytest.mark.parametrize("barrier", [False, True])
@pytest.mark.parametrize("first", ["reads", "writes"])
@pytest.mark.parametrize("second", ["reads", "writes"])
def test_races_are_conflicts_that_nothing_orders(first, second, barrier):
    def access(x, what):
        tile = nl.ndarray((64, 8), x.dtype)
        nisa.memset(dst=tile, value=float(nl.program_id(0)))  # no core writes what the other does
        if what == "reads":
            nisa.dma_copy(dst=tile, src=x[0:64])
        else:
            nisa.dma_copy(dst=x[0:64], src=tile)

    def kernel(x):
        mark = nl.ndarray((2, 1), nl.float32, nl.shared_hbm)
        core = nl.program_id(0)
        one = nl.ndarray((1, 1), nl.float32)
        nisa.memset(dst=one, value=1.0)
        nisa.dma_copy(dst=mark[core : core + 1], src=one)
        if core == 0:
            access(x, first)
        if barrier:
            nisa.core_barrier(mark, (0, 1))
        if core == 1:
            access(x, second)
        return mark

    if not barrier and "writes" in (first, second):
        with pytest.raises(NkiError, match="race on 'x'"):
            on_two_cores(kernel, X.copy())
    else:
        on_two_cores(kernel, X.copy())


W, R, SELF = "writes", "reads", "copies onto itself"
FOUR, FIVE, SPREAD = slice(0, 4), slice(0, 5), slice(0, 8, 2)
# What each core does to one tensor, (what, rows, value), in one stretch; and whether that is a race
PROGRAMS = {
    "the same write": ([(W, FOUR, 1)], [(W, FOUR, 1)], False),
    "the same write twice": ([(W, FOUR, 1)], [(W, FOUR, 1), (W, FOUR, 1)], False),
    "the same write of spread rows": ([(W, SPREAD, 1)], [(W, SPREAD, 1)], False),
    "another value": ([(W, FOUR, 1)], [(W, FOUR, 2)], True),
    "another region": ([(W, FOUR, 1)], [(W, FIVE, 1)], True),
    "two values in turn": ([(W, FOUR, 1), (W, FOUR, 2)], [(W, FOUR, 1), (W, FOUR, 2)], False),
    "three values in turn": (2 * [[(W, FOUR, 1), (W, FIVE, 2), (W, FOUR, 1)]] + [False]),
    "two values in another order": ([(W, FOUR, 1), (W, FOUR, 2)], [(W, FOUR, 2), (W, FOUR, 1)], True),
    "one more value": ([(W, FOUR, 1), (W, FOUR, 2)], [(W, FOUR, 1)], True),
    "two values and a read": (2 * [[(W, FOUR, 1), (W, FOUR, 2), (R, FOUR, 0)]] + [True]),
    "a read between two values": ([(W, FOUR, 1), (R, FOUR, 0), (W, FOUR, 2)], [(W, FOUR, 1), (W, FOUR, 2)], True),
    "a write by one": ([(W, FOUR, 1)], [(R, FOUR, 0)], True),
    "reads after the same write": ([(W, FOUR, 1), (R, FOUR, 0)], [(W, FOUR, 1), (R, FOUR, 0)], False),
    "a read before the same write": ([(W, FOUR, 1)], [(R, FOUR, 0), (W, FOUR, 1)], True),
    "a read before it by the other": ([(R, FOUR, 0), (W, FOUR, 1)], [(W, FOUR, 1)], True),
    "a read beyond what it wrote": ([(W, FOUR, 1), (W, slice(4, 8), 3)], [(W, FOUR, 1), (R, FIVE, 0)], True),
    "a copy in place after the same writes": (2 * [[(W, FOUR, 1), (W, slice(4, 5), 3), (SELF, FIVE, 0)]] + [False]),
    "a copy in place before the same write": ([(SELF, FOUR, 0), (W, FOUR, 1)], [(W, FOUR, 1)], True),
    "a copy in place of what the other writes": ([(SELF, FIVE, 0)], [(W, FOUR, 1)], True),
    "copies in place alone": ([(SELF, FOUR, 0)], [(SELF, FIVE, 0)], False),
    "reads alone": ([(R, FOUR, 0)], [(R, FIVE, 0)], False),
    "halves": ([(W, FOUR, 1), (R, FOUR, 0)], [(W, slice(4, 8), 2), (R, slice(4, 8), 0)], False),
    "interleaved": ([(W, SPREAD, 1)], [(W, slice(1, 8, 2), 2)], False),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("first", "second", "race"), PROGRAMS.values(), ids=PROGRAMS)
def test_both_cores_may_carry_out_the_same_write(first, second, race, turned):
    def kernel(x):
        for what, rows, value in (second, first)[nl.program_id(0) == turned]:
            part = x[rows]
            tile = nl.ndarray(part.shape, x.dtype)
            nisa.memset(dst=tile, value=float(value))
            nisa.dma_copy(dst=tile if what == R else part, src=tile if what == W else part)
        return x

    if race:
        with pytest.raises(NkiError, match=r"core 0 and core 1 race on 'x' .*dma_copy at test_multicore.py:\d+ and"):
            on_two_cores(kernel, X.copy())
    else:
        on_two_cores(kernel, X.copy())


def test_a_scatter_writes_no_row_that_it_skips():
    """Core 0 writes all of x, and core 1 scatters to rows that are all out of bounds."""

    def kernel(index):
        x = nl.ndarray((128, 8), nl.float32, nl.shared_hbm)
        tile = nl.ndarray((128, 8), nl.float32)
        nisa.memset(tile, nl.program_id(0))
        if nl.program_id(0) == 0:
            nisa.dma_copy(x, tile)
        else:
            rows = x.ap([[8, 128], [1, 8]], vector_offset=in_sbuf(index), indirect_dim=0)
            nisa.dma_copy(rows, tile, oob_mode=nisa.oob_mode.skip)
        return x

    outside = np.full((128, 1), 128, np.int32)
    assert not on_two_cores(kernel, outside).outputs.any()
    with pytest.raises(NkiError, match="core 0 and core 1 race on"):
        on_two_cores(kernel, np.where(np.arange(128)[:, None] == 5, 7, outside).astype(np.int32))


@pytest.mark.parametrize(("column", "race"), [(slice(15, 16), True), (slice(16, 17), False)])
def test_a_race_is_one_of_bytes(column, race):
    """Core 0 writes four float32 columns, 16 bytes a row; core 1 reads one byte a row of the same rows."""

    def kernel(x):
        tile, byte = nl.ndarray((4, 4), x.dtype), nl.ndarray((4, 1), nl.uint8)
        nisa.memset(dst=tile, value=1.0)
        if nl.program_id(0) == 0:
            nisa.dma_copy(dst=x[0:4, 0:4], src=tile)
        else:
            nisa.dma_copy(dst=byte, src=x.view(nl.uint8)[0:4, column])
        return x

    if race:
        with pytest.raises(NkiError, match="race on 'x'"):
            on_two_cores(kernel, X.copy())
    else:
        on_two_cores(kernel, X.copy())


def test_a_core_that_never_comes():
    def kernel(x):
        out = swapped(x) if nl.program_id(0) == 0 else nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        return out

    with pytest.raises(KernelError, match=r"core 0 waits for pipe 0 at test_multicore.py:\d+, and core 1 has ended"):
        on_two_cores(kernel, X)


def test_cores_that_wait_for_different_things():
    with pytest.raises(KernelError, match="core 0 waits for pipe 0 .*, and core 1 waits for pipe 1"):
        on_two_cores(lambda x: swapped(x, pipe=nl.program_id(0)), X)


def test_an_error_of_one_core_is_the_runs():
    def kernel(x):
        if nl.program_id(0) == 1:
            raise ValueError("mine")
        return swapped(x)

    with pytest.raises(ValueError, match="mine"):
        on_two_cores(kernel, X)


def test_cores_allocate_the_same_shared_tensors():
    def kernel(x):
        return nl.ndarray((4, 4 + nl.program_id(0)), nl.float32, nl.shared_hbm)

    with pytest.raises(NkiError, match="different shared tensors"):
        on_two_cores(kernel, X)


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3", "int32", "uint8", "float8_e5m2_x4"])
@pytest.mark.parametrize("how", ["dma", "gpsimd_dma"])
def test_sendrecv_moves_bits_between_any_views(target, dtype, how):
    """A strided view of one tile arrives in a window of another; NaN payloads and packed elements as they are."""
    raw = np.random.default_rng(1).integers(0, 256, (2, 64, 64), np.uint8)

    def kernel(x):
        core = nl.program_id(0)
        mine, theirs = nl.ndarray((64, 64), nl.uint8), nl.ndarray((64, 256), nl.uint8)
        nisa.dma_copy(dst=mine, src=x[core])
        source, dst = mine.view(dtype)[:, ::2], theirs.view(dtype)
        received = dst[:, 3 : 3 + source.shape[1]]
        nisa.sendrecv(source, received, 1 - core, 1 - core, 0, getattr(nisa.dma_engine, how))
        with pytest.raises(simulator.Uninitialized, match="nothing has written"):
            nisa.tensor_copy(nl.ndarray((64, 1), dtype), dst[:, 2:3])
        packed = nl.ndarray(received.shape, dtype)
        nisa.tensor_copy(packed, received)
        out = nl.ndarray((2, 64, 32), nl.uint8, nl.shared_hbm)
        nisa.dma_copy(dst=out[core], src=packed.view(nl.uint8))
        return out

    size = {"float32": 4, "bfloat16": 2, "int32": 4, "float8_e5m2_x4": 4}.get(dtype, 1)
    expected = raw.reshape(2, 64, -1, size)[::-1, :, ::2].reshape(2, 64, 32)
    np.testing.assert_array_equal(on_two_cores(kernel, raw, target=target, options=STRICT).outputs, expected)


def test_sendrecv_hands_on_what_nothing_wrote():
    """Padding that goes over and comes to nothing is a remark; at an output it names where it was read first."""

    def kernel(x, rows):
        core = nl.program_id(0)
        mine, theirs = nl.ndarray((32, 8), nl.float32), nl.ndarray((32, 8), nl.float32)
        nisa.dma_copy(dst=mine[0:20], src=x[0:20])
        nisa.sendrecv(mine, theirs, 1 - core, 1 - core, 0)
        out = nl.ndarray((2, rows, 8), nl.float32, nl.shared_hbm)
        nisa.dma_copy(dst=out[core], src=theirs[0:rows])
        return out

    with pytest.warns(simulator.SimulatorWarning, match="test_multicore.py:.*: nisa.sendrecv reads sbuf tensor"):
        run = on_two_cores(kernel, X, 20)
        np.testing.assert_array_equal(run.outputs, np.stack([X[:20]] * 2))
    with (
        pytest.warns(simulator.SimulatorWarning),
        pytest.raises(simulator.Uninitialized, match=r"64 of 384 elements .*: nisa.sendrecv at .* reads sbuf"),
    ):
        on_two_cores(kernel, X, 24)


def test_what_nothing_wrote_on_either_core_is_unwritten_in_what_they_reduce():
    def kernel(x, rows):
        core = nl.program_id(0)
        mine, both = nl.ndarray((32, 8), nl.float32), nl.ndarray((32, 8), nl.float32)
        known = 20 - 4 * core
        nisa.dma_copy(dst=mine[0:known], src=x[0:known])
        nisa.sendrecv_compute(mine, both, 1 - core, 1 - core, nl.add)
        out = nl.ndarray((2, rows, 8), nl.float32, nl.shared_hbm)
        nisa.dma_copy(dst=out[core], src=both[0:rows])
        return out

    with pytest.warns(simulator.SimulatorWarning, match="nisa.sendrecv_compute reads sbuf tensor"):
        np.testing.assert_array_equal(on_two_cores(kernel, X, 16).outputs, np.stack([2 * X[:16]] * 2))
    with pytest.warns(simulator.SimulatorWarning), pytest.raises(simulator.Uninitialized, match="64 of 320 elements"):
        on_two_cores(kernel, X, 20)


def test_sendrecv_in_place():
    def kernel(x):
        core = nl.program_id(0)
        tile = in_sbuf(x[HALVES[core]])
        nisa.sendrecv(tile, tile, 1 - core, 1 - core, 0)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out[HALVES[core]], src=tile)
        return out

    np.testing.assert_array_equal(on_two_cores(kernel, X).outputs, np.concatenate([X[64:], X[:64]]))


def exchange(core, src=(4, 4), dst=None, to=None, take=None, pipe=0, kinds=("float32", "float32"), **options):
    buffers = options.pop("buffers", (nl.sbuf, nl.sbuf))
    shapes = (src, dst or src)
    tiles = [nl.ndarray(s, k, b) for s, k, b in zip(shapes, kinds, buffers, strict=True)]
    if options.pop("written", True):
        nisa.memset(dst=tiles[0], value=1)
    partner = 1 - core
    nisa.sendrecv(*tiles, partner if to is None else to, partner if take is None else take, pipe, **options)


def reduced(core, op=nl.add, buffers=(nl.sbuf, nl.sbuf), kinds=("float32", "float32"), to=None):
    src, dst = (nl.ndarray((4, 4), kind, buffer) for kind, buffer in zip(kinds, buffers, strict=True))
    nisa.sendrecv_compute(src, dst, 1 - core if to is None else to, 1 - core, op)


def barrier(core, cores=(0, 1), buffer=nl.shared_hbm, **options):
    nisa.core_barrier(nl.ndarray((4, 4), nl.float32, buffer), cores, **options)


BYTES = {"dma_engine": nisa.dma_engine.gpsimd_dma}
# what each core does, and what the error says
LIMITS = {
    "shapes": (lambda core: exchange(core, dst=(4, 5)), "one shape and dtype"),
    "dtypes": (lambda core: exchange(core, kinds=("float32", "int32")), "one shape and dtype"),
    "src in PSUM": (lambda core: exchange(core, buffers=(nl.psum, nl.sbuf)), "src must be a tile in SBUF"),
    "dst in HBM": (lambda core: exchange(core, buffers=(nl.sbuf, nl.private_hbm)), "dst must be a tile in SBUF"),
    "poison": (lambda core: exchange(core, written=False), "reads 16 of 16 elements that nothing has written"),
    "partner's shape": (lambda core: exchange(core, src=(4, 4 + core)), "receives float32"),
    "ranks": (lambda core: exchange(core, to=2), "ranks are 0 or 1"),
    "ranks to receive from": (
        lambda core: exchange(core, take=2),
        "ranks are 0 or 1, got send_to_rank=., recv_from_rank=2",
    ),
    "itself": (lambda core: exchange(core, to=0, take=0), "sends to core 0"),
    "pipe": (lambda core: exchange(core, pipe="a"), "pipe_id must be an integer, got str"),
    "dma engine": (lambda core: exchange(core, dma_engine=nisa.engine.dma), "dma_engine must be a nisa.dma_engine"),
    "gpsimd, 32 bits": (lambda core: exchange(core, (4, 257), **BYTES), "at most 1024 bytes"),
    "gpsimd, 16 bits": (lambda core: exchange(core, (4, 257), kinds=["bfloat16"] * 2, **BYTES), "at most 512 bytes"),
    "gpsimd, 8 bits": (lambda core: exchange(core, (4, 257), kinds=["uint8"] * 2, **BYTES), "at most 256 bytes"),
    "reduced by": (lambda core: reduced(core, nl.multiply), "reduce_op must be nl.add, nl.maximum or nl.minimum, got"),
    "reduced by a name": (lambda core: reduced(core, "add"), "reduce_op must be nl.add, nl.maximum or nl.minimum, got"),
    "reduced in PSUM": (lambda core: reduced(core, buffers=[nl.psum] * 2), "src must be a tensor in HBM or SBUF, got"),
    "reduced in shared HBM": (
        lambda core: reduced(core, buffers=[nl.shared_hbm] * 2),
        "both be in SBUF or both in nl.private_hbm, got shared_hbm and shared_hbm",
    ),
    "reduced into HBM": (
        lambda core: reduced(core, buffers=(nl.sbuf, nl.private_hbm)),
        "both be in SBUF or both in nl.private_hbm, got sbuf and private_hbm",
    ),
    "reduced dtypes": (lambda core: reduced(core, kinds=("float32", "bfloat16")), "one shape and dtype"),
    "reduced packed": (lambda core: reduced(core, kinds=["float8_e5m2_x4"] * 2), "is packed: its elements are no numb"),
    "reduced of nothing": (reduced, "reads 16 of 16 elements that nothing has written"),
    "reduced to": (lambda core: reduced(core, to=2), "ranks are 0 or 1, got send_to_rank=2"),
    "barrier in SBUF": (lambda core: barrier(core, buffer=nl.sbuf), "data must be a tensor in shared HBM"),
    "barrier in private HBM": (
        lambda core: barrier(core, buffer=nl.private_hbm),
        "data must be a tensor in shared HBM",
    ),
    "barrier cores": (lambda core: barrier(core, (0, 1, 2)), r"cores must be \(0, 1\)"),
    "barrier of one core": (lambda core: barrier(core, 1), r"cores must be \(0, 1\), got 1"),
    "barrier of none": (lambda core: barrier(core, None), r"cores must be \(0, 1\), got None"),
    "barrier engine": (lambda core: barrier(core, engine=nisa.engine.dma), "engine must be one of nisa.engine.gpsimd"),
}


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize(("act", "message"), LIMITS.values(), ids=LIMITS)
def test_limits(act, message, target):
    def kernel(x):
        act(nl.program_id(0))
        return x

    with pytest.raises(NkiError, match=message):
        on_two_cores(kernel, X, target=target, options=STRICT)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "uint8"])
def test_gpsimd_moves_as_many_elements_of_each_size(kind):
    def kernel(x):
        exchange(nl.program_id(0), (4, 256), kinds=[kind] * 2, **BYTES)
        return x

    assert on_two_cores(kernel, X).trace.count()["sendrecv"] == 2


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_a_barrier_of_no_tensor_is_refused_where_one_of_sbuf_is_a_remark():
    def kernel(x, data):
        nisa.core_barrier(data, (0, 1))
        return x

    with pytest.raises(NkiError, match="^nisa.core_barrier at .*data must be a tensor in shared HBM, got"):
        on_two_cores(lambda x: kernel(x, 1.0), X)
    notes = on_two_cores(lambda x: kernel(x, nl.ndarray((4, 4), nl.float32)), X).trace.notes
    assert len(notes) == 2 and all("core_barrier: data must be a tensor in shared HBM" in note for note in notes)


@pytest.mark.parametrize("engine", ["gpsimd", "tensor", "vector", "scalar"])
def test_a_barrier_runs_on_the_engine_asked_for(engine):
    def kernel(x):
        barrier(nl.program_id(0), engine=nisa.engine[engine], name="mine")
        return x

    events = [e for e in on_two_cores(kernel, X).trace.events if e.op == "core_barrier"]
    assert [(e.engine, e.name) for e in events] == [(engine, "mine")] * 2


def test_one_core_has_nobody_to_meet():
    for kernel in (swapped, lambda x: barrier(0), lambda x: both_reduced(x, nl.add)):
        with pytest.raises(NkiError, match=r"launch it as kernel\[2\]"):
            simulator.run(kernel, X)
    for kernel in (swapped, through_shared):
        with pytest.raises(NkiError, match="needs NeuronCore-v3"):
            on_two_cores(kernel, X, target="trn1")


def test_tensors_of_gigabytes_are_looked_at_in_the_parts_that_are_touched():
    """2 GiB, which both cores write in turns of rows: as much memory as they make accesses."""

    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        tile = nl.ndarray((128, 1 << 12), x.dtype)
        nisa.memset(tile, 0.0)
        for row in range(128 * nl.program_id(0), 1 << 15, 2048):
            nisa.dma_copy(dst=out[row : row + 128, 0 : 1 << 12], src=tile)
        return x

    x = simulator.ShapeDtype((1 << 15, 1 << 15), "bfloat16")
    tracemalloc.start()
    try:
        simulator.run(nki.jit(kernel)[2], x)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
