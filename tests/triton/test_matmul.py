"""out[M, N] = lhsT[K, M].T @ rhs[K, N], within the rounding of a float32 sum and of the output's dtype."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import KernelRaised
from triptych.harness.emulators.compilation import launches_of
from triptych.kernels.triton import matmul as module
from triptych.kernels.triton.matmul import config, matmul, matmul_mk, matmul_tiled

SHAPES = [  # (K, M, N)
    (1, 1, 1),
    (13, 17, 19),
    (64, 128, 256),
    (65, 129, 257),
    (16, 1, 300),
    (300, 131, 1),
    (1, 67, 71),
    (129, 128, 127),
]


def inputs(K, M, N, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "lhsT": rng.standard_normal((K, M)).astype(dtype),
        "rhs": rng.standard_normal((K, N)).astype(dtype),
    }


def check(out, lhsT, rhs, dtype):
    a, b = lhsT.astype(np.float64), rhs.astype(np.float64)
    expected = a.T @ b
    rounding = ml_dtypes.finfo(dtype).eps / 2 * np.abs(expected) + ml_dtypes.finfo(dtype).smallest_subnormal
    summing = len(a) * 2.0**-23 * (np.abs(a).T @ np.abs(b))
    assert np.all(np.abs(out - expected) <= 1.01 * rounding + summing)


@pytest.mark.parametrize("launcher", [matmul_tiled, matmul])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape(run, launcher, shape, dtype):
    K, M, N = shape
    arrays = inputs(K, M, N, dtype)
    check(run(launcher, arrays, np.empty((M, N), dtype)), **arrays, dtype=dtype)


@pytest.mark.parametrize("launcher", [matmul_tiled, matmul])
def test_many_tiles_in_groups(run, launcher):
    """More rows of tiles than GROUP_M, and a last group that is shorter."""
    dtype = np.dtype(ml_dtypes.bfloat16)
    arrays = inputs(70, 128 * 9 + 1, 513, dtype)
    check(run(launcher, arrays, np.empty((128 * 9 + 1, 513), dtype)), **arrays, dtype=dtype)


@pytest.mark.parametrize("launcher", [matmul_tiled, matmul])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_special_values_stay_in_their_row_and_column(run, launcher, bad, dtype):
    arrays = inputs(37, 20, 30, dtype)
    arrays["lhsT"][5, 7] = bad
    arrays["rhs"][6, 8] = bad
    out = run(launcher, arrays, np.empty((20, 30), dtype))
    a, b = (x.astype(np.float64) for x in arrays.values())
    with np.errstate(invalid="ignore"):
        expected = a.T @ b
    assert np.array_equal(np.isnan(out), np.isnan(expected))
    assert np.array_equal(out[np.isinf(expected)], expected[np.isinf(expected)])
    assert np.isfinite(expected).sum() == 19 * 29


def test_overflow_becomes_infinity_only_at_the_store(run):
    """float16 products beyond 65504 sum in float32, and only the result is rounded."""
    dtype = np.dtype(np.float16)
    lhsT = np.full((32, 16), 300, dtype)
    rhs = np.full((32, 16), 300, dtype)
    rhs[16:] *= -1
    rhs[0] = 301
    assert np.all(run(matmul, {"lhsT": lhsT, "rhs": rhs}, np.empty((16, 16), dtype)) == 300)
    rhs[16:] *= -1
    assert np.all(np.isposinf(run(matmul, {"lhsT": lhsT, "rhs": rhs}, np.empty((16, 16), dtype))))


def test_strides_are_honoured():
    """A view of a transpose, and an output inside a larger array whose other elements stay as they were."""
    from triptych.harness.emulators import interpret

    rng = np.random.default_rng(0)
    lhs = rng.standard_normal((33, 20)).astype(np.float32)
    rhs = rng.standard_normal((20, 40)).astype(np.float32)
    around = np.full((40, 50), 7, np.float32)
    interpret(matmul, {"lhsT": lhs.T, "rhs": rhs[:, ::2]}, around[2:35, 10:50:2])
    check(around[2:35, 10:50:2].astype(np.float64), lhs.T, rhs[:, ::2], np.dtype(np.float32))
    assert (around == 7).sum() == around.size - 33 * 20


@pytest.mark.parametrize(
    ("lhsT", "rhs", "out", "says"),
    [
        ((4, 5), (6, 7), (5, 7), r"sizes disagree: lhsT\[K, M\] \(4, 5\), rhs\[K, N\] \(6, 7\)"),
        ((4, 5), (4, 7), (7, 5), "sizes disagree"),
        ((4,), (4, 7), (1, 7), "takes matrices"),
    ],
)
@pytest.mark.parametrize("launcher", [matmul_tiled, matmul])
def test_shapes_that_do_not_fit_are_refused(launcher, lhsT, rhs, out, says):
    from triptych.harness.emulators import interpret

    with pytest.raises(KernelRaised, match=says):
        interpret(launcher, {"lhsT": np.zeros(lhsT), "rhs": np.zeros(rhs)}, np.zeros(out))


@pytest.mark.parametrize(
    ("backend", "shared"), [("cuda", 64 << 10), ("cuda", 163 << 10), ("cuda", 227 << 10), ("hip", 64 << 10)]
)
@pytest.mark.parametrize("size", [2, 4])
def test_config_fits_the_device(backend, shared, size):
    rows = [row for some in module.CONFIGURATIONS.values() for row in some] if size == 2 else [module.FLOAT32]
    products = [(1, 1, 1), (128, 8192, 4096), (4096, 4096, 4096), (17, 100000, 3)]
    for row, (M, N, K) in itertools.product(rows, products):
        c = config(row, M, N, K, size, backend, 132, shared)
        buffers = c["num_stages"] if backend == "cuda" else 1
        assert buffers * c["BLOCK_K"] * (c["BLOCK_M"] + c["BLOCK_N"]) * size <= shared
        assert min(c["BLOCK_M"], c["BLOCK_N"], c["BLOCK_K"]) >= 16


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("K", [72, 200])
def test_a_program_a_processor_that_walks_over_tiles(run, dtype, K, monkeypatch):
    """Ragged in all of M, N and K; both layouts of the left operand."""
    monkeypatch.setattr(module, "LARGE", 0)
    arrays = inputs(K, 296, 520, np.dtype(dtype))
    check(run(matmul, arrays, np.empty((296, 520), dtype)), **arrays, dtype=np.dtype(dtype))
    lhs = np.ascontiguousarray(arrays["lhsT"].T)
    out = run(matmul_mk, {"lhs": lhs, "rhs": arrays["rhs"]}, np.empty((296, 520), dtype))
    check(out, **arrays, dtype=np.dtype(dtype))


@pytest.mark.parametrize(
    ("M", "N", "dtype", "target", "kernel"),
    [
        (8192, 8192, ml_dtypes.bfloat16, "sm_90", "_persistent_kernel"),
        (8192, 8192, np.float16, "sm_100", "_persistent_kernel"),
        (8192, 8192, ml_dtypes.bfloat16, "sm_80", "_matmul_kernel"),  # has no TMA
        (8192, 8192, np.float32, "sm_90", "_matmul_kernel"),
        (8196, 8192, ml_dtypes.bfloat16, "sm_90", "_matmul_kernel"),  # rows that TMA cannot copy
        (1024, 2048, ml_dtypes.bfloat16, "sm_90", "_matmul_kernel"),  # fewer tiles than processors
    ],
)
def test_which_products_have_a_program_a_processor(M, N, dtype, target, kernel):
    sizes = {"lhsT": ((8192, M), dtype), "rhs": ((8192, N), dtype), "out": ((M, N), dtype)}
    (launch,) = launches_of(matmul, sizes, target)
    assert launch.kernel.fn.__name__ == kernel
    if kernel == "_persistent_kernel":
        assert launch.programs == {"sm_90": 132, "sm_100": 148}[target]
