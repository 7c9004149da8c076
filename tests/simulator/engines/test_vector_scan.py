"""tensor_tensor_scan against the documented loop, bit for bit in float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.engines.vector import scan as vector_scan
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

OPS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": lambda x, y: (x > y).astype(np.float32),
    "abs_max": lambda x, y: np.where(np.abs(x) > np.abs(y), x, y),
    "logical_or": lambda x, y: ((x != 0) | (y != 0)).astype(np.float32),
}
names = st.sampled_from(list(OPS))


def scan(data0, data1, initial, op0, op1, reverse0=False, reverse1=False):
    """The documented loop; one float32 at a time in every partition."""
    a, b = data0.astype(np.float32), data1.astype(np.float32)
    result = np.empty(a.shape, np.float32)
    for p in range(a.shape[0]):
        before = np.float32(np.broadcast_to(initial, (a.shape[0], 1))[p, 0])
        for i in range(a.shape[1]):
            inner = op0(before, a[p, i]) if reverse0 else op0(a[p, i], before)
            before = result[p, i] = op1(b[p, i], inner) if reverse1 else op1(inner, b[p, i])
    return result


@settings(max_examples=60, deadline=None)
@given(
    p=st.integers(1, 5),
    f=st.integers(1, 17),
    ops=st.tuples(names, names),
    reverse=st.tuples(st.booleans(), st.booleans()),
    dtypes=st.tuples(*[st.sampled_from(["float32", "bfloat16", "int8"])] * 3),
    column=st.booleans(),
    layout=st.sampled_from(["dense", "strided", "window", "partitions", "split"]),
    buffers=st.sampled_from([("sbuf", "sbuf"), ("psum", "sbuf"), ("sbuf", "psum")]),
    seed=st.integers(0, 99),
)
def test_it_is_the_loop(core, cast, same, p, f, ops, reverse, dtypes, column, layout, buffers, seed):
    with core("trn3") as c, np.errstate(all="ignore"):
        x, y = c.random(seed, (p, f), dtypes[0]), c.random(seed + 1, (p, f), dtypes[1])
        initial = c.random(seed + 2, (p, 1)) if column else np.float32(0.75)
        a, b = c.tile(x, buffer=buffers[0], layout=layout), c.tile(y, buffer=buffers[1])
        dst = c.empty(a.shape, dtypes[2])
        start = c.tile(initial) if column else float(initial)
        nisa.tensor_tensor_scan(dst, a, b, start, getattr(nl, ops[0]), getattr(nl, ops[1]), *reverse)
        expected = scan(x, y, initial, OPS[ops[0]], OPS[ops[1]], *reverse)
        assert same(dst, cast(expected, dtypes[2]))


@pytest.mark.parametrize("reverse", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "ops", [("subtract", "subtract"), ("multiply", "subtract"), ("abs_max", "greater"), ("greater", "subtract")]
)
def test_the_order_of_operands(core, same, ops, reverse):
    with core("trn3") as c:
        x, y = c.random(0, (3, 7)), c.random(1, (3, 7))
        dst = c.empty((3, 7))
        nisa.tensor_tensor_scan(dst, c.tile(x), c.tile(y), 0.5, *(getattr(nl, op) for op in ops), *reverse)
        assert same(dst, scan(x, y, 0.5, *(OPS[op] for op in ops), *reverse))


@pytest.mark.parametrize("op", ["add", "maximum", "minimum", "multiply"])
@pytest.mark.parametrize("twice", [False, True])
def test_a_running_operator_is_the_loop_and_takes_no_step_a_column(core, monkeypatch, op, twice):
    """data0 = 1 and op0 = multiply leave op1 alone: a cumulative sum, maximum, .. of data1; one operator is one too."""
    monkeypatch.setattr(vector_scan, "_by_columns", None)
    first = op if twice else "multiply"
    with core() as c:
        y = c.random(0, (128, 300))
        x = c.random(1, y.shape) if twice else np.ones_like(y)
        dst = c.empty(y.shape)
        nisa.tensor_tensor_scan(dst, c.tile(x), c.tile(y), 0.5, getattr(nl, first), getattr(nl, op))
        np.testing.assert_array_equal(dst.array[:5], scan(x[:5], y[:5], 0.5, OPS[first], OPS[op]))


@pytest.mark.parametrize("op", OPS)
def test_an_operator_after_ones_is_the_loop_with_its_operands_in_either_order(core, same, op):
    with core("trn3") as c:
        ones, y = np.ones((3, 7), np.float32), c.random(1, (3, 7))
        for reverse in (False, True):
            dst = c.empty((3, 7))
            nisa.tensor_tensor_scan(dst, c.tile(ones), c.tile(y), 0.5, nl.multiply, getattr(nl, op), reverse1=reverse)
            assert same(dst, scan(ones, y, 0.5, np.multiply, OPS[op], reverse1=reverse))


def test_the_state_is_not_rounded_to_the_output(core, same):
    """In bfloat16 256 + 1 + 1 is 256 if every step is rounded; the running value is float32, so it is 258."""
    with core() as c:
        ones = c.tile(np.ones((1, 2), np.float32))
        dst = c.empty((1, 2), "bfloat16")
        nisa.tensor_tensor_scan(dst, ones, ones, 256.0, nl.multiply, nl.add)
        assert dst.array.astype(np.float32).tolist() == [[256, 258]]


def test_a_long_scan_is_chained_through_a_column(core, same):
    """AWS's first example: the second half starts from the last column of the first."""
    with core() as c:
        a, b = np.abs(c.random(0, (4, 64))), np.abs(c.random(1, (4, 64)))
        x, y, dst = c.tile(a), c.tile(b), c.empty((4, 64))
        nisa.tensor_tensor_scan(dst[:, :32], x[:, :32], y[:, :32], 0, nl.multiply, nl.add)
        nisa.tensor_tensor_scan(dst[:, 32:], x[:, 32:], y[:, 32:], dst[:, 31], nl.multiply, nl.add)
        assert same(dst, scan(a, b, 0, np.multiply, np.add))


@pytest.mark.parametrize("op", ["add", "multiply"])
def test_dst_may_be_either_source(core, same, op):
    with core() as c:
        a, b = c.random(0, (4, 16)), c.random(1, (4, 16))
        expected = scan(a, b, 1.0, np.multiply, OPS[op])
        for own in (0, 1):
            tiles = [c.tile(a), c.tile(b)]
            nisa.tensor_tensor_scan(tiles[own], *tiles, 1.0, nl.multiply, getattr(nl, op))
            assert same(tiles[own], expected)


def test_nan_and_infinity_stay(core):
    with core() as c:
        a = c.tile(np.array([[1, np.nan, 1], [1, 0, 1]], np.float32))
        b = c.tile(np.array([[0, 0, 0], [np.inf, 1, 1]], np.float32))
        dst = c.empty((2, 3))
        nisa.tensor_tensor_scan(dst, a, b, 2.0, nl.multiply, nl.add)
        np.testing.assert_array_equal(dst.array, [[2, np.nan, np.nan], [np.inf, np.nan, np.nan]])


def _scan(c, a=None, b=None, dst=None, initial=0.0, ops=(nl.multiply, nl.add)):
    zeros = np.zeros((4, 6), np.float32)
    a = a if a is not None else c.tile(zeros)
    nisa.tensor_tensor_scan(
        dst if dst is not None else c.empty((4, 6)), a, b if b is not None else c.tile(zeros), initial, *ops
    )


LIMITS = [
    (
        lambda c: _scan(c, c.empty((4, 6), buffer="psum"), c.empty((4, 6), buffer="psum")),
        "data0 and data1 cannot both be in PSUM",
    ),
    (lambda c: _scan(c, c.empty((4, 5))), r"data0 and data1 must have .* got \(4, 5\) and \(4, 6\)"),
    (lambda c: _scan(c, c.empty((3, 6))), r"data0 and data1 must have .* got \(3, 6\) and \(4, 6\)"),
    (lambda c: _scan(c, dst=c.empty((4, 7))), r"dst and data0 must have .* got \(4, 7\) and \(4, 6\)"),
    (lambda c: _scan(c, initial=c.empty((4, 2))), r"initial must be a scalar or a tile of shape \(4, 1\)"),
    (lambda c: _scan(c, initial=c.empty((4, 1))), "nothing has written"),
    (lambda c: _scan(c, initial=None), "initial must be a number or a tile"),
    (lambda c: _scan(c, ops=(nl.bitwise_and, nl.add)), "op0 must be arithmetic, got nl.bitwise_and"),
    (lambda c: _scan(c, ops=(nl.add, nl.abs)), "nl.abs takes 1 operands"),
    (lambda c: _scan(c, ops=(nl.exp, nl.add)), "nl.exp is not an ALU operator"),
    (lambda c: _scan(c, dst=np.zeros((4, 6))), "dst must be a tile in SBUF or PSUM, got ndarray"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
