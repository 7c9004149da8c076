"""Tile and block grids of NKI 0.7: what the cells of a tensor are, and that instructions see exactly them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

X = np.arange(300 * 700, dtype=np.float32).reshape(300, 700)


def by_tiles(src):
    """Each tile by SBUF, as the page of NkiTileGrid does it."""
    out = nl.ndarray(src.shape, dtype=src.dtype, buffer=nl.shared_hbm)
    mine, theirs = (nl.tiles(t, tile_shape=(128, 256)) for t in (src, out))
    for i, j in itertools.product(*map(range, mine.shape)):
        held = nl.ndarray(mine[i, j].element_shape, dtype=src.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=held.data, src=mine[i, j].data)
        nisa.dma_copy(dst=theirs[i, j].data, src=held.data)
    return out


def by_blocks(src):
    """Each block in SBUF tile by tile: a block's rows are more than the partitions."""
    out = nl.ndarray(src.shape, dtype=src.dtype, buffer=nl.shared_hbm)
    sizes = {"tile_shape": (64, 256), "block_shape": (2, 2)}
    mine, theirs = nl.blocks(src, **sizes), nl.blocks(out, **sizes)
    for i, j in itertools.product(*map(range, mine.shape)):
        shape = mine[i, j].element_shape
        held = nl.alloc_blocks(element_shape=shape, buffer=nl.sbuf, dtype=src.dtype, **sizes)
        inside = [nl.tiles(t) for t in (mine[i, j], held, theirs[i, j])]
        for k, n in itertools.product(*map(range, inside[0].shape)):
            nisa.dma_copy(dst=inside[1][k, n].data, src=inside[0][k, n].data)
        for k, n in itertools.product(*map(range, inside[0].shape)):
            nisa.dma_copy(dst=inside[2][k, n].data, src=inside[1][k, n].data)
    return out


def by_blocks_of_ndarray(src):
    """Each block in SBUF as one tensor of its shape, as the page of NkiBlockGrid does it."""
    out = nl.ndarray(src.shape, dtype=src.dtype, buffer=nl.shared_hbm)
    mine, theirs = (nl.blocks(t, tile_shape=(128, 256), block_shape=(2, 2)) for t in (src, out))
    for i, j in itertools.product(*map(range, mine.shape)):
        held = nl.ndarray(mine[i, j].element_shape, dtype=src.dtype, buffer=nl.sbuf)
        held = nl.blocks(held, tile_shape=mine[i, j].tile_shape, block_shape=mine[i, j].block_shape)
        nisa.dma_copy(dst=held.data, src=mine[i, j].data)
        nisa.dma_copy(dst=theirs[i, j].data, src=held.data)
    return out


@pytest.mark.parametrize("kernel", [by_tiles, by_blocks])
def test_a_copy_cell_by_cell_is_a_copy(kernel):
    np.testing.assert_array_equal(simulator.run(kernel, X).outputs, X)


def test_a_block_of_more_rows_than_partitions_is_not_one_tensor():
    """The last block of X has 44 rows and would fit, the first has 256: AWS's guide calls that a bad kernel."""
    np.testing.assert_array_equal(simulator.run(by_blocks_of_ndarray, X[:128]).outputs, X[:128])
    with pytest.raises(NkiValidationError, match=r"at most 128; got \(256, 512\); nl.alloc_tiles or nl.alloc_blocks"):
        simulator.run(by_blocks_of_ndarray, X)


@pytest.fixture
def grid(core):
    with core() as c:
        tensor = c.machine.input(X.copy(), "x")
        yield nl.tiles(tensor, tile_shape=(128, 256))


def test_what_a_grid_says_of_itself(grid):
    assert (grid.shape, grid.element_shape, grid.tile_shape) == ((3, 3), (300, 700), (128, 256))
    assert grid.is_remainder and grid.is_data_representable and grid.index_step_elements == (128, 256)
    assert (grid.dtype, grid.buffer) == ("float32", nl.private_hbm)
    one = grid[2, 2]
    assert (one.shape, one.element_shape, one.is_remainder) == ((), (44, 188), True)
    assert not grid[0, 1].is_remainder and grid[1].shape == (3,) and grid[:, 0].shape == (3,)
    assert isinstance(one, nl.NkiTileGrid) and isinstance(one, nl.NkiGrid)
    block = nl.blocks(grid, block_shape=(2, 1))
    assert (block.shape, block.block_shape, block.tile_shape) == ((2, 3), (2, 1), (128, 256))
    assert nl.tiles(block[1, 0]).shape == (1, 1) and nl.tiles(block[0, 0]).shape == (2, 1)


@pytest.mark.parametrize(
    ("key", "rows", "columns"),
    [
        ((0, 0), slice(0, 128), slice(0, 256)),
        ((2, 2), slice(256, 300), slice(512, 700)),
        ((-1, -3), slice(256, 300), slice(0, 256)),
        ((1, slice(None)), slice(128, 256), slice(0, 700)),
        ((slice(1, 3), 0), slice(128, 300), slice(0, 256)),
        ((slice(0, 3, 2), slice(1, 2)), None, None),
    ],
)
def test_data_is_the_elements_of_the_cells(grid, key, rows, columns):
    chosen = grid[key]
    if rows is None:
        assert not chosen.is_data_representable and chosen.element_shape == (172, 256)
        assert chosen.index_step_elements == (256, 256)
        with pytest.raises(NkiValidationError, match="are no one access pattern; take them one by one"):
            _ = chosen.data
        return
    np.testing.assert_array_equal(chosen.data.array, X[rows, columns])
    assert chosen.element_shape == chosen.data.shape


def test_leading_dimensions_count_slab_by_slab(core):
    x = np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8)
    with core() as c:
        grid = nl.tiles(c.machine.input(x, "x"), tile_shape=(3, 8))
        assert grid.shape == (4, 2, 1) and grid[1].shape == (2, 1)
        np.testing.assert_array_equal(grid[2, 1, 0].data.array, x[2, 3:6])
        np.testing.assert_array_equal(grid[1:3, 0].data.array, x[1:3, 0:3])


def test_storage_of_its_own_is_one_allocation(core):
    with core() as c:
        grid = nl.alloc_tiles(tile_shape=(128, 64), element_shape=(300, 100), buffer=nl.sbuf, dtype=nl.float32)
        assert (grid.shape, len(c.trace.allocations), c.trace.allocations[0].shape) == ((3, 2), 1, (128, 300))
        for i, j in itertools.product(range(3), range(2)):
            nisa.memset(grid[i, j].data, float(10 * i + j))
        assert [[grid[i, j].data.array[-1, -1] for j in range(2)] for i in range(3)] == [[0, 1], [10, 11], [20, 21]]
        assert grid[2, 1].data.shape == (44, 36) and grid[1, :].data.shape == (128, 100)
        assert not grid.is_data_representable
        hbm = nl.alloc_tiles(tile_shape=(128, 64), element_shape=(300, 100), buffer=nl.shared_hbm, dtype=nl.float32)
        assert hbm.data.shape == (300, 100)


def test_packed_cells_lie_one_after_the_other_slab_by_slab(core):
    """Rows of tiles of all slabs, each as wide as the whole tensor: 2 x 3 slabs of 3 x 2 tiles."""
    with core() as c:
        grid = nl.alloc_tiles(tile_shape=(128, 64), element_shape=(2, 3, 300, 100), buffer=nl.sbuf, dtype=nl.float32)
        assert c.trace.allocations[0].shape == (128, 2 * 3 * 3 * 100)
        begins = [[grid[a, b, i, 0].data.offset for i in range(3)] for a in range(2) for b in range(3)]
        assert begins == [[300 * slab + 100 * i for i in range(3)] for slab in range(6)]
        assert grid[1, 0, 2, 1].data.offset == 300 * 3 + 100 * 2 + 64


def test_packed_blocks_are_opened_in_tiles(core):
    with core():
        sizes = {"tile_shape": (64, 50), "block_shape": (2, 1)}
        grid = nl.alloc_blocks(element_shape=(300, 100), buffer=nl.sbuf, dtype=nl.float32, **sizes)
        assert (grid.shape, nl.tiles(grid).shape) == ((3, 2), (5, 2))
        opened = [nl.tiles(grid[i, 1]) for i in range(3)]
        assert [tiles.shape for tiles in opened] == [(2, 1), (2, 1), (1, 1)]
        assert [tiles[-1, 0].data.offset for tiles in opened] == [150, 350, 450]
        assert nl.blocks(nl.tiles(grid), block_shape=(4, 2)).shape == (2, 1)


def by_likes(src):
    """Each row of tiles by a grid like it in SBUF."""
    out = nl.ndarray(src.shape, dtype=src.dtype, buffer=nl.shared_hbm)
    mine, theirs = (nl.tiles(t, tile_shape=(128, 256)) for t in (src, out))
    for i in range(mine.shape[0]):
        held = nl.empty_like(mine[i], buffer=nl.sbuf)
        for j in range(held.shape[0]):
            nisa.dma_copy(dst=held[j].data, src=mine[i, j].data)
        for j in range(held.shape[0]):
            nisa.dma_copy(dst=theirs[i, j].data, src=held[j].data)
    return out


def transposed(src):
    """Tile by tile to a grid that is like the transpose of src's."""
    mine = nl.tiles(src, tile_shape=(32, 128))
    held = nl.empty_like(mine, buffer=nl.sbuf, transpose_axes=(1, 0))
    out = nl.tiles(nl.ndarray(src.shape[::-1], dtype=src.dtype, buffer=nl.shared_hbm), tile_shape=held.tile_shape)
    for i, j in itertools.product(*map(range, mine.shape)):
        nisa.dma_transpose(dst=held[j, i].data, src=mine[i, j].data)
        nisa.dma_copy(dst=out[j, i].data, src=held[j, i].data)
    return out.data


def test_a_grid_like_another_holds_its_tiles():
    np.testing.assert_array_equal(simulator.run(by_likes, X).outputs, X)
    np.testing.assert_array_equal(simulator.run(transposed, X).outputs, X.T)


@pytest.mark.parametrize(
    ("key", "shape", "extent"),
    [
        ((), (3, 3), (300, 700)),
        ((slice(0, 3, 2), slice(1, 2)), (2, 1), (172, 256)),  # cells 0 and 2, beside each other
        ((2, slice(None, None, 2)), (2,), (44, 444)),
        ((1, 2), (), (128, 188)),
    ],
)
def test_a_grid_like_another_keeps_its_cells(grid, key, shape, extent):
    like = nl.empty_like(grid[key], dtype=nl.bfloat16, buffer=nl.shared_hbm, name="held")
    assert (like.shape, like.element_shape, like.data.shape) == (shape, extent, extent)
    assert (type(like), like.dtype, like.buffer) == (nl.NkiTileGrid, "bfloat16", nl.shared_hbm)
    assert (like.tile_shape, like.is_remainder) == ((128, 256), grid[key].is_remainder)
    placed = nl.empty_like(grid[key], buffer=nl.sbuf, address=(0, 512))
    assert (placed.shape, placed.element_shape, placed.buffer) == (shape, extent, nl.sbuf)


@pytest.mark.parametrize("key", [(1, slice(0, 2)), (1, 1), (slice(None), 0), 1, (1, 1, 2)])
def test_a_grid_like_another_has_the_slabs_that_no_integer_chose(core, key):
    with core():
        cube = nl.tiles(nl.ndarray((2, 3, 5, 7), nl.float32, buffer=nl.shared_hbm), tile_shape=(2, 4))
        like = nl.empty_like(cube[key])
        assert (like.shape, like.element_shape) == (cube[key].shape, cube[key].element_shape)
        assert like._backing.shape == cube[key].element_shape
        packed = nl.empty_like(cube[key], buffer=nl.sbuf)
        slabs = int(np.prod(cube[key].element_shape[:-2]))
        assert packed._backing.shape[1] == packed.element_shape[-1] * slabs * -(-packed.element_shape[-2] // 2)


def test_a_grid_like_a_block_is_one(grid):
    like = nl.empty_like(nl.blocks(grid, block_shape=(2, 1))[:, 1:], buffer=nl.shared_hbm)
    assert (type(like), like.shape, like.block_shape) == (nl.NkiBlockGrid, (2, 2), (2, 1))
    assert nl.tiles(like[0, 1]).shape == (2, 1) and like[1, 1].element_shape == (44, 188)


def test_the_axes_of_a_tensor_are_those_of_dma_transpose(grid):
    x = nl.ndarray((4, 5, 6, 7), nl.bfloat16, buffer=nl.shared_hbm)
    assert nl.empty_like(x, buffer=nl.sbuf, transpose_axes=(3, 1, 2, 0)).shape == (7, 5, 6, 4)
    tall = nl.ndarray((4, 130, 2, 7), nl.bfloat16, buffer=nl.shared_hbm)
    assert nl.empty_like(tall, buffer=nl.sbuf, transpose_axes=(3, 1, 2, 0)).shape == (7, 130, 2, 4)
    wide = nl.ndarray((4, 5, 6, 130), nl.bfloat16, buffer=nl.shared_hbm)
    with pytest.raises(NkiValidationError, match=r"becomes the partition, at most 128; got \(4, 5, 6, 130\)"):
        nl.empty_like(wide, buffer=nl.sbuf, transpose_axes=(3, 1, 2, 0))
    assert nl.empty_like(grid[:, 2].data[:, :100], buffer=nl.sbuf, transpose_axes=(1, 0)).shape == (100, 300)


def alloc(block_shape=None, tile_shape=(2, 2), element_shape=(8, 8)):
    shapes = {"tile_shape": tile_shape, "element_shape": element_shape, "buffer": nl.sbuf, "dtype": nl.float32}
    return nl.alloc_tiles(**shapes) if block_shape is None else nl.alloc_blocks(block_shape=block_shape, **shapes)


def test_slabs_that_are_apart_are_one_pattern(core):
    with core() as c:
        x = np.arange(7 * 8 * 8, dtype=np.float32).reshape(7, 8, 8)
        grid = nl.tiles(c.machine.input(x.copy(), "x"), tile_shape=(4, 4))
        assert len(grid) == 7 and len(grid[0]) == 2
        for key in (slice(None, None, 2), slice(1, None, 2), slice(1, 6, 3), slice(0, 7, 5)):
            assert grid[key].is_data_representable
            np.testing.assert_array_equal(grid[key].data.array, x[key])
            np.testing.assert_array_equal(grid[key, 1].data.array, x[key, 4:])


def test_tiles_on_chip_are_regrouped_where_the_sizes_divide_each_other(core):
    with core():
        grid = nl.alloc_tiles(tile_shape=(64, 6), element_shape=(128, 12), buffer=nl.sbuf, dtype=nl.float32)
        assert nl.tiles(grid, tile_shape=(64, 3)).shape == (2, 4) and nl.tiles(grid, tile_shape=(32, 12)).shape == (
            4,
            1,
        )
        for tile in ((64, 4), (48, 6)):
            with pytest.raises(NkiValidationError, match="cannot be regrouped in cells of"):
                nl.tiles(grid, tile_shape=tile)


WRONG = [
    (
        lambda g: nl.empty_like(g.data[:, :9], transpose_axes=(1, 0)),
        NkiValidationError,
        "transpose_axes is for nl.sbuf, got .*hbm",
    ),
    (
        lambda g: nl.empty_like(g, buffer=nl.sbuf, transpose_axes=(1, 0)),
        NkiValidationError,
        r"becomes the partition, at most 128; got \(128, 256\)",
    ),
    (
        lambda g: nl.empty_like(g.data[:, :129], buffer=nl.sbuf, transpose_axes=(1, 0)),
        NkiValidationError,
        "becomes the partition, at most 128",
    ),
    (
        lambda g: nl.empty_like(g, buffer=nl.sbuf, transpose_axes=(0, 1)),
        NkiValidationError,
        r"must be \(1, 0\) or \(2, 1, 0\) or .* for 2, 3 or 4 dimensions, got \(0, 1\)",
    ),
    (lambda g: nl.empty_like(3), NkiValidationError, "x must be a tensor or a grid, got int 3"),
    (lambda g: g[3, 0], OutOfBounds, "cell 3 is outside the 3 of dimension 0"),
    (lambda g: g[0, 0, 0], OutOfBounds, "3 indices for the 2 coordinates"),
    (lambda g: g[0][0, 0], OutOfBounds, "2 indices for the 1 coordinates"),
    (lambda g: g[2:1], OutOfBounds, "chooses none"),
    (lambda g: g[1:1], OutOfBounds, "chooses none"),
    (lambda g: g[::-1], OutOfBounds, "chooses none"),
    (lambda g: g[0:2:-1], OutOfBounds, "chooses none"),
    (lambda g: g[True], NkiValidationError, "indexed by integers and slices, got True"),
    (lambda g: g[0.5], NkiValidationError, "indexed by integers and slices, got 0.5"),
    (lambda g: nl.tiles(g.data), NkiValidationError, "a tensor needs a tile_shape"),
    (lambda g: nl.tiles(3, tile_shape=(1, 1)), NkiValidationError, "source must be a tensor or a grid, got int 3"),
    (lambda g: nl.tiles(g.data, tile_shape=[1, 1]), TypeError, "tile_shape must be a tuple of integers"),
    (lambda g: nl.tiles(g.data, tile_shape=(True, 1)), TypeError, "tile_shape must be a tuple of integers"),
    (lambda g: nl.tiles(g.data, tile_shape=(1,)), ValueError, "tile_shape must have 2 to 2 positive entries"),
    (lambda g: nl.tiles(g.data, tile_shape=(0, 1)), ValueError, "tile_shape must have 2 to 2 positive entries"),
    (lambda g: nl.blocks(g, block_shape=None), TypeError, "block_shape must be a tuple of integers, got None"),
    (lambda g: nl.blocks(g, block_shape=(1,)), ValueError, "block_shape must have 2 to 2 positive entries"),
    (lambda g: nisa.memset(g, 0), NkiValidationError, "got NkiTileGrid .*an instruction takes its .data"),
    (
        lambda g: nl.alloc_tiles(tile_shape=(1, 1), element_shape=(2, 2), buffer="sbuf", dtype=nl.int8),
        TypeError,
        "buffer must be nl.sbuf",
    ),
    (lambda g: alloc(element_shape=[8, 8]), TypeError, r"element_shape must be a tuple of integers, got \[8, 8\]"),
    (lambda g: alloc(element_shape=(8,)), ValueError, "element_shape must have 2 or more positive entries"),
    (lambda g: alloc(element_shape=(8, 0)), ValueError, "element_shape must have 2 or more positive entries"),
    (lambda g: alloc(tile_shape=(2, 2, 2)), ValueError, "tile_shape must have 2 to 2 positive entries"),
    (lambda g: alloc((2, 2, 2)), ValueError, r"block_shape must have the 2 entries of tile_shape, got \(2, 2, 2\)"),
    (lambda g: alloc((2,)), ValueError, "block_shape must have 2 or more positive entries"),
    (lambda g: alloc([2, 2]), TypeError, "block_shape must be a tuple of integers"),
    (
        lambda g: alloc(tile_shape=(2, 2, 2), element_shape=(4, 4, 4)),
        NkiValidationError,
        "tiles on chip have a partition and a free dimension here",
    ),
]


@pytest.mark.parametrize(("use", "error", "words"), WRONG)
def test_what_a_grid_refuses(grid, use, error, words):
    with pytest.raises(error, match=words):
        use(grid)
