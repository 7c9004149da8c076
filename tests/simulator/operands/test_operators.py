"""The operators' meanings, against NumPy number by number, and folds that are strictly in order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from operators import BITS

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.operands.in_order import in_order
from triptych.simulator.operands.operators import OPS, Op, activation_function, arithmetic, operator

with simulated_nki():
    import nki.language as nl

VALUES = [-2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 2.5]
BINARY = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "maximum": max,
    "minimum": min,
    "power": lambda x, y: x**y if x > 0 else math.nan,
    "abs_max": lambda x, y: x if abs(x) > abs(y) else y,
    "abs_min": lambda x, y: x if abs(x) < abs(y) else y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "logical_and": lambda x, y: bool(x) and bool(y),
    "logical_or": lambda x, y: bool(x) or bool(y),
    "logical_xor": lambda x, y: bool(x) != bool(y),
}
UNARY = {"logical_not": lambda x: x == 0, "abs": abs, "square": lambda x: x * x, "relu": lambda x: max(x, 0)}
REDUCES = ("add", "subtract", "multiply", "maximum", "minimum", "logical_and", "logical_or", "logical_xor")
VALID = {  # powers of two, of nki.api.shared.rst; sin and arctan in radians
    "rsqrt": (2**-87, 2**97),
    "reciprocal": (2**-42, 2**42),
    "log": (2**-64, 2**64),
    "sqrt": (2**-116, 2**118),
    "sin": (-math.pi, math.pi),
    "arctan": (-math.pi / 2, math.pi / 2),
}


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_operator(name):
    x, y = np.meshgrid(np.array(VALUES, np.float32), np.array(VALUES, np.float32))
    defined = x > 0 if name == "power" else np.ones(x.shape, bool)
    got = OPS[name].alu(x[defined], y[defined])
    expected = [float(BINARY[name](float(a), float(b))) for a, b in zip(x[defined], y[defined], strict=True)]
    assert got.dtype == np.float32 and OPS[name].binary and not OPS[name].bitvec
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", BITS)
def test_an_operator_on_bit_patterns(name):
    x, y = (np.array(v, np.uint32) for v in ([0, 5, 12, 2**31], [3, 6, 10, 1]))
    expected = [BITS[name](int(a), int(b)) % 2**32 for a, b in zip(x, y, strict=True)]
    assert OPS[name].alu(x, y).tolist() == expected and OPS[name].binary and OPS[name].bitvec
    assert (OPS[name].reduce is not None) == name.startswith("bitwise")
    if OPS[name].reduce:
        assert OPS[name].reduce(np.stack((x, y), axis=-1)).tolist() == expected


def test_a_unary_operator():
    x = np.array(VALUES, np.float32)
    for name, meaning in UNARY.items():
        got = OPS[name].alu(x)
        assert got.dtype == np.float32 and got.tolist() == [float(meaning(v)) for v in VALUES] and not OPS[name].binary
    assert OPS["invert"].alu(np.array([0, 5], np.uint8)).tolist() == [255, 250]
    assert OPS["invert"].bitvec and not OPS["invert"].binary
    np.testing.assert_allclose(OPS["rsqrt"].alu(np.array([4.0], np.float32)), [0.5])
    np.testing.assert_allclose(OPS["reciprocal"].alu(np.array([4.0], np.float32)), [0.25])


@pytest.mark.parametrize("name", REDUCES)
def test_a_fold_goes_over_the_last_axis(name):
    rows = np.array([[1, 2, 0.5], [3, 0, -1], [0, 0, 0]], np.float32)
    got = OPS[name].reduce(rows)
    expected = []
    for row in rows.tolist():
        value = row[0]
        for other in row[1:]:
            value = float(BINARY[name](value, other))
        expected.append(value)
    assert got.dtype == np.float32 and got.tolist() == expected


def test_what_is_no_fold_has_none():
    assert {name for name, op in OPS.items() if op.reduce} == {*REDUCES, *[n for n in BITS if n.startswith("bitwise")]}


def test_where_an_activation_is_documented_to_be_right():
    assert {name: op.valid for name, op in OPS.items() if op.valid} == VALID


def test_since_when_there_is_an_operator(core):
    assert {name: op.since for name, op in OPS.items() if op.since != 2} == dict.fromkeys(
        ("abs_max", "abs_min", "square", "relu"), 4
    )
    with core("trn2"), pytest.raises(NkiValidationError, match="nl.abs_max needs NeuronCore-v4 or newer"):
        operator(nl.abs_max)
    with core("trn3"):
        assert operator(nl.abs_max) is nl.abs_max


def test_what_an_instruction_takes_as_an_operator(core):
    with core():
        for wrong in (nl.exp, np.add, "add", None):
            with pytest.raises(NkiValidationError, match="is not an ALU operator; expected one of nl.add, .*nl.invert"):
                operator(wrong)
        for wrong in (nl.add, np.exp, "exp", None):
            with pytest.raises(NkiValidationError, match="is not an activation function .* expected one of nl.abs"):
                activation_function(wrong)
        assert activation_function(nl.exp) is nl.exp
        assert operator(nl.add, binary=True) is operator(nl.add) is nl.add
        assert operator(nl.abs, binary=False) is nl.abs
        with pytest.raises(NkiValidationError, match="nl.add takes 2 operands, which does not fit here"):
            operator(nl.add, binary=False)
        with pytest.raises(NkiValidationError, match="nl.abs takes 1 operands, which does not fit here"):
            operator(nl.abs, binary=True)
        assert arithmetic("op0", nl.add) is nl.add and arithmetic("op0", nl.abs, binary=False) is nl.abs
        for wrong, binary, words in (
            (nl.bitwise_and, True, "op1 must be arithmetic, got nl.bitwise_and"),
            (nl.invert, None, "op1 must be arithmetic, got nl.invert"),
            (nl.abs, True, "nl.abs takes 1 operands"),
        ):
            with pytest.raises(NkiValidationError, match=words):
                arithmetic("op1", wrong, binary=binary)


def test_an_operator_is_called_as_the_function_of_its_name():
    op = Op("twice")
    assert repr(op) == "nl.twice"
    with pytest.raises(NkiValidationError, match="nl.twice is an operator of instructions, op=nl.twice, and not a"):
        op(1)
    op.wrapper = lambda x, by=2: by * x
    assert op(3) == 6 and op(3, by=5) == 15


@pytest.mark.parametrize("shape", [(4, 300), (2, 3, 130), (5, 1), (6, 128), (7, 129), (8, 257), (1, 9)])
@pytest.mark.parametrize("f", [np.add, np.subtract, np.multiply])
def test_a_row_is_folded_from_left_to_right(f, shape):
    values = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(np.float32)
    total = values[..., 0]
    for i in range(1, shape[-1]):
        total = f(total, values[..., i])
    got = in_order(f, values)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, total)
    integers = np.arange(12, dtype=np.int32).reshape(6, 2)
    np.testing.assert_array_equal(in_order(f, integers), f(integers[:, 0], integers[:, 1]))


def test_which_operators_take_two_operands_fold_rows_and_work_on_bits():
    """nki.api.shared.rst, Supported Math Operators for NKI ISA."""
    bits = {"bitwise_and", "bitwise_or", "bitwise_xor"}
    logical = {"logical_and", "logical_or", "logical_xor"}
    compared = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
    folds = {"add", "subtract", "multiply", "maximum", "minimum"} | bits | logical
    shifts = {"left_shift", "right_shift"}
    assert {name for name, op in OPS.items() if op.reduce is not None} == folds
    assert {name for name, op in OPS.items() if op.bitvec} == bits | shifts | {"invert"}
    assert {name for name, op in OPS.items() if op.binary} == folds | compared | shifts | {
        "power",
        "abs_max",
        "abs_min",
    }
    assert {name for name, op in OPS.items() if op.since == 4} == {"abs_max", "abs_min", "square", "relu"}
    assert {op.since for op in OPS.values()} == {2, 4}
