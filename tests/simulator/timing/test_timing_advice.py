"""From where on advice is given: at each of its limits, and just beside."""

import numpy as np
import pytest
from kernel_parts import chained_matmuls

from triptych import simulator
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def advice_on(kernel, *operands, **settings):
    return simulator.predict(kernel, *operands, target="trn2", settings=settings).advice


@pytest.mark.parametrize(("descriptor_ns", "said"), [(15.99, False), (16, True)])
def test_short_rows_that_take_a_fifth_longer_than_their_bytes(descriptor_ns, said):
    """At 16 GB/s a ring, 80 ns for 1280 bytes."""

    def kernel(x):
        for _ in range(60):
            nisa.dma_copy(nl.ndarray((128, 8, 640), "bfloat16"), x[:, :, 0:640], dge_mode=nisa.dge_mode.none)
        return x

    x = simulator.ShapeDtype((128, 8, 1024), "bfloat16")
    advice = advice_on(kernel, x, dma_gb_per_s=256, dma_descriptor_ns=descriptor_ns)
    assert any("rows of 1280 bytes" in text for text in advice) == said


@pytest.mark.parametrize(("short", "said"), [(11, False), (12, True)])
def test_short_rows_that_take_a_fifth_of_all_that_moves(short, said):
    """At 16 GB/s a ring and 64 ns a descriptor, 128 ns for 1024 bytes, and 192 for 2048 of 32 transfers."""

    def kernel(x):
        for i in range(short + 32):
            n = 512 if i < short else 1024
            nisa.dma_copy(nl.ndarray((128, n), "bfloat16"), x[:, 0:n], dge_mode=nisa.dge_mode.none)
        return x

    x = simulator.ShapeDtype((128, 2048), "bfloat16")
    advice = advice_on(kernel, x, dma_gb_per_s=256, dma_descriptor_ns=64)
    assert any("rows of 1024 bytes" in text for text in advice) == said


def test_rows_are_those_of_copies_by_dma():
    """Copies of narrow tiles by Vector, and what is transposed, move no rows."""

    def kernel(x):
        a, b = nl.ndarray((128, 8), "bfloat16"), nl.ndarray((128, 8), "bfloat16")
        nisa.memset(a, 1.0)
        for _ in range(20):
            nisa.dma_copy(nl.ndarray((128, 4096), "bfloat16"), x, dge_mode=nisa.dge_mode.none)
            nisa.dma_transpose(nl.ndarray((8, 128), "bfloat16"), a)
            for _ in range(5):
                nisa.tensor_copy(b, a, engine=nisa.engine.vector)
        return x

    p = simulator.predict(kernel, simulator.ShapeDtype((128, 4096), "bfloat16"), target="trn2")
    assert p.busy["dma"] > 0.5 and p.advice == []


@pytest.mark.parametrize(("slowdown", "said"), [(1.99, True), (2, False), (2.01, False)])
def test_a_clock_that_use_makes_no_faster_is_no_advice(slowdown, said):
    def kernel(x):
        chained_matmuls()
        return x

    advice = advice_on(kernel, simulator.ShapeDtype((1, 1), "float32"), sustained_slowdown=slowdown)
    assert any("throttling" in text for text in advice) == said


@pytest.mark.parametrize(("row", "ns"), [(1, True), (2, False)])
def test_a_store_that_is_left_out_moves_no_rows(row, ns):
    """One whose index is out of bounds, which the kernel allows."""

    def kernel(x, index):
        at, tile = nl.ndarray((1, 1), "int32"), nl.ndarray((4, 6), x.dtype)
        nisa.dma_copy(at, index)
        nisa.memset(tile, 0.0)
        nisa.dma_copy(x.select(0, at), tile, oob_mode=nisa.oob_mode.skip)
        return x

    x = np.ones((2, 4, 6), np.float32)
    p = simulator.predict(kernel, x, np.array([[row]], np.int32), target="trn2")
    assert (p.timeline.spans[-1].busy_ns > 0) == ns and p.advice == []


@pytest.mark.parametrize(("row", "ns"), [(1, True), (2, False)])
def test_a_load_that_is_left_out_moves_no_rows(row, ns):
    """By an index in a register, so that nothing is read."""

    def kernel(x, index):
        at, tile, register = nl.ndarray((1, 1), "int32"), nl.ndarray((4, 6), x.dtype), nisa.register_alloc()
        nisa.dma_copy(at, index)
        nisa.register_load(register, at)
        nisa.dma_copy(tile, x.select(0, register), oob_mode=nisa.oob_mode.skip)
        return x

    x = np.ones((2, 4, 6), np.float32)
    p = simulator.predict(kernel, x, np.array([[row]], np.int32), target="trn2")
    assert (p.timeline.spans[-1].busy_ns > 0) == ns and p.advice == []
