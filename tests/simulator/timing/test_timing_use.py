"""What the Tensor Engine's clock counts as use: matmuls, waits for another engine, and no barrier."""

import dataclasses

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing import schedule
from triptych.simulator.timing.work import works
from triptych.simulator.trace import Allocation, Event, Region, Trace

TRN2 = chip_of("trn2")


def tile(n=512, dtype="float32", buffer="sbuf", p=128, number=0):
    return Region(Allocation(number, "t", buffer, (p, n), TABLE[dtype], ("k.py", 1)), 0, (p, n), (n, 1), TABLE[dtype])


F, B, IN_PSUM, OUTSIDE = tile(), tile(dtype="bfloat16"), tile(buffer="psum"), tile(buffer="private_hbm")


def event(instruction, engine, reads, writes, **attributes):
    return Event(instruction, engine, tuple(reads), tuple(writes), ("k.py", 1), 0, None, attributes)


@pytest.mark.parametrize("engine", ["gpsimd", "vector", "scalar", "tensor"])
@pytest.mark.parametrize("data", [OUTSIDE, F])
def test_a_barrier_takes_as_long_on_every_engine(engine, data):
    """And neither the clock of the Tensor Engine nor an access makes it longer: it computes nothing."""
    trace = Trace(TRN2, "trn2", [event("core_barrier", engine, [data], [])])
    (work,), (span,) = works(trace), schedule(trace).spans
    assert work.busy == span.busy_ns == TRN2.barrier_ns.value == 598
    assert not work.multiplies and work.cells == 0 and work.port is None


def test_a_barrier_does_not_warm_the_tensor_engine_up():
    """Twenty of them are three windows and a half; the matmul behind them is halved as a first one."""
    events = [event("core_barrier", "tensor", [OUTSIDE], []) for _ in range(20)]
    events.append(event("nc_matmul", "tensor", [B, B], [IN_PSUM], rows=1))
    *waits, product = schedule(Trace(TRN2, "trn2", events)).spans
    assert [span.busy_ns for span in waits] == [598] * 20
    assert product.busy_ns == pytest.approx(2 * (512 + 7) / 2.4)


@pytest.mark.parametrize(
    ("count", "n", "slow"),
    [
        (80, 1, False),  # the window is not over
        (80, 3000, True),  # and was used for 0.33
        (82, 3000, False),  # for 0.46
        (82, 6000, True),  # after another without use
    ],
)
def test_the_clock_is_halved_after_a_window_that_was_used_too_little(count, n, slow):
    """The Tensor Engine, warm since its twelfth matmul, waits for a copy of n elements; windows end every 3413.3 ns."""
    product, copied = tile(n, buffer="psum", number=1), tile(n, number=2)
    events = [event("nc_matmul", "tensor", [B, B], [product], rows=1) for _ in range(count)]
    events.append(event("tensor_copy", "vector", [product], [copied]))
    events.append(event("nc_matmul", "tensor", [B, B, copied], [IN_PSUM], rows=1))
    first, *_, before, last = [s for s in schedule(Trace(TRN2, "", events)).spans if s.track == "tensor"]
    once, gap = (512 + 7) / 2.4, 198 + (max(n, 64) + 64) / 0.96 + 124
    assert before.busy_ns == pytest.approx(once) and last.start_ns - before.free_ns == pytest.approx(gap)
    over = first.start_ns + 6.5 * 3413.3  # the window in which the matmuls end
    assert (12 * 2 + count - 12) * once == pytest.approx(before.free_ns - first.start_ns)
    assert before.free_ns < over and (last.start_ns < over) == (n == 1)
    assert last.busy_ns == pytest.approx(2 * once if slow else once)


def test_a_chip_without_a_window_is_never_slow():
    cold = dataclasses.replace(TRN2, warm_up_ns=dataclasses.replace(TRN2.warm_up_ns, value=0.0))
    trace = Trace(cold, "trn2", [event("nc_matmul", "tensor", [B, B], [IN_PSUM], rows=1)])
    assert schedule(trace).spans[0].busy_ns == pytest.approx((512 + 7) / 2.4)
