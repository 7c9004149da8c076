"""Elements that stand for others, put off at random, against an array in which each is moved at once."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf

from triptych import simulator
from triptych.simulator import Options, Uninitialized
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral.pending import Book, settle
from triptych.simulator.memory.references import Reference

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

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


def test_what_stands_for_others_is_moved_before_somebody_else_may_write_there(core):
    """An instruction that says what it writes to may look; whoever does not, as Python may, gets the bytes for good."""
    with core() as c:
        book, source, dst = Book(), c.tile(np.ones((4, 6), np.float32), buffer="private_hbm"), c.empty((4, 6))
        book.make_room(dst.storage, dst.layout)
        book.write(dst.storage, dst.layout, Reference(source.storage, source.layout), ("k.py", 1))
        book.trusts = True
        assert source.array.sum() == 24 and dst.storage.pending.entries
        book.trusts = False
        source.array[...] = 2
        np.testing.assert_array_equal(dst.array, np.ones((4, 6)))
        assert dst.storage.pending is None and source.storage.pending is None and not book.lent


def onto_a_copy(x, y):
    """A sum that begins with what was copied to its place."""
    left, right = in_sbuf(x[:, 0:128]), in_sbuf(y[:, 0:128])
    bank = nl.ndarray((128, 128), nl.float32, nl.psum)
    nisa.tensor_copy(bank, left)
    nisa.nc_matmul(bank, left, right, accumulate=True)
    tile = nl.ndarray((128, 128), nl.float32)
    nisa.tensor_copy(tile, bank)
    return in_hbm(tile)


def neighbours_of_one_step(x, y):
    """Tiles beside each other and below, each one product."""
    bank, tile = nl.ndarray((64, 2, 2, 64), nl.float32, nl.psum), nl.ndarray((64, 2, 2, 64), nl.float32)
    for i in range(2):
        for j in range(2):
            left, right = in_sbuf(x[:, 64 * i : 64 * i + 64]), in_sbuf(y[:, 64 * j : 64 * j + 64])
            nisa.nc_matmul(bank[:, i, j], left, right)
    nisa.tensor_copy(tile, bank)
    return in_hbm(tile)


def loaded_again(*parts):
    """A tile that is loaded part by part, each over what was there, and of which parts are passed on."""

    def kernel(x, y):
        tile = nl.ndarray((128, 128), nl.float32)
        for n, (rows, columns) in enumerate(parts):
            nisa.dma_copy(dst=tile[rows, columns], src=(x, y)[n % 2][rows, columns])
        passed = []
        for columns in (slice(0, 32), slice(96, 128), slice(0, 128)):
            passed.append(nl.ndarray(tile[:, columns].shape, nl.float32))
            nisa.tensor_copy(passed[-1], tile[:, columns])
        return tuple([in_hbm(t) for t in passed])

    return kernel


ALL, LEFT, RIGHT, TOP, MIDDLE, BESIDE = (
    (slice(0, 128), slice(0, 128)), (slice(0, 128), slice(0, 32)), (slice(0, 128), slice(96, 128)),
    (slice(0, 64), slice(0, 128)), (slice(0, 128), slice(16, 112)), (slice(0, 128), slice(32, 64)),
)  # fmt: skip


@pytest.mark.parametrize("parts", [
    (ALL,), (LEFT, ALL), (ALL, ALL), (ALL, LEFT), (LEFT, RIGHT, ALL), (ALL, LEFT, RIGHT), (ALL, LEFT, LEFT),
    (ALL, TOP), (LEFT, ALL, TOP), (ALL, MIDDLE), (ALL, MIDDLE, LEFT), (ALL, MIDDLE, ALL, RIGHT, LEFT),
    (ALL, LEFT, BESIDE),
])  # fmt: skip
def test_what_was_loaded_last_is_passed_on(parts):
    x, y = (np.random.default_rng(seed).standard_normal((128, 128)).astype(np.float32) for seed in range(2))
    expected = np.zeros((128, 128), np.float32)
    for n, part in enumerate(parts):
        expected[part] = (x, y)[n % 2][part]
    for defer in (False, True):
        left, right, whole = simulator.run(loaded_again(*parts), x, y, options=Options(defer=defer)).outputs
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(np.hstack([left, right]), np.hstack([expected[:, :32], expected[:, 96:]]))


@pytest.mark.parametrize("defer", [False, True])
def test_what_an_argument_gets_is_read_through_another_that_shares_its_bytes(defer):
    def kernel(a, b, x):
        nisa.dma_copy(dst=a, src=in_sbuf(x))
        return in_hbm(in_sbuf(b))

    shape = 128, 1024  # as much as is worth being put off on its way to HBM
    shared, x = np.zeros(shape, np.float32), np.random.default_rng(0).standard_normal(shape, np.float32)
    run = simulator.run(kernel, shared, shared[:], x, options=Options(defer=defer))
    np.testing.assert_array_equal(run.outputs, x)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_what_nothing_wrote_is_passed_on_as_it_is_at_once():
    """A copy of a tile of which half was loaded is tried with what can be there, and then is one."""

    def kernel(x, rows):
        tile, copy = nl.ndarray((128, 128), nl.float32), nl.ndarray((128, 128), nl.float32)
        nisa.dma_copy(dst=tile[0:64], src=x[0:64])
        nisa.tensor_copy(copy, tile)
        nisa.tensor_copy(tile, copy)
        return in_hbm(tile[0:rows])

    x = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    for defer in (False, True):
        run = simulator.run(kernel, x, 64, options=Options(defer=defer))
        np.testing.assert_array_equal(run.outputs, x[:64])
        assert len(run.trace.notes) == 1 and len(run.trace.events) == 4
        with pytest.raises(Uninitialized, match="which kernel returns"):
            simulator.run(kernel, x, 65, options=Options(defer=defer))


@pytest.mark.parametrize("kernel", [onto_a_copy, neighbours_of_one_step])
def test_a_sum_is_that_of_what_is_carried_out_at_once(kernel):
    x, y = (np.random.default_rng(seed).standard_normal((128, 128)).astype(np.float32) for seed in range(2))
    at_once, put_off = (simulator.run(kernel, x, y, options=Options(defer=defer)).outputs for defer in (False, True))
    np.testing.assert_array_equal(put_off, at_once)
    products = [x[:, i : i + 64].T @ y[:, j : j + 64] for i in (0, 64) for j in (0, 64)]
    expected = x + x.T @ y if kernel is onto_a_copy else np.stack(products, axis=1).reshape(64, 2, 2, 64)
    np.testing.assert_allclose(put_off, expected, rtol=1e-4, atol=1e-4)


def parts_of_a_sum(x, y):
    """Its first rows, its last ones, a block, every other column, and all of it."""
    bank = nl.ndarray((64, 64), nl.float32, nl.psum)
    nisa.nc_matmul(bank, in_sbuf(x), in_sbuf(y))
    tiles = []
    for part in (bank[0:32], bank[32:64], bank[0:32, 16:48], bank[0:64, 0:64:2], bank):
        tiles.append(nl.ndarray(part.shape, x.dtype))
        nisa.tensor_copy(tiles[-1], part)
    return tuple([in_hbm(tile) for tile in tiles])


def into_gaps(step):
    """A sum that goes to every second column of a tile, or to every fourth."""

    def kernel(x, y):
        bank, tile = nl.ndarray((64, 64), nl.float32, nl.psum), nl.ndarray((64, 256), x.dtype)
        nisa.memset(tile, 3.0)
        nisa.nc_matmul(bank, in_sbuf(x), in_sbuf(y))
        nisa.tensor_copy(tile[:, 0 : 64 * step : step], bank)
        return (in_hbm(tile),)

    return kernel


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", [parts_of_a_sum, into_gaps(2), into_gaps(4)])
def test_what_a_sum_is_copied_to_holds_what_it_does_at_once(kernel, dtype):
    x, y = (np.random.default_rng(seed).standard_normal((128, 64)).astype(TABLE[dtype].np) for seed in range(2))
    at_once, put_off = (simulator.run(kernel, x, y, options=Options(defer=defer)).outputs for defer in (False, True))
    for found, expected in zip(put_off, at_once, strict=True):
        np.testing.assert_array_equal(found, expected)


COPIES = {
    "scaled": lambda dst, src, more: nisa.activation(dst, nl.copy, src, scale=2.0),
    "scaled by a column": lambda dst, src, more: nisa.activation(dst, nl.copy, src, scale=more),
    "with a bias": lambda dst, src, more: nisa.activation(dst, nl.copy, src, bias=more),
    "with a sum": lambda dst, src, more: nisa.activation(
        dst, nl.copy, src, reduce_op=nl.add, reduce_res=more, reduce_cmd=nisa.reduce_cmd.reset_reduce
    ),
    "with a sum that is kept": lambda dst, src, more: nisa.activation(
        dst, nl.copy, src, reduce_op=nl.add, reduce_cmd=nisa.reduce_cmd.reset_reduce
    ),
    "of another function": lambda dst, src, more: nisa.activation(dst, nl.square, src),
    "as it is": lambda dst, src, more: nisa.activation(dst, nl.copy, src),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_an_activation_moves_where_it_computes_nothing(copy, dtype):
    def kernel(x, y):
        src, more = in_sbuf(x), in_sbuf(y)
        dst = nl.ndarray(x.shape, x.dtype)
        copy(dst, src, more)
        total = nl.ndarray((64, 1), nl.float32)
        nisa.activation(
            nl.ndarray((64, 1), nl.float32), nl.copy, more, reduce_op=nl.add, reduce_res=total,
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
        )  # fmt: skip
        return in_hbm(dst), in_hbm(more), in_hbm(total)

    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**31, (64, 64)).astype(TABLE[dtype].np)  # more than float32 holds of an integer
    y = rng.standard_normal((64, 1)).astype(np.float32)
    results = [simulator.run(kernel, x, y, target="trn3", options=Options(defer=d)).outputs for d in (False, True)]
    for at_once, put_off in zip(*results, strict=True):
        np.testing.assert_array_equal(at_once, put_off)


@pytest.mark.parametrize("columns", [slice(0, 64), slice(0, 32)])
def test_an_operand_that_is_loaded_again_is_another(columns):
    def kernel(x, y):
        left, right, out = nl.ndarray((128, 64), nl.float32), in_sbuf(y[:, 0:64]), []
        nisa.dma_copy(dst=left, src=x[:, 0:64])
        for _ in range(2):
            bank, tile = nl.ndarray((64, 64), nl.float32, nl.psum), nl.ndarray((64, 64), nl.float32)
            nisa.nc_matmul(bank, left, right)
            nisa.tensor_copy(tile, bank)
            out.append(in_hbm(tile))
            nisa.dma_copy(dst=left[:, columns], src=x[:, 64:128][:, columns])
        return tuple(out)

    x, y = (np.random.default_rng(seed).standard_normal((128, 128)).astype(np.float32) for seed in range(2))
    results = [simulator.run(kernel, x, y, options=Options(defer=defer)).outputs for defer in (False, True)]
    for at_once, put_off in zip(*results, strict=True):
        np.testing.assert_array_equal(at_once, put_off)
    assert (results[1][0] != results[1][1]).any()
