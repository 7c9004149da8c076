"""`Options(api="0.3")`: what an instruction gave before NKI 0.5 changed it, beside what it gives now."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import KernelError, Options
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def test_an_unknown_api_says_which_there_are():
    with pytest.raises(KernelError, match="api '0.2' is unknown; expected one of 0.7, 0.6, 0.3"):
        Options(api="0.2")


@pytest.mark.parametrize(
    ("kind", "fp8", "emax", "top"),
    [
        ("float8_e4m3fn_x4", ml_dtypes.float8_e4m3fn, 8, 448),
        ("float8_e5m2_x4", ml_dtypes.float8_e5m2, 15, 57344),
    ],
)
def test_the_scale_of_quantize_mx_was_half_as_large_and_clamped(core, kind, fp8, emax, top):
    """1.9375 * 2^3 is the largest of its group: divided by 2^(3 - Emax) it is beyond the format's largest number."""
    x = np.full((32, 4), 1.0, np.float32)
    x[:, 2] = 1.9375 * 8
    for api, shift in (("0.6", 1), ("0.3", 0)):
        with core("trn3", api=api) as c:
            src = c.tile(x.astype(ml_dtypes.bfloat16))
            dst, scale = c.empty((32, 1), kind), c.empty((32, 1), "uint8")
            nisa.quantize_mx(dst, src, scale)
            exponent = 3 - emax + shift
            assert (scale.array[:4] == 127 + exponent).all()
            expected = np.clip(x / 2.0**exponent, -top, top).astype(fp8)
            np.testing.assert_array_equal(dst.array.view(fp8).astype(np.float32), expected.astype(np.float32))
            assert (expected.astype(np.float32).max() == top) == (api == "0.3")


# What NKI 0.6.0 changed in AWS's simulator "to match hardware" was the chip's all the time: no version differs in it
# (release-notes/components/nki.rst, NKI 0.6.0, Bug Fixes).


@pytest.mark.parametrize("api", ["0.7", "0.6", "0.3"])
def test_equal_values_are_found_one_after_the_other_and_missing_ones_are_all_ones(core, api):
    data = np.array([[5, 3, 5, 1, 3, 0, 2, 5]], np.float32)
    vals = np.array([[5, 5, 5, 3, 3, 2, 9, 5]], np.float32)
    none = 2**32 - 1
    with core(api=api) as c:
        dst = c.empty((1, 8), "uint32")
        nisa.nc_find_index8(dst, c.tile(data), c.tile(vals))
        assert dst.array.tolist() == [[0, 2, 7, 1, 4, 6, none, none]]


@pytest.mark.parametrize("api", ["0.7", "0.6", "0.3"])
def test_equal_values_are_replaced_downwards(core, api):
    data = np.array([[5, 3, 5, 1, 3, 0, 2, 5]], np.float32)
    vals = np.array([[5, 5, 3, 1, 0, 2, 7, 8]], np.float32)
    with core(api=api) as c:
        dst, index = c.empty((1, 8)), c.empty((1, 8), "uint32")
        nisa.nc_match_replace8(dst, c.tile(data), c.tile(vals), -1.0, index)
        assert index.array[0, :3].tolist() == [2, 0, 1]
        np.testing.assert_array_equal(dst.array, [[-1, -1, -1, -1, 3, -1, -1, 5]])


def in_and_out(a, dtype):
    """`a` cast to an integer dtype by an engine, and by a DMA."""
    tile, cast = nl.ndarray(a.shape, nl.float32), nl.ndarray(a.shape, dtype)
    nisa.dma_copy(tile, a)
    nisa.tensor_copy(cast, tile)
    by_engine, by_dma = (nl.ndarray(a.shape, dtype, nl.shared_hbm) for _ in range(2))
    nisa.dma_copy(by_engine, cast)
    nisa.dma_copy(by_dma, a)
    return by_engine, by_dma


@pytest.mark.parametrize("api", ["0.7", "0.6", "0.3"])
@pytest.mark.parametrize("dtype", [nl.int8, nl.int32, nl.uint16])
def test_floats_are_cast_to_the_nearest_integer(dtype, api):
    """nki-library's modulo rests on it: int(x / y - 0.5), in attention_tkg of the release for NKI 0.3."""
    a = np.array([[0.5, 1.5, 2.75, -0.9, -2.5, 3e9]], np.float32)
    info = np.iinfo(dtype.np)
    for out in simulator.run(in_and_out, a, dtype, options=Options(api=api)).outputs:
        np.testing.assert_array_equal(out, np.clip(np.rint(a.astype(np.float64)), info.min, info.max))
