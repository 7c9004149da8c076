"""Marsaglia's XORWOW ("Xorshift RNGs", 2003), many generators side by side.

A state is six 32-bit words (x, y, z, w, v, d). One step is

    t = x ^ (x >> 2);  x, y, z, w = y, z, w, v;  v = v ^ (v << 4) ^ t ^ (t << 1);  d = d + 362437;  return d + v
"""

from __future__ import annotations

import numpy as np

from triptych.simulator.dtypes import Array

WORDS = 6
_STEP = np.uint32(362437)


def seeded(seed: int, partitions: int, states: int) -> Array:
    """States [partitions, states, 6] that follow from one 32-bit seed (NumPy's SeedSequence spreads it)."""
    words: Array = np.random.SeedSequence(seed).generate_state(partitions * states * WORDS, np.uint32)
    return words.reshape(partitions, states, WORDS)


def draw(states: Array, count: int) -> Array:
    """`count` 32-bit numbers a partition, [P, count], from states [P, S, 6], which move on.

    Number i is state i % S's.
    """
    partitions, width, _ = states.shape
    x, y, z, w, v, d = (states[..., i].copy() for i in range(WORDS))
    out = np.empty((-(-count // width), partitions, width), np.uint32)
    for row in out:
        t = x ^ (x >> np.uint32(2))
        x, y, z, w = y, z, w, v
        v = v ^ (v << np.uint32(4)) ^ t ^ (t << np.uint32(1))
        d = d + _STEP
        np.add(d, v, out=row)
    states[...] = np.stack((x, y, z, w, v, d), axis=-1)
    return out.transpose(1, 0, 2).reshape(partitions, -1)[:, :count]
