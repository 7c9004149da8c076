"""NaN, infinities and the reach of float32, where an instruction's documentation or its NumPy twin says what they do.

The functions of nki.language refer to NumPy's of the same name (nki/api/nki/language/__init__.py): a NaN goes through
maximum and minimum, and compares as unequal to everything. Where nothing is said, a NaN is kept, so that it is seen.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

F32 = np.float32
INF, NAN = np.inf, np.nan
LOWEST = float(np.finfo(np.float32).min)
cmd = nisa.reduce_cmd
SPECIAL = np.array([0.0, -0.0, 1.0, -2.0, INF, -INF, NAN], F32)
X, Y = (a.reshape(1, -1).copy() for a in np.meshgrid(SPECIAL, SPECIAL))  # every pair


def largest(x, y):
    return NAN if math.isnan(x) or math.isnan(y) else max(x, y)


def smallest(x, y):
    return -largest(-x, -y)


PAIRS = {
    "maximum": largest,
    "minimum": smallest,
    "add": lambda x, y: NAN if INF in (x, y) and -INF in (x, y) else x + y,
    "multiply": lambda x, y: NAN if 0 in (x, y) and (INF in (x, y) or -INF in (x, y)) else x * y,
    "equal": lambda x, y: float(x == y),
    "not_equal": lambda x, y: float(x != y),
    "less": lambda x, y: float(x < y),
    "less_equal": lambda x, y: float(x <= y),
    "greater": lambda x, y: float(x > y),
    "greater_equal": lambda x, y: float(x >= y),
    "logical_and": lambda x, y: float(bool(x) and bool(y)),
    "logical_or": lambda x, y: float(bool(x) or bool(y)),
    "logical_xor": lambda x, y: float(bool(x) != bool(y)),
    "abs_max": lambda x, y: x if abs(x) > abs(y) else y,  # the formula of its documentation: a NaN x loses, a y wins
    "abs_min": lambda x, y: x if abs(x) < abs(y) else y,
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_operands(core, same, name):
    """Python's floats are IEEE 754's too."""
    op = getattr(nl, name)
    expected = [[PAIRS[name](float(x), float(y)) for x, y in zip(X[0], Y[0], strict=True)]]
    with core("trn3") as c:
        dst = c.empty(X.shape)
        nisa.tensor_tensor(dst, c.tile(X), c.tile(Y), op)
        assert same(dst, expected)
        for y in SPECIAL:
            nisa.tensor_scalar(dst, c.tile(X), op, float(y))
            assert same(dst, [[PAIRS[name](float(x), float(y)) for x in X[0]]])
            nisa.scalar_tensor_tensor(dst, c.tile(X), nl.multiply, 1.0, op, c.tile(np.full_like(X, y)))
            assert same(dst, [[PAIRS[name](float(x), float(y)) for x in X[0]]])


ROWS = np.array([[1, NAN, 3], [NAN, NAN, NAN], [-INF, -1, -INF], [INF, -INF, 2], [-INF, -INF, -INF]], F32)


def test_reductions_keep_nan_and_infinities(core, same):
    with core() as c:
        column = c.empty((5, 1))
        for op, expected in (
            (nl.maximum, [NAN, NAN, -1, INF, -INF]),
            (nl.minimum, [NAN, NAN, -INF, -INF, -INF]),
            (nl.add, [NAN, NAN, -INF, NAN, -INF]),
            (nl.multiply, [NAN, NAN, -INF, -INF, -INF]),
            (nl.logical_and, [1, 1, 1, 1, 1]),
        ):
            nisa.tensor_reduce(column, op, c.tile(ROWS), 1)
            assert same(column, np.array([expected]).T)
        nisa.tensor_reduce(column, nl.maximum, c.tile(ROWS), 1, negate=True)
        assert same(column, np.array([[NAN, NAN, 1, -INF, INF]]).T)
        row = c.empty((1, 3))
        nisa.tensor_partition_reduce(row, nl.maximum, c.tile(ROWS[2:]))
        assert same(row, [[INF, -1, 2]])
        nisa.tensor_partition_reduce(row, nl.maximum, c.tile(ROWS))
        assert same(row, [[NAN, NAN, NAN]])


@pytest.mark.parametrize("first", [False, True])
def test_accumulators_start_below_everything_and_keep_nan(core, same, first):
    """A reset starts a maximum at -inf and a minimum at inf; a NaN stays, whether it came first or last."""
    one, other = (ROWS, np.zeros_like(ROWS)) if first else (np.zeros_like(ROWS), ROWS)
    with core() as c:
        dst, column = c.empty((5, 3)), c.empty((5, 1))
        for op, expected in ((nl.maximum, [NAN, NAN, 0, INF, 0]), (nl.minimum, [NAN, NAN, -INF, -INF, -INF])):
            nisa.tensor_scalar_reduce(dst, c.tile(one), nl.multiply, 1.0, op)
            nisa.tensor_scalar_reduce(dst, c.tile(other), nl.multiply, 1.0, op, column, reduce_cmd=cmd.reduce)
            assert same(column, np.array([expected]).T)
        nisa.tensor_scalar_reduce(dst, c.tile(ROWS), nl.multiply, 1.0, nl.maximum, column)
        assert same(column, np.array([[NAN, NAN, -1, INF, -INF]]).T)
        truth = c.tile(np.ones((5, 3), np.uint8))
        nisa.select_reduce(dst, truth, c.tile(ROWS), LOWEST, column, cmd.reset_reduce)
        assert same(column, np.array([[NAN, NAN, -1, INF, -INF]]).T) and same(dst, ROWS)


def test_magnitudes_of_the_scalar_engine_keep_nan(core, same):
    with core("trn3") as c:
        column = c.empty((3, 1))
        x = c.tile(np.array([[1, NAN, -3], [-INF, 2, INF], [-1, 1, 0.5]], F32))
        for op, expected in ((nl.abs_max, [NAN, INF, 1]), (nl.abs_min, [NAN, 2, 0.5])):
            nisa.activate2(
                c.empty((3, 3)), nl.copy, x, 1.0, 0.0, nl.multiply, nl.add, reduce_op=op, reduce_res=column,
                reduce_cmd=cmd.reset_reduce,
            )  # fmt: skip
            assert same(column, np.array([expected]).T)


def test_max8_puts_a_nan_first_and_a_search_never_finds_one(core, same):
    x = np.array([[3, NAN, -INF, INF, 1, 2, 0, -1, -2, -3]], F32)
    with core() as c:
        top, where = c.empty((1, 8)), c.empty((1, 8), "uint32")
        nisa.max8(top, c.tile(x))
        assert same(top, [[NAN, INF, 3, 2, 1, 0, -1, -2]])
        nisa.nc_find_index8(where, c.tile(x), top)
        assert same(where, [[2**32 - 1, 3, 0, 5, 4, 6, 7, 8]])


@pytest.mark.parametrize(
    ("dtype", "lowest"), [("float32", LOWEST), *((d, -INF) for d in ("float16", "bfloat16", "float8_e4m3"))]
)
def test_what_range_select_leaves_out_is_softmax_safe_as_documented(core, same, dtype, lowest):
    """A row of which nothing is chosen: FP32_MIN stays in float32 and is -inf in narrower dtypes, while the maximum in
    float32 is FP32_MIN: exp(FP32_MIN - FP32_MIN) = 1 and exp(-inf - FP32_MIN) = 0, and no NaN."""
    with core() as c:
        x = c.tile(np.array([[1.0, NAN], [NAN, 2.0]], F32))
        dst, top, power = c.empty((2, 2), dtype), c.empty((2, 1)), c.empty((2, 2))
        zero, ends = c.tile(np.zeros((2, 1), F32)), c.tile(np.array([[0.0], [1.0]], F32))
        nisa.range_select(dst, x, nl.greater_equal, nl.less, zero, ends, reduce_res=top)
        assert same(dst, np.array([[lowest, lowest], [NAN, lowest]], F32))  # the NaN that is chosen, and no other
        assert same(top, [[LOWEST], [NAN]])
        nisa.tensor_scalar(top, top, nl.multiply, -1.0)
        nisa.activation(power[:1], nl.exp, dst[:1], bias=top[:1])
        assert same(power[:1], [[1, 1]] if dtype == "float32" else [[0, 0]])
        bound = c.tile(np.full((2, 1), NAN, F32))
        nisa.range_select(dst, x, nl.greater_equal, nl.less_equal, bound, bound)
        assert same(dst, np.full((2, 2), lowest, F32))  # no index compares with NaN


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("buffer", ["psum", "sbuf"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transposes_are_exact_but_for_the_tensor_engine_of_v2(core, cast, same, target, buffer, dtype):
    x = cast(np.array([[1, INF, 3], [-INF, 5, 6], [7, 8, NAN]], F32), dtype)
    product = [[NAN, -INF, NAN], [INF, NAN, NAN], [NAN, NAN, NAN]]  # 0 * inf is NaN in every other element of a row
    if (target, buffer) == ("trn1", "psum"):  # which takes float32 alone
        x, dtype = x.astype(F32), "float32"
    with core(target) as c:
        kept = dtype if (target, buffer) != ("trn1", "psum") else "float32"  # v2's Tensor Engine writes no other
        dst = c.empty((3, 3), kept, buffer)
        nisa.nc_transpose(dst, c.tile(x, dtype))
        assert same(dst, product if (target, buffer) == ("trn1", "psum") else x.T)
        nisa.dma_transpose(dst, c.tile(x, dtype)) if buffer == "sbuf" else None
        assert buffer == "psum" or same(dst, x.T)
        finite = cast(np.where(np.isfinite(x.astype(F32)), x.astype(F32), 0), dtype)
        nisa.nc_transpose(dst, c.tile(finite, dtype))
        assert same(dst, finite.T.astype(F32) if kept == "float32" else finite.T)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_is_transpose_is_a_product_on_v2_and_a_move_after(core, same, target):
    x = np.array([[1, INF], [3, 4]], F32)
    with core(target) as c:
        dst = c.empty((2, 2), buffer="psum")
        nisa.nc_matmul(dst, c.tile(x), c.tile(np.eye(2, dtype=F32)), is_transpose=True)
        assert same(dst, x.T if target != "trn1" else [[1, 3], [INF, NAN]])


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("k", [1, 2, 9, 128])
def test_a_matmul_is_a_sum_of_products_with_zeros_too(core, k, n):
    """No zero hides an infinity or a NaN, whatever shape the product has."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(k, n)).astype(F32), np.zeros((k, n + 1), F32)
    right[:, 1] = 1
    for special in (INF, -INF, NAN):
        left[k // 2, n // 2] = special
        with core() as c:
            dst = c.empty((n, n + 1), buffer="psum")
            nisa.nc_matmul(dst, c.tile(left), c.tile(right))
            got = dst.array.astype(F32)
            assert np.isnan(got[n // 2, 0]) and not np.isfinite(got[n // 2, 1])
            assert np.isnan(got[n // 2, 1]) == np.isnan(special)
            assert np.isfinite(np.delete(got, n // 2, axis=0)).all()


# The reach of float32 for integers


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_arithmetic_on_32_bit_integers_loses_bits_beyond_2_to_the_24(core, same, dtype):
    """Vector computes in float32, where 2^24 + 1 does not exist; only two tiles of int32 on GpSimd are exact."""
    x = np.array([[2**24 - 1, 2**24 + 1, 2**30 + 1]], dtype)
    rounded = np.array([[2**24 - 1, 2**24, 2**30]], dtype)
    with core() as c:
        dst, tile = c.empty((1, 3), dtype), c.tile(x)
        nisa.tensor_copy(dst, tile)
        assert same(dst, x)  # bit for bit
        nisa.tensor_tensor(dst, tile, c.tile(np.zeros_like(x)), nl.add)
        assert same(dst, x) and c.trace.events[-1].engine == "gpsimd"
        for compute in (
            lambda: nisa.tensor_tensor(dst, tile, c.tile(np.zeros_like(x)), nl.add, nisa.engine.vector),
            lambda: nisa.tensor_scalar(dst, tile, nl.add, 0.0),
            lambda: nisa.activation(dst, nl.copy, tile),
            lambda: nisa.tensor_reduce(dst, nl.maximum, tile.reshape((1, 3, 1)), 2),
        ):
            compute()
            assert same(dst, rounded)
        single = c.empty((1, 1), "uint8")
        nisa.tensor_scalar(single, c.tile(np.array([[2**24 + 1]], dtype)), nl.equal, float(2**24))
        assert same(single, [[1]])  # a comparison cannot tell them apart either


def test_a_dma_casts_through_float32(core, same):
    with core() as c:
        src = c.tile(np.array([[2**24 + 1, 2**31 - 1]], np.int32), buffer="private_hbm")
        kept, cast_to = c.empty((1, 2), "int32"), c.empty((1, 2), "uint32")
        nisa.dma_copy(kept, src)
        nisa.dma_copy(cast_to, src)
        assert same(kept, [[2**24 + 1, 2**31 - 1]]) and same(cast_to, [[2**24, 2**31]])
