"""Random choices of cells of random grids, against lists of the cells and of their elements."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.language as nl


def cells_along(rng, count, ndim):
    """Keys of one coordinate, an integer at last or not at all, and the cells that they choose one after the other."""
    cells, keys = range(count), []
    for _ in range(ndim):
        if rng.random() < 0.3:
            at = int(rng.integers(-len(cells), len(cells)))
            return [*keys, at], cells[at : at + 1 or None], False
        first = int(rng.integers(0, len(cells)))
        keys.append(slice(first, int(rng.integers(first + 1, len(cells) + 1)), int(rng.integers(1, 4))))
        cells = cells[keys[-1]]
    return keys, cells, True


@pytest.mark.parametrize("seed", range(40))
def test_what_is_chosen_of_a_grid_is_what_lists_of_cells_say(core, seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, rng.integers(2, 5)))
    tile = tuple(int(n) for n in rng.integers(1, 4, rng.integers(2, len(shape) + 1)))
    block = tuple(int(n) for n in rng.integers(1, 3, len(tile))) if seed % 2 else None
    units = [1] * (len(shape) - len(tile)) + [t * b for t, b in zip(tile, block or (1,) * len(tile), strict=True)]
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with core() as c:
        tensor = c.machine.input(x, "x")
        grid = nl.blocks(tensor, tile_shape=tile, block_shape=block) if block else nl.tiles(tensor, tile_shape=tile)
        assert grid.shape == tuple(-(-n // u) for n, u in zip(shape, units, strict=True))
        chosen = [cells_along(rng, n, 2) for n in grid.shape]
        # An integer consumes its coordinate: those come last, from behind.
        for turn in range(2):
            grid = grid[tuple(keys[turn] if turn < len(keys) and kept else slice(None) for keys, _, kept in chosen)]
        for d in reversed([d for d, (_, _, kept) in enumerate(chosen) if not kept]):
            for key in chosen[d][0]:
                grid = grid[(*[slice(None)] * d, key)]
        cells = [list(found) for _, found, _ in chosen]
        elements = [
            np.concatenate([np.arange(i * u, min(n, (i + 1) * u)) for i in found])
            for n, u, found in zip(shape, units, cells, strict=True)
        ]
        keeps = [kept for _, _, kept in chosen]
        tiled = [d >= len(shape) - len(tile) for d in range(len(shape))]
        assert grid.shape == tuple(len(found) for found, kept in zip(cells, keeps, strict=True) if kept)
        shown = [d for d in range(len(shape)) if keeps[d] or tiled[d]]
        assert grid.element_shape == tuple(len(elements[d]) for d in shown)
        assert grid.is_remainder == any(
            len(e) < len(found) * u for e, found, u in zip(elements, cells, units, strict=True)
        )
        steps = [found[1] - found[0] if len(found) > 1 else None for found in cells]
        for step, unit, found in zip(
            [s for s, kept in zip(steps, keeps, strict=True) if kept],
            [u for u, kept in zip(units, keeps, strict=True) if kept],
            grid.index_step_elements,
            strict=True,
        ):
            assert step is None or found == step * unit
        one_pattern = [(np.diff(e) == 1).all() or u == 1 for e, u in zip(elements, units, strict=True)]
        assert grid.is_data_representable == all(one_pattern)
        if all(one_pattern):
            np.testing.assert_array_equal(grid.data.array, x[np.ix_(*elements)].reshape(grid.data.shape))
            assert grid.data.shape in (grid.element_shape, (1,))


@pytest.mark.parametrize("seed", range(40))
def test_what_is_chosen_of_packed_cells_lies_where_they_lie_beside_each_other(core, seed):
    """On chip: tile rows after tile rows, slab after slab, in one row of columns."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 8, rng.integers(2, 5)))
    tile, block = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(2))
    height, units = min(tile[0], shape[-2]), tuple(t * b for t, b in zip(tile, block, strict=True))
    with core() as c:
        of = {"element_shape": shape, "tile_shape": tile, "buffer": nl.sbuf, "dtype": nl.int32}
        grid = nl.alloc_blocks(block_shape=block, **of) if seed % 2 else nl.alloc_tiles(**of)
        rows, columns = units if seed % 2 else tile
        bands = -(-shape[-2] // tile[0])
        (storage,) = [a for a in c.trace.allocations if a.buffer == "sbuf"]
        assert storage.shape == (height, int(np.prod(shape[:-2])) * bands * shape[-1])
        whole = grid._backing
        x = whole.array
        x[...] = np.arange(x.size).reshape(x.shape)
        whole.wrote()
        chosen = [cells_along(rng, n, 1) for n in grid.shape]
        some = grid[tuple(keys[0] if keys else slice(None) for keys, _, _ in chosen)]
        *slabs, down, across = [list(found) for _, found, _ in chosen]
        high = sum(min(rows, shape[-2] - i * rows) for i in down)
        wide = sum(min(columns, shape[-1] - i * columns) for i in across)
        beside = len(across) == 1 or across[1] == across[0] + 1
        fits = all(len(found) == 1 for found in slabs) and high <= tile[0] and beside
        assert some.is_data_representable == fits
        if fits:
            band = np.ravel_multi_index([found[0] for found in slabs], shape[:-2]) if slabs else 0
            first = (band * bands + down[0] * rows // tile[0]) * shape[-1] + across[0] * columns
            np.testing.assert_array_equal(some.data.array, x[:high, first : first + wide])
            like = nl.empty_like(some, buffer=nl.shared_hbm)
            assert like.data.shape[-2:] == (high, wide) and like.shape == some.shape
