"""What comes of memory that nothing has written: a remark while it comes to nothing, an error where it matters."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from compiled_parts import by_both, needs_compiled

from triptych import simulator
from triptych.simulator import NkiError, Options, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

X = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)


def padded(x, rows=32):
    """A tile of `rows` rows of which the first hold x."""
    tile = nl.ndarray((rows, x.shape[1]), nl.float32)
    nisa.dma_copy(dst=tile[0 : x.shape[0]], src=x)
    return tile


def stored(tile, buffer=nl.shared_hbm):
    out = nl.ndarray(tile.shape, tile.dtype, buffer=buffer)
    nisa.dma_copy(dst=out, src=tile)
    return out


def new(*shape, dtype=nl.float32, buffer=nl.sbuf):
    return nl.ndarray(shape, dtype, buffer=buffer)


def copied(tile):
    dst = new(*tile.shape)
    nisa.tensor_copy(dst, tile)
    return dst


def in_place(tile):
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    return tile


def added(tile):
    dst = new(*tile.shape)
    nisa.tensor_tensor(dst, tile, tile, nl.add)
    return dst


def activated(tile):
    dst = new(*tile.shape, dtype=nl.bfloat16)
    nisa.activation(dst, nl.exp, tile)
    return dst


def summed(tile):
    dst = new(tile.shape[0], 1)
    nisa.tensor_reduce(dst, nl.add, tile, 1)
    return dst


def accumulated(tile):
    dst, total = new(*tile.shape), new(tile.shape[0], 1)
    reset = nisa.reduce_cmd.reset_reduce
    nisa.activation(dst, nl.square, tile, reduce_op=nl.add, reduce_res=total, reduce_cmd=reset)
    return total


def compared(tile):
    dst = new(*tile.shape)
    nisa.tensor_scalar(dst, tile, nl.greater, 0.0)
    return dst


def as_integers(tile):
    dst = new(*tile.shape, dtype=nl.int32)
    nisa.tensor_copy(dst, tile)
    return dst


def at_an_address(tile):
    dst = nl.ndarray(tile.shape, nl.float32, buffer=nl.sbuf, address=(0, 64))
    nisa.tensor_copy(dst, tile)
    return dst


def by_dma(tile):
    dst = new(*tile.shape)
    nisa.dma_compute(dst, [tile, tile], nl.add)
    return dst


ROW_BY_ROW = (copied, in_place, added, activated, summed, accumulated, compared, as_integers, at_an_address, by_dma)


@pytest.mark.parametrize("step", ROW_BY_ROW)
@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_rows_keep_apart(step):
    """What is computed of the padding stays in the padding; at an output both lines are named."""

    def kernel(x, rows):
        return stored(step(padded(x))[0:rows])

    kept = simulator.run(kernel, X, 20)
    assert len([note for note in kept.trace.notes if "where nothing wrote it; this is no error" in note]) == 1
    full = simulator.run(lambda x: stored(step(padded(x, 20))), X)
    np.testing.assert_array_equal(kept.outputs, full.outputs)
    words = r"elements of 'out' .*first at \[20, 0\],.*: nisa.\w+ at test_unwritten.py:\d+ reads sbuf tensor 'tile'"
    with pytest.raises(Uninitialized, match=words + r" \(32, 8\), allocated at test_unwritten.py:\d+"):
        simulator.run(kernel, X, 21)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_a_tile_that_is_read_twice_is_told_of_once():
    """And an error that comes of the second read names the first."""

    def kernel(x, rows):
        tile = padded(x)
        copied(tile)
        return stored(added(tile)[0:rows])

    assert len([n for n in simulator.run(kernel, X, 20).trace.notes if "where nothing wrote it" in n]) == 1
    with pytest.raises(Uninitialized, match=r"nisa.tensor_copy at test_unwritten.py:\d+ reads sbuf tensor 'tile'"):
        simulator.run(kernel, X, 21)


def test_what_stays_of_unwritten_elements_comes_of_zeros(core):
    with core(strict=False) as c:
        tile, dst = c.empty((2, 4)), c.empty((2, 4))
        nisa.memset(tile[:, 0:2], 3.0)
        nisa.tensor_scalar(dst, tile, nl.add, 1.0)
        nisa.tensor_scalar(dst, dst, nl.multiply, 2.0)
        np.testing.assert_array_equal(dst.array, [[8, 8, 2, 2]] * 2)
        assert {*c.machine.origins} == {tile.storage.allocation.id, dst.storage.allocation.id}
        assert not c.machine.doubtful_accumulators
        np.testing.assert_array_equal(np.broadcast_to(dst.storage.written_at(dst.layout), (2, 4)), [[1, 1, 0, 0]] * 2)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_events_and_results_are_those_of_one_execution():
    def kernel(x):
        tile = padded(x)
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        return stored(tile[0:20])

    run = simulator.run(kernel, X)
    assert run.trace.count() == {"dma_copy": 2, "tensor_scalar": 2}
    np.testing.assert_array_equal(run.outputs, X + 1 + np.float32(1))


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_a_matmul_over_padding_rests_on_it(target):
    """A contraction over unwritten rows gives nothing that may be used, whatever zeros stand against them."""

    def kernel(x, rows):
        left = padded(x)
        right = new(32, 4)
        nisa.memset(right, 0.0)
        psum = new(8, 4, buffer=nl.psum)
        nisa.nc_matmul(psum, left[0:rows], right[0:rows])
        nisa.nc_matmul(psum, left[0:20], right[0:20])
        return stored(copied(psum))

    assert simulator.run(kernel, X, 20, target=target).outputs.shape == (8, 4)
    with pytest.raises(Uninitialized, match="32 of 32 elements .*: nisa.nc_matmul at .* reads sbuf tensor"):
        simulator.run(kernel, X, 21, target=target)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_a_matmul_adds_to_what_one_over_padding_began_beside_what_none_did(target):
    def kernel(x, first):
        left, right, psum = padded(x), new(32, 4), new(8, 4, buffer=nl.psum)
        nisa.memset(right, 1.0)
        nisa.nc_matmul(psum[:, 0:2], left, right[:, 0:2])
        nisa.nc_matmul(psum, left[0:20], right[0:20])
        return stored(copied(psum)[:, first:4])

    np.testing.assert_allclose(
        simulator.run(kernel, X, 2, target=target).outputs, X.sum(0)[:, None].repeat(2, 1), 1e-5, 1e-6
    )
    with pytest.raises(Uninitialized, match="8 of 24 elements .*: nisa.nc_matmul at .* reads sbuf tensor"):
        simulator.run(kernel, X, 1, target=target)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_a_matmul_that_begins_a_sum_reads_nothing_of_it():
    def kernel(x):
        left, psum = padded(x), new(8, 8, buffer=nl.psum)
        copied(left)
        nisa.nc_matmul(psum, left[0:20], left[0:20])
        return stored(copied(psum))

    notes = [note for note in simulator.run(kernel, X).trace.notes if "where nothing wrote it" in note]
    assert len(notes) == 1 and "nisa.tensor_copy" in notes[0]


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_what_is_written_again_is_written():
    def kernel(x):
        tile = copied(padded(x))
        nisa.memset(tile, 1.0)
        return stored(tile)

    assert (simulator.run(kernel, X).outputs == 1).all()


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_an_argument_is_an_output_too():
    def kernel(x, out):
        nisa.dma_copy(dst=out, src=copied(padded(x)))

    with pytest.raises(Uninitialized, match="what kernel writes to its argument out comes from memory that nothing"):
        simulator.run(kernel, X, np.zeros((32, 8), np.float32))


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize(
    ("index", "told"), [(-1, "8 of 32 elements never written"), (3, "8 of 32 elements of 'out' .* comes from memory")]
)
def test_rows_that_a_scatter_leaves_are_never_written_whatever_its_padding_holds(index, told):
    def kernel(x, indices):
        tile, rows, out = padded(x, 8), new(8, 1, dtype=nl.int32), new(4, 8, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=rows, src=indices)
        scattered = out.ap([[8, 8], [1, 8]], vector_offset=rows, indirect_dim=0)
        nisa.dma_copy(dst=scattered, src=tile, oob_mode=nisa.oob_mode.skip)
        return out

    with pytest.raises(NkiError, match=told):
        simulator.on("trn2").run(kernel, X[:4], np.array([2, 0, 1, 1, *[index] * 4], np.int32)[:, None])


@needs_compiled
@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_rows_that_nothing_wrote_are_gathered_and_scattered_as_in_python():
    """Also where calls like it were known before: what comes of them counts as unwritten, and the rest does not."""

    def kernel(x, indices, returned):
        table, out, tile = new(8, 8, buffer=nl.shared_hbm), new(8, 8, buffer=nl.shared_hbm), new(returned, 8)
        nisa.dma_copy(dst=table[0:6], src=x[0:6])
        for n in range(3):
            rows, some = new(4, 1, dtype=nl.int32), new(4, 8)
            nisa.dma_copy(dst=rows, src=indices[n])
            nisa.dma_copy(dst=some, src=table.vector_select(0, rows))
            nisa.dma_copy(dst=out.vector_select(0, rows), src=some)
        nisa.dma_copy(dst=tile, src=out[0:returned])
        return stored(tile)

    indices = np.array([[0, 1, 2, 3], [5, 4, 7, 6], [3, 2, 6, 1]], np.int32)[:, :, None]
    found, expected, _ = by_both(lambda: simulator.on("trn2").run(kernel, X, indices, 6))
    np.testing.assert_array_equal(found.outputs, X[:6])
    assert found.trace.notes == expected.trace.notes and found.trace.notes
    assert found.outputs.tobytes() == expected.outputs.tobytes()
    with pytest.raises(Uninitialized, match="16 of 64 elements of .* comes from memory"):
        simulator.on("trn2").run(kernel, X, indices, 8)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_an_index_and_a_register_must_be_written():
    def register(x):
        tile = copied(padded(x))
        nisa.register_load(nisa.register_alloc(), tile[20:21, 0:1])
        return x

    def index(x):
        rows, tile = new(32, 1, dtype=nl.uint32), new(32, 8)
        nisa.memset(rows[0:20], 0)
        nisa.dma_copy(dst=tile, src=x.ap([[8, 32], [1, 8]], vector_offset=rows, indirect_dim=0))
        return x

    with pytest.raises(Uninitialized, match="what 'dst' holds comes from memory that nothing has written: nisa.tensor"):
        simulator.run(register, X)
    with pytest.raises(Uninitialized, match="nisa.dma_copy at .*reads 12 of 32 elements that nothing has written"):
        simulator.run(index, X.repeat(2, 0))


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_an_accumulator_carries_it_on():
    def kernel(x, rows):
        cmd = nisa.reduce_cmd
        tile, dst, total = padded(x), new(32, 8), new(32, 1)
        nisa.activation(dst, nl.square, tile, reduce_op=nl.add, reduce_cmd=cmd.reset_reduce)
        nisa.memset(tile, 1.0)
        nisa.activation(dst, nl.square, tile, reduce_op=nl.add, reduce_res=total, reduce_cmd=cmd.reduce)
        return stored(total[0:rows])

    assert simulator.run(kernel, X, 20).outputs.shape == (20, 1)
    with pytest.raises(Uninitialized, match=r"1 of 21 elements .*: nisa.activation at .* reads sbuf tensor"):
        simulator.run(kernel, X, 21)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_what_one_accumulator_rests_on_the_other_does_not():
    """That of Scalar carries it on; a maximum on Vector is of a tile that is written."""

    def kernel(x):
        cmd = nisa.reduce_cmd
        tile, dst, top = padded(x), new(32, 8), new(32, 1)
        nisa.activation(dst, nl.square, tile, reduce_op=nl.add, reduce_cmd=cmd.reset_reduce)
        nisa.memset(tile, 1.0)
        for command, result in ((cmd.reset_reduce, None), (cmd.reduce, top)):
            nisa.tensor_scalar_reduce(
                dst, tile, nl.add, 1.0, reduce_op=nl.maximum, reduce_res=result, reduce_cmd=command
            )
        return stored(top)

    assert (simulator.run(kernel, X).outputs == 2).all()


def test_strict_raises_at_once_and_leniency_says_nothing():
    def kernel(x):
        return stored(copied(padded(x))[0:20])

    with pytest.raises(Uninitialized, match="nisa.tensor_copy at .*reads 96 of 256 elements that nothing has written"):
        simulator.run(kernel, X, options=Options(strict=frozenset({"unwritten-read"})))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(simulator.run(kernel, X, options=Options(check_uninitialized=False)).outputs, X)
    with pytest.warns(simulator.SimulatorWarning, match="this is no error while nothing that is returned rests on it"):
        np.testing.assert_array_equal(nki.simulate(kernel)(X), X)


def test_an_unknown_remark_is_an_error():
    with pytest.raises(simulator.KernelError, match="strict knows no nonsense; it knows unwritten-read, raw-member"):
        Options(strict=frozenset({"nonsense"}))


def test_without_data_a_read_is_a_remark():
    def kernel(x):
        return stored(copied(padded(x))[0:20])

    shape = simulator.ShapeDtype((20, 8), "float32")
    with pytest.warns(simulator.SimulatorWarning, match="reads 96 of 256 elements .*is known only with data"):
        assert simulator.run(kernel, shape).outputs.shape == (20, 8)
    with pytest.raises(Uninitialized, match="reads 96 of 256 elements"):
        simulator.run(kernel, shape, options=Options(strict=True))


def test_what_a_value_is_tried_with_need_not_be_one_that_an_instruction_takes():
    """quantize_mx takes no NaN; its other fillings tell what rests on the padding."""

    def kernel(x):
        tile = new(64, 8, dtype=nl.bfloat16)
        nisa.memset(tile[0:32], 1.0)
        packed, scale = new(64, 2, dtype=nl.float8_e4m3fn_x4), new(64, 2, dtype=nl.uint8)
        nisa.quantize_mx(packed, tile, scale)
        return stored(packed.view(nl.uint8)[0:32])

    with pytest.warns(simulator.SimulatorWarning, match="nisa.quantize_mx reads sbuf tensor"):
        assert simulator.run(kernel, X, target="trn3").outputs.shape == (32, 8)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_packed_padding_is_tried_with_numbers_that_zeros_make_nothing_of():
    def kernel(factor):
        left, right = (new(32, 2, dtype=nl.float8_e5m2_x4) for _ in range(2))
        nisa.memset(left[0:16].view(nl.uint8), 0)
        nisa.memset(right.view(nl.uint8), factor)
        scale, psum = new(4, 2, dtype=nl.uint8), new(2, 2, buffer=nl.psum)
        nisa.memset(scale, 127)
        nisa.nc_matmul_mx(psum, left, right, scale, scale)
        return stored(copied(psum))

    np.testing.assert_array_equal(simulator.run(kernel, 0, target="trn3").outputs, np.zeros((2, 2)))
    with pytest.raises(Uninitialized, match="4 of 4 elements .*: nisa.nc_matmul_mx at .* reads sbuf"):
        simulator.run(kernel, 60, target="trn3")


def scales(x, before=None):
    """The whole scale tile of x [64, 16] in bfloat16; `before` fills the rows of the second quadrant first."""
    src = new(*x.shape, dtype=nl.bfloat16)
    nisa.dma_copy(dst=src, src=x)
    dst, tile = new(64, x.shape[1] // 4, dtype=nl.float8_e4m3fn_x4), new(64, x.shape[1] // 4, dtype=nl.uint8)
    if before is not None:
        nisa.memset(tile[32:64], before)
    nisa.quantize_mx(dst, src, tile)
    return stored(tile)


@pytest.mark.parametrize("before", [None, 7])
def test_rows_that_quantize_mx_leaves_are_zeros_unless_something_wrote_them(before):
    with pytest.warns(simulator.SimulatorWarning, match="reads rows of 'tile' beside the four scales of each quadrant"):
        run = simulator.run(scales, np.ones((64, 16), np.float32), before, target="trn3")
    expected = np.zeros((64, 4), np.uint8)
    expected[32:] = before or 0
    expected[[0, 1, 2, 3, 32, 33, 34, 35]] = 127 - 7  # 2^(0 - Emax + 1)
    np.testing.assert_array_equal(run.outputs, expected)


def scales_of_half(x, first):
    """The scales of 32 rows in a tile of 64, from a row of it on."""
    src, dst = new(32, 16, dtype=nl.bfloat16), new(32, 4, dtype=nl.float8_e4m3fn_x4)
    tile = new(64, 4, dtype=nl.uint8)
    nisa.dma_copy(dst=src, src=x)
    nisa.quantize_mx(dst, src, tile[first:64])
    return stored(tile[first:64])


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_rows_that_quantize_mx_leaves_in_a_later_quadrant_are_zeros_too():
    outputs = simulator.run(scales_of_half, np.ones((32, 16), np.float32), 32, target="trn3").outputs
    assert (outputs[0:4] == 120).all() and not outputs[4:].any()


@pytest.mark.filterwarnings("ignore:.*no error while nothing that is returned:triptych.simulator.SimulatorWarning")
def test_rows_that_quantize_mx_leaves_are_no_zeros_where_that_is_forbidden():
    options = Options(strict=frozenset({"scale-padding"}))
    with pytest.raises(Uninitialized, match="comes from memory that nothing has written: nisa.dma_copy"):
        simulator.run(scales, np.ones((64, 16), np.float32), target="trn3", options=options)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_rows_of_a_scale_tile_outside_what_is_quantized_are_no_zeros():
    with pytest.raises(
        Uninitialized, match=r"what stands in 128 of 256 elements of 'out' \(64, 4\).* first at \[32, 0\]"
    ):
        simulator.run(scales_of_half, np.ones((32, 16), np.float32), 0, target="trn3")


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_rows_that_quantize_mx_leaves_are_zeros_for_the_other_core():
    def kernel(x):
        src, dst = new(32, 16, dtype=nl.bfloat16), new(32, 4, dtype=nl.float8_e4m3fn_x4)
        mine, theirs = new(32, 4, dtype=nl.uint8), new(32, 4, dtype=nl.uint8)
        nisa.dma_copy(dst=src, src=x)
        nisa.quantize_mx(dst, src, mine)
        me, other = nl.program_id(0), 1 - nl.program_id(0)
        nisa.sendrecv(src=mine, dst=theirs, send_to_rank=other, recv_from_rank=other, pipe_id=0)
        out = new(2, 32, 4, dtype=nl.uint8, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out[me], src=theirs)
        return out

    outputs = simulator.run(nki.jit(kernel)[2], np.ones((32, 16), np.float32), target="trn3").outputs
    assert (outputs[:, 0:4] == 120).all() and not outputs[:, 4:].any()


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_rows_that_hold_what_came_of_unwritten_memory_are_no_zeros():
    def kernel(x):
        src, dst = new(32, 16, dtype=nl.bfloat16), new(32, 4, dtype=nl.float8_e4m3fn_x4)
        tile, never = new(32, 4, dtype=nl.uint8), new(32, 4, dtype=nl.uint8)
        nisa.dma_copy(dst=src, src=x)
        nisa.tensor_copy(tile, never)
        nisa.quantize_mx(dst, src, tile)
        return stored(tile)

    with pytest.raises(
        Uninitialized, match=r"112 of 128 elements of 'out' \(32, 4\).*: nisa.tensor_copy at .* 'never'"
    ):
        simulator.run(kernel, np.ones((32, 16), np.float32), target="trn3")
