"""Element by element, on Vector, Scalar or GpSimd."""

from __future__ import annotations

import numpy as np

from calls.model import (
    ANY,
    FLOATS,
    NOT_FLOAT32,
    NUMBERS,
    Call,
    F,
    Operand,
    call,
    column,
    copied,
    f32,
    given,
    source,
    total,
)
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@call
def tensor_copy(p, f):
    return Call(
        {"dst": Operand((p, f), ANY), "src": source((p, f))},
        nisa.tensor_copy,
        lambda x: {"dst": copied(x, "src")},
        engines={"vector": 2, "scalar": 3, "gpsimd": 2},
    )


@call
def memset(p, f):
    return Call(
        {"dst": Operand((p, f), ANY, any_rows=True, any_columns=True)},
        lambda dst, **more: nisa.memset(dst, 3, **more),
        lambda x: {"dst": np.full((p, f), 3)},
        engines={"vector": 2, "gpsimd": 2},
    )


@call
def tensor_tensor(p, f):
    return Call(
        {"dst": Operand((p, f), ANY), "data1": source((p, f), NUMBERS), "data2": source((p, f), NUMBERS)},
        lambda dst, data1, data2, **more: nisa.tensor_tensor(dst, data1, data2, nl.subtract, **more),
        lambda x: {"dst": f32(x["data1"]) - f32(x["data2"])},
        not_both_in_psum=("data1", "data2"),
        engines={"vector": 2, "gpsimd": 2},
    )


@call
def tensor_scalar(p, f):
    return Call(
        {
            "dst": Operand((p, f), ANY),
            "data": source((p, f)),
            "operand0": column(p, refuses=NOT_FLOAT32),
            "operand1": column(p, refuses=NOT_FLOAT32),
        },
        lambda dst, data, operand0, operand1, **more: nisa.tensor_scalar(
            dst, data, nl.multiply, operand0, op1=nl.add, operand1=operand1, **more
        ),
        lambda x: {"dst": f32(x["data"]) * x["operand0"] + x["operand1"]},
        engines={"vector": 2, "scalar": 3},
    )


@call
def scalar_tensor_tensor(p, f):
    return Call(
        {"dst": Operand((p, f), ANY), "data": source((p, f)), "operand0": column(p), "operand1": source((p, f))},
        lambda dst, data, operand0, operand1: nisa.scalar_tensor_tensor(
            dst, data, nl.subtract, operand0, nl.maximum, operand1
        ),
        lambda x: {"dst": np.maximum(f32(x["data"]) - x["operand0"], f32(x["operand1"]))},
        not_both_in_psum=("data", "operand1"),
    )


@call
def reciprocal(p, f):
    return Call(
        {"dst": Operand((p, f), ANY), "data": source((p, f))},
        nisa.reciprocal,
        lambda x: {"dst": F(1) / f32(x["data"])},
    )


@call
def activation(p, f):
    def expected(x):
        y = np.square(f32(x["data"]) * x["scale"] + f32(x["bias"]))
        return {"dst": y, **total(y)}

    return Call(
        {
            "dst": Operand((p, f), ANY),
            "data": source((p, f), NUMBERS),
            "bias": source((p, 1), (*FLOATS, "int8"), refuses=("tfloat32",)),
            "scale": column(p, refuses=NOT_FLOAT32),
            "reduce_res": Operand((p, 1)),
        },
        lambda dst, data, bias, scale, reduce_res: nisa.activation(
            dst, nl.square, data, bias, scale, nl.add, reduce_res, nisa.reduce_cmd.reset_reduce
        ),
        expected,
        rtol={"reduce_res": 1e-4},
    )


@call
def activation_reduce(p, f):
    def expected(x):
        y = np.abs(f32(x["data"]) * x["scale"] + x["bias"])
        return {"dst": y, **total(y)}

    return Call(
        {
            "dst": Operand((p, f), ANY),
            "data": source((p, f), NUMBERS),
            "reduce_res": Operand((p, 1), FLOATS),
            "bias": column(p, refuses=("tfloat32",)),
            "scale": column(p, refuses=NOT_FLOAT32),
        },
        lambda dst, data, reduce_res, bias, scale: nisa.activation_reduce(
            dst, nl.abs, data, nl.add, reduce_res, bias, scale
        ),
        expected,
        rtol={"reduce_res": 1e-4},
    )


@call
def activate2(p, f):
    def expected(x):
        y = f32(x["data"]) * x["imm0"] - x["imm1"]
        y = np.where(y >= 0, y, y * x["relu_param"])
        return {"dst": y, "reduce_res": y.max(axis=1, keepdims=True)}

    return Call(
        {
            "dst": Operand((p, f), ANY),
            "data": source((p, f)),
            "imm0": column(p, refuses=NOT_FLOAT32),
            "imm1": column(p, refuses=NOT_FLOAT32),
            "relu_param": column(p),
            "reduce_res": Operand((p, 1)),
        },
        lambda dst, data, imm0, imm1, relu_param, reduce_res: nisa.activate2(
            dst,
            nl.prelu,
            data,
            imm0,
            imm1,
            nl.multiply,
            nl.subtract,
            relu_param,
            reduce_op=nl.maximum,
            reduce_res=reduce_res,
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
        ),
        expected,
    )


@call
def exponential(p, f):
    def expected(x):
        y = np.exp(f32(x["src"]) - x["max_value"])
        return {"dst": y, **total(y)}

    return Call(
        {
            "dst": Operand((p, f), NUMBERS, refuses=("uint32", "float8_e4m3fn")),
            "src": source((p, f), FLOATS, refuses=("tfloat32", "float8_e4m3fn")),
            "max_value": column(p, refuses=NOT_FLOAT32),
            "reduce_res": Operand((p, 1), FLOATS, refuses=("int32", "float8_e4m3fn")),
        },
        lambda dst, src, max_value, reduce_res: nisa.exponential(
            dst, src, max_value, reduce_res, nisa.reduce_cmd.reset_reduce
        ),
        expected,
        rtol={"dst": 1e-5, "reduce_res": 1e-4},
    )


@call
def dropout(p, f):
    return Call(
        {
            "dst": Operand((p, f), ANY),
            "data": source((p, f)),
            # 0 or 1: nothing is left to chance
            "prob": given(lambda rng: rng.integers(0, 2, (p, 1)).astype(F), refuses=("int32", "uint8")),
        },
        nisa.dropout,
        lambda x: {"dst": np.where(x["prob"] == 1, x["data"].dtype.type(0), x["data"])},
        same_dtype=(("dst", "data"),),
    )
