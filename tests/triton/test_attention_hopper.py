"""Attention in Gluon for Hopper: right in every order of its roles, each of its waits needed, and compiled to wgmma."""

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import triton

from triptych.harness.emulators import EmulationError, interpret
from triptych.harness.emulators.compilation import compile_launcher
from triptych.harness.emulators.gluon import launching
from triptych.harness.profiling.ahead_of_time import fault_of
from triptych.kernels.triton import attention_hopper as module
from triptych.reference.attention import attention as reference

if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
    pytest.skip("the kernel is written in the Gluon of Triton 3.9", allow_module_level=True)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SOURCE = Path(module.__file__).read_text(encoding="utf-8")


def inputs(H, Hkv, Sq, Sk, dtype=BFLOAT16):
    rng = np.random.default_rng(0)
    sizes = {"q": (1, H, Sq, 128), "k": (1, Hkv, Sk, 128), "v": (1, Hkv, Sk, 128)}
    return {name: rng.standard_normal(size).astype(dtype) for name, size in sizes.items()}


def error(launcher, arrays, causal):
    """The largest difference to the reference, as a share of what rounding p and out explains."""
    out = np.full_like(arrays["q"], np.nan)
    interpret(launcher, arrays, out, causal=causal)
    expected = reference(**{name: x.astype(np.float64) for name, x in arrays.items()}, causal=causal)
    bound = float(ml_dtypes.finfo(out.dtype).eps) * (1 + np.abs(expected).max())
    return np.abs(out.astype(np.float64) - expected).max() / bound


def changed(folder, *changes):
    """The launcher of a copy of the kernel's file in which each pair's first text, which occurs once, is the second."""
    text = SOURCE
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    path = folder / "wrong.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("wrong", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.attention_hopper


@pytest.mark.parametrize("dtype", [BFLOAT16, np.dtype(np.float16)], ids=str)
@pytest.mark.parametrize(
    ("shape", "causal"),
    [((2, 1, 70, 460), True), ((1, 1, 200, 70), True), ((1, 1, 130, 300), False), ((1, 1, 64, 513), True)],
    ids=str,
)
def test_any_shape_and_order_of_the_roles(shape, causal, dtype, monkeypatch):
    monkeypatch.setattr(launching, "SEED", sum(shape))
    assert error(module.attention_hopper, inputs(*shape, dtype), causal) < 1


def test_what_copies_by_tma_cannot_take_is_copied_first():
    arrays = inputs(2, 2, 40, 140)
    arrays["k"] = np.ascontiguousarray(arrays["k"].swapaxes(2, 3)).swapaxes(2, 3)
    assert error(module.attention_hopper, arrays, True) < 1


FAULTS = {  # what is written, and what is written wrongly in its place
    "a product before its tile is there": ("mbarrier.wait(k_ready.index(0), 0)\n", "pass\n"),
    "values before they are there": ("mbarrier.wait(v_ready.index(before), ((i - 1) // STAGES) & 1)\n", "pass\n"),
    "q before its second half": ("mbarrier.expect(q_ready, 2 * q", "mbarrier.expect(q_ready, 1 * q"),
    "a place that is never emptied": ("mbarrier.arrive(k_empty.index(now), count=1)\n", "pass\n"),
    "a place emptied by one of two": ("v_empty.index(place), count=2", "v_empty.index(place), count=1"),
    "a place emptied before its product ends": ("warpgroup_mma_wait(1, deps=(s,))", "warpgroup_mma_wait(2, deps=(s,))"),
    "the wrong parity": ("((i // STAGES) & 1) ^ 1", "(i // STAGES) & 1"),
    "the same turn for both": ("(i & 1) ^ (1 - GROUP)", "(i & 1)"),
    "registers that are written amid a product": (
        "o, p = warpgroup_mma_wait(0, deps=(acc, p))  #",
        "o = warpgroup_mma_wait(0, deps=(acc,))  #",
    ),
    "no fence before the copy out": ("    fence_async_shared()\n    tma.async_store", "    tma.async_store"),
    "an end before the copy out": ("    tma.store_wait(0)\n", ""),
    "a tile too few in the mask": ("tiles - gl.minimum(whole, tiles)", "tiles - gl.minimum(whole + 1, tiles)"),
    "no rescaling": ("o * alpha[:, None]", "o * 1.0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_wait_and_arrival_is_needed(fault, tmp_path, monkeypatch):
    """One fault in the kernel's text: some order of its roles raises, stands still, or gives wrong numbers."""
    launcher = changed(tmp_path, FAULTS[fault])
    arrays = inputs(1, 1, 70, 580)
    for seed in range(8):
        monkeypatch.setattr(launching, "SEED", seed)
        try:
            if not error(launcher, arrays, True) < 1:
                return
        except EmulationError as raised:
            assert "wrong.py:" in str(raised)
            return
    pytest.fail("no order of the roles shows it")


def test_what_it_does_not_take_is_refused(told):
    for names, changed, says in (
        ("qkv", {"dtype": np.float32}, "bfloat16 or float16"),
        ("q", {"shape": (1, 3, 8, 128)}, "H a multiple of Hkv"),
        ("k", {"shape": (1, 2, 9, 128)}, "sizes disagree"),
        ("v", {"shape": (1, 2, 8, 64)}, r"k and v\[B, Hkv, Sk, 128\]"),
    ):
        arrays = inputs(2, 2, 8, 8)
        for name in names:
            arrays[name] = np.zeros(changed.get("shape", arrays[name].shape), changed.get("dtype", BFLOAT16))
        with pytest.raises(EmulationError, match=says):
            interpret(module.attention_hopper, arrays, np.zeros_like(arrays["q"]))
    told("sm_100")
    with pytest.raises(EmulationError, match="runs on Hopper"):
        interpret(module.attention_hopper, inputs(1, 1, 8, 8), np.zeros((1, 1, 8, 128), BFLOAT16))


@pytest.mark.parametrize("causal", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_compiles_to_wgmma_and_tma_without_spills_in_its_loops(causal):
    """The 8 bytes are the number of the thread, which is kept before the loops and read behind them."""
    sizes = {"q": (1, 8, 4096, 128), "k": (1, 2, 4096, 128), "v": (1, 2, 4096, 128), "out": (1, 8, 4096, 128)}
    (found,) = compile_launcher(module.attention_hopper, sizes, BFLOAT16, "sm_90", causal=causal)
    assert found.matrix_instructions == ("wgmma.mma_async",) and found.dots == ("bf16",)
    assert found.spills_bytes <= 8 * causal and not found.one_by_one
    assert (found.registers, found.num_warps, found.occupancy.programs) == (168, 12, 1)


@pytest.mark.slow
def test_products_that_wait_for_each_other_are_told(tmp_path):
    """Scores that are read while they may still be under way: ptxas makes every wgmma of the kernel wait."""
    launcher = changed(tmp_path, FAULTS["a place emptied before its product ends"])
    sizes = {"q": (1, 1, 512, 128), "k": (1, 1, 512, 128), "v": (1, 1, 512, 128), "out": (1, 1, 512, 128)}
    (found,) = compile_launcher(launcher, sizes, BFLOAT16, "sm_90")
    assert found.one_by_one and "each wgmma waits for the one before" in fault_of(found)
