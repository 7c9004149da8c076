"""NKI_PRECISE_FP=0: what every instruction leaves in low-precision tiles is what it leaves in float32 ones.

The rows call an instruction with tiles of a low-precision dtype, whose values it cannot hold, in the mode without
rounding, and with float32 tiles in the ordinary mode; the two agree bit for bit. Where an instruction takes no float32
the row says what stands in its place.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import INSTRUCTIONS, NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

F32 = np.float32
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 32, 16)).astype(F32)
POSITIVE = np.abs(X) + F32(0.1)
cmd = nisa.reduce_cmd
TRUTH = (X > 0).astype(np.uint8)


class Tiles:
    """Tiles of one float dtype on one core."""

    def __init__(self, c, dtype):
        self.c = c
        self.dtype = dtype

    def of(self, values, buffer="sbuf"):
        return self.c.tile(values, self.dtype, buffer)

    def new(self, *shape, buffer="sbuf"):
        return self.c.empty(shape or X.shape, self.dtype, buffer)

    def whole(self, values, dtype):
        return self.c.tile(np.asarray(values), dtype)


def one(call, *shape, buffer="sbuf"):
    """A row of one result, `dst`, made by call(tiles, dst)."""

    def run(t):
        dst = t.new(*shape, buffer=buffer)
        call(t, dst)
        return (dst,)

    return run


def with_sum(call):
    """A row with a result and what its accumulator gives."""

    def run(t):
        dst, total = t.new(), t.new(32, 1)
        call(t, dst, total)
        return dst, total

    return run


def _matmul(t):
    dst = t.c.empty((16, 16), "float32", "psum")
    nisa.nc_matmul(dst, t.of(X), t.of(Y))
    return (dst,)


def _replaced(t):
    dst, where = t.new(), t.c.empty((32, 8), "uint32")
    nisa.nc_match_replace8(dst, t.of(X), t.of(X[:, 8:]), 0.123456789, where)
    return dst, where


def _found(t):
    where = t.c.empty((32, 8), "uint32")
    nisa.nc_find_index8(where, t.of(X), t.of(X[:, :8]))
    return (where,)


def _predicated(t):
    dst = t.of(Y)
    nisa.tensor_copy_predicated(dst, t.of(X), t.whole(TRUTH, "uint8"))
    nisa.tensor_copy_predicated(dst[:, :4], 0.123456789, t.whole(TRUTH[:, :4], "uint8"))
    return (dst,)


def _range_select(t):
    dst, top = t.new(), t.new(32, 1)
    low, high = (t.whole(np.full((32, 1), v), "float32") for v in (2, 9))
    nisa.range_select(dst, t.of(X), nl.greater, nl.less, low, high, reduce_res=top)
    return dst, top


def _gathered(t):
    dst = t.new(32, 8)
    index = RNG.integers(0, 16, (32, 8)).astype(np.uint32) * 0 + np.arange(8, dtype=np.uint32)
    nisa.nc_n_gather(dst, t.of(X), t.whole(index, "uint32"))
    return (dst,)


def _moved_by_dma(t):
    dst, back = t.new(), t.new(buffer="private_hbm")
    nisa.dma_copy(dst, t.of(X, "private_hbm"))
    nisa.dma_copy(back, dst)
    return dst, back


def _index(t):
    return t.whole(np.arange(32, dtype=np.uint16).reshape(32, 1) % 14, "uint16")


ROWS = {
    "activation": with_sum(
        lambda t, d, r: nisa.activation(d, nl.exp, t.of(X), t.of(Y[:, :1]), 0.7, nl.add, r, cmd.reset_reduce)
    ),
    "activation_reduce": with_sum(lambda t, d, r: nisa.activation_reduce(d, nl.gelu, t.of(X), nl.add, r)),
    "activate2": with_sum(
        lambda t, d, r: nisa.activate2(
            d, nl.silu, t.of(X), 0.3, 0.7, nl.multiply, nl.add, 0.0, False, False, nl.abs_max, r, cmd.reset_reduce
        )
    ),
    "affine_select": one(lambda t, d: nisa.affine_select(d, [[1, 16]], 1, t.of(X), 0.123456789, nl.greater, -20)),
    "bn_aggr": one(lambda t, d: nisa.bn_aggr(d, t.of(POSITIVE[:, :12])), 32, 2),
    "bn_stats": one(lambda t, d: nisa.bn_stats(d, t.of(X)), 32, 6),
    "dma_compute": one(lambda t, d: nisa.dma_compute(d, [t.of(X), t.of(Y)], nl.add)),
    "dma_copy": _moved_by_dma,
    "dma_transpose": one(lambda t, d: nisa.dma_transpose(d, t.of(X)), 16, 32),
    "dropout": one(lambda t, d: nisa.dropout(d, t.of(X), 0.4)),
    "exponential": with_sum(lambda t, d, r: nisa.exponential(d, t.of(X), 0.3, r, cmd.reset_reduce)),
    "iota": one(lambda t, d: nisa.iota(d, [[1000, 16]], 65537)),
    "local_gather": one(lambda t, d: nisa.local_gather(d, t.of(X), _index(t), 2, 16), 32, 32),
    "max8": one(lambda t, d: nisa.max8(d, t.of(X)), 32, 8),
    "memset": one(lambda t, d: nisa.memset(d, 0.123456789)),
    "nc_find_index8": _found,
    "nc_match_replace8": _replaced,
    "nc_matmul": _matmul,
    "nc_n_gather": _gathered,
    "nc_stream_shuffle": one(lambda t, d: nisa.nc_stream_shuffle(d, t.of(X), list(range(31, -1, -1)))),
    "nc_transpose": one(lambda t, d: nisa.nc_transpose(d, t.of(X)), 16, 32, buffer="psum"),
    "rand2": one(lambda t, d: nisa.rand2(d, -1.0, 1.0)),
    "range_select": _range_select,
    "reciprocal": one(lambda t, d: nisa.reciprocal(d, t.of(X))),
    "scalar_tensor_tensor": one(
        lambda t, d: nisa.scalar_tensor_tensor(d, t.of(X), nl.multiply, 0.3, nl.add, t.of(Y))
    ),
    "select_reduce": with_sum(
        lambda t, d, r: nisa.select_reduce(d, t.whole(TRUTH, "uint8"), t.of(X), -0.3, r, cmd.reset_reduce)
    ),
    "tensor_copy": one(lambda t, d: nisa.tensor_copy(d, t.of(X))),
    "tensor_copy_predicated": _predicated,
    "tensor_partition_reduce": one(lambda t, d: nisa.tensor_partition_reduce(d, nl.average, t.of(X)), 1, 16),
    "tensor_reduce": one(lambda t, d: nisa.tensor_reduce(d, nl.add, t.of(X), 1), 32, 1),
    "tensor_scalar": one(lambda t, d: nisa.tensor_scalar(d, t.of(X), nl.multiply, 0.3, op1=nl.add, operand1=0.7)),
    "tensor_scalar_cumulative": one(
        lambda t, d: nisa.tensor_scalar_cumulative(d, t.of(X), nl.multiply, nl.add, 0.3)
    ),
    "tensor_scalar_reduce": with_sum(
        lambda t, d, r: nisa.tensor_scalar_reduce(d, t.of(X), nl.multiply, 0.3, nl.add, r)
    ),
    "tensor_tensor": one(lambda t, d: nisa.tensor_tensor(d, t.of(X), t.of(Y), nl.multiply)),
    "tensor_tensor_scan": one(
        lambda t, d: nisa.tensor_tensor_scan(d, t.of(X), t.of(Y), 0.3, nl.multiply, nl.add)
    ),
}  # fmt: skip
# Instructions without a float32 that the mode could keep: integers and registers, and those with a test of their own.
OTHERS = {
    "nonzero_with_count", "sequence_bounds", "rng", "rand_get_state", "rand_set_state", "set_rng_seed", "register_load",
    "register_move", "register_store", "scalar_load", "scalar_store", "core_barrier", "sendrecv", "topk", "quantize_mx",
    "nc_matmul_mx", "sendrecv_compute",
}  # fmt: skip
LOW = ("bfloat16", "float16", "float8_e5m2", "tfloat32")
REFUSES = {
    ("activation", "tfloat32"), ("exponential", "tfloat32"), ("select_reduce", "tfloat32"),
    ("tensor_scalar_cumulative", "tfloat32"),
}  # fmt: skip


def results(core, row, dtype, rounding):
    with core("trn3", round_low_precision=rounding) as c:
        tiles = row(Tiles(c, dtype))
        assert all(t.array.dtype == F32 or t.dtype.is_int for t in tiles)
        return [t.array.copy() for t in tiles]


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", ROWS)
def test_a_low_precision_tile_holds_what_a_float32_one_does(core, name, dtype):
    if (name, dtype) in REFUSES:
        with pytest.raises(NkiValidationError):
            results(core, ROWS[name], dtype, False)
        return
    kept, wide = results(core, ROWS[name], dtype, False), results(core, ROWS[name], "float32", True)
    for low, exact in zip(kept, wide, strict=True):
        np.testing.assert_array_equal(low, exact)


def test_every_instruction_has_a_row():
    assert set(ROWS) | OTHERS == set(INSTRUCTIONS) and not set(ROWS) & OTHERS


def test_a_row_would_see_a_rounding(core):
    """The rows' values are none of bfloat16's."""
    with core("trn3") as c:
        (dst,) = ROWS["tensor_copy"](Tiles(c, "bfloat16"))
        assert (dst.array.astype(F32) != X).mean() > 0.9


def test_a_scale_may_be_any_number(core):
    for rounds in (True, False):
        with core("trn3", round_low_precision=rounds) as c:
            dst, src = c.empty((2, 2), "float8_e8m0fnu"), c.tile(np.full((2, 2), 3, F32))
            if rounds:
                with pytest.raises(NkiValidationError, match="power"):
                    nisa.tensor_copy(dst, src)
            else:
                nisa.tensor_copy(dst, src)
                assert (dst.array == 3).all()


@pytest.mark.parametrize("address", [None, (0, 64)])
def test_integers_are_rounded_in_this_mode_too(core, same, address):
    with core("trn2", round_low_precision=False) as c:
        dst = c.machine.allocate((1, 4), "int8", nl.sbuf, "t", address)
        nisa.tensor_copy(dst, c.tile(np.array([[2.7, -0.6, 300, -300]], F32)))
        assert same(dst, [[3, -1, 127, -128]])


def test_topk_finds_the_unrounded_largest(core):
    x = (1 + np.arange(16, dtype=F32) * F32(2.0**-12)).reshape(16, 1)  # all 1 in bfloat16
    with core("trn3", round_low_precision=False) as c:
        values, where = c.empty((16, 1), "bfloat16"), c.empty((16, 1), "uint32")
        nisa.topk(values, where, c.tile(x, "bfloat16"), 16)
        assert (values.array == x[-1]).all() and (where.array == 15).all()


def test_packed_elements_are_bits_and_rounded_in_this_mode_too(core):
    """Four float8 values in a uint32: quantize_mx rounds them as ever, and their scales are powers of two anyway."""
    x = RNG.normal(size=(32, 16)).astype(ml_dtypes.bfloat16)
    outcomes = []
    for rounding in (True, False):
        with core("trn3", round_low_precision=rounding) as c:
            dst, scale = c.empty((32, 4), "float8_e4m3fn_x4"), c.empty((4, 4), "float8_e8m0fnu")
            nisa.quantize_mx(dst, c.tile(x, "bfloat16"), scale)
            product = c.empty((4, 4), "float32", "psum")
            nisa.nc_matmul_mx(product, dst, dst, scale, scale)
            outcomes.append((dst.array.copy(), scale.array.astype(F32), product.array.copy()))
    assert outcomes[1][0].dtype == np.uint32
    for ordinary, unrounded in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(ordinary, unrounded)


def _exchange(a):
    """Each core sends 1 + 2^-12, which is 1 in bfloat16, and stores what it received, less 1, times 2^12."""
    core = nl.program_id(0)
    out = nl.ndarray(a.shape, nl.bfloat16, nl.shared_hbm)
    mine, theirs = nl.add(nl.load(a[core : core + 1]), 2.0**-12), nl.ndarray((1, a.shape[1]), nl.bfloat16)
    nisa.sendrecv(mine, theirs, 1 - core, 1 - core, 0)
    nl.store(out[core : core + 1], nl.multiply(nl.subtract(theirs, 1.0), 2.0**12))
    nisa.core_barrier(out, (0, 1))
    return out


@pytest.mark.parametrize(("precise", "left"), [("1", 0), ("0", 1)])
def test_two_cores_exchange_what_is_not_rounded(monkeypatch, precise, left):
    """Through the variable that AWS documents; the output is in the kernel's dtype either way."""
    monkeypatch.setenv("NKI_PRECISE_FP", precise)
    out = simulator.simulate(simulator.jit(_exchange)[2])(np.ones((2, 3), ml_dtypes.bfloat16))
    assert out.dtype == ml_dtypes.bfloat16 and (out.astype(F32) == left).all()
