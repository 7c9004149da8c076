"""Scalar Engine: every activation function against its definition in float64, and what stands before and after it."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

V2, V3, V4 = TARGETS = ("trn1", "trn2", "trn3")
cmd = nisa.reduce_cmd


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def gelu(x):
    return x * 0.5 * math.erfc(-x / math.sqrt(2))


def gelu_sigmoid(x):
    return x * sigmoid(1.702 * x)


def silu(x):
    return x * sigmoid(x)


def slope(f, h=1e-4):
    """The derivative of f, by a fourth-order difference."""
    return lambda x: (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


FUNCTIONS = {
    "copy": lambda x: x,
    "square": lambda x: x * x,
    "sigmoid": sigmoid,
    "relu": lambda x: max(x, 0),
    "gelu": gelu,
    "gelu_dx": slope(gelu),
    "gelu_apprx_tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_apprx_sigmoid": gelu_sigmoid,
    "gelu_apprx_sigmoid_dx": slope(gelu_sigmoid),
    "silu": silu,
    "silu_dx": slope(silu),
    "tanh": math.tanh,
    "softplus": softplus,
    "mish": lambda x: x * math.tanh(softplus(x)),
    "erf": math.erf,
    "erf_dx": slope(math.erf),
    "exp": math.exp,
    "log": math.log,
    "sin": math.sin,
    "arctan": math.atan,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "sign": lambda x: (x > 0) - (x < 0),
    "abs": abs,
}
RANGES = {"log": (2.0**-20, 2.0**20), "sqrt": (2.0**-20, 2.0**20), "rsqrt": (2.0**-20, 2.0**20)}
RANGES |= {"sin": (-np.pi, np.pi), "arctan": (-1.5, 1.5), "reciprocal": (0.01, 100.0)}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_an_activation_function_is_its_definition(core, name):
    low, high = RANGES.get(name, (-9.0, 9.0))
    points = np.linspace(low, high, 1001) if low < 0 else np.geomspace(low, high, 1001)
    x = points.astype(np.float32)[None, :]
    with core() as c:
        dst = c.empty(x.shape)
        nisa.activation(dst, getattr(nl, name), c.tile(x))
        expected = [FUNCTIONS[name](float(v)) for v in x[0]]
        np.testing.assert_allclose(dst.array[0], expected, rtol=3e-5, atol=3e-6)
        assert not c.trace.notes


LIMIT_VALUES = {
    "copy": (-np.inf, np.inf), "square": (np.inf, np.inf), "sigmoid": (0, 1), "relu": (0, np.inf), "gelu": (0, np.inf),
    "gelu_dx": (0, 1), "gelu_apprx_tanh": (0, np.inf), "gelu_apprx_sigmoid": (0, np.inf),
    "gelu_apprx_sigmoid_dx": (0, 1), "silu": (0, np.inf), "silu_dx": (0, 1), "tanh": (-1, 1), "softplus": (0, np.inf),
    "mish": (0, np.inf), "erf": (-1, 1), "erf_dx": (0, 0), "exp": (0, np.inf), "sign": (-1, 1), "abs": (np.inf, np.inf),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LIMIT_VALUES))
def test_functions_valid_everywhere_reach_their_limits_and_keep_nan(core, name):
    with core() as c:
        dst = c.empty((1, 3))
        nisa.activation(dst, getattr(nl, name), c.tile(np.array([[-np.inf, np.inf, np.nan]], np.float32)))
        np.testing.assert_array_equal(dst.array[0], [*LIMIT_VALUES[name], np.nan])


def test_every_documented_function_is_there():
    """All rows of 'Supported Activation Functions' but PReLU, which needs the parameter that only activate2 has."""
    assert len(FUNCTIONS) == 25 and set(LIMIT_VALUES) | set(RANGES) == set(FUNCTIONS)


def test_sin_does_not_reduce_its_argument(core):
    with core() as c:
        dst = c.empty((1, 3))
        nisa.activation(dst, nl.sin, c.tile(np.array([[9.0, -9.0, np.pi / 2]], np.float32)))
        np.testing.assert_allclose(dst.array, [[27.65, -27.65, 1.0]], rtol=1e-3)


# The documented valid ranges (nki/api/nki.api.shared.rst): all others are valid on [-inf, inf]
VALID = {
    "log": [(2.0**-64, 2.0**64)],
    "sin": [(-np.pi, np.pi)],
    "arctan": [(-np.pi / 2, np.pi / 2)],
    "sqrt": [(2.0**-116, 2.0**118)],
    "rsqrt": [(2.0**-87, 2.0**97)],
    "reciprocal": [(2.0**-42, 2.0**42), (-(2.0**42), -(2.0**-42))],
}


def _through_activation(c, name, x):
    nisa.activation(c.empty(x.shape), getattr(nl, name), c.tile(x))


def _through_activation_reduce(c, name, x):
    nisa.activation_reduce(c.empty(x.shape), getattr(nl, name), c.tile(x), nl.add, c.empty((1, 1)))


def _through_activate2(c, name, x):
    nisa.activate2(c.empty(x.shape), getattr(nl, name), c.tile(x), 1.0, 0.0, nl.multiply, nl.add)


@pytest.mark.parametrize("through", [_through_activation, _through_activation_reduce, _through_activate2])
@pytest.mark.parametrize("name", list(VALID))
def test_an_input_out_of_its_valid_range_is_noted_and_none_inside(core, name, through):
    ends = [np.float32(end) for bounds in VALID[name] for end in bounds]
    inside = np.concatenate([np.linspace(*bounds, 5) for bounds in VALID[name]] + [ends]).astype(np.float32)
    centres = [np.float32((low + high) / 2) for low, high in VALID[name] for _ in range(2)]
    outside = [np.nextafter(e, e + (e - m), dtype=np.float32) for e, m in zip(ends, centres, strict=True)]
    with core("trn3") as c:
        through(c, name, np.append(inside, np.float32(np.nan))[None])
        assert not c.trace.notes
        for value in [*outside, np.inf, -np.inf]:
            c.trace.notes.clear()
            through(c, name, np.array([[inside[0], value]], np.float32))
            (note,) = c.trace.notes
            assert f"nl.{name}: 1 of 2 inputs are outside" in note and "test_scalar.py:" in note


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - set(VALID)))
def test_the_other_functions_take_any_input(core, name):
    x = np.array([[np.inf, -np.inf, np.nan, 0.0, 3e38, -3e38, 1e-45]], np.float32)
    with core("trn3") as c:
        _through_activation(c, name, x)
        _through_activate2(c, name, x)
        assert not c.trace.notes


def test_the_range_is_of_what_enters_the_function(core):
    """After scale and bias; and the line is the kernel's, through a function of nki.language too."""
    with core() as c:
        x = c.tile(np.array([[2.0, 3.0]], np.float32))
        nisa.activation(c.empty((1, 2)), nl.sin, x, scale=0.5)
        assert not c.trace.notes
        nisa.activation(c.empty((1, 2)), nl.sin, x, scale=2.0)
        nl.log(c.tile(np.array([[0.0]], np.float32)))
        line = inspect.currentframe().f_lineno - 1
        assert "nl.sin: 2 of 2 inputs" in c.trace.notes[0] and "nl.log: 1 of 1" in c.trace.notes[1]
        assert f"test_scalar.py:{line - 1}:" in c.trace.notes[0] and f"test_scalar.py:{line}:" in c.trace.notes[1]


def test_a_scale_of_one_is_no_multiplication(core, monkeypatch, same):
    with core() as c:
        x, dst = c.random(0, (4, 6)), c.empty((4, 6))
        monkeypatch.setattr(np, "multiply", None)
        nisa.activation(dst, nl.relu, c.tile(x))
        nisa.activation(dst, nl.relu, c.tile(x), scale=1)
        assert same(dst, np.maximum(x, 0))
        with pytest.raises(TypeError):
            nisa.activation(dst, nl.relu, c.tile(x), scale=2)


@pytest.mark.parametrize("operand", ["scale", "bias"])
def test_a_result_of_one_column_may_take_the_place_of_an_operand(core, same, operand):
    with core() as c:
        values = {what: c.random(i, (4, 1)) for i, what in enumerate(("data", "scale", "bias"))}
        tiles = {what: c.tile(value) for what, value in values.items()}
        nisa.activation(tiles[operand], nl.copy, **tiles)
        assert same(tiles[operand], values["data"] * values["scale"] + values["bias"])


dtypes = st.sampled_from(["float32", "bfloat16", "float16", "tfloat32", "float8_e5m2", "int8", "uint8", "int32"])
layouts = st.sampled_from(["dense", "strided", "window", "partitions", "split"])


@settings(max_examples=60, deadline=None)
@given(
    p=st.integers(1, 6),
    f=st.integers(1, 12),
    kinds=st.tuples(dtypes, dtypes, st.sampled_from(["float32", "bfloat16", "int8"])),
    layout=layouts,
    scale=st.sampled_from(["none", "number", "column"]),
    bias=st.sampled_from(["none", "number", "column"]),
    name=st.sampled_from(["copy", "relu", "square", "abs"]),
    seed=st.integers(0, 99),
)
def test_activation_scales_then_adds_then_applies(core, cast, same, p, f, kinds, layout, scale, bias, name, seed):
    with core() as c, np.errstate(all="ignore"):
        x = cast(c.random(seed, (p, f), kinds[0]), kinds[0])
        a = c.tile(x, kinds[0], layout=layout)
        dst = c.empty(a.shape, kinds[1])
        expected, options = x.astype(np.float32), {}
        if scale != "none":
            values = c.random(seed + 1, (p, 1)) if scale == "column" else np.float32(-0.75)
            expected = expected * values
            options["scale"] = c.tile(values) if scale == "column" else float(values)
        if bias != "none":
            values = c.random(seed + 2, (p, 1), kinds[2]) if bias == "column" else np.float32(1.5)
            expected = expected + values.astype(np.float32)
            options["bias"] = c.tile(values) if bias == "column" else float(values)
        nisa.activation(dst, getattr(nl, name), a, **options)
        exact = {"copy": expected, "relu": np.maximum(expected, 0), "square": expected * expected, "abs": abs(expected)}
        assert same(dst, cast(exact[name], kinds[1]))


@pytest.mark.parametrize("psum", ["dst", "data", "both"])
def test_activation_between_sbuf_and_psum(core, same, psum):
    with core() as c:
        x = c.random(0, (4, 6))
        a = c.tile(x, buffer="sbuf" if psum == "dst" else "psum")
        dst = c.empty((4, 6), buffer="sbuf" if psum == "data" else "psum")
        nisa.activation(dst, nl.copy, a, scale=2.0)
        assert same(dst, x * 2)


def test_activation_in_place_beside_its_own_columns(core, same):
    """dst is data; scale and bias are columns of the same tensor, which dst must not reach."""
    with core() as c:
        x = c.random(0, (4, 6))
        tile, out = c.tile(x), c.empty((4, 1))
        nisa.activation(tile[:, 1:5], nl.copy, tile[:, 1:5], tile[:, 5], tile[:, 0], nl.add, out, cmd.reset_reduce)
        expected = x[:, 1:5] * x[:, :1] + x[:, 5:]
        assert same(tile[:, 1:5], expected)
        np.testing.assert_allclose(out.array[:, 0], expected.sum(axis=1), rtol=1e-5)
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.activation(tile, nl.copy, tile, tile[:, 5])


def test_a_sum_whose_values_are_thrown_away(core, same):
    """A dst of stride zero keeps one column, as a kernel that wants the sum alone writes it."""
    with core("trn2") as c:
        data, dst, total = c.random(0, (8, 6)), c.empty((8, 1)), c.empty((8, 1))
        nisa.activation_reduce(
            dst.ap([[1, 8], [0, 6]]), nl.square, c.tile(data), reduce_op=nl.add, reduce_res=total, scale=2.0
        )
        np.testing.assert_allclose(total.array, np.square(2 * data).sum(axis=1, keepdims=True), rtol=1e-6)
        assert same(dst, np.square(2 * data)[:, 5:])


def test_an_operand_that_lies_under_dst(core):
    with core("trn2") as c:
        dst, bias = (nl.ndarray((4, n), nl.float32, nl.sbuf, address=(0, 64)) for n in (6, 1))
        nisa.memset(bias, 3.0)
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.activation(dst, nl.square, c.tile(np.ones((4, 6), np.float32)), bias=bias, scale=2.0)


def test_reduce_res_may_be_a_column_of_dst(core):
    with core() as c:
        x = c.random(0, (4, 6))
        tile = c.tile(x)
        nisa.activation_reduce(tile, nl.copy, tile, nl.add, tile[:, 2])
        np.testing.assert_allclose(tile.array[:, 2], x.sum(axis=1), rtol=1e-5)
        np.testing.assert_array_equal(np.delete(tile.array, 2, axis=1), np.delete(x, 2, axis=1))


# The accumulator


@pytest.mark.parametrize("target", TARGETS)
def test_sums_run_over_several_activations(core, target):
    with core(target) as c:
        parts = [c.random(i, (4, 6)) for i in range(4)]
        dst, out = c.empty((4, 6)), c.empty((4, 1))
        nisa.activation(dst, nl.square, c.tile(parts[0]), reduce_op=nl.add, reduce_cmd=cmd.reset_reduce)
        nisa.activation(dst, nl.square, c.tile(parts[1]), reduce_op=nl.add, reduce_cmd=cmd.reduce)
        nisa.activation(dst, nl.copy, c.tile(parts[2]))  # idle: the registers stay
        nisa.activation(dst, nl.square, c.tile(parts[3]), None, 1.0, nl.add, out, cmd.reduce)
        expected = sum(np.square(parts[i]).sum(axis=1, keepdims=True) for i in (0, 1, 3))
        np.testing.assert_allclose(out.array, expected, rtol=1e-5)
        nisa.activation(dst, nl.copy, c.tile(parts[2]), reduce_res=out)  # reading is no change
        np.testing.assert_allclose(out.array, expected, rtol=1e-5)


def test_reset_alone_sets_zero(core, same):
    with core() as c:
        out = c.empty((4, 1))
        nisa.activation(
            c.empty((4, 6)), nl.exp, c.tile(np.ones((4, 6), np.float32)), reduce_res=out, reduce_cmd=cmd.reset
        )
        assert same(out, np.zeros((4, 1)))


def test_the_sum_is_of_values_before_rounding(core):
    with core() as c:
        dst, out = c.empty((1, 256), "bfloat16"), c.empty((1, 1))
        x = np.full((1, 256), 1 + 2.0**-10, np.float32)  # 1 in bfloat16
        nisa.activation_reduce(dst, nl.copy, c.tile(x), nl.add, out)
        assert out.array[0, 0] == 256.25 and float(dst.array.astype(np.float32).max()) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_activation_reduce_starts_anew(core, target):
    with core(target) as c:
        x = c.random(0, (4, 2, 3))
        out = c.empty((4, 1))
        for _ in range(2):
            nisa.activation_reduce(c.empty((4, 2, 3)), nl.exp, c.tile(x), nl.add, out, scale=0.5)
        np.testing.assert_allclose(out.array[:, 0], np.exp(x.astype(np.float64) * 0.5).sum(axis=(1, 2)), rtol=1e-5)
        nisa.activation_reduce(c.empty((4, 2, 3)), nl.exp, c.tile(x), nl.add, None)


def _act(c, op=nl.copy, data=None, dst=None, **options):
    data = data if data is not None else c.tile(np.zeros((4, 6), np.float32))
    nisa.activation(dst if dst is not None else c.empty((4, 6)), op, data, **options)


def _column(c, dtype="float32", shape=(4, 1)):
    return c.tile(np.zeros(shape), dtype)


LIMITS = [
    (lambda c: _act(c, dst=c.empty((4, 5))), "dst and data must have the same partitions", TARGETS, ()),
    (lambda c: _act(c, data=c.empty((4, 6))), "nothing has written", TARGETS, ()),
    (lambda c: _act(c, data=c.empty((4, 6), buffer="shared_hbm")), "data must be a tile in SBUF or PSUM", TARGETS, ()),
    (lambda c: _act(c, nl.add), "nl.add is not an activation function", TARGETS, ()),
    (lambda c: _act(c, nl.prelu), "nl.prelu is not an activation function", TARGETS, ()),
    (lambda c: _act(c, np.exp), "is not an activation function", TARGETS, ()),
    (lambda c: _act(c, scale=_column(c, "bfloat16")), "scale must be float32, got NkiTensor", TARGETS, ()),
    (
        lambda c: _act(c, scale=_column(c, shape=(4, 2))),
        r"scale must be a scalar or a tile of shape \(4, 1\)",
        TARGETS,
        (),
    ),
    (lambda c: _act(c, scale=None), "scale must be a number", TARGETS, ()),
    (
        lambda c: _act(c, bias=_column(c, shape=(3, 1))),
        r"bias must be a scalar or a tile of shape \(4, 1\)",
        TARGETS,
        (),
    ),
    (
        lambda c: _act(c, bias=_column(c, shape=(4, 6))),
        r"bias must be a scalar or a tile of shape \(4, 1\)",
        TARGETS,
        (),
    ),
    (lambda c: _act(c, nl.exp, bias=c.empty((4, 1))), "nothing has written", TARGETS, ()),
    (lambda c: _act(c, nl.copy, bias=_column(c)), "takes no bias on NeuronCore-v2, .*#1296", (V2,), (V3, V4)),
    (lambda c: _act(c, nl.exp, bias=_column(c, "tfloat32")), "bias may be any dtype but tfloat32", TARGETS, ()),
    (lambda c: _act(c, nl.exp, bias=_column(c, "int16")), "never", (), TARGETS),
    (lambda c: _act(c, bias=1.0), r"on NeuronCore-v2 bias must be a tile of shape \(P, 1\)", (V2,), (V3, V4)),
    (lambda c: _act(c, nl.reciprocal, bias=_column(c)), "takes no bias on NeuronCore-v2", (V2,), (V3, V4)),
    (
        lambda c: _act(c, reduce_op=nl.maximum, reduce_cmd=cmd.reduce),
        "reduce_op must be nl.add, got nl.max",
        TARGETS,
        (),
    ),
    (lambda c: _act(c, reduce_op=nl.maximum), "reduce_op must be nl.add, got nl.max", TARGETS, ()),
    (lambda c: _act(c, reduce_cmd=cmd.reset_reduce), "reduce_op must be nl.add, got None", TARGETS, ()),
    (lambda c: _act(c, reduce_op=nl.add, reduce_cmd=cmd.load_reduce), "reduce_cmd must be one of", TARGETS, ()),
    (lambda c: _act(c, reduce_op=nl.add, reduce_cmd="reduce"), "reduce_cmd must be one of", TARGETS, ()),
    (
        lambda c: _act(c, reduce_op=nl.add, reduce_cmd=cmd.reduce),
        "the accumulator of the Scalar Engine holds nothing on partition 0",
        TARGETS,
        (),
    ),
    (lambda c: _act(c, reduce_res=c.empty((4, 1))), "the accumulator of the Scalar Engine holds nothing", TARGETS, ()),
    (
        lambda c: _act(c, reduce_op=nl.add, reduce_cmd=cmd.reset_reduce, reduce_res=c.empty((4, 2))),
        r"reduce_res must be \(4, 1\), got \(4, 2\)",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.activation_reduce(
            c.empty((4, 6)), nl.exp, _column(c, shape=(4, 6)), nl.maximum, c.empty((4, 1))
        ),
        "reduce_op must be nl.add",
        TARGETS,
        (),
    ),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LIMITS)
def test_limits(refused, call, words, on, fine):
    refused(call, words, on, fine)
