"""Every function of nki.language takes NKI 0.6's parameters, in its order and with its defaults."""

from __future__ import annotations

import inspect

import pytest

from triptych.simulator.lend import simulated_nki
from triptych.simulator.ops import Op
from triptych.simulator.wrappers import FUNCTIONS

with simulated_nki():
    import nki.language as nl

REDUCTION = "(x, axis, dtype=None, keepdims=False)"
CREATION = "(shape, dtype, buffer=sbuf, name='')"
BINARY = """add subtract multiply divide maximum minimum abs_max abs_min power fmod mod equal not_equal less less_equal
    greater greater_equal logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor left_shift
    right_shift"""
UNARY = """abs square exp log sqrt rsqrt reciprocal sin cos tan arctan tanh ceil floor trunc negative sign sigmoid relu
    gelu gelu_dx gelu_apprx_sigmoid gelu_apprx_sigmoid_dx gelu_apprx_tanh silu silu_dx softplus mish erf erf_dx
    logical_not invert copy transpose"""
SIGNATURES = {
    "ndarray": "(shape, dtype, buffer=sbuf, name='', address=None)",
    "zeros": CREATION,
    "ones": CREATION,
    "full": "(shape, fill_value, dtype, buffer=sbuf, name='')",
    "zeros_like": "(x, dtype=None, buffer=None, name='')",
    "empty_like": "(x, dtype=None, buffer=None, name='')",
    "shared_constant": "(constant)",
    "shared_identity_matrix": "(n, dtype=uint8, dst=None)",
    "load": "(src, dtype=None)",
    "load_transpose2d": "(src, dtype=None)",
    "store": "(dst, value)",
    "matmul": "(x, y, transpose_x=False)",
    "gather_flattened": "(data, indices, axis=0, dtype=None)",
    "rand": CREATION,
    "random_seed": "(seed)",
    "dropout": "(x, rate, dtype=None)",
    "expand_dims": "(x, axis)",
    "broadcast_to": "(x, shape, dtype=None)",
    "where": "(condition, x, y, dtype=None)",
    "softmax": "(x, axis=-1, dtype=None)",
    "rms_norm": "(x, w, axis, n, epsilon=1e-06, dtype=None, compute_dtype=None)",
    "all": "(x, axis, dtype=None)",
    "no_reorder": "()",
    "device_print": "(print_prefix, tensor)",
    **dict.fromkeys(("sum", "max", "min", "mean", "prod", "var"), REDUCTION),
    **dict.fromkeys(BINARY.split(), "(x, y, dtype=None)"),
    **dict.fromkeys(UNARY.split(), "(x, dtype=None)"),
}


def shown(default):
    return getattr(default, "value", str(default) if default == nl.uint8 else repr(default))


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *SIGNATURES}))
def test_signature(name):
    found = getattr(nl, name)
    function = found.wrapper if isinstance(found, Op) else found
    parameters = inspect.signature(function).parameters.values()
    written = [p.name if p.default is p.empty else f"{p.name}={shown(p.default)}" for p in parameters]
    assert f"({', '.join(written)})" == SIGNATURES[name]
    assert function.__name__ == name and function.__doc__
