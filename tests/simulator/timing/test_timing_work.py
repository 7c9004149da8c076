"""What single events ask of the chip, by hand: queue, port, cells, other engines; and what they compute."""

import dataclasses
import math

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing import schedule
from triptych.simulator.timing.queues import issue_ns, issuer_of, most_issued, queue_of
from triptych.simulator.timing.reading.flops import flops_of, is_float32_matmul, speed_of
from triptych.simulator.timing.work import CELLS, PSUM_PORT, SBUF_PORT, loads_of, works, works_of
from triptych.simulator.trace import Allocation, Event, Region, Trace

TRN1, TRN2 = chip_of("trn1"), chip_of("trn2")


def tile(n=512, dtype="float32", buffer="sbuf", p=128, number=0):
    return Region(Allocation(number, "t", buffer, (p, n), TABLE[dtype], ("k.py", 1)), 0, (p, n), (n, 1), TABLE[dtype])


F, B, IN_PSUM, OUTSIDE = tile(), tile(dtype="bfloat16"), tile(buffer="psum"), tile(buffer="private_hbm")


def event(instruction, engine, reads, writes, core=0, **attributes):
    return Event(instruction, engine, tuple(reads), tuple(writes), ("k.py", 1), core, None, attributes)


@pytest.mark.parametrize(
    ("attributes", "chip", "queue"),
    [
        ({"pipe": None}, TRN2, "cores"),
        ({"ranks": [0, 1]}, TRN2, "cores"),
        ({}, TRN1, "static"),
        ({}, TRN2, "gpsimd"),
        ({"gathered": True}, TRN1, "gpsimd"),
        ({"scattered": True}, TRN1, "gpsimd"),
        ({"dge": "none"}, TRN2, "static"),
        ({"dge": "swdge", "trigger": "scalar"}, TRN2, "gpsimd"),
        ({"dge": "hwdge"}, TRN2, "sync"),
        ({"dge": "hwdge", "trigger": "scalar"}, TRN2, "scalar"),
    ],
)
def test_who_issues_a_transfer(attributes, chip, queue):
    assert queue_of(event("dma_copy", "dma", [OUTSIDE], [F], **attributes), chip) == queue
    assert queue_of(event("dma_copy", "dma", [], [F], **attributes), chip) == queue
    behind = queue_of(event("dma_copy", "dma", [F], [OUTSIDE], **attributes), chip)
    assert behind == queue + ("" if queue == "cores" else ", from SBUF") and issuer_of(behind) == queue
    expected = {"static": 184, "gpsimd": 603}.get(queue, 600)
    assert issue_ns(queue, chip) == issue_ns(behind, chip) == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "queue"),
    [
        ((16, 128), "bfloat16", "sync"),
        ((16, 3, 256), "bfloat16", "sync"),
        ((16, 128, 3), "bfloat16", "static"),
        ((32, 128), "bfloat16", "static"),
        ((16, 128), "float32", "static"),
    ],
)
def test_which_transposes_hardware_takes(shape, dtype, queue):
    allocation = Allocation(0, "t", "private_hbm", shape, TABLE[dtype], ("k.py", 1))
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    whole = Region(allocation, 0, shape, strides, TABLE[dtype])
    assert queue_of(event("dma_transpose", "dma", [whole], [F]), TRN2) == queue
    assert queue_of(event("dma_transpose", "dma", [whole], [F], gathered=True), TRN2) == "gpsimd"


def test_the_trigger_that_takes_longest_to_issue_its_transfers():
    static = [event("dma_copy", "dma", [OUTSIDE], [F], dge="none") for _ in range(7)]  # 184 ns each
    hardware = [event("dma_copy", "dma", [F], [OUTSIDE], dge="hwdge") for _ in range(2)]  # 600, from SBUF and to it
    other = event("dma_copy", "dma", [OUTSIDE], [F], core=1, dge="hwdge")
    waits = [event("dma_copy", "dma", *some, dge="none") for some in (([], [F]), ([OUTSIDE], [])) for _ in range(4)]
    copies = [event("tensor_copy", "vector", [F], [F]) for _ in range(9)]
    assert most_issued(Trace(TRN2, "", [*static, *hardware, other, *waits, *copies])) == (7 * 184, static)
    found = [*hardware, event("dma_copy", "dma", [OUTSIDE], [F], dge="hwdge")]
    assert most_issued(Trace(TRN2, "", [*static, *found, other])) == (3 * 600, found)
    assert most_issued(Trace(TRN2, "", copies)) == (0.0, [])


@pytest.mark.parametrize(
    ("chip", "op", "engine", "reads", "writes", "port"),
    [
        (TRN1, "tensor_copy", "vector", [F], [F], SBUF_PORT),
        (TRN1, "tensor_copy", "vector", [IN_PSUM], [F], PSUM_PORT),
        (TRN1, "tensor_copy", "scalar", [F], [IN_PSUM], PSUM_PORT),
        (TRN1, "tensor_copy", "scalar", [F], [F], None),
        (TRN1, "nc_matmul", "tensor", [B, B], [IN_PSUM], None),
        (TRN1, "iota", "gpsimd", [], [F], SBUF_PORT),
        (TRN2, "iota", "gpsimd", [], [F], SBUF_PORT),
        (TRN2, "tensor_copy", "scalar", [B], [B], None),
        (TRN2, "tensor_copy", "vector", [B], [B], SBUF_PORT),
        (TRN2, "tensor_copy", "vector", [tile(64, "bfloat16")], [tile(64, "bfloat16")], None),
        (TRN2, "tensor_copy", "vector", [F], [F], SBUF_PORT),  # float32 in SBUF at twice the speed
        (TRN2, "tensor_copy", "vector", [tile(84)], [tile(84)], None),  # that takes 64 cycles all the same
        (TRN2, "tensor_copy", "vector", [IN_PSUM], [F], None),
        (TRN2, "tensor_copy", "vector", [F], [B], SBUF_PORT),
        (TRN2, "tensor_tensor", "vector", [B, B], [B], SBUF_PORT),  # two elements a cycle
        (TRN2, "tensor_scalar", "vector", [B, tile(1)], [B], SBUF_PORT),  # with a number a partition
        (TRN2, "tensor_tensor", "vector", [B, F], [B], None),
        (TRN2, "tensor_tensor", "vector", [F, F], [F], None),
        (TRN2, "core_barrier", "gpsimd", [OUTSIDE], [OUTSIDE], None),
        (TRN2, "core_barrier", "gpsimd", [F], [], None),
        (TRN2, "tensor_reduce", "vector", [B], [tile(1, "bfloat16")], None),  # faster, and not by that mode
        (TRN2, "tensor_reduce", "vector", [F], [tile(1)], None),
    ],
)
def test_who_shares_a_port(chip, op, engine, reads, writes, port):
    attributes = {"op": "add"} if op == "tensor_reduce" else {"rows": 1} if op == "nc_matmul" else {}
    (work,) = works(Trace(chip, "", [event(op, engine, reads, writes, **attributes)]))
    assert work.port == port


def test_who_gets_a_port_first_that_two_ask_for_at_the_same_moment():
    """By name, whichever comes first in the program."""
    both = [event("memset", engine, [], [tile(number=i)], value=1) for i, engine in enumerate(("vector", "gpsimd"))]
    for order in (both, both[::-1]):
        spans = sorted(schedule(Trace(TRN1, "trn1", order)).spans, key=lambda span: span.start_ns)
        assert [span.track for span in spans] == ["gpsimd", "vector"] and spans[1].why == "port"


def test_a_fast_scalar_engine_shares_no_port():
    fast = dataclasses.replace(TRN2, scalar_ghz=dataclasses.replace(TRN2.scalar_ghz, value=4.0))
    (work,) = works(Trace(fast, "", [event("tensor_copy", "scalar", [F], [F])]))
    assert work.busy < 0.75 * 512 / TRN2.vector_ghz.value and work.port is None


@pytest.mark.parametrize(
    ("chip", "read", "written", "engines"),
    [
        (TRN2, F, F, ["scalar", "gpsimd"]),
        (TRN2, IN_PSUM, F, ["scalar"]),
        (TRN2, F, IN_PSUM, ["scalar"]),
        (TRN2, F, tile(dtype="int32"), ["gpsimd"]),
        (TRN2, tile(dtype="uint32"), F, ["gpsimd"]),
        (TRN2, F, tile(dtype="int8"), ["scalar", "gpsimd"]),
        (TRN1, F, F, ["gpsimd"]),
        (TRN1, IN_PSUM, F, []),
    ],
)
def test_who_else_can_take_a_copy(chip, read, written, engines):
    (work,) = works(Trace(chip, "", [event("tensor_copy", "vector", [read], [written], open=True)]))
    assert [other.track for other in work.elsewhere] == engines
    (work,) = works(Trace(chip, "", [event("tensor_copy", "vector", [read], [written])]))
    assert work.elsewhere == ()


def test_what_is_left_open_stays_with_the_busiest_engine_of_its_own_core():
    copy, more = event("tensor_copy", "vector", [F], [F], open=True), tile(4096)
    for core, stays in ((0, True), (1, False)):
        busy = [event("activation", "scalar", [more], [more], core=core, op="copy") for _ in range(3)]
        found = works(Trace(TRN2, "", [copy, *busy]))
        assert (found[0].elsewhere == ()) == stays


@pytest.mark.parametrize(
    ("place", "cells"),
    [
        ((0, 0, 128, 128), range(16)),
        ((0, 0, 32, 32), [0]),
        ((32, 0, 32, 64), [4, 5]),
        ((64, 96, 64, 32), [11, 15]),
        ((0, 32, 128, 32), [1, 5, 9, 13]),
    ],
)
def test_the_cells_that_a_matmul_takes(place, cells):
    product = event("nc_matmul", "tensor", [B, B], [IN_PSUM], rows=1, tile=place)
    whole = event("nc_matmul", "tensor", [B, B], [IN_PSUM], rows=1)
    copy = event("tensor_copy", "vector", [B], [B])
    first, second, other = works(Trace(TRN2, "", [product, whole, copy]))
    assert [cell for cell in range(CELLS) if first.cells >> cell & 1] == list(cells)
    assert second.cells == (1 << CELLS) - 1 and other.cells == 0
    assert works(Trace(TRN2, "", [whole]))[0].cells == 0  # where none is tiled


@pytest.mark.parametrize(
    ("op", "reads", "writes", "rings"),
    [
        ("dma_copy", [tile(p=8, buffer="private_hbm")], [tile(p=8)], range(1)),
        ("dma_copy", [tile(p=8)], [tile(p=8, buffer="private_hbm")], range(1)),
        ("dma_copy", [], [tile(p=8)], range(16)),
        ("dma_copy", [tile(p=8)], [], range(16)),
        ("dma_transpose", [tile(8, p=16, buffer="private_hbm")], [tile(16, p=8)], range(16)),
    ],
)
def test_the_rings_of_a_transfer(op, reads, writes, rings):
    assert works(Trace(TRN2, "", [event(op, "dma", reads, writes)]))[0].rings == rings


def test_an_event_waits_for_the_last_to_end_whichever_began_last():
    """Scalar's 4096 elements begin with Vector's 512, and end after the second of those."""
    long, one, two = tile(4096, number=1), tile(number=2), tile(number=3)
    makers = (("scalar", long), ("vector", one), ("vector", two))
    events = [event("memset", engine, [], [made], value=1) for engine, made in makers]
    events.append(event("tensor_copy", "gpsimd", [long, one, two], []))
    spans = schedule(Trace(TRN2, "trn2", events)).spans
    assert spans[2].start_ns > spans[0].start_ns and spans[2].end_ns < spans[0].end_ns == spans[3].start_ns
    assert spans[3].after == 0


def test_what_no_queue_issues_has_no_issue():
    (work,) = works(Trace(TRN2, "", [event("tensor_copy", "vector", [F], [F])]))
    assert (work.issue, work.lead, work.queue, work.cells, len(work.rings)) == (0.0, 0.0, "", 0, 0)


def test_events_of_one_form_share_their_work():
    events = [event("tensor_copy", "vector", [F], [F]) for _ in range(2)] + [event("tensor_copy", "vector", [B], [F])]
    first, again, other = works(Trace(TRN2, "", events))
    assert first is again and first is not other


def test_each_core_loads_each_table_once():
    steps = [(0, "exp"), (0, "exp"), (0, "copy"), (1, "exp"), (0, "exp")]
    events = [event("activation", "scalar", [F], [F], core=core, op=name, bias=False) for core, name in steps]
    exp, copy = (512 + 64 + 110 + 45) / 1.2, (512 + 64 + 45) / 1.2
    assert [w.busy for w in works(Trace(TRN2, "", events))] == pytest.approx(
        [exp + 1283, exp, copy + 1283, exp + 1283, exp]
    )


def test_loads_are_the_time_of_each_track_and_the_mean_of_the_rings():
    few = tile(p=8)
    events = [
        event("tensor_copy", "scalar", [F], [F]),
        event("tensor_copy", "scalar", [F], [F]),
        event("tensor_copy", "vector", [F], [F], core=1),
        event("dma_copy", "dma", [tile(p=8, buffer="private_hbm")], [few]),  # eight descriptors of one ring
        event("dma_copy", "dma", [OUTSIDE], [F]),  # and eight of each
    ]
    trace = Trace(TRN2, "", events)
    rate = 23 * 2 * 358 / 736  # a ring's bytes a nanosecond where two cores share 716 GB/s
    row = 5.9 + 2048 / rate
    found = loads_of(TRN2, works_of(trace))
    assert set(found) == {(0, "scalar"), (1, "vector"), (0, "dma")}
    assert found[0, "scalar"] == pytest.approx(2 * (512 + 64 + 45) / 1.2)
    assert found[1, "vector"] == pytest.approx((512 / 2 + 64) / 0.96)
    assert found[0, "dma"] == pytest.approx(8 * row / 16 + 8 * row)


def test_the_load_of_tiled_matmuls_is_the_mean_of_the_cells():
    tiled = [event("nc_matmul", "tensor", [B, B], [IN_PSUM], rows=1, tile=(32 * i, 0, 32, 128)) for i in range(3)]
    trace = Trace(TRN2, "", [*tiled, event("nc_matmul", "tensor", [B, B], [IN_PSUM], rows=1)])
    assert loads_of(TRN2, works_of(trace))[0, "tensor"] == pytest.approx((3 / 4 + 1) * (512 + 7) / 2.4)


@pytest.mark.parametrize(
    ("op", "left", "right", "attributes", "flops", "speed"),
    [
        ("nc_matmul", tile(64, "bfloat16"), tile(512, "bfloat16"), {"rows": 1}, 2 * 128 * 64 * 512, 1),
        ("nc_matmul", tile(64), tile(512), {"rows": 1}, 2 * 128 * 64 * 512, 0.25),
        ("nc_matmul", tile(64, p=32), tile(512, p=32), {"rows": 1}, 2 * 32 * 64 * 512, 0.25),
        ("nc_matmul", tile(64, "bfloat16"), tile(512, "bfloat16"), {"rows": 1, "transpose": True}, 0, 1),
        ("nc_matmul", tile(64, "float8_e4m3"), tile(512, "float8_e4m3"), {"rows": 2}, 2 * 256 * 32 * 256, 2),
        (
            "nc_matmul_mx", tile(64, "float8_e4m3fn_x4"), tile(512, "float8_e4m3fn_x4"), {"rows": 1},
            2 * 4 * 128 * 64 * 512, 4,
        ),
        ("tensor_tensor", tile(512, "bfloat16"), tile(512, "bfloat16"), {}, 0, 1),
        ("tensor_tensor", F, F, {}, 0, 1),
    ],
)  # fmt: skip
def test_what_a_matmul_computes(op, left, right, attributes, flops, speed):
    found = event(op, "tensor", [left, right], [IN_PSUM], **attributes)
    assert flops_of(found) == flops and speed_of(found, TRN2) == speed
    assert is_float32_matmul(found) == (speed < 1)


def test_what_reads_nothing_computes_nothing():
    fill = event("memset", "vector", [], [F], value=0)
    assert flops_of(fill) == 0 and speed_of(fill, TRN2) == 1 and not is_float32_matmul(fill)


def test_the_stationary_tile_says_whether_a_matmul_takes_several_passes():
    assert is_float32_matmul(event("nc_matmul", "tensor", [F, B], [IN_PSUM]))
    assert not is_float32_matmul(event("nc_matmul", "tensor", [B, F], [IN_PSUM]))
    assert not is_float32_matmul(event("nc_transpose", "tensor", [F], [IN_PSUM]))
