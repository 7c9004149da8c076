"""tensor_scalar_reduce, tensor_scalar_cumulative and exponential against the loops of their documentation."""

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
STEP = {"add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum, "subtract": np.subtract}
IDENTITY = {"add": 0.0, "subtract": 0.0, "multiply": 1.0, "maximum": -np.inf, "minimum": np.inf}
layouts = st.sampled_from(["dense", "strided", "window", "partitions", "split"])
dtypes = st.sampled_from(["float32", "bfloat16", "float16", "int16", "uint8"])
F = np.float32


@settings(max_examples=40, deadline=None)
@given(
    op0=st.sampled_from(["add", "multiply", "subtract", "maximum", "is_unary"]),
    reduce_op=st.sampled_from(["add", "multiply", "maximum", "minimum"]),
    column=st.booleans(),
    negate=st.booleans(),
    types=st.tuples(dtypes, dtypes),
    layout=layouts,
)
def test_tensor_scalar_reduce_is_a_step_and_a_fold(core, cast, same, op0, reduce_op, column, negate, types, layout):
    with core() as c:
        x = cast(c.random(0, (5, 6)), types[0])
        operand = c.random(1, (5, 1)) if column else F(1.5)
        dst, res = c.empty((5, 6), types[1]), c.empty((5, 1))
        unary = op0 == "is_unary"
        nisa.tensor_scalar_reduce(
            dst,
            c.tile(x, types[0], layout=layout),
            nl.abs if unary else getattr(nl, op0),
            None if unary else c.tile(operand) if column else 1.5,
            getattr(nl, reduce_op),
            res,
            reduce_res_negate=negate,
        )
        y = np.abs(x.astype(F)) if unary else STEP[op0](x.astype(F), operand)
        assert same(dst, cast(y, types[1]))
        expected = STEP[reduce_op].reduce(y.astype(np.float64), axis=1, keepdims=True)
        np.testing.assert_allclose(res.array, -expected if negate else expected, rtol=2e-6, atol=2e-6)


def test_the_register_is_kept_over_instructions(core, same):
    with core() as c:
        ones, res = c.tile(np.ones((3, 4), F)), c.empty((3, 1))

        def step(command, out=None, **more):
            nisa.tensor_scalar_reduce(ones, ones, nl.add, 0.0, nl.add, out, reduce_cmd=command, **more)

        step(cmd.reset_reduce)
        step(cmd.reduce, res, reduce_res_negate=True)
        assert same(res, -8 * np.ones((3, 1)))
        step(cmd.reduce, res)
        assert same(res, 12 * np.ones((3, 1)))  # the negation was of what was written
        step(cmd.load_reduce, res, reduce_init=100.0)
        assert same(res, 104 * np.ones((3, 1)))
        start = c.tile(np.array([[1], [2], [3]], F))
        step(cmd.load_reduce, start, reduce_init=start)  # in place
        assert same(start, [[5], [6], [7]])


def test_the_result_may_lie_in_dst(core, same):
    with core() as c:
        tile = c.tile(np.arange(8, dtype=F).reshape(2, 4))
        nisa.tensor_scalar_reduce(tile, tile, nl.add, 1.0, nl.maximum, tile[:, 0:1])
        assert same(tile, [[4, 2, 3, 4], [8, 6, 7, 8]])


@settings(max_examples=40, deadline=None)
@given(
    op0=st.sampled_from(["add", "multiply", "subtract", "maximum"]),
    op1=st.sampled_from(list(STEP)),
    command=st.sampled_from([cmd.reset_reduce, cmd.load_reduce, cmd.reduce]),
    column=st.booleans(),
    types=st.tuples(dtypes, dtypes),
    layout=layouts,
)
def test_tensor_scalar_cumulative_is_its_loop(core, cast, same, op0, op1, command, column, types, layout):
    with core() as c:
        x = cast(c.random(0, (5, 6)), types[0])
        imm0, imm1 = c.random(1, (5, 1)), c.random(2, (5, 1))
        operand = {"imm0": c.tile(imm0) if column else 0.75}
        reg = np.full((5,), IDENTITY[op1], F)
        if command is cmd.load_reduce:
            operand["imm1"], reg = c.tile(imm1), imm1[:, 0]
        elif command is cmd.reduce:
            before, sink = c.random(3, (5, 1)), c.empty((5, 1))
            nisa.tensor_scalar_reduce(sink, c.tile(before), nl.add, 0.0, nl.add)
            reg = before[:, 0]
        dst = c.empty((5, 6), types[1])
        tile = c.tile(x, types[0], layout="dense" if command is cmd.reduce else layout)
        nisa.tensor_scalar_cumulative(dst, tile, getattr(nl, op0), getattr(nl, op1), **operand, reduce_cmd=command)
        expected = []
        for i in range(6):
            reg = STEP[op1](STEP[op0](x[:, i].astype(F), imm0[:, 0] if column else F(0.75)), reg)
            expected.append(reg)
        assert same(dst, cast(np.stack(expected, axis=1), types[1]))
        res, zeros = c.empty((5, 1)), c.tile(np.zeros((5, 1), F), layout="dense")
        if layout != "partitions" or command is cmd.reduce:  # the registers belong to the partitions
            nisa.tensor_scalar_reduce(zeros, zeros, nl.add, 0.0, nl.add, res, reduce_cmd=cmd.reduce)
            assert same(res, reg[:, None])


@settings(max_examples=25, deadline=None)
@given(
    types=st.tuples(dtypes, dtypes, st.sampled_from(["float32", "bfloat16", "float16"])),
    column=st.booleans(),
    layout=layouts,
)
def test_exponential_is_exp_and_its_sum(core, cast, same, types, column, layout):
    with core("trn3") as c:
        x = cast(c.random(0, (5, 6)), types[0])
        top = c.random(1, (5, 1)) if column else F(0.5)
        dst, res = c.empty((5, 6), types[1]), c.empty((5, 1), types[2])
        tile = c.tile(x, types[0], layout=layout)
        nisa.exponential(dst, tile, c.tile(top) if column else 0.5, res, cmd.reset_reduce)
        y = np.exp(x.astype(F) - top)
        assert same(dst, cast(y, types[1]))
        total = np.asarray(res.array).astype(F)
        np.testing.assert_allclose(total, y.sum(axis=1, keepdims=True), rtol=8e-3)
        nisa.exponential(dst, tile, 0.5, res, cmd.load_reduce, 10.0)
        first = res.array.astype(F)
        nisa.exponential(dst, tile, 0.5, res, cmd.load_reduce)  # from 0, unless it is told
        np.testing.assert_allclose(res.array.astype(F) + 10, first, rtol=1e-2)
        np.testing.assert_allclose(first, 10 + np.exp(x.astype(F) - F(0.5)).sum(1, keepdims=True), rtol=8e-3)


def test_exponential_takes_four_dimensions(core, same):
    with core("trn3") as c:
        x, dst = np.zeros((4, 2, 3, 2), np.float32), c.empty((4, 2, 3, 2))
        nisa.exponential(dst, c.tile(x))
        assert same(dst, np.ones_like(x))


def test_an_idle_exponential_leaves_nothing_in_the_register(core, refused):
    def call(c):
        one = c.tile(np.ones((2, 2), F))
        nisa.exponential(one, one, reduce_cmd=cmd.reset_reduce)
        nisa.exponential(one, one)
        nisa.exponential(one, one, reduce_cmd=cmd.reduce)

    refused(call, "the accumulator of the Vector Engine holds nothing", on=("trn3",))


def _reduce(c, dst=(4, 6), op0=nl.add, operand=0.0, op=nl.add, res=None, **more):
    nisa.tensor_scalar_reduce(c.empty(dst), c.empty((4, 6)), op0, operand, op, res, **more)


def _running(c, src="float32", dst="float32", op0=nl.add, op1=nl.add, imm0=0.0, **more):
    nisa.tensor_scalar_cumulative(c.empty((4, 6), dst), c.empty((4, 6), src), op0, op1, imm0, **more)


LIMITS = [
    (lambda c: _reduce(c, dst=(4, 5)), "same partitions and elements per partition"),
    (lambda c: _reduce(c, op0=nl.bitwise_and), "op0 must be arithmetic"),
    (lambda c: _reduce(c, op0=nl.exp), "not an ALU operator"),
    (lambda c: _reduce(c, operand=None), "operand0 must be a number"),
    (lambda c: _reduce(c, op0=nl.abs, operand=2.0), "operand0 must be None or 0"),
    (lambda c: _reduce(c, operand=c.empty((4, 2))), "operand0 must be a scalar or a tile"),
    (lambda c: _reduce(c, operand=c.empty((4, 1), "bfloat16")), "operand0 must be float32"),
    (lambda c: _reduce(c, op=nl.subtract), "reduce_op must be nl.add or nl.multiply or nl.maximum or nl.minimum"),
    (lambda c: _reduce(c, reverse0=True), "reverse0 is not supported yet"),
    (lambda c: _reduce(c, reduce_cmd=cmd.idle), "reduce_cmd must be one of"),
    (lambda c: _reduce(c, reduce_cmd=cmd.reset), "reduce_cmd must be one of"),
    (lambda c: _reduce(c, reduce_init=0.0), "reduce_init goes with reduce_cmd load_reduce only"),
    (lambda c: _reduce(c, reduce_cmd=cmd.load_reduce), "load_reduce needs reduce_init"),
    (
        lambda c: _reduce(c, reduce_cmd=cmd.load_reduce, reduce_init=c.empty((4, 1), "float16")),
        "reduce_init must be float32",
    ),
    (lambda c: _reduce(c, res=c.empty((4, 2))), r"reduce_res must be \(4, 1\)"),
    (_reduce, "nothing has written"),
    (lambda c: _running(c, "int32"), "src must be one of bfloat16"),
    (lambda c: _running(c, "tfloat32"), "src must be one of bfloat16"),
    (lambda c: _running(c, dst="uint32"), "dst must be one of bfloat16"),
    (lambda c: _running(c, op0=nl.bitwise_or), "op0 must be arithmetic"),
    (lambda c: _running(c, op0=nl.abs), "takes 1 operands"),
    (lambda c: _running(c, op1=nl.abs_max), "op1 must be nl.subtract or nl.add or nl.multiply"),
    (lambda c: _running(c, reduce_cmd=cmd.idle), "reduce_cmd must be one of"),
    (lambda c: _running(c, imm0=c.empty((4, 1), "bfloat16")), "imm0 must be float32"),
    (lambda c: _running(c, imm1=1.0), "imm1 goes with reduce_cmd load_reduce only"),
    (lambda c: _running(c, reduce_cmd=cmd.load_reduce), "load_reduce needs imm1"),
    (_running, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)


def _exp(c, dst=(4, 6), src=(4, 6), kinds=("float32", "float32"), **more):
    nisa.exponential(c.empty(dst, kinds[0]), c.empty(src, kinds[1]), **more)


V4_LIMITS = [
    (lambda c: _exp(c, dst=(4, 5)), "same partitions and elements per partition"),
    (lambda c: _exp(c, kinds=("uint32", "float32")), "dst must be one of"),
    (lambda c: _exp(c, kinds=("float32", "tfloat32")), "src must be one of"),
    (lambda c: _exp(c, kinds=("float32", "float8_e4m3fn")), "src must be one of"),
    (lambda c: _exp(c, (4, 1, 1, 1, 6), (4, 1, 1, 1, 6)), "at most 4 dimensions"),
    (lambda c: _exp(c, max_value=c.empty((4, 1), "bfloat16")), "max_value must be float32"),
    (lambda c: _exp(c, reduce_cmd=cmd.reset), "reduce_cmd must be one of"),
    (lambda c: _exp(c, reduce_res=c.empty((4, 1))), "reduce_res with reduce_cmd idle"),
    (lambda c: _exp(c, reduce_res=c.empty((4, 1), "int32"), reduce_cmd=cmd.reset_reduce), "reduce_res must be one of"),
    (lambda c: _exp(c, reduce_init=1.0), "reduce_init goes with reduce_cmd load_reduce only"),
    (_exp, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), V4_LIMITS)
def test_limits_of_v4(refused, call, words):
    refused(call, words, on=("trn3",))
