"""What a kernel holds on chip, which is never less than what it needs."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import Options
from triptych.simulator.launch import execution
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

X = np.zeros((128, 4), np.float32)


@pytest.mark.parametrize("data", [True, False])
def test_a_tensor_is_held_as_long_as_a_view_of_it(core, data):
    with core("trn2", data=data) as c:
        sbuf, psum = c.machine.held["sbuf"], c.machine.held["psum"]
        tall = c.machine.allocate((128, 100), "bfloat16", nl.sbuf)
        low = c.machine.allocate((32, 3, 40), "float32", nl.sbuf)  # a quarter of 480
        bank = c.machine.allocate((128, 1), "float32", nl.psum)
        assert (sbuf.bytes, psum.bytes) == (200 + 120, 2048)
        view = tall[0:2, 4:5]
        del tall
        assert sbuf.bytes == 320
        del view, low
        assert (sbuf.bytes, sbuf.peak) == (0, 320)
        placed = c.machine.allocate((128, 100), "float32", nl.sbuf, "", (0, 64))
        del bank
        assert (sbuf.bytes, sbuf.peak, psum.bytes, psum.peak) == (400, 400, 0, 2048)
        del placed
        c.machine.allocate((4, 4), "float32", nl.shared_hbm)
        assert sbuf.bytes == 0


def chances(x, rng):
    """Tiles that come, are used and go as it happens."""
    held = []
    for _ in range(60):
        action = rng.integers(4)
        if action < 2 or not held:
            shape = (int(rng.integers(1, 129)), int(rng.integers(1, 9)))
            tile = nl.ndarray(shape, nl.float32, buffer=nl.psum if rng.integers(2) else nl.sbuf)
            nisa.memset(dst=tile, value=1.0)
            held.append(tile)
        elif action == 2:
            tile = held[rng.integers(len(held))][0:1, 0:1]
            nisa.tensor_copy(dst=tile, src=tile)
        else:
            del held[rng.integers(len(held))]
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@pytest.mark.parametrize("seed", range(10))
def test_a_kernel_needs_no_more_than_it_holds(core, seed):
    with core("trn2", check_capacity=False) as c:
        chances(c.machine.input(X, "x"), np.random.default_rng(seed))
        needed = {use.buffer: use.peak for use in simulator.memory_use(c.trace)}
        held = {name: one.peak for name, one in c.machine.held.items()}
    assert held["sbuf"] >= needed["sbuf"] > 0 and held["psum"] >= needed["psum"] > 0


def kernel(x, tiles, bytes_):
    """Tiles of which the kernel holds one and needs one, but for the moment in which it has the next too."""
    for _ in range(tiles):
        tile = nl.ndarray((128, bytes_ // 4), nl.float32)
        nisa.memset(dst=tile, value=1.0)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize(("tiles", "kib", "searched"), [(3, 112, 0), (3, 113, 1), (1, 224, 0)])
def test_a_trace_is_searched_where_what_was_held_does_not_fit(monkeypatch, data, tiles, kib, searched):
    seen = []
    monkeypatch.setattr(execution, "check_capacity", seen.append)
    simulator.run(kernel, X, tiles, kib * 1024, target="trn2", options=Options(data=data))
    assert len(seen) == searched


def test_two_cores_are_always_searched(monkeypatch):
    seen = []
    monkeypatch.setattr(execution, "check_capacity", seen.append)
    simulator.run(nki.jit(kernel)[2], X, 1, 1024, target="trn2")
    assert len(seen) == 1
