"""float8_e4m3 on GPUs that have another float8 or none, and MXFP8 with scales in the product and without."""

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import interpret, replay
from triptych.harness.emulators.compilation import built, launches_of
from triptych.kernels.triton.matmul_fp8 import matmul_fp8
from triptych.kernels.triton.matmul_mx import matmul_mx
from triptych.kernels.triton.quantize import quantize_fp8
from triptych.reference.quantize import matmul_mx as reference_mx

E4M3 = np.dtype(ml_dtypes.float8_e4m3)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FINITE = np.array([b for b in range(256) if np.isfinite(np.uint8(b).view(E4M3).astype(np.float32))], np.uint8)
TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")


@pytest.mark.parametrize("target", TARGETS)
def test_every_byte_ties_and_what_lies_beside_them(target, told):
    """A row whose largest number is 240 has the scale 1, so that q is the row, rounded."""
    told(target)
    numbers = np.unique(FINITE.view(E4M3).astype(np.float32))
    ties = (numbers[1:] + numbers[:-1]) / 2
    beside = [np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)]
    x = np.concatenate([numbers, ties, *beside])[None]
    q, scale = np.zeros(x.shape, np.uint8), np.zeros(1, np.float32)
    interpret(quantize_fp8, {"x": x, "q": q, "scale": scale}, None, ("q", "scale"))
    assert scale[0] == 1
    assert np.array_equal(q.view(E4M3).astype(np.float32), x.astype(E4M3).astype(np.float32))


@pytest.mark.parametrize("target", TARGETS)
def test_rows_that_are_not_finite_and_rows_of_zeros(target, told):
    told(target)
    x = np.ones((4, 40), np.float32)
    x[0, 3], x[1, 4], x[2] = np.nan, -np.inf, 0
    q, scale = np.zeros(x.shape, np.uint8), np.zeros(4, np.float32)
    interpret(quantize_fp8, {"x": x, "q": q, "scale": scale}, None, ("q", "scale"))
    wide = q.view(E4M3).astype(np.float32)
    assert np.isnan(scale[0]) and np.isnan(wide[0]).all()
    assert np.isposinf(scale[1]) and np.isnan(wide[1, 4]) and not wide[1, np.arange(40) != 4].any()
    assert scale[2] == 2.0**-100 and not wide[2].any()
    assert scale[3] == np.float32(1 / 240) and (wide[3] == 240).all()


@pytest.mark.parametrize("m", [3, 130])
@pytest.mark.parametrize("target", TARGETS)
def test_products_of_every_byte(target, m, told):
    """Minus zero and subnormal numbers among them; m rows, few and many, take different ways on some GPUs."""
    told(target)
    rng = np.random.default_rng(0)
    lhsT, rhs = rng.choice(FINITE, (700, m)), rng.choice(FINITE, (700, 50))
    scales = {"lhs_scale": rng.random(m, np.float32), "rhs_scale": rng.random(50, np.float32)}
    out = np.empty((m, 50), np.float32)
    interpret(matmul_fp8, {"lhsT": lhsT, "rhs": rhs, **scales}, out)
    a, b = (x.view(E4M3).astype(np.float64) for x in (lhsT, rhs))
    factors = scales["lhs_scale"].astype(np.float64)[:, None] * scales["rhs_scale"]
    assert np.abs(out - a.T @ b * factors).max() <= 1e-6 * (np.abs(a).T @ np.abs(b) * factors).max()


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float16)])
@pytest.mark.parametrize("target", ["sm_90", "sm_100"])
def test_mx_is_the_same_with_scales_in_the_product_and_without(target, dtype, told):
    told(target)
    rng = np.random.default_rng(0)
    widths = np.exp2(rng.integers(-12, 4, (600, 1)))
    lhsT, rhs = ((rng.standard_normal((600, n)) * widths).astype(dtype) for n in (20, 30))
    lhsT[:64] = 0  # whole groups of zeros
    out = np.empty((20, 30), np.float32)
    interpret(matmul_mx, {"lhsT": lhsT, "rhs": rhs}, out)
    a, b = lhsT.astype(np.float64), rhs.astype(np.float64)
    assert np.abs(out - reference_mx(a, b)).max() <= 1e-6 * (np.abs(a).T @ np.abs(b)).max()


def test_mx_uses_the_unit_that_takes_scales():
    shapes = {"lhsT": (1024, 256), "rhs": (1024, 256), "out": (256, 256)}
    launches = launches_of(matmul_mx, {name: (shape, BFLOAT16) for name, shape in shapes.items()}, "sm_100")
    assert [kernel.fn.__name__ for kernel, *_ in launches] == ["_round_kernel", "_round_kernel", "_product_kernel"]
    assert "tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale" in built(launches[2], "sm_100").asm["ptx"]


@pytest.mark.parametrize("target", TARGETS)
def test_kernels_that_read_bits_run_again_without_rounding(target, told):
    """What a failure is explained with: values in float32, but where a kernel asks for the bits of a float8."""
    told(target)
    x = np.random.default_rng(0).standard_normal((130, 600)).astype(BFLOAT16)
    q, scale = np.zeros(x.shape, np.uint8), np.zeros(130, np.float32)
    replay(quantize_fp8, {"x": x, "q": q, "scale": scale}, None, ("q", "scale"))
    lhsT, out = np.ascontiguousarray(q.T), np.empty((130, 130), np.float32)
    replay(matmul_fp8, {"lhsT": lhsT, "rhs": lhsT, "lhs_scale": scale, "rhs_scale": scale}, out)
    wide = q.view(E4M3).astype(np.float64) * scale[:, None]
    assert np.abs(out - wide @ wide.T).max() <= 1e-6 * (np.abs(wide) @ np.abs(wide).T).max()
    turned = np.ascontiguousarray(x.T)
    replay(matmul_mx, {"lhsT": turned, "rhs": turned}, out)
    exact = x.astype(np.float64)
    assert np.abs(out - exact @ exact.T).max() <= 0.1 * np.abs(exact @ exact.T).max()
