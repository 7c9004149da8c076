"""Attention of a chunk of new tokens behind caches of different lengths, against the definition; faults are seen."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.emulators import EmulationError, KernelRaised, interpret
from triptych.harness.emulators.correction import CorrectedBuilder
from triptych.kernels.triton import attention_prefill as module
from triptych.reference.attention_decode import attention_decode as reference

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
CACHES = ("k_cache", "v_cache")


def inputs(B, H, Hkv, T, S, D, lengths, dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = {"q": (B, H, T, D)}
    shapes |= dict.fromkeys(("k_new", "v_new"), (B, Hkv, T, D)) | dict.fromkeys(CACHES, (B, Hkv, S, D))
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    return arrays | {"lengths": np.array(lengths, np.int32)}


def filled(arrays, launcher=module.attention_prefill):
    """(out, the caches afterwards) of a launch, out in float64."""
    own = {name: x.copy("K") for name, x in arrays.items()}
    out = np.full(arrays["q"].shape, np.nan, arrays["q"].dtype)
    interpret(launcher, own, out, CACHES)
    return out.astype(np.float64), [own[name] for name in CACHES]


def agrees(arrays, launcher=module.attention_prefill):
    """Whether the output and both caches are those of the definition."""
    defined = {name: x.copy() for name, x in arrays.items()}
    right = reference(**defined)
    out, caches = filled(arrays, launcher)
    unit = 2e-5 if arrays["q"].dtype == np.float32 else 2e-2
    same = [cache.tobytes() == defined[name].tobytes() for cache, name in zip(caches, CACHES, strict=True)]
    return all(same) and np.allclose(out, right, rtol=unit, atol=unit, equal_nan=True)


@pytest.mark.parametrize(
    ("heads", "tokens", "capacity", "lengths", "d"),
    [
        ((1, 1), 1, 1, [0], 1),
        ((2, 1), 130, 290, [0, 37, 160], 16),  # caches that are empty, part of a tile, and full
        ((6, 2), 45, 200, [128, 64], 40),  # three heads of a group: tokens that lie across tiles of rows
        ((16, 1), 20, 100, [80], 24),  # rows of one token in different tiles
        ((2, 2), 70, 70, [0], 200),
    ],
)
def test_any_shape(heads, tokens, capacity, lengths, d, dtype):
    assert agrees(inputs(len(lengths), *heads, tokens, capacity, d, lengths, dtype))


def test_what_lies_behind_the_tokens_is_not_read():
    arrays = inputs(2, 2, 1, 30, 130, 16, [40, 100], BFLOAT16)
    for name in CACHES:
        arrays[name][0, :, 40:], arrays[name][1, :, 100:] = np.nan, np.inf
    assert np.isfinite(filled(arrays)[0]).all() and agrees(arrays)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ["k_new", "v_new", "k_cache", "v_cache"])
@pytest.mark.parametrize("at", [33, 68])  # in a whole tile of the cache, and in its last
def test_special_values_reach_the_tokens_that_see_them_and_no_other(at, name, odd):
    arrays = inputs(1, 2, 1, 70, 200, 16, [70])
    arrays[name][0, 0, at, 5] = odd
    out, _ = filled(arrays)
    right = reference(**{name: x.copy() for name, x in arrays.items()})
    assert np.allclose(out, right, rtol=2e-5, atol=2e-5, equal_nan=True)
    assert np.isfinite(out[:, :, :at]).all() == name.endswith("new")


def test_infinities_of_both_signs_that_only_some_tokens_see():
    arrays = inputs(1, 1, 1, 40, 40, 16, [0])
    arrays["v_new"][0, 0, 10, 3], arrays["v_new"][0, 0, 20, 3], arrays["v_new"][0, 0, 30, 4] = np.inf, -np.inf, np.nan
    out, _ = filled(arrays)
    assert np.isfinite(out[0, 0, :10]).all() and np.isposinf(out[0, 0, 10:20, 3]).all()
    assert np.isnan(out[0, 0, 20:, 3]).all() and np.isfinite(out[0, 0, :30, 4]).all()
    assert np.isnan(out[0, 0, 30:, 4]).all() and np.isfinite(np.delete(out, [3, 4], 3)).all()


def test_tokens_that_do_not_fit_are_not_written():
    arrays = inputs(2, 1, 1, 20, 32, 16, [30, 40])
    _, caches = filled(arrays)
    for name, cache in zip(CACHES, caches, strict=True):
        assert [list(place) for place in np.argwhere((cache != arrays[name]).any((1, 3)))] == [[0, 30], [0, 31]]


def test_a_group_shares_its_tiles_and_tiles_that_nobody_sees_are_not_visited(monkeypatch):
    """32 tokens by 4 heads are a tile of rows: each takes 2 tiles of 64 cached keys, and new ones up to its own."""
    made, dot = [], CorrectedBuilder.create_dot
    monkeypatch.setattr(CorrectedBuilder, "create_dot", lambda self, *given: made.append(1) or dot(self, *given))
    filled(inputs(1, 4, 1, 128, 400, 16, [128], BFLOAT16))
    assert len(made) == 2 * (4 * 2 + 1 + 1 + 2 + 2)


FAULTS = {  # what is written, and what is written wrongly in its place
    "a diagonal one token too far": ("keys[None, :] <= last", "keys[None, :] <= 1 + last"),
    "a diagonal one token too short": ("keys[None, :] <= last", "keys[None, :] < last"),
    "the last token of the cache missing": ("held - 1, of_row", "held - 2, of_row"),
    "no end of the cache": ("tl.where(is_old, held, end), tl.where(is_old, held - 1, of_row)", "S, of_row + held"),
    "a tile too many that hides nothing": ("GROUP + 1, T) // BLOCK_N", "GROUP + 1 + BLOCK_N, T) // BLOCK_N"),
    "a tile too few at the end": ("BLOCK_M - 1) // GROUP + 1, T)  #", "BLOCK_M - 1) // GROUP - 31, T)  #"),
    "heads and tokens exchanged": ("row % GROUP", "row // T % GROUP"),
    "keys of the cache where new ones belong": ("tl.where(is_old, k_cache, k_new)", "k_cache"),
    "another row of the cache for values": ("tl.where(is_old, vc_s, vn_t)", "kn_t"),
    "no rescaling": ("acc * alpha[:, None], input", "acc * 1.0, input"),
    "the scale missing": ("/ math.sqrt(D)", ""),
    "new tokens one place too far": ("(length + t)[:, None]", "(length + t + 1)[:, None]"),
    "the last share of the tokens not written": ("tl.cdiv(T, tiles)", "T // (tiles + 1)"),
    "a hidden infinity in the product": ("by_key = tl.maximum", "never = tl.maximum"),
    "a hidden infinity added": ("tl.where((t <= of_row)[:, None], p[:, None] * v, 0.0)", "p[:, None] * v"),
    "a hidden score among those one by one": ("tl.where(t <= of_row, s", "tl.where(t < T, s"),
    "no value one by one": ("tl.where(by_key > 0, shown * BLOCK_N, end)", "end"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_kernel_is_seen(fault, tmp_path):
    arrays = inputs(2, 4, 2, 150, 400, 16, [250, 90])
    if "infinity" in fault or "one by one" in fault:
        arrays["v_new"][0, 0, 100, 3] = np.inf
    for name in ("v_new", "v_cache"):  # rows of another stride than those of the keys
        arrays[name] = np.ascontiguousarray(arrays[name].swapaxes(2, 3)).swapaxes(2, 3)
    try:
        assert not agrees(arrays, changed(tmp_path, FAULTS[fault]))
    except EmulationError as raised:
        assert "wrong.py:" in str(raised)


def changed(folder, fault):
    """The launcher of a copy of the kernel's file with one text in another's place."""
    right, wrong = fault
    text = Path(module.__file__).read_text()
    assert right in text
    (folder / "wrong.py").write_text(text.replace(right, wrong))
    spec = importlib.util.spec_from_file_location("wrong", folder / "wrong.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found.attention_prefill


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("q", (2, 3, 5, 16), "H a multiple of Hkv"),
        ("q", (2, 4, 16), "caches of four axes"),
        ("k_new", (2, 2, 6, 16), "attention_prefill's sizes disagree"),
        ("v_cache", (2, 2, 31, 16), "attention_prefill's sizes disagree"),
        ("lengths", (3,), r"lengths must be int32 \[B\] = \(2,\), got \(3,\) of"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, shape, says):
    arrays = inputs(2, 4, 2, 5, 32, 16, [3, 4])
    arrays[name] = np.zeros(shape, arrays[name].dtype)
    with pytest.raises(KernelRaised, match=says):
        interpret(module.attention_prefill, arrays, np.zeros(arrays["q"].shape, np.float32), CACHES)


def test_dtypes_and_sizes_of_the_cache_that_do_not_fit_are_refused():
    arrays = inputs(1, 1, 1, 9, 32, 16, [3])
    for other, says in (
        ({"k_cache": arrays["k_cache"].astype(np.float16)}, "of one dtype, got q .*k_cache .*float16"),
        ({"lengths": np.array([3])}, "lengths must be int32"),
        ({name: arrays[name][:, :, :8].copy() for name in CACHES}, "8 places and must have room for 9 new tokens"),
    ):
        with pytest.raises(KernelRaised, match=says):
            interpret(module.attention_prefill, arrays | other, np.zeros((1, 1, 9, 16), np.float32), CACHES)
