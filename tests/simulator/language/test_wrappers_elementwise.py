"""Elementwise functions of nki.language against NumPy, and the instructions that they issue."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernel_parts import here
from operators import BINARY, BITS, MAGNITUDES

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

F32 = np.float32
X = np.array([[-2.5, -1.0, -0.0, 0.0, 0.5, 1.5, 3.0, np.nan], [4.0, -0.5, 2.0, -np.inf, np.inf, 7.25, -3.5, 1.0]], F32)
Y = np.array([[2.0, -1.0, 0.0, 3.0, np.nan, 1.5, -3.0, 1.0], [0.5, 4.0, 2.0, 1.0, np.inf, -7.0, 3.5, -0.0]], F32)
SIMULATED_ONLY = {
    "divide": lambda x, y: x / y,
    "fmod": np.vectorize(lambda x, y: math.fmod(x, y), otypes=[F32]),
    "mod": lambda x, y: x - y * np.floor(x / y),
}


def fn(name):
    return getattr(nl, name)


def ops(c):
    return [e.op for e in c.trace.events]


def engines(c):
    return [e.engine for e in c.trace.events]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
def test_two_tiles(core, cast, same, name, dtype):
    with core() as c:
        x, y = cast(X, dtype), cast(Y, dtype)
        expected = BINARY[name](x.astype(F32), y.astype(F32))
        result, line = fn(name)(c.tile(x, dtype), c.tile(y, dtype)), here()
        assert result.buffer is nl.sbuf and result.dtype == dtype
        assert same(result, cast(expected, dtype))
        (event,) = c.trace.events
        assert (event.op, event.engine, event.attributes["op"], event.line) == ("tensor_tensor", "vector", name, line)
        assert same(fn(name)(c.tile(x, dtype), c.tile(y, dtype), nl.float32), expected)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("number", [2, -1.5])
def test_a_tile_and_a_number_in_either_place(core, same, name, number):
    with core() as c:
        assert same(fn(name)(c.tile(X), number), BINARY[name](X, F32(number)))
        assert same(fn(name)(number, y=c.tile(X)), BINARY[name](F32(number), X))
        assert ops(c) == ["tensor_scalar"] * 2


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
def test_bit_patterns(core, same, name, dtype):
    x = np.array([[0, 1, 77, 100]], dtype)
    y = np.array([[3, 2, 1, 0]], dtype)
    with core() as c:
        assert same(fn(name)(c.tile(x), c.tile(y)), BITS[name](x, y))
        assert same(fn(name)(c.tile(x), 2), BITS[name](x, x.dtype.type(2)))
        assert same(fn(name)(2, c.tile(y)), BITS[name](y.dtype.type(2), y))
        assert same(nl.invert(c.tile(x)), ~x)
        assert ops(c) == ["tensor_tensor", "tensor_scalar", "tensor_scalar", "tensor_scalar"]


def test_bit_patterns_need_integers(refused):
    refused(lambda c: nl.bitwise_and(c.tile(X), c.tile(Y)), "need integer tiles")
    refused(lambda c: nl.invert(c.tile(X)), "need integer tiles")


def test_int32_arithmetic_is_exact_on_gpsimd(core, same):
    with core() as c:
        x = np.array([[2**24 + 1, -(2**30)]], np.int32)
        assert same(nl.add(c.tile(x), c.tile(x)), x + x)
        assert engines(c) == ["gpsimd"]


def test_power_takes_two_tiles(core, same, refused):
    with core() as c:
        x, y = np.abs(X), np.array([[2, 0.5, 3, 1, -1, 2, 0, 1]] * 2, F32)
        assert same(nl.power(c.tile(x), c.tile(y)), np.power(x, y))
        assert engines(c) == ["gpsimd"]
    refused(lambda c: nl.power(c.tile(X), 2.0), "scalar operands are not supported.*nki.rst")
    refused(lambda c: nl.power(2.0, c.tile(X)), "scalar operands are not supported")


@pytest.mark.parametrize("name", MAGNITUDES)
def test_magnitudes_on_v4_take_a_column_too(core, same, refused, name):
    column = np.array([[1.0], [-2.0]], F32)
    with core("trn3") as c:
        assert same(fn(name)(c.tile(X), c.tile(Y)), MAGNITUDES[name](X, Y))
        assert same(fn(name)(c.tile(X), c.tile(column)), MAGNITUDES[name](X, column))
    refused(lambda c: fn(name)(c.tile(X), c.tile(Y)), "v4 or newer", on=("trn1", "trn2"))


def test_binary_functions_do_not_broadcast_and_need_a_tile(refused):
    refused(lambda c: nl.add(c.tile(X), c.tile(X[:, :1])), "nl.add at test_wrappers.*must have the same shape.*0.4.0")
    refused(lambda c: nl.add(1.0, 2.0), "at least one of them a tile")
    refused(lambda c: nl.add(c.tile(X), None), "at least one of them a tile")
    refused(lambda c: nl.add(c.tile(X, buffer="psum"), c.tile(X, buffer="psum")), "cannot both be in PSUM")
    refused(lambda c: nl.add(c.empty((2, 8), buffer="shared_hbm"), 1), "x must be a tile in SBUF or PSUM")


def test_two_dtypes_give_the_first_one_and_a_note(core, cast, same):
    with core() as c:
        result = nl.add(c.tile(cast(X, "bfloat16"), "bfloat16"), c.tile(Y))
        assert same(result, cast(cast(X, "bfloat16").astype(F32) + Y, "bfloat16"))
        assert len(c.trace.notes) == 1 and "test_wrappers_elementwise.py" in c.trace.notes[0]
        nl.add(c.tile(X, "bfloat16"), c.tile(Y), dtype=nl.float32)
        assert len(c.trace.notes) == 1


@pytest.mark.parametrize("name", SIMULATED_ONLY)
def test_what_works_in_simulation_only_leaves_a_note(core, same, name):
    x = np.array([[7.5, -7.5, 6.0, -6.0, 49.0, 0.0]], F32)
    y = np.array([[2.0, 2.0, -4.0, 4.0, 49.0, 3.0]], F32)
    with core() as c:
        assert same(fn(name)(c.tile(x), c.tile(y)), SIMULATED_ONLY[name](x, y))
        assert same(fn(name)(c.tile(x), 2.0), SIMULATED_ONLY[name](x, F32(2)))
        assert same(fn(name)(2.0, c.tile(y)), SIMULATED_ONLY[name](F32(2), y))
        assert [e.attributes["op"] for e in c.trace.events] == [name, (name,), (name,)]
        assert len(c.trace.notes) == 3
        assert f"nl.{name} works in simulation only" in c.trace.notes[0] and "test_wrappers" in c.trace.notes[0]


# One operand


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


erf = np.vectorize(math.erf, otypes=[float])
ACTIVATIONS = {
    "abs": np.abs,
    "square": np.square,
    "exp": np.exp,
    "log": lambda x: np.log(np.abs(x) + 0.1),
    "sqrt": lambda x: np.sqrt(np.abs(x) + 0.1),
    "arctan": np.arctan,
    "tanh": np.tanh,
    "sign": np.sign,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "gelu_dx": lambda x: (1 + erf(x / math.sqrt(2))) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "gelu_apprx_sigmoid": lambda x: x * sigmoid(1.702 * x),
    "gelu_apprx_sigmoid_dx": lambda x: sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - sigmoid(1.702 * x))),
    "gelu_apprx_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * sigmoid(x),
    "silu_dx": lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "erf": erf,
    "erf_dx": lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_activation_functions(core, cast, name, target):
    x = np.random.default_rng(0).uniform(-1.5, 1.5, (3, 16)).astype(F32)
    values = np.abs(x) + F32(0.1) if name in ("log", "sqrt") else x
    expected = ACTIVATIONS[name](x.astype(np.float64))
    with core(target) as c:
        result, line = fn(name)(c.tile(values)), here()
        np.testing.assert_allclose(result.array, expected, 2e-5, 2e-6)
        (event,) = c.trace.events
        assert (event.op, event.engine, event.attributes["op"], event.line) == ("activation", "scalar", name, line)
        assert not c.trace.notes
        half = fn(name)(c.tile(values, buffer="psum"), dtype=nl.bfloat16)
        assert half.dtype == "bfloat16" and half.buffer is nl.sbuf
        np.testing.assert_allclose(half.array.astype(F32), expected, 2**-8, 1e-2)
        poison = c.tile(np.full((1, 2), np.nan, F32))
        assert np.isnan(fn(name)(poison).array).all()


def test_reciprocal_rsqrt_and_negative(core, same, refused):
    x = np.array([[0.25, 4.0, np.inf, np.nan]], F32)
    with core() as c:
        assert same(nl.reciprocal(c.tile(x)), F32(1) / x)
        assert same(nl.rsqrt(c.tile(x)), F32(1) / np.sqrt(x))
        assert same(nl.negative(c.tile(x)), -x)
        assert same(nl.negative(c.tile(x), nl.bfloat16), -x)
        assert list(zip(ops(c), engines(c), strict=True))[:3] == [
            ("reciprocal", "vector"),
            ("tensor_scalar", "gpsimd"),
            ("tensor_scalar", "vector"),
        ]
    refused(lambda c: nl.rsqrt(c.tile(X, buffer="psum")), "GpSimd cannot access PSUM")


def test_logical_not(core, same):
    with core() as c:
        assert same(nl.logical_not(c.tile(np.array([[0, 1, 1, 0]], np.uint8))), [[1, 0, 0, 1]])
        assert same(nl.logical_not(c.tile(np.array([[0.0, 1.0]], F32)), dtype=nl.uint8), [[1, 0]])


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc"])
@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
def test_rounding_to_integers(core, cast, same, name, buffer):
    rng = np.random.default_rng(1)
    few = [
        -3.7,
        -3.2,
        -0.5,
        -0.0,
        0.0,
        0.5,
        1.5,
        2.5,
        3.2,
        3.7,
        2.0**23 - 0.5,
        8388609.0,
        1e30,
        np.inf,
        -np.inf,
        np.nan,
    ]
    x = np.concatenate([np.array(few), rng.normal(size=48) * 100, -(2.0 ** rng.uniform(0, 40, 16))])[None].astype(F32)
    with core() as c:
        assert same(fn(name)(c.tile(x, buffer=buffer)), getattr(np, name)(x))
        half = cast(x, "bfloat16")
        rounded = fn(name)(c.tile(half, "bfloat16"))
        assert rounded.dtype == "bfloat16" and same(rounded, getattr(np, name)(half.astype(F32)))
        small = np.array([[-3.7, 2.5, 3.2]], F32)
        whole = fn(name)(c.tile(small), nl.int32)
        assert whole.dtype == "int32" and same(whole, getattr(np, name)(small).astype(np.int32))
        whole = np.array([[2**24 + 1, -5]], np.int32)
        assert same(fn(name)(c.tile(whole)), whole)
        assert {e.line[0] for e in c.trace.events} == {__file__} and "gpsimd" not in engines(c)
        assert not c.trace.notes, "no NaN reaches the cast to int32"


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_trigonometry_reduces_its_range(core, name):
    rng = np.random.default_rng(2)
    x = np.concatenate([np.linspace(-10, 10, 257), rng.uniform(-2e5, 2e5, 4096), [9.0, 0.0, 1e-10, math.pi, -math.pi]])
    half_turns = math.pi * (2 * rng.integers(-30000, 30000, 512) + 1)
    x = np.concatenate([x, half_turns])[None].astype(F32)
    exact = getattr(np, name)(x.astype(np.float64))
    with core() as c:
        got = fn(name)(c.tile(x)).array
        if name == "tan":  # near a pole the error is relative to tan^2
            assert (np.abs(got - exact) / (1 + exact * exact)).max() < 4e-7
        else:
            assert np.abs(got - exact).max() < 4e-7
        assert not c.trace.notes, "the activation's input is inside its valid range"
        assert np.isnan(fn(name)(c.tile(np.array([[np.nan, np.inf, -np.inf]], F32))).array).all()


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_arguments_that_the_reduction_does_not_reach_are_noted(core, name):
    with core() as c:
        limit = F32(2**16 * math.pi)
        fn(name)(c.tile(np.array([[limit, -limit, 1.0]], F32)))
        assert not c.trace.notes
        fn(name)(c.tile(np.array([[np.nextafter(limit, F32(np.inf)), -1e30, 1.0, np.nan]], F32)))
        line = here()[1] - 1
        (note,) = c.trace.notes
        assert "2 of 4 arguments are beyond 2^16 pi" in note and f"test_wrappers_elementwise.py:{line}:" in note


def test_the_instruction_sine_does_not_reduce(core):
    with core() as c:
        x, dst = c.tile(np.array([[9.0]], F32)), c.empty((1, 1))
        nisa.activation(dst, nl.sin, x)
        assert dst.array[0, 0] == pytest.approx(27.65, abs=0.005)
        assert nl.sin(x).array[0, 0] == pytest.approx(np.sin(9.0))
