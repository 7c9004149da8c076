"""Elements that stand for others, put off at random, against an array in which each is moved at once."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator.machine.deferral.pending import Book, settle
from triptych.simulator.memory.references import Reference

ROWS, COLUMNS = 8, 24


def part(rng, rows, columns):
    """A key of so many rows and columns, some with gaps between them."""
    step = int(rng.integers(1, 3)) if 2 * columns <= COLUMNS else 1
    top = int(rng.integers(0, ROWS - rows + 1))
    left = int(rng.integers(0, COLUMNS - (columns - 1) * step))
    return slice(top, top + rows), slice(left, left + (columns - 1) * step + 1, step)


@pytest.mark.parametrize("seed", range(40))
def test_what_waits_is_what_would_have_been_moved(core, seed):
    rng = np.random.default_rng(seed)
    with core() as c:
        book = Book()
        values = [rng.integers(1, 1000, (ROWS, COLUMNS)).astype(np.float32) for _ in range(3)]
        tensors = [c.tile(v, buffer="private_hbm") for v in values[:2]] + [c.tile(values[2])]
        for _ in range(60):
            rows, columns = int(rng.choice([1, 2, 4, 8])), int(rng.choice([1, 2, 3, 6, 12, 24]))
            a, b = part(rng, rows, columns), part(rng, rows, columns)
            source, target = tensors[rng.integers(2)], tensors[1 + rng.integers(2)]
            kind = rng.integers(8)
            if kind == 0:  # somebody looks
                which = rng.integers(3)
                np.testing.assert_array_equal(tensors[which].storage.array(tensors[which][a].layout), values[which][a])
            elif kind == 1:  # an instruction writes
                which = rng.integers(3)
                storage = tensors[which].storage
                settle(storage)
                book.before_write(storage)
                storage.raw.view(np.float32).reshape(ROWS, COLUMNS)[a] = values[which][a] = rng.integers(1000, 2000)
            elif source is not target:
                book.make_room(target.storage, target[a].layout)
                settle(source.storage)  # what is referred to waits for nothing itself
                book.write(target.storage, target[a].layout, Reference(source.storage, source[b].layout), ("k.py", 1))
                values[tensors.index(target)][a] = values[tensors.index(source)][b]
        for tensor, expected in zip(tensors, values, strict=True):
            settle(tensor.storage)
            np.testing.assert_array_equal(tensor.storage.raw.view(np.float32).reshape(ROWS, COLUMNS), expected)
            assert not tensor.storage.pending or not tensor.storage.pending.entries
