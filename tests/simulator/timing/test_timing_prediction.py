"""What a prediction says about a kernel, against arithmetic by hand."""

import math

import ml_dtypes
import numpy as np
import pytest
from kernel_parts import chained_matmuls, product

from triptych import simulator
from triptych.simulator import KernelError
from triptych.simulator.chip.record import NOT_ONCE
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import predict_trace

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TRN2 = chip_of("trn2")
FIXED = (TRN2.launch_ns.value + TRN2.teardown_ns.value) / 1e3  # us
TRIGGERED = 1.290  # us after the launch: the first transfer by GpSimd
KNOWN = 0.210 + 0.380  # us after the time of a transfer's rings, which do not begin together, until its result is there
predict = simulator.on("trn2").predict


def operands(dtype=ml_dtypes.bfloat16):
    return np.ones((128, 64), dtype), np.ones((128, 256), dtype)


def test_a_tile_of_a_matmul_by_hand():
    p = predict(product, *operands())
    # Loads: rows of 128 and 512 bytes on 16 rings, issued 603 ns apart; the second ends later.
    loaded = TRIGGERED + 0.603 + 0.740 + 8 * (5.9 + 512 / 24.375) / 1e3 + KNOWN
    multiplied = 2 * (256 + 7) / 2.4e3 + 0.198  # throttled: the engine was idle
    copied = (256 + 64) / 0.96e3 + 0.124
    stored = 0.740 + 8 * (5.9 + 1024 / 24.375) / 1e3 + KNOWN  # 64 rows, on 8 rings
    assert p.total_us == pytest.approx(FIXED + loaded + multiplied + copied + stored)
    assert p.flops == 2 * 128 * 64 * 256
    assert p.hbm_bytes == 128 * 64 * 2 + 128 * 256 * 2 + 64 * 256 * 4
    assert p.intensity == p.flops / p.hbm_bytes
    assert p.mfu == pytest.approx(p.flops / (p.total_us * 1e-6) / 78.64e12)
    assert p.bandwidth_use == pytest.approx(p.hbm_bytes / (p.total_us * 1e-6) / 716e9)
    assert p.compute_us == pytest.approx(p.flops / 78.64e6) and p.memory_us == pytest.approx(p.hbm_bytes / 716e3)
    assert p.bound == "memory" and p.roofline_us == p.memory_us
    assert p.busy["vector"] == pytest.approx((256 + 64) / 0.96e3 / p.total_us)
    # The first load delays the second by its issue; each step lasts until the next on the path could go on.
    delay = TRIGGERED + 0.603
    path = sorted([delay, loaded - delay, multiplied, copied, stored], reverse=True)
    assert [step.us for step in p.critical] == pytest.approx(path) and {step.count for step in p.critical} == {1}


def test_a_kernel_within_a_program_pays_no_launch_and_no_teardown():
    alone, within = (simulator.on("trn2", settings=s).predict(product, *operands()) for s in (None, NOT_ONCE))
    assert within.total_us == pytest.approx(alone.total_us - FIXED - TRIGGERED, abs=1e-6)


def test_a_transfer_that_waits_for_the_rings_is_on_the_path_from_where_it_moves():
    def kernel(x):
        nisa.dma_copy(nl.ndarray((128, 4096), "bfloat16"), x)
        nisa.dma_copy(nl.ndarray((128, 4096), "bfloat16"), x)
        return x

    moved = 8 * (5.9 + 8192 / 24.375) / 1e3
    p = predict(kernel, np.ones((128, 4096), ml_dtypes.bfloat16))
    assert [step.us for step in p.critical] == pytest.approx([TRIGGERED + 0.740 + moved, moved + KNOWN])


def test_what_hardware_issues_is_on_the_path_from_its_issue():
    """The store of a copy: until the copy's result is there, it is the copy that takes the time."""

    def kernel(x):
        t, u = (nl.ndarray((128, 512), "float32") for _ in range(2))
        out = nl.ndarray((128, 512), "float32", nl.shared_hbm)
        nisa.dma_copy(t, x, dge_mode=nisa.dge_mode.hwdge)
        nisa.tensor_copy(u, t)
        nisa.dma_copy(out, u, dge_mode=nisa.dge_mode.hwdge)
        return out

    transfer = 1.330 + 8 * (5.9 + 2048 / 24.375) / 1e3 + KNOWN
    copied = (512 / 2 + 64) / 0.96e3 + 0.124
    p = predict(kernel, np.ones((128, 512), np.float32))
    assert [step.us for step in p.critical] == pytest.approx([transfer, transfer, copied])
    assert p.total_us == pytest.approx(FIXED + 2 * transfer + copied)


def test_float32_has_a_quarter_of_the_peak():
    assert predict(product, *operands(np.float32)).compute_us == pytest.approx(
        4 * predict(product, *operands()).compute_us
    )


def test_the_critical_path_is_all_of_the_time_between_launch_and_teardown():
    p = predict(product, *operands())
    assert [step.op for step in p.critical][:1] == ["dma_copy"] and len(
        p.critical
    ) == 5  # the first load delays the second
    assert sum(step.us for step in p.critical) == pytest.approx(p.total_us - FIXED)
    assert all(step.line[0] == product.__code__.co_filename for step in p.critical)
    assert [step.share for step in p.critical] == pytest.approx([step.us / p.total_us for step in p.critical])


@pytest.mark.parametrize(
    ("transfers", "columns", "regime"),
    [
        (29, 8, "issue"),  # 603 ns each: 17.5 us of 34.9
        (27, 8, "short"),  # 16.3 of 33.7
        (200, 380, "issue"),  # the rings move each in 297 ns
        (200, 400, "dma"),  # in 310
    ],
)
def test_where_issuing_dma_takes_twice_as_long_as_anything_else(transfers, columns, regime):
    p = rows(transfers, columns)
    assert p.regime == regime, (p.busy, p.total_us)


def test_the_first_load_waits_for_the_launch():
    (stall,) = [stall for stall in rows(200, 2048).stalls if stall.waits_for == "the launch"]
    assert (stall.track, stall.op, stall.count, stall.waits_line) == ("dma", "dma_copy", 1, None)


def test_stalls_are_the_idle_time_of_the_busiest_track():
    def kernel(x):
        t = nl.ndarray((128, 4096), "float32")
        nisa.memset(t, 1.0)
        for _ in range(3):
            u = nl.ndarray((128, 4096), "float32")
            nisa.activation(u, nl.copy, t)
            t = nl.ndarray((128, 4096), "float32")
            nisa.tensor_tensor(t, u, u, nl.add)
        return x

    p = predict(kernel, np.ones((1, 1), np.float32))
    assert next(iter(p.busy)) == "vector"
    (stall,) = p.stalls
    assert (stall.track, stall.op, stall.waits_for, stall.why, stall.count) == (
        "vector",
        "tensor_tensor",
        "activation",
        "data",
        3,
    )
    latencies = 3 * (0.124 + 0.139)
    assert stall.us == pytest.approx(3 * (4096 + 64 + 45) / 1.2e3 + latencies + 1.283)  # and a table
    assert stall.share == pytest.approx(stall.us / p.total_us)


def test_peaks_are_bytes_of_a_partition():
    p = predict(product, *operands())
    assert p.peaks["psum"] == (2048 // 2, 16384)  # a bank, of which 64 partitions take half
    assert p.peaks["sbuf"][1] == 224 * 1024


def rows(n, elements):
    """A kernel that loads n tiles of `elements` bfloat16 a partition."""

    def kernel(x):
        for _ in range(n):
            nisa.dma_copy(nl.ndarray((128, elements), "bfloat16"), x[:, 0:elements])
        return x

    return predict(kernel, np.ones((128, 2048), ml_dtypes.bfloat16))


def test_advice_says_what_the_numbers_show():
    (issue,) = rows(100, 32).advice
    assert "100 transfers are issued 603 ns apart and move 8 KiB each; transfers of 230 KiB" in issue
    assert rows(100, 2048).advice == []

    def by_two(x):  # the trigger that has most to issue counts
        for i in range(102):
            how = {} if i < 2 else {"dge_mode": nisa.dge_mode.hwdge}
            nisa.dma_copy(nl.ndarray((128, 32), "bfloat16"), x[:, 0:32], **how)
        return x

    (issue,) = predict(by_two, np.ones((128, 2048), ml_dtypes.bfloat16)).advice
    assert "100 transfers are issued 600 ns apart" in issue
    (issue,) = rows(100, 406).advice  # 101.5 KiB each
    assert "603 ns apart and move 102 KiB each" in issue
    assert predict(product, *operands(np.float32)).advice == []

    def columns(x):  # descriptors of two bytes
        for _ in range(4):
            nisa.dma_copy(nl.ndarray((128, 512), "bfloat16"), x.reshape((512, 512)).permute((1, 0))[0:128])
        return x

    (short,) = predict(columns, np.ones((128, 2048), ml_dtypes.bfloat16)).advice
    slower = (5.9 + 2 / 24.375) / (2 / 24.375)  # a descriptor of two bytes, beside its bytes
    assert f"rows of 2 bytes on average in 4 transfers, which take {slower:.1f} times as long" in short
    assert "2048 bytes or more a row" in short


@pytest.mark.parametrize(("n", "said"), [(256, True), (640, True), (768, False)])
def test_short_rows_are_named_where_they_take_a_fifth_longer(n, said):
    """Rows of n bytes beside some of 2048: 5.9 ns a descriptor are a fifth of n / 24.375 at 719 bytes."""

    def kernel(x):
        for _ in range(60):
            nisa.dma_copy(nl.ndarray((128, 8, n // 2), "bfloat16"), x[:, :, 0 : n // 2], dge_mode=nisa.dge_mode.none)
        for _ in range(4):
            nisa.dma_copy(nl.ndarray((128, 1024), "bfloat16"), x.reshape((128, 8192))[:, 0:1024])
        return x

    advice = predict(kernel, np.ones((128, 8, 1024), ml_dtypes.bfloat16)).advice
    expected = f"rows of {n} bytes on average in 60 transfers, which take {1 + 5.9 * 24.375 / n:.1f} times as long"
    assert (len(advice), any(expected in text for text in advice)) == (said, said)


@pytest.mark.parametrize(
    ("short", "long", "share", "of_dma", "said"),
    [
        (21, 0, (0.50, 0.60), (1.00, 1.01), True),
        (18, 0, (0.40, 0.50), (1.00, 1.01), False),  # DMA is idle for more than half of the time
        (14, 4, (0.50, 0.90), (0.20, 0.24), True),
        (10, 4, (0.50, 0.90), (0.15, 0.20), False),  # most of its time goes to long rows
    ],
)
def test_short_rows_are_named_where_dma_is_busy_and_they_take_a_fifth_of_its_time(short, long, share, of_dma, said):
    """Transfers of 128 x 16 rows of 16 bytes and of 128 of 32 KiB."""

    def kernel(x):
        for _ in range(short):
            nisa.dma_copy(nl.ndarray((128, 16, 8), "bfloat16"), x[:, :, 0:8], dge_mode=nisa.dge_mode.none)
        for _ in range(long):
            nisa.dma_copy(nl.ndarray((128, 16, 1024), "bfloat16"), x, dge_mode=nisa.dge_mode.none)
        return x

    p = predict(kernel, np.ones((128, 16, 1024), ml_dtypes.bfloat16))
    spent = [span.busy_ns for span in p.timeline.spans]
    assert share[0] < p.busy["dma"] < share[1] and of_dma[0] <= sum(spent[:short]) / sum(spent) < of_dma[1]
    assert any("rows of 16 bytes" in text for text in p.advice) == said


@pytest.mark.parametrize("beside", [0, 30])
def test_throttling_matters_on_the_critical_path(beside):
    """Beside matmuls that keep the engine cold Vector may take the time."""

    def kernel(x):
        chained_matmuls()
        other = nl.ndarray((128, 4096), "float32")
        for _ in range(beside):
            nisa.memset(other, 1.0)
        return x

    advice = predict(kernel, np.ones((1, 1), np.float32)).advice
    assert len(advice) == (0 if beside else 1)
    for text in advice:
        assert text.startswith("throttling of the Tensor Engine costs ")
        assert "its clock is halved until it is busy for 75.5% of 3.4 us" in text


@pytest.mark.parametrize("target", ["trn1", "inf2"])
def test_an_engine_that_is_slower_when_it_is_kept_busy_is_no_advice(target):
    def kernel(x):
        t, product = nl.ndarray((128, 512), "bfloat16"), nl.ndarray((128, 512), "float32", nl.psum)
        nisa.memset(t, 1.0)
        for _ in range(200):
            nisa.nc_matmul(product, t[:, 0:128], t)
        return x

    p = simulator.predict(kernel, np.ones((1, 1), np.float32), target=target)
    least = 200 * (512 + 7) / 2.8e3
    assert p.busy["tensor"] * p.total_us > 1.1 * least and p.advice == []


def test_what_if():
    trace = simulator.on("trn2").run(product, *operands()).trace
    plain, faster = predict_trace(trace), predict_trace(trace, settings={"dma_gb_per_s": 736})
    assert faster.total_us < plain.total_us
    assert faster.chip.dma_gb_per_s.value == 736 and faster.chip.dma_gb_per_s.known == "assumed"
    with pytest.raises(KernelError, match="'dma' is no field of a chip record; expected one of partitions, "):
        predict_trace(trace, settings={"dma": 1})


def test_nothing_runs_in_no_time_but_the_launch():
    p = predict(lambda x: x, np.ones((2, 2), np.float32))
    assert p.total_us == FIXED and p.critical == p.stalls == p.advice == [] and p.busy == {}
    assert p.flops == 0 and p.mfu == 0 and p.bound == "compute"  # as where both take as long
    assert p.intensity == math.inf and p.peaks == {} and p.cores == 1
