"""activate2 against its three stages written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

cmd = nisa.reduce_cmd
F = np.float32
STEP = {"multiply": np.multiply, "add": np.add, "subtract": np.subtract}
PAIRS = [("multiply", "add"), ("multiply", "subtract"), *((op, "bypass") for op in (*STEP, "bypass"))]
FUNCTIONS = {"copy": lambda x: x, "exp": np.exp, "tanh": np.tanh, "relu": lambda x: np.maximum(x, F(0))}


@settings(max_examples=40, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    function=st.sampled_from(list(FUNCTIONS)),
    columns=st.tuples(st.booleans(), st.booleans()),
    reverse=st.tuples(st.booleans(), st.booleans()),
    types=st.tuples(*[st.sampled_from(["float32", "bfloat16", "int16"])] * 2),
    layout=st.sampled_from(["dense", "strided", "window", "partitions", "split"]),
)
def test_two_steps_and_a_function(core, cast, same, pair, function, columns, reverse, types, layout):
    reverse = [r and op != "bypass" for r, op in zip(reverse, pair, strict=True)]
    with core("trn3") as c:
        x = cast(c.random(0, (5, 6)), types[0])
        imm = [c.random(i, (5, 1)) if column else F(0.75) for i, column in enumerate(columns, 1)]
        dst = c.empty((5, 6), types[1])
        nisa.activate2(
            dst,
            getattr(nl, function),
            c.tile(x, types[0], layout=layout),
            *[c.tile(v) if column else 0.75 for v, column in zip(imm, columns, strict=True)],
            *[getattr(nl, op) for op in pair],
            reverse0=reverse[0],
            reverse1=reverse[1],
        )
        y = x.astype(F)
        for op, value, swapped in zip(pair, imm, reverse, strict=True):
            if op != "bypass":
                y = STEP[op](value, y) if swapped else STEP[op](y, value)
        assert same(dst, cast(FUNCTIONS[function](y), types[1]))
        read = [column and op != "bypass" for column, op in zip(columns, pair, strict=True)]
        assert len(c.trace.events[-1].reads) == 1 + sum(read), "what a step is bypassed with is not read"


@pytest.mark.parametrize("column", [False, True])
def test_prelu_has_a_slope_below_zero(core, same, column):
    with core("trn3") as c:
        x, slope = c.random(0, (5, 6)), c.random(1, (5, 1)) if column else F(0.25)
        dst = c.empty((5, 6))
        nisa.activate2(dst, nl.prelu, c.tile(x), 0.0, 0.0, nl.bypass, nl.bypass, c.tile(slope) if column else 0.25)
        assert same(dst, np.where(x >= 0, x, x * slope))


def test_prelu_of_zero_is_zero_whatever_the_slope(core, same):
    with core("trn3") as c:
        x, slope, dst = np.array([[0, 2, -1]], F), np.array([[np.inf]], F), c.empty((1, 3))
        nisa.activate2(dst, nl.prelu, c.tile(x), 0.0, 0.0, nl.bypass, nl.bypass, c.tile(slope))
        assert same(dst, [[0, 2, -np.inf]])


def fold(op, values, start):
    for v in values:
        bigger, smaller = abs(start) > abs(v), abs(start) < abs(v)
        start = {
            "add": start + v,
            "maximum": max(start, v),
            "minimum": min(start, v),
            "abs_max": start if bigger else v,
            "abs_min": start if smaller else v,
        }[op]
    return start


@settings(max_examples=25, deadline=None)
@given(
    op=st.sampled_from(["add", "maximum", "minimum", "abs_max", "abs_min"]),
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=2, max_size=4),
)
def test_the_five_folds_over_two_instructions(core, same, op, rows):
    x = np.array(rows, F)
    with core("trn3") as c:
        tile, res = c.tile(x), c.empty((len(x), 1))
        for half, command, out in ((tile[:, :2], cmd.reset_reduce, None), (tile[:, 2:], cmd.reduce, res)):
            nisa.activate2(
                half,
                nl.copy,
                half,
                0,
                0,
                nl.bypass,
                nl.bypass,
                reduce_op=getattr(nl, op),
                reduce_res=out,
                reduce_cmd=command,
            )
        start = {"maximum": -np.inf, "minimum": np.inf, "abs_min": np.inf}.get(op, 0.0)
        assert same(res, [[fold(op, row, start)] for row in x])


def test_the_register_is_the_one_of_activation(core, same):
    with core("trn3") as c:
        one, res = c.tile(np.ones((2, 4), F)), c.empty((2, 1))
        nisa.activation(one, nl.copy, one, reduce_op=nl.add, reduce_cmd=cmd.reset_reduce)
        nisa.activate2(one, nl.copy, one, 0, 0, nl.bypass, nl.bypass, reduce_res=res)  # idle: only reads it out
        assert same(res, [[4], [4]])


def test_inputs_beyond_the_valid_range_are_noted(core):
    with core("trn3") as c:
        one = c.tile(np.full((2, 4), -1.0, F))
        nisa.activate2(one, nl.sqrt, one, 0, 0, nl.bypass, nl.bypass)
        assert "8 of 8 inputs are outside" in c.trace.notes[0]


def _run(c, op=nl.exp, imm0=1.0, imm1=0.0, op0=nl.multiply, op1=nl.add, dst=(4, 6), **more):
    nisa.activate2(c.empty(dst), op, c.empty((4, 6)), imm0, imm1, op0, op1, **more)


LIMITS = [
    (lambda c: _run(c, dst=(4, 5)), "same partitions and elements per partition"),
    (lambda c: _run(c, op=nl.add), "not an activation function"),
    (lambda c: _run(c, op0=nl.add), r"\(op0, op1\) must be one of \(nl.multiply, nl.add\)"),
    (lambda c: _run(c, op0=nl.bypass), r"\(op0, op1\) must be one of"),
    (lambda c: _run(c, op1=nl.multiply), r"\(op0, op1\) must be one of"),
    (lambda c: _run(c, op1=None), r"\(op0, op1\) must be one of"),
    (lambda c: _run(c, op1=nl.bypass, reverse1=True), "reverse1 needs an op1"),
    (lambda c: _run(c, op0=nl.bypass, op1=nl.bypass, reverse0=True), "reverse0 needs an op0"),
    (lambda c: _run(c, imm0=None), "imm0 must be a number or a tile"),
    (lambda c: _run(c, imm1=c.empty((4, 2))), "imm1 must be a scalar or a tile"),
    (
        lambda c: _run(c, imm0=c.empty((4, 1)), imm1=c.empty((4, 1), "bfloat16")),
        "must have the same dtype, got bfloat16",
    ),
    (lambda c: _run(c, relu_param=0.5), "relu_param goes with nl.prelu"),
    (lambda c: _run(c, reduce_cmd=cmd.load_reduce), "reduce_cmd must be one of"),
    (lambda c: _run(c, reduce_cmd=cmd.reset_reduce), "reduce_op must be nl.add or nl.maximum"),
    (lambda c: _run(c, reduce_op=nl.multiply), "reduce_op must be nl.add or nl.maximum"),
    (lambda c: _run(c, reduce_res=c.empty((4, 2))), r"reduce_res must be \(4, 1\)"),
    (_run, "nothing has written"),
    (
        lambda c: nisa.activate2(
            *[c.tile(np.ones((2, 2), F))] * 1,
            nl.copy,
            c.tile(np.ones((2, 2), F)),
            0,
            0,
            nl.bypass,
            nl.bypass,
            reduce_op=nl.add,
            reduce_cmd=cmd.reduce,
        ),
        "the accumulator of the Scalar Engine holds nothing",
    ),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words, on=("trn3",))
