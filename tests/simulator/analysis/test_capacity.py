"""What a kernel needs of SBUF and PSUM, read off its trace."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, Options
from triptych.simulator.analysis.capacity import Taken
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.trace import Allocation

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


@pytest.mark.parametrize(("count", "more"), [(8, ""), (9, ", and 1 more"), (10, ", and 2 more")])
def test_at_most_eight_tensors_are_named(count, more):
    with pytest.raises(NkiValidationError, match=f"alive are {count} tensors: ") as caught:
        simulator.run(tiles_together, X, count, 31, target="trn2")
    named = str(caught.value).partition("tensors: ")[2]
    assert named.count("31744 bytes") == 8 and (more in named if more else "more" not in named)


def test_dead_tensors_take_no_room():
    run = simulator.run(tiles_in_turn, X, 5, 150, target="trn2")
    (sbuf,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"]
    assert sbuf.peak == 150 * 1024 and sbuf.capacity == 224 * 1024
    assert [bytes_ for _, bytes_ in sbuf.steps] == [150 * 1024] * 5 + [0]


def test_the_use_over_a_kernels_life():
    run = simulator.run(tiles_together, X, 3, 10)
    (sbuf,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"]
    assert [use // 1024 for _, use in sbuf.steps] == [10, 20, 30, 20, 10, 0]
    assert sbuf.peak_event == 2 and len(sbuf.alive) == 3
    (psum,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "psum"]
    assert (psum.steps, psum.peak, psum.peak_event, psum.alive) == ((), 0, 0, ())


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

    simulator.run(kernel, X, 8, target="trn2")
    with pytest.raises(NkiValidationError, match="psum partition, and NeuronCore-v3 has 16384"):
        simulator.run(kernel, X, 9, target="trn2")


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

    simulator.run(kernel, X, beside, target="trn2")
    with pytest.raises(NkiValidationError, match="sbuf partition"):
        simulator.run(kernel, X, beside + 1, target="trn2")


def test_the_check_can_be_switched_off():
    simulator.run(tiles_together, X, 3, 112, target="trn2", options=Options(check_capacity=False))


def test_the_check_can_be_switched_off_for_one_tensor_that_is_too_large():
    def kernel(x):
        tile = nl.ndarray((128, 16, 512), nl.float32, nl.psum)  # twice a partition of PSUM
        out = nl.ndarray(tile.shape, nl.float32, nl.shared_hbm)
        for row in range(16):
            nisa.memset(dst=tile[:, row], value=2.0)
            copied = nl.ndarray((128, 512), nl.float32)
            nisa.tensor_copy(dst=copied, src=tile[:, row])
            nisa.dma_copy(dst=out[:, row], src=copied)
        return out

    with pytest.raises(NkiValidationError, match="takes 32768 bytes of each psum partition"):
        simulator.run(kernel, X)
    assert np.all(simulator.run(kernel, X, options=Options(check_capacity=False)).outputs == 2)


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


def alive_together(*tensors):
    """A kernel in which tensors (partitions, bytes of each, address) are written first and read last."""

    def kernel(x, buffer=nl.sbuf):
        held = [nl.ndarray((p, n), nl.uint8, buffer, address=address) for p, n, address in tensors]
        for value in (1, 2):
            for tile in held:
                nisa.memset(dst=tile[:, 0:1], value=value)
        return finish(x)

    return kernel


def peak(kernel, buffer="sbuf", options=None, **more):
    run = simulator.run(kernel, X, options=options or Options(check_capacity=False), **more)
    (use,) = [use for use in simulator.memory_use(run.trace) if use.buffer == buffer]
    return use.peak


KIB = 1024


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ([(128, 100, (0, 0)), (128, 100, (0, 100))], 200),
        ([(128, 100, (0, 0)), (128, 100, (0, 0))], 100),
        ([(128, 100, (0, 0)), (128, 100, (0, 40))], 140),
        ([(128, 100, (0, 0)), (128, 20, (0, 40))], 100),
        ([(128, 100, (0, 0)), (128, 20, (0, 40)), (128, 100, None)], 200),
        ([(64, 100, (0, 0)), (64, 100, (64, 0))], 100),
        ([(64, 100, (0, 0)), (32, 100, (64, 0))], 75),
        ([(64, 100, (0, 0)), (64, 100, (64, 60)), (32, 100, (32, 50))], 112.5),
        ([(1, 100, (96, 8)), (5, 100, None)], 50),
    ],
)
def test_placed_tensors_count_once_where_they_overlap(tensors, expected):
    assert peak(alive_together(*tensors)) == int(expected + 0.5)


def test_a_placed_tensor_takes_its_place_while_it_is_alive():
    def kernel(x):
        for i in range(3):
            tile = nl.ndarray((128, 100), nl.uint8, address=(0, 100 * i))
            nisa.memset(dst=tile, value=1)
            nisa.memset(dst=tile, value=2)
        return finish(x)

    run = simulator.run(kernel, X)
    (use,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"]
    assert use.steps == ((0, 100), (2, 100), (4, 100), (6, 0)) and [a.address for a in use.alive] == [(0, 0)]


@pytest.mark.parametrize(("target", "kib"), [("trn1", 192), ("trn2", 224), ("trn3", 256)])
def test_placed_tensors_and_others_share_what_there_is(target, kib):
    beside = [(128, 90 * KIB, (0, 0)), (128, 90 * KIB, (0, 20 * KIB))]
    simulator.run(alive_together(*beside, (128, (kib - 110) * KIB, None)), X, target=target)
    with pytest.raises(NkiValidationError) as caught:
        simulator.run(alive_together(*beside, (128, (kib - 110) * KIB + 1, None)), X, target=target)
    message = str(caught.value)
    assert f"needs {kib * KIB + 1} bytes of each sbuf partition" in message and "alive are 3 tensors" in message
    assert f"uint8 {90 * KIB} bytes at (0, {20 * KIB}) from test_capacity.py:" in message


@pytest.mark.parametrize(
    ("tensors", "banks"),
    [
        ([(128, 1, None)], 1),
        ([(128, 2048, None), (128, 2049, None)], 3),
        ([(128, 8, None)] * 8, 8),
        ([(32, 8, None)] * 4, 1),
        ([(128, 8, (0, 2048)), (128, 3000, (0, 2048))], 2),
        ([(128, 8, (0, 2048)), (128, 8, None)], 2),
    ],
)
def test_a_tensor_in_psum_takes_whole_banks(tensors, banks):
    assert peak(lambda x: alive_together(*tensors)(x, nl.psum), "psum") == banks * 2048


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_nine_tensors_in_psum_are_too_many(target):
    simulator.run(lambda x: alive_together(*[(128, 4, None)] * 8)(x, nl.psum), X, target=target)
    for tensors in ([(128, 4, None)] * 9, [(128, 4, (0, 0)), *[(128, 4, None)] * 8]):
        with pytest.raises(NkiValidationError, match="alive are 9 tensors"):
            simulator.run(lambda x, tensors=tensors: alive_together(*tensors)(x, nl.psum), X, target=target)


def test_the_largest_that_is_alive_comes_first():
    run = simulator.run(alive_together((128, 10, None), (128, 30, None), (64, 50, None), (128, 20, (0, 0))), X)
    (sbuf,) = [use for use in simulator.memory_use(run.trace) if use.buffer == "sbuf"]
    assert [a.shape[1] for a in sbuf.alive] == [30, 50, 20, 10]


def test_tensors_with_and_without_addresses_come_and_go():
    def tensor(number, n, address=None):
        return Allocation(number, "t", "sbuf", (128, n), TABLE["uint8"], ("k.py", 1), address)

    free, placed, beside = tensor(0, 10), tensor(1, 40, (0, 0)), tensor(2, 40, (0, 30))
    taken = Taken(chip_of("trn2"), [free, placed, beside])
    seen = []
    for change, one in (
        (taken.begin, free), (taken.begin, placed), (taken.begin, beside), (taken.end, free), (taken.end, placed),
        (taken.begin, free), (taken.end, beside), (taken.end, free),
    ):  # fmt: skip
        change(one)
        seen.append(taken.bytes)
    assert seen == [10, 50, 80, 70, 40, 50, 10, 0]
