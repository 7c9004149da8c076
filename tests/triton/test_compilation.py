"""Every Triton kernel compiles ahead of time for every GPU, without one, and uses its matrix units."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import triton
import triton.language as tl

from triptych.harness.emulators import EmulationError
from triptych.harness.emulators.compilation import TARGETS, compile_launcher
from triptych.harness.emulators.devices import DEVICES
from triptych.kernels.triton.attention import attention
from triptych.kernels.triton.matmul import matmul, matmul_tiled

MATMUL = {"lhsT": (4096, 4096), "rhs": (4096, 4096), "out": (4096, 4096)}
ATTENTION = {"q": (1, 32, 4096, 128), "k": (1, 8, 4096, 128), "v": (1, 8, 4096, 128), "out": (1, 32, 4096, 128)}
MATRIX_UNIT = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma", "gfx942": "v_mfma"}


def check(launcher, shapes, dtype, target, **params):
    (compiled,) = compile_launcher(launcher, shapes, dtype, target, **params)
    assert compiled.target == target
    assert 0 < compiled.shared_bytes <= DEVICES[target].shared_bytes
    assert 16 < compiled.registers <= (512 if target == "gfx942" else 255)
    if dtype is not np.float32:
        assert MATRIX_UNIT[target] in compiled.matrix_instructions
    return compiled


@pytest.mark.parametrize("target", TARGETS)
def test_matmul_in_bfloat16(target):
    assert check(matmul, MATMUL, ml_dtypes.bfloat16, target).spills_bytes == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "dtype"), [(matmul_tiled, ml_dtypes.bfloat16), (matmul_tiled, np.float32), (matmul, np.float32)]
)
@pytest.mark.parametrize("target", TARGETS)
def test_matmul(target, launcher, dtype):
    assert check(launcher, MATMUL, dtype, target).spills_bytes == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "causal"), [(ml_dtypes.bfloat16, False), (ml_dtypes.bfloat16, True), (np.float32, True)]
)
@pytest.mark.parametrize("target", TARGETS)
def test_attention(target, causal, dtype):
    """A few bytes may spill in the causal kernel's rare branch for infinite values."""
    assert check(attention, ATTENTION, dtype, target, causal=causal).spills_bytes <= (64 if causal else 0)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_ragged_shapes(target):
    (K, M, N) = (65, 129, 1)
    check(matmul, {"lhsT": (K, M), "rhs": (K, N), "out": (M, N)}, np.float16, target)
    (q, kv) = (1, 3, 129, 80), (1, 1, 37, 80)
    check(attention, {"q": q, "k": kv, "v": kv, "out": q}, np.float16, target, causal=True)


def test_float32_is_multiplied_as_float32():
    """No TF32: an honest float32 product has no matrix unit on NVIDIA."""
    compiled = check(matmul, MATMUL, np.float32, "sm_90")
    assert compiled.matrix_instructions == () and compiled.dots == ("f32",) and not compiled.misses_matrix_unit


def test_low_precision_without_a_matrix_instruction_misses_the_unit():
    compiled = check(matmul, MATMUL, ml_dtypes.bfloat16, "sm_90")
    assert compiled.dots == ("bf16",) and not compiled.misses_matrix_unit
    assert replace(compiled, matrix_instructions=()).misses_matrix_unit


def test_an_unknown_target_lists_what_exists():
    with pytest.raises(EmulationError, match="'sm_70'; the targets are sm_80, sm_90, sm_100, gfx942"):
        compile_launcher(matmul, MATMUL, np.float32, "sm_70")


@triton.jit
def _wrong(x, out):
    tl.store(out, tl.dot(tl.load(x), 1))


def wrong(x, out):
    _wrong[(1,)](x, out)


def test_a_kernel_that_does_not_compile_gives_one_sentence():
    with pytest.raises(EmulationError, match=r"_wrong does not compile for sm_90: "):
        compile_launcher(wrong, {"x": (1,), "out": (1,)}, np.float32, "sm_90")
