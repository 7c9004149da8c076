"""Every code of the float8 formats, and every float32 that decides between two of them, against their definition.

A code s eeee mmm of a format with bias b and M bits of mantissa stands for (-1)^s 2^(e - b) (1 + m / 2^M), and for
(-1)^s 2^(1 - b) m / 2^M where e is 0. Nothing here is computed by ml_dtypes.
"""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.dtypes import TABLE, round_to
from triptych.simulator.engines.mx import _FP4
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

# exponent bits, mantissa bits, the first positive code that is no number, and whether it is an infinity
FORMATS = {
    "float8_e4m3": (4, 3, 0x78, True),
    "float8_e4m3fn": (4, 3, 0x7F, False),
    "float8_e5m2": (5, 2, 0x7C, True),
}
LARGEST = {"float8_e4m3": 240, "float8_e4m3fn": 448, "float8_e5m2": 57344}


def magnitude(code, exponent_bits, mantissa_bits):
    """The value of a positive code, if all exponents were numbers."""
    bias = 2 ** (exponent_bits - 1) - 1
    e, m = code >> mantissa_bits, code % 2**mantissa_bits / 2**mantissa_bits
    return 2.0 ** (e - bias) * (1 + m) if e else 2.0 ** (1 - bias) * m


def codes_of(values, name):
    """What is stored for float32 values: through the one function that rounds."""
    out = np.empty(values.shape, TABLE[name].np)
    assert round_to(values, TABLE[name], out) == 0
    return out.view(np.uint8)


def numbers(name):
    """The positive codes that are numbers, with the value that would come next."""
    e, m, end, _ = FORMATS[name]
    return np.array([magnitude(code, e, m) for code in range(end + 1)])


def is_nan(code, name):
    _, _, end, infinite = FORMATS[name]
    return (code & 0x7F) >= end + infinite


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_code_is_its_definition_and_keeps_itself(name):
    end, infinite = FORMATS[name][2:]
    codes = np.arange(256, dtype=np.uint8)
    seen = codes.view(TABLE[name].np).astype(np.float32)  # as an engine reads it
    values = numbers(name)
    assert values[end - 1] == LARGEST[name]
    for code in range(256):
        sign, rest = -1.0 if code > 127 else 1.0, code & 0x7F
        if rest < end:
            assert seen[code] == sign * values[rest] and np.signbit(seen[code]) == (sign < 0)
        elif infinite and rest == end:
            assert seen[code] == sign * np.inf
        else:
            assert np.isnan(seen[code])
    stored = codes_of(seen, name)
    nan = np.array([is_nan(c, name) for c in range(256)])
    np.testing.assert_array_equal(stored[~nan], codes[~nan])
    assert all(is_nan(c, name) for c in stored[nan].tolist())


@pytest.mark.parametrize("name", list(FORMATS))
def test_between_two_codes_the_nearer_is_stored_and_of_two_as_near_the_even(name):
    """From zero through the subnormals to the value after the largest, whose code stands for the overflow."""
    values, up, down = numbers(name), np.float32(np.inf), np.float32(0)
    low = np.arange(len(values) - 1)
    middle = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    assert (middle == (values[:-1] + values[1:]) / 2).all()
    np.testing.assert_array_equal(codes_of(middle, name), low + low % 2)
    np.testing.assert_array_equal(codes_of(np.nextafter(middle, down), name), low)
    np.testing.assert_array_equal(codes_of(np.nextafter(middle, up), name), low + 1)
    np.testing.assert_array_equal(codes_of(-middle, name), (low + low % 2) | 0x80)


@pytest.mark.parametrize("name", list(FORMATS))
def test_any_float32_goes_to_the_nearest_code(name):
    x = np.random.default_rng(0).integers(0, 2**31, 200_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate((x[~np.isnan(x)], np.random.default_rng(1).uniform(0, 500, 50_000).astype(np.float32)))
    values, end = numbers(name), FORMATS[name][2]
    above = np.minimum(np.searchsorted(values, x), end)  # the first value that is not below x
    below = np.maximum(above - 1, 0)
    distance = np.abs(values[[below, above]] - np.minimum(x, values[end]).astype(np.float64))
    tie = np.where(below % 2 == 0, below, above)
    expected = np.where(distance[0] == distance[1], tie, np.where(distance[0] < distance[1], below, above))
    np.testing.assert_array_equal(codes_of(x, name), expected)


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_is_too_large_does_not_saturate(name):
    """An infinity where the format has one, as the documentation of range_select says of float8; else NaN."""
    infinite = FORMATS[name][3]
    wide = np.array([np.finfo(np.float32).max, 1e6, np.inf], np.float32)
    for sign in (1, -1):
        codes = codes_of(sign * wide, name)
        if infinite:
            assert (codes == FORMATS[name][2] + (0x80 if sign < 0 else 0)).all()
        else:
            assert all(is_nan(c, name) for c in codes.tolist())
    assert all(is_nan(c, name) for c in codes_of(np.array([np.nan, -np.nan], np.float32), name).tolist())
    assert codes_of(np.array([0.0, -0.0, 1e-30, -1e-30], np.float32), name).tolist() == [0, 0x80, 0, 0x80]


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_kernel_clips_before_it_casts(core, name):
    """As AWS's kernels do before they cast."""
    with core() as c:
        x, limit = np.array([[1e9, -1e9, 3.0]], np.float32), float(LARGEST[name])
        dst = c.empty((1, 3), name)
        nisa.tensor_scalar(dst, c.tile(x), nl.minimum, limit, op1=nl.maximum, operand1=-limit)
        assert dst.array.astype(np.float32).tolist() == [[limit, -limit, 3.0]]


def test_float8_e8m0fnu_holds_powers_of_two():
    codes = np.arange(256, dtype=np.uint8)
    with np.errstate(invalid="ignore"):
        seen = codes.view(TABLE["float8_e8m0fnu"].np).astype(np.float32)
    np.testing.assert_array_equal(seen[:255], np.exp2(np.arange(255) - 127.0))
    assert np.isnan(seen[255])
    np.testing.assert_array_equal(codes_of(seen, "float8_e8m0fnu"), codes)


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, 3.0, 1.5, 2.0**-128, 1 + 2.0**-23, np.inf, -np.inf])
def test_float8_e8m0fnu_takes_no_other_number(core, value):
    with (
        core() as c,
        pytest.raises(NkiValidationError, match="float8_e8m0fnu holds powers of two from 2.*to 2.*and NaN"),
    ):
        nisa.tensor_copy(c.empty((1, 2), "float8_e8m0fnu"), c.tile(np.array([[1.0, value]], np.float32)))


def test_float4_e2m1fn_is_its_definition():
    """Packed elements are only read: no instruction of NKI 0.6 casts to them."""
    for code in range(16):
        sign, rest = -1.0 if code > 7 else 1.0, code & 7
        e, m = rest >> 1, (rest & 1) / 2
        assert _FP4[code] == sign * (2.0 ** (e - 1) * (1 + m) if e else m)
        assert np.signbit(_FP4[code]) == (code > 7)
