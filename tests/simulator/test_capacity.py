"""What a kernel needs of SBUF and PSUM, read off its trace."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, Options
from triptych.simulator.lend import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

X = np.zeros((128, 4), np.float32)


def finish(x):
    out = nl.ndarray((128, 4), nl.float32, nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


def tiles_together(x, count, kib):
    """`count` tiles of `kib` KiB a partition, all alive until the last is read."""
    tiles = []
    for _ in range(count):
        tile = nl.ndarray((128, kib * 256), nl.float32)
        nisa.memset(dst=tile, value=1.0)
        tiles.append(tile)
    for tile in tiles:
        nisa.tensor_copy(dst=tile, src=tile)
    return finish(x)


def tiles_in_turn(x, count, kib):
    """The same tiles, each dead before the next begins."""
    for _ in range(count):
        tile = nl.ndarray((128, kib * 256), nl.float32)
        nisa.memset(dst=tile, value=1.0)
        nisa.tensor_copy(dst=tile, src=tile)
    return finish(x)


@pytest.mark.parametrize(("target", "kib"), [("trn1", 192), ("trn2", 224), ("trn3", 256)])
def test_as_much_as_there_is_fits_and_more_does_not(target, kib):
    simulator.run(tiles_together, X, 2, kib // 2, target=target)
    with pytest.raises(NkiValidationError) as caught:
        simulator.run(tiles_together, X, 3, kib // 2, target=target)
    message = str(caught.value)
    assert f"needs {3 * kib // 2 * 1024} bytes of each sbuf partition" in message and f"has {kib * 1024}" in message
    assert "3 tensors" in message and message.count("test_capacity.py:") == 4  # the instruction and each tensor


def test_dead_tensors_take_no_room():
    run = simulator.run(tiles_in_turn, X, 5, 150)
    (sbuf,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"]
    assert sbuf.peak == 150 * 1024 and sbuf.capacity == 224 * 1024
    assert [bytes_ for _, bytes_ in sbuf.steps] == [150 * 1024] * 5 + [0]


def test_the_use_over_a_kernels_life():
    run = simulator.run(tiles_together, X, 3, 10)
    (sbuf,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"]
    assert [use // 1024 for _, use in sbuf.steps] == [10, 20, 30, 20, 10, 0]
    assert sbuf.peak_event == 2 and len(sbuf.alive) == 3


def test_psum_has_eight_banks():
    def kernel(x, banks):
        held = []
        for _ in range(banks):
            tile = nl.ndarray((128, 512), nl.float32, nl.psum)
            nisa.memset(dst=tile, value=0.0)
            held.append(tile)
        for tile in held:
            nisa.memset(dst=tile, value=1.0)
        return finish(x)

    simulator.run(kernel, X, 8)
    with pytest.raises(NkiValidationError, match="psum partition, and NeuronCore-v3 has 16384"):
        simulator.run(kernel, X, 9)


@pytest.mark.parametrize(("partitions", "beside"), [(1, 4), (32, 4), (33, 2), (64, 2), (65, 1), (128, 1)])
def test_low_tensors_lie_beside_each_other(partitions, beside):
    def kernel(x, count):
        held = []
        for _ in range(count):
            tile = nl.ndarray((partitions, 224 * 256), nl.float32)
            nisa.memset(dst=tile, value=0.0)
            held.append(tile)
        for tile in held:
            nisa.memset(dst=tile, value=1.0)
        out = nl.ndarray((128, 4), nl.float32, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=x)
        return out

    simulator.run(kernel, X, beside)
    with pytest.raises(NkiValidationError, match="sbuf partition"):
        simulator.run(kernel, X, beside + 1)


def test_the_check_can_be_switched_off():
    simulator.run(tiles_together, X, 3, 112, options=Options(check_capacity=False))


def test_each_core_has_its_own_memory():
    def kernel(x):
        out = nl.ndarray((128, 4), nl.float32, nl.shared_hbm)
        tile = nl.ndarray((128, 120 * 256), nl.float32)
        nisa.memset(dst=tile, value=1.0)
        if nl.program_id(0) == 0:
            nisa.dma_copy(dst=out, src=x)
        return out

    with simulated_nki():
        import nki
    run = simulator.run(nki.jit(kernel)[2], X)
    assert [use.peak for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"] == [120 * 1024] * 2
