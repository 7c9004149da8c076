"""Tensors in HBM at addresses: one that lies within another shares its bytes."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, Options, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@pytest.fixture
def c(core):
    with core("trn2") as current:
        yield current


def at(byte, shape, dtype=None, buffer=None):
    return nl.ndarray(shape, dtype or nl.float32, buffer or nl.hbm, address=(byte,))


def test_one_within_another_shares_its_bytes(c):
    whole, inner = at(64, (4, 4)), at(80, (2, 2), nl.uint32)
    whole.array[...] = np.arange(16).reshape(4, 4)
    whole.wrote()
    assert inner.array.view(np.float32).tolist() == [[4, 5], [6, 7]]
    inner.array[...] = 0
    assert whole.array.ravel()[3:9].tolist() == [3, 0, 0, 0, 0, 8]


def test_neighbours_and_other_regions_are_apart(c):
    left, right, other = at(16, (4,)), at(32, (4,)), at(16, (4,), buffer=nl.shared_hbm)
    before = at(0, (4,))
    for value, tensor in enumerate((left, right, other, before)):
        tensor.array[...] = value
    assert [float(t.array[0]) for t in (left, right, other, before)] == [0, 1, 2, 3]


def test_an_address_is_free_again_when_nothing_holds_it(c):
    a = at(0, (4,))
    a.array[...] = 1
    a.wrote()
    assert at(0, (4,)).array[0] == 1
    del a
    with pytest.raises(Uninitialized):
        at(0, (8,)).check_written()


@pytest.mark.parametrize(("byte", "shape"), [(0, (8,)), (24, (4,)), (18, (2,)), (0, (16,))])
def test_what_cannot_be_a_view_says_what_lies_there(c, byte, shape):
    held = at(16, (4,))
    with pytest.raises(NkiValidationError, match="partly those of 'held', 16 to 32, .* allocate that which holds both"):
        at(byte, shape)
    assert held.shape == (4,)


def test_elements_of_another_size_lie_whole_elements_behind_the_first(c):
    held = at(1, (16,), nl.int8)
    inner = at(5, (2,))
    assert inner.storage is held.storage and inner.offset == 1
    with pytest.raises(NkiValidationError, match="partly those of 'held', 1 to 17"):
        at(3, (2,))


@pytest.mark.parametrize("options", [Options(), Options(defer=False), Options(data=False)])
def test_scratch_in_a_kernel(options):
    """Two names of one scratch in HBM: what is written through the one is read through the other, and waited for."""

    def kernel(x):
        out = nl.ndarray((16, 8), nl.float32, nl.shared_hbm)
        scratch, again = at(4096, (8, 16)), at(4096, (128,))
        nisa.dma_copy(dst=scratch, src=x)
        nisa.dma_copy(dst=out, src=again.reshape((16, 8)))
        return out

    x = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    run = simulator.run(kernel, x, options=options)
    if options.data:
        np.testing.assert_array_equal(run.outputs, x.reshape(16, 8))
    write, read = run.trace.events
    assert write.writes[0].allocation is read.reads[0].allocation


def test_two_cores_share_what_lies_in_shared_hbm():
    def kernel(x):
        out, again = at(0, (2, 8), buffer=nl.shared_hbm), at(0, (16,), buffer=nl.shared_hbm)
        mine = nl.program_id(0)
        nisa.dma_copy(dst=again.reshape((2, 8))[mine : mine + 1, :], src=x[mine : mine + 1, :])
        return out

    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    np.testing.assert_array_equal(simulator.run(simulator.jit(kernel)[2], x, target="trn2").outputs, x)
