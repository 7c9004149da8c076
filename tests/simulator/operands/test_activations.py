"""How far each activation function is from its definition, in units in the last place of float32.

The definitions are evaluated in Python's float64, one number at a time, in forms that do not cancel. A unit is the
distance between neighbours of float32 at the exact result. Results below 2^-118 in magnitude are held to that instead:
what the engines do with numbers that small is not documented.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from triptych.simulator.operands import activations
from triptych.simulator.operands.operators import OPS

SMALL = 2.0**-118


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def softplus(x):
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def normal_cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def normal_pdf(x):
    return math.exp(-min(x * x, 1400) / 2) / math.sqrt(2 * math.pi)


def swish_dx(slope):
    return lambda x: sigmoid(slope * x) * (1 + slope * x * sigmoid(-slope * x))


# name: (definition, largest error in units in the last place)
FUNCTIONS = {
    "copy": (lambda x: x, 0),
    "square": (lambda x: x * x, 0.5),
    "sigmoid": (sigmoid, 4),
    "relu": (lambda x: max(x, 0), 0),
    "gelu": (lambda x: x * normal_cdf(x), 0.6),
    "gelu_dx": (lambda x: normal_cdf(x) + x * normal_pdf(x), 0.6),
    "gelu_apprx_tanh": (lambda x: x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), 0.6),
    "gelu_apprx_sigmoid": (lambda x: x * sigmoid(1.702 * x), 0.6),
    "gelu_apprx_sigmoid_dx": (swish_dx(1.702), 0.6),
    "silu": (lambda x: x * sigmoid(x), 4),
    "silu_dx": (swish_dx(1.0), 0.6),
    "tanh": (math.tanh, 2),
    "softplus": (softplus, 3),
    "mish": (lambda x: x * math.tanh(softplus(x)), 4),
    "erf": (math.erf, 0.6),
    "erf_dx": (lambda x: 2 / math.sqrt(math.pi) * math.exp(-min(x * x, 700)), 0.6),
    "exp": (lambda x: math.exp(min(x, 700)), 3),
    "log": (math.log, 4),
    "sin": (math.sin, 2),
    "arctan": (math.atan, 2),
    "sqrt": (math.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / math.sqrt(x), 2),
    "reciprocal": (lambda x: 1 / x, 0.5),
    "sign": (lambda x: (x > 0) - (x < 0), 0),
    "abs": (abs, 0),
}
RANGES = {"log": 64, "sqrt": (-116, 118), "rsqrt": (-87, 97), "reciprocal": 42}  # powers of two


def points(name):
    """20,000 numbers of the documented valid range; where it is all numbers, as far as results are finite and not 0."""
    rng = np.random.default_rng(0)
    if name in RANGES:
        low, high = RANGES[name] if isinstance(RANGES[name], tuple) else (-RANGES[name], RANGES[name])
        x = np.concatenate((np.exp2(rng.uniform(low, high, 18_000)), rng.uniform(0.5, 2, 1_998), np.exp2([low, high])))
        return (x * rng.choice([-1, 1], x.size) if name == "reciprocal" else x).astype(np.float32)
    limit = {"sin": float(np.nextafter(np.float32(np.pi), 0)), "arctan": math.pi / 2}.get(name)
    tiny = np.exp2(rng.uniform(-40, 0, 4_000)) * rng.choice([-1, 1], 4_000)
    wide = rng.uniform(-limit, limit, 16_000) if limit else rng.uniform(-105, 105, 4_000)
    near = rng.uniform(-15, 15, 12_000)
    return np.concatenate((tiny, wide) if limit else (tiny, wide, near)).astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_function_is_its_definition_within_a_few_units_in_the_last_place(name):
    definition, bound = FUNCTIONS[name]
    x = points(name)
    exact = np.array([definition(float(v)) for v in x], np.float64)
    with np.errstate(all="ignore"):
        got, nearest = OPS[name].act(x), exact.astype(np.float32)
    assert got.dtype == np.float32 and got.shape == x.shape
    normal = np.isfinite(nearest) & (np.abs(exact) >= SMALL)
    units = np.abs(got - exact)[normal] / np.spacing(np.abs(nearest[normal])).astype(np.float64)
    worst = int(np.argmax(units))
    assert units[worst] <= bound, f"{units[worst]} units at {x[normal][worst]}"
    assert np.count_nonzero(normal) > 10_000
    np.testing.assert_array_equal(got[np.isinf(nearest)], nearest[np.isinf(nearest)])
    assert np.abs(got - exact)[~normal & np.isfinite(nearest)].max(initial=0) <= SMALL


def test_every_function_is_bounded():
    assert set(FUNCTIONS) == {name for name, op in OPS.items() if op.act is not None}


@pytest.mark.parametrize("name", ["gelu", "erf", "silu_dx"])
def test_tiles_of_any_layout_are_computed_in_blocks(name):
    x = np.random.default_rng(1).normal(size=(64, 2, 600)).astype(np.float32)
    one_by_one = np.concatenate([OPS[name].act(row.reshape(-1)[:100]) for row in x])
    for layout in (x, np.asfortranarray(x), np.repeat(x, 2, axis=2)[..., ::2], np.broadcast_to(x[:, :1], x.shape)):
        whole = OPS[name].act(layout)
        assert whole.shape == x.shape and whole.dtype == np.float32
        np.testing.assert_array_equal(whole.reshape(64, -1)[:, :100].reshape(-1), one_by_one)


def test_sine_beyond_pi_is_the_cubic_that_the_documentation_names():
    """sin(9.0) is documented as ~27.65: of the cubics, sin's own Taylor polynomial at pi."""
    x = np.array([9.0, -9.0, 3.2, np.pi + 1, -np.pi - 2], np.float32)
    r = np.abs(x.astype(np.float64)) - np.pi
    np.testing.assert_allclose(activations.sin(x), np.sign(x) * (r**3 / 6 - r), rtol=1e-5)
    assert abs(activations.sin(x)[0] - 27.65) < 0.005
    assert np.isnan(activations.sin(np.array([np.nan], np.float32))).all()
    inside = np.linspace(-np.pi, np.pi, 1001).astype(np.float32)
    np.testing.assert_array_equal(activations.sin(inside), np.sin(inside))
    mixed = np.concatenate((inside, x))  # one number outside changes nothing of those inside
    np.testing.assert_array_equal(activations.sin(mixed)[:-5], np.sin(inside))


def test_the_functions_of_the_normal_distribution_are_right_far_beyond_float32_before_they_are_rounded():
    x = np.linspace(-15, 15, 2001)
    tail = np.array([0.5 * math.erfc(abs(v) / math.sqrt(2)) for v in x])
    np.testing.assert_allclose(activations._normal_tail(x), tail, rtol=1e-11, atol=0)
    near = np.linspace(-4, 4, 1000)
    exact = np.array([math.erf(v) for v in near])
    np.testing.assert_allclose(activations.erf.__wrapped__(near), exact, rtol=3e-11, atol=0)


def test_what_the_polynomials_are_fitted_to_is_what_it_is_said_to_be():
    """(1 + 2z) exp(z^2) erfc(z), between 1 and 1.3, of u = (z - 2.5) / (z + 2.5); erf(z) / z of z^2."""
    found = [activations._scaled_erfc(u) for u in np.linspace(-1, 0.6, 50)]
    assert found[0] == 1 == min(found) and max(found) < 1.3
    assert activations._scaled_erfc(0.0) == pytest.approx(6 * math.exp(6.25) * math.erfc(2.5), rel=1e-12)
    assert activations._erf_ratio(4.0) == pytest.approx(math.erf(2) / 2, rel=1e-12)
