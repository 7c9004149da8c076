"""Rounding into every dtype, against the exact answer and against ml_dtypes."""

from __future__ import annotations

import copy
import itertools
import pickle

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError
from triptych.simulator.dtypes import TABLE, dtype_of, round_to
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

LOW = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


def rounded(values, dtype):
    kind = TABLE[dtype]
    out = np.empty(np.shape(values), kind.np)
    round_to(np.asarray(values), kind, out)
    return out


def representable(dtype):
    """All finite values of a dtype of at most two bytes, in order."""
    size = np.dtype(LOW[dtype]).itemsize
    with np.errstate(invalid="ignore"):
        values = np.arange(256**size, dtype=f"uint{8 * size}").view(LOW[dtype]).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


@pytest.mark.parametrize("dtype", list(LOW))
def test_rounding_goes_to_the_nearest_and_ties_to_even(dtype):
    """Between every two neighbours: below, at and above the middle. An even value has a last bit of 0."""
    values = representable(dtype)
    low, high = values[:-1], values[1:]
    middle = (low + high) / 2
    exact = middle.astype(np.float32) == middle  # float32 subnormals of bfloat16's kind may have no middle
    low, high, middle = low[exact], high[exact], middle[exact].astype(np.float32)
    size = np.dtype(LOW[dtype]).itemsize
    even = np.where(low.astype(LOW[dtype]).view(f"uint{8 * size}") % 2 == 0, low, high)
    np.testing.assert_array_equal(rounded(middle, dtype).astype(np.float64), even)
    np.testing.assert_array_equal(rounded(np.nextafter(middle, np.float32(-np.inf)), dtype).astype(np.float64), low)
    np.testing.assert_array_equal(rounded(np.nextafter(middle, np.float32(np.inf)), dtype).astype(np.float64), high)


@pytest.mark.parametrize("dtype", list(LOW))
def test_rounding_keeps_what_is_representable(dtype):
    values = representable(dtype)
    np.testing.assert_array_equal(rounded(values.astype(np.float32), dtype).astype(np.float64), values)


@pytest.mark.parametrize(
    ("dtype", "largest", "beyond"),
    [
        ("float16", 65504, np.inf),
        ("bfloat16", 3.3895313892515355e38, np.inf),
        ("float8_e4m3", 240, np.inf),
        ("float8_e4m3fn", 448, np.nan),
        ("float8_e5m2", 57344, np.inf),
    ],
)
def test_what_is_too_large(dtype, largest, beyond):
    big = np.array(
        [largest, -largest, np.float32(largest) * np.float32(1.25) if dtype != "bfloat16" else 3.4e38, np.inf]
    )
    with np.errstate(over="ignore"):
        got = rounded(big.astype(np.float32), dtype).astype(np.float64)
    np.testing.assert_array_equal(got, [largest, -largest, beyond, beyond])
    assert np.isnan(rounded(np.array([np.nan], np.float32), dtype).astype(np.float32)).all()


def test_float8_e8m0fnu_is_a_power_of_two():
    got = rounded(np.array([1, 2.0**-127, 2.0**127, 0.5, 4096], np.float32), "float8_e8m0fnu")
    assert got.view(np.uint8).tolist() == [127, 0, 254, 126, 139]
    assert rounded(np.array([np.nan], np.float32), "float8_e8m0fnu").view(np.uint8).tolist() == [255]


def test_tfloat32_keeps_ten_bits():
    one = 2.0**-10
    x = np.array([1 + one, 1 + one / 2, 1 + 3 * one / 2, 1 + one / 2 + 2.0**-23, -(1 + one / 2), np.inf, np.nan, 0.0])
    expected = [1 + one, 1, 1 + 2 * one, 1 + one, -1, np.inf, np.nan, 0]
    np.testing.assert_array_equal(rounded(x.astype(np.float32), "tfloat32"), np.array(expected, np.float32))
    largest = np.array([np.finfo(np.float32).max], np.float32)
    assert np.isinf(rounded(largest, "tfloat32"))
    payload = np.array([0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32)  # NaNs that rounding bits would break
    assert np.isnan(rounded(payload, "tfloat32")).all()


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32")


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("source", ["float16", "bfloat16"])
def test_every_16_bit_float_as_an_integer(dtype, source):
    """Python rounds to even too, and its integers have no end."""
    with np.errstate(invalid="ignore"):
        x = np.arange(2**16, dtype=np.uint16).view(LOW[source]).astype(np.float32)
    x = x[np.isfinite(x)]
    info = np.iinfo(dtype)
    expected = [min(max(round(v), int(info.min)), int(info.max)) for v in x.tolist()]
    assert rounded(x, dtype).tolist() == expected


def test_nan_is_0_as_an_integer_and_counted():
    x = np.array([np.nan, 1.5, -np.nan, 3.0], np.float32)
    for dtype in INTEGERS:
        out = np.empty(4, dtype)
        assert round_to(x, TABLE[dtype], out) == 2 and out.tolist() == [0, 2, 0, 3]
        assert round_to(x[1::2], TABLE[dtype], out[1::2]) == 0


@pytest.mark.parametrize("dtype", INTEGERS)
def test_floats_round_to_even_and_saturate_as_integers(dtype):
    info = np.iinfo(TABLE[dtype].np)
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    floor = int(info.min)
    expected = [0, 2, 2, 0, max(-2, floor), 2, info.max, floor, info.max, floor, 0]
    assert rounded(x, dtype).tolist() == expected


def test_the_largest_integers_are_no_float32():
    """2^31 - 1 is none: the float32 below 2^31 fits int32, and 2^31 saturates and does not wrap."""
    x = np.array([2.0**31 - 128, 2.0**31, -(2.0**31), 2.0**32 - 256, 2.0**32], np.float32)
    assert rounded(x, "int32").tolist() == [2**31 - 128, 2**31 - 1, -(2**31), 2**31 - 1, 2**31 - 1]
    assert rounded(x, "uint32").tolist() == [2**31 - 128, 2**31, 0, 2**32 - 256, 2**32 - 1]


@pytest.mark.parametrize(("source", "target"), list(itertools.product(INTEGERS, INTEGERS)))
def test_integers_saturate_as_other_integers(source, target):
    info, limits = np.iinfo(source), np.iinfo(target)
    x = np.array([info.min, info.max, 0, 1, info.max // 2], source)
    assert rounded(x, target).tolist() == [min(max(int(v), limits.min), limits.max) for v in x.tolist()]


def test_without_low_precision_a_float32_store_rounds_nothing():
    out = np.empty(1, np.float32)
    round_to(np.array([1 + 2.0**-20], np.float32), TABLE["bfloat16"], out)
    assert out[0] == np.float32(1 + 2.0**-20)


# Names


def test_a_dtype_is_its_name():
    for name, dtype in TABLE.items():
        assert dtype == name and hash(dtype) == hash(name) and getattr(nl, name) is dtype
    assert nl.bfloat16 == "bfloat16" and nl.float32 != nl.tfloat32 and repr(nl.int8) == "nl.int8"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float32, "float32"),
        (np.dtype("int16"), "int16"),
        ("uint8", "uint8"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (np.dtype(ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
        (bool, "bool_"),
        (nl.tfloat32, "tfloat32"),
        ("float4_e2m1fn_x4", "float4_e2m1fn_x4"),
    ],
)
def test_what_names_a_dtype(value, name):
    assert dtype_of(value) == name


@pytest.mark.parametrize("value", [np.float64, np.int64, "float64", "double", object, None, 3, ml_dtypes.int4])
def test_what_names_none(value):
    with pytest.raises(NkiValidationError, match="is not a dtype of NKI; expected one of"):
        dtype_of(value)


def test_sizes():
    sizes = {d: TABLE[d].itemsize for d in TABLE}
    assert sizes["float8_e5m2_x4"] == sizes["float8_e4m3fn_x4"] == 4 and sizes["float4_e2m1fn_x4"] == 2
    assert sizes["bool_"] == 1 and sizes["tfloat32"] == 4 and sizes["bfloat16"] == 2 and len(sizes) == 20
    assert sizes["int64"] == sizes["uint64"] == 8  # of scalars, which no array of NumPy becomes by itself


def test_a_copy_of_a_dtype_is_the_dtype():
    for kind in TABLE.values():
        assert copy.deepcopy({"kind": kind})["kind"] is kind and pickle.loads(pickle.dumps(kind)) is kind


@pytest.mark.parametrize("name", ["float8_e5m2_x4", "float8_e4m3fn_x4", "float4_e2m1fn_x4"])
def test_an_array_of_packed_elements_names_them(name):
    storage = TABLE[name].np
    assert dtype_of(np.dtype([(name, storage)])) is TABLE[name]
    for wrong in (
        np.dtype([(name, np.uint8)]),
        np.dtype([("other", storage)]),
        np.dtype([(name, storage), ("b", "i1")]),
    ):
        with pytest.raises(NkiValidationError, match="is not a dtype of NKI"):
            dtype_of(wrong)
    assert dtype_of(storage) == storage.name


def test_a_kernel_takes_packed_arrays():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        assert x.dtype == nl.float8_e5m2_x4
        nisa.dma_copy(dst=out, src=x)
        return out

    bits = np.arange(6, dtype=np.uint32).reshape(2, 3)
    out = simulator.run(kernel, bits.view([("float8_e5m2_x4", np.uint32)])).outputs
    np.testing.assert_array_equal(out, bits)


def test_integers_that_fit_are_not_clipped(monkeypatch):
    monkeypatch.setattr(np, "clip", None)
    for kind, wider in (("uint8", "uint8"), ("uint8", "uint32"), ("int8", "int16"), ("int32", "int32")):
        values, out = np.array([1, 127], kind), np.empty(2, wider)
        assert round_to(values, TABLE[wider], out) == 0 and out.tolist() == [1, 127]
    for narrower in ("uint8", "int8"):
        with pytest.raises(TypeError):
            round_to(np.array([1], "int16"), TABLE[narrower], np.empty(1, narrower))
