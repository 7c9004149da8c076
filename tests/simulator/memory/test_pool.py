"""Bytes of on-chip tensors: cut from slabs, apart while anybody holds them, and used again then."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from triptych.simulator.memory import pool as pool_of
from triptych.simulator.memory.pool import Pool


def test_a_large_block_of_bytes_is_its_own():
    pool = Pool()
    large = pool.take((16 << 20) + 1)
    assert large.size == (16 << 20) + 1 and not pool._slabs
    first = pool.take(16 << 20)
    assert len(pool._slabs) == 1 and first.size == 16 << 20
    second = pool.take(64)
    assert len(pool._slabs) == 2 and not np.shares_memory(first, second)
    rest = pool.take((16 << 20) - pool._end)
    assert len(pool._slabs) == 2 and rest.size > 15 << 20


@pytest.mark.parametrize("held", [True, False])
def test_a_slab_serves_the_next_kernel_unless_somebody_holds_bytes_of_it(monkeypatch, held):
    spare = []
    monkeypatch.setattr(pool_of, "_spare", spare)
    pool = Pool()
    block, (slab,) = pool.take(100), pool._slabs
    kept = block[10:] if held else None
    del block, pool
    assert [any(one is slab for one in spare), kept is not None] == [not held, held]
    following = Pool()
    taken = following.take(64)
    assert np.shares_memory(taken, slab) is not held and spare == []
    for _ in range(6):
        other = Pool()
        other.take(1)
        other._slabs *= 3
        del other
    assert len(spare) == 4, "as many as are kept"


def test_blocks_of_a_pool_are_apart_until_they_are_dropped():
    pool = Pool()
    blocks = [pool.take(n) for n in (1, 64, 100, 100, 1 << 20)]
    for n, block in enumerate(blocks):
        block[...] = n
    assert all((block == n).all() for n, block in enumerate(blocks))
    gaps = [b.ctypes.data - a.ctypes.data - a.size for a, b in itertools.pairwise(blocks)]
    assert all(64 <= gap < 128 for gap in gaps), "no two begin at one offset in a page"
    place = blocks[2].ctypes.data
    view = blocks[2][10:]
    blocks[2] = None
    assert pool.take(100).ctypes.data != place, "a view of it is held"
    del view
    assert pool.take(100).ctypes.data == place
