"""A tile with numbers, columns and another tile, against the same arithmetic in NumPy's float32 or on integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import BINARY as BEFORE_V4
from operators import MAGNITUDES

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

V2, V3, V4 = TARGETS = ("trn1", "trn2", "trn3")
vector, scalar, gpsimd = (nisa.engine[e] for e in ("vector", "scalar", "gpsimd"))

BINARY = BEFORE_V4 | MAGNITUDES
UNARY = {
    "abs": lambda x: np.where(x < 0, -x, x),
    "square": lambda x: x * x,
    "relu": lambda x: np.where(x > 0, x, np.where(np.isnan(x), x, np.float32(0))),
    "reciprocal": lambda x: np.float32(1) / x,
    "logical_not": lambda x: (x == 0).astype(np.float32),
}
dtypes = st.sampled_from(
    ["float32", "bfloat16", "float16", "tfloat32", "float8_e4m3", "float8_e5m2", "int8", "uint8", "int16", "int32"]
)
layouts = st.sampled_from(["dense", "strided", "window", "partitions", "split"])
sizes = {"p": st.integers(1, 6), "f": st.integers(1, 12), "seed": st.integers(0, 99)}


def op(name):
    return getattr(nl, name)


def operand(c, kind, p, seed):
    """A number or a column, and its values."""
    if kind == "number":
        return 0.75, np.float32(0.75)
    values = c.random(seed, (p, 1))
    return c.tile(values), values


@settings(max_examples=60, deadline=None)
@given(
    names=st.tuples(st.sampled_from(list(BINARY)), st.sampled_from([None, *BINARY])),
    operands=st.tuples(*[st.sampled_from(["number", "column"])] * 2),
    reverse=st.tuples(st.booleans(), st.booleans()),
    kinds=st.tuples(dtypes, dtypes),
    layout=layouts,
    **sizes,
)
def test_tensor_scalar(core, cast, same, p, f, seed, names, operands, reverse, kinds, layout):
    with core(V4) as c:
        x = cast(c.random(seed, (p, f), kinds[0]), kinds[0])
        (first, u), (second, v) = (operand(c, kind, p, seed + i) for i, kind in enumerate(operands))
        a = c.tile(x, kinds[0], layout=layout)
        dst = c.empty(a.shape, kinds[1])
        expected = x.astype(np.float32)
        expected = BINARY[names[0]](*((u, expected) if reverse[0] else (expected, u)))
        if names[1] is None:
            nisa.tensor_scalar(dst, a, op(names[0]), first, reverse[0])
        else:
            expected = BINARY[names[1]](*((v, expected) if reverse[1] else (expected, v)))
            nisa.tensor_scalar(dst, a, op(names[0]), first, reverse[0], op(names[1]), second, reverse[1])
        assert same(dst, cast(expected, kinds[1]))


@pytest.mark.parametrize("reverse", [(False, False), (True, False), (False, True), (True, True)])
def test_the_order_of_operands(core, same, reverse):
    with core() as c:
        x, y = c.random(0, (3, 5)), c.random(1, (3, 5))
        inner = 2 - x if reverse[0] else x - 2
        dst = c.empty((3, 5))
        nisa.tensor_scalar(dst, c.tile(x), nl.subtract, 2.0, reverse[0], nl.subtract, 3.0, reverse[1])
        assert same(dst, 3 - inner if reverse[1] else inner - 3)
        nisa.scalar_tensor_tensor(dst, c.tile(x), nl.subtract, 2.0, nl.subtract, c.tile(y), *reverse)
        assert same(dst, y - inner if reverse[1] else inner - y)


@pytest.mark.parametrize("name", list(UNARY))
def test_tensor_scalar_with_a_unary_operator(core, cast, same, name):
    with core(V4) as c:
        x = np.array([[-2.0, 0.0, 3.0, np.nan, -np.inf, np.inf]], np.float32)
        dst = c.empty((1, 6))
        nisa.tensor_scalar(dst, c.tile(x), op(name), None)
        assert same(dst, UNARY[name](x))
        nisa.tensor_scalar(dst, c.tile(x), nl.multiply, 2.0, op1=op(name), operand1=0)
        assert same(dst, UNARY[name](x * 2))


def test_rsqrt_runs_on_gpsimd(core):
    with core() as c:
        dst = c.empty((1, 4))
        nisa.tensor_scalar(dst, c.tile(np.array([[4, 0, -1, np.inf]], np.float32)), nl.rsqrt, 0.0)
        np.testing.assert_array_equal(dst.array, [[0.5, np.inf, np.nan, 0]])
        assert c.trace.events[-1].engine == "gpsimd"


def test_two_bitvec_operators_and_a_column(core, same):
    with core() as c:
        x = np.array([[0b1100, -1, 0], [0b1010, 5, 0]], np.int32)
        dst = c.empty((2, 3), "int32")
        column = c.tile(np.array([[0b0110], [0b0011]], np.int32))
        nisa.tensor_scalar(dst, c.tile(x), nl.bitwise_and, column, op1=nl.left_shift, operand1=30)
        assert same(dst, [[0b0100 << 30 & 0, -(2**31), 0], [-(2**31), 2**30, 0]])
        nisa.tensor_scalar(dst, c.tile(x), nl.invert, None)
        assert same(dst, ~x)
        nisa.tensor_scalar(dst, c.tile(x), nl.bitwise_or, 1, op1=nl.invert, operand1=0)
        assert same(dst, ~(x | 1))
        nisa.tensor_scalar(dst, c.tile(x), nl.left_shift, 1, reverse0=True)  # 1 << x
        assert dst.array[1].tolist() == [1024, 32, 1]


@settings(max_examples=40, deadline=None)
@given(
    names=st.tuples(*[st.sampled_from(list(BINARY))] * 2),
    kind=st.sampled_from(["number", "column"]),
    reverse=st.tuples(st.booleans(), st.booleans()),
    kinds=st.tuples(dtypes, dtypes, dtypes),
    layouts=st.tuples(layouts, layouts),
    buffers=st.sampled_from([("sbuf", "sbuf"), ("psum", "sbuf"), ("sbuf", "psum")]),
    **sizes,
)
def test_scalar_tensor_tensor(core, cast, same, p, f, seed, names, kind, reverse, kinds, layouts, buffers):
    with core(V4) as c:
        x, y = (cast(c.random(seed + i, (p, f), k), k) for i, k in enumerate(kinds[:2]))
        first, u = operand(c, kind, p, seed + 2)
        a, b = (c.tile(v, k, w, s) for v, k, w, s in zip((x, y), kinds[:2], buffers, layouts, strict=True))
        dst = c.empty(a.shape, kinds[2])
        nisa.scalar_tensor_tensor(dst, a, op(names[0]), first, op(names[1]), b, *reverse)
        inner, outer = x.astype(np.float32), y.astype(np.float32)
        inner = BINARY[names[0]](*((u, inner) if reverse[0] else (inner, u)))
        assert same(dst, cast(BINARY[names[1]](*((outer, inner) if reverse[1] else (inner, outer))), kinds[2]))


def test_bfloat16_arithmetic_is_float32_until_the_write(core, same):
    """(1 + 2^-8) * 256 - 256 is 1; rounded to bfloat16 between the steps it would be 0."""
    with core() as c:
        one = c.tile(np.ones((1, 1), ml_dtypes.bfloat16))
        dst = c.empty((1, 1), "bfloat16")
        nisa.scalar_tensor_tensor(dst, one, nl.add, 2.0**-8, nl.subtract, one)
        assert same(dst, [[2.0**-8]])


@pytest.mark.parametrize("own", [0, 1])
def test_dst_may_be_a_source(core, same, own):
    with core() as c:
        x, y, u = c.random(0, (4, 6)), c.random(1, (4, 6)), c.random(2, (4, 1))
        for call, expected in (
            (lambda d, a, b: nisa.tensor_tensor(d, a, b, nl.subtract), x - y),
            (lambda d, a, b: nisa.scalar_tensor_tensor(d, a, nl.multiply, c.tile(u), nl.subtract, b), x * u - y),
        ):
            tiles = [c.tile(x), c.tile(y)]
            call(tiles[own], *tiles)
            assert same(tiles[own], expected)


@pytest.mark.parametrize("own", [0, 1])
def test_a_column_may_be_dst_and_an_operand(core, same, own):
    """Of two steps in dst, the second would read what the first has left there."""
    with core() as c:
        x, columns = c.random(0, (4, 1)), [c.random(1, (4, 1)), c.random(2, (4, 1))]
        tiles = [c.tile(column) for column in columns]
        nisa.tensor_scalar(tiles[own], c.tile(x), nl.multiply, tiles[0], op1=nl.add, operand1=tiles[1])
        assert same(tiles[own], x * columns[0] + columns[1])


def test_a_column_of_the_data_may_be_the_operand(core, same):
    with core() as c:
        x = c.random(0, (4, 6))
        tile, dst = c.tile(x), c.empty((4, 6))
        nisa.tensor_scalar(dst, tile, nl.subtract, tile[:, 2], op1=nl.multiply, operand1=tile[:, 3])
        assert same(dst, (x - x[:, 2:3]) * x[:, 3:4])
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_scalar(tile, tile, nl.subtract, tile[:, 2])


# Limits


def _t(c, shape=(4, 6), dtype="float32", buffer="sbuf"):
    return c.tile(np.zeros(shape), dtype, buffer)


def _ts(c, o=nl.add, value=0.0, d=None, a=None, **options):
    nisa.tensor_scalar(d if d is not None else c.empty((4, 6)), a if a is not None else _t(c), o, value, **options)


def _stt(c, a=None, b=None, d=None, ops=(nl.add, nl.add), value=0.0):
    nisa.scalar_tensor_tensor(
        d if d is not None else c.empty((4, 6)),
        a if a is not None else _t(c),
        ops[0],
        value,
        ops[1],
        b if b is not None else _t(c),
    )


LIMITS = [
    (lambda c: _ts(c, d=c.empty((4, 5))), "dst and data must have the same partitions", TARGETS, ()),
    (lambda c: _ts(c, value=c.empty((3, 1))), r"operand0 must be a scalar or a tile of shape \(4, 1\)", TARGETS, ()),
    (lambda c: _ts(c, value=None), "operand0 must be a number", TARGETS, ()),
    (lambda c: _ts(c, op1=nl.add, operand1=_t(c, (4, 2))), "operand1 must be a scalar or a tile of shape", TARGETS, ()),
    (
        lambda c: _ts(c, value=_t(c, (4, 1), "bfloat16")),
        "an operand tile of an arithmetic operator must be float32",
        TARGETS,
        (),
    ),
    (lambda c: _ts(c, value=c.empty((4, 1))), "nothing has written", TARGETS, ()),
    (lambda c: _ts(c, operand1=1.0), "operand1 without op1", TARGETS, ()),
    (lambda c: _ts(c, op1=nl.add), "operand1 must be a number", TARGETS, ()),
    (lambda c: _ts(c, op1=nl.bitwise_and, operand1=1), "both be bitvec or both arithmetic", TARGETS, ()),
    (lambda c: _ts(c, nl.abs, 2.0), "nl.abs is unary: its operand must be None or 0, got 2.0", TARGETS, ()),
    (
        lambda c: _ts(c, nl.invert, _t(c, (4, 1), "int8"), c.empty((4, 6), "int8"), _t(c, dtype="int8")),
        r"nl.invert is unary: its operand must be None or 0, got NkiTensor\(",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_or, 1, c.empty((4, 6), "int8"), _t(c, dtype="int8"), op1=nl.invert, operand1=7),
        "nl.invert is unary: its operand must be None or 0, got 7",
        TARGETS,
        (),
    ),
    (lambda c: _ts(c, nl.abs_max, 2.0), "nl.abs_max needs NeuronCore-v4", (V2, V3), (V4,)),
    (lambda c: _ts(c, nl.square, None), "nl.square needs NeuronCore-v4", (V2, V3), (V4,)),
    (lambda c: _ts(c, nl.relu, None), "nl.relu needs NeuronCore-v4", (V2, V3), (V4,)),
    (lambda c: _ts(c, nl.rsqrt, 0.0, engine=vector), "engine must be one of nisa.engine.gpsimd", TARGETS, ()),
    (lambda c: _ts(c, nl.rsqrt, 0.0, a=_t(c, buffer="psum")), "GpSimd cannot access PSUM", TARGETS, ()),
    (lambda c: _ts(c, engine=gpsimd), "engine must be one of", TARGETS, ()),
    (lambda c: _ts(c, engine=scalar), "the Scalar Engine runs tensor_scalar from NeuronCore-v3", (V2,), (V3, V4)),
    (lambda c: _ts(c, nl.multiply, engine=scalar, op1=nl.add, operand1=1.0), "from NeuronCore-v3", (V2,), (V3, V4)),
    (
        lambda c: _ts(c, nl.subtract, engine=scalar),
        "for multiply then add, multiply, or add, .*; got subtract",
        (V2, V3),
        (V4,),
    ),
    (lambda c: _ts(c, nl.bitwise_and, 1), "bitvec operators need integer tiles", TARGETS, ()),
    (
        lambda c: _ts(c, nl.bitwise_and, -129, c.empty((4, 6), "int8"), _t(c, dtype="int8")),
        "needs an integer operand that int8 holds, got int -129",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_and, 256, c.empty((4, 6), "uint8"), _t(c, dtype="uint8")),
        "needs an integer operand that uint8 holds, got int 256",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_and, 1, c.empty((4, 6), "int8"), _t(c, dtype="int8"), engine=scalar),
        "Scalar Engine|engine must be one of",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_and, _t(c, (4, 2), "int8"), c.empty((4, 6), "int8"), _t(c, dtype="int8")),
        r"an operand tile must be \(4, 1\), got \(4, 2\)",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(
            c, nl.bitwise_and, _t(c, (4, 1), "int8", buffer="private_hbm"), c.empty((4, 6), "int8"), _t(c, dtype="int8")
        ),
        "operand must be a tile in SBUF or PSUM",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_and, _t(c, (4, 1)), c.empty((4, 6), "int8"), _t(c, dtype="int8")),
        "bitvec operators need integer tiles",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_and, _t(c, (4, 1), "int16"), c.empty((4, 6), "int8"), _t(c, dtype="int8")),
        "all tiles need integers of one size",
        TARGETS,
        (),
    ),
    (
        lambda c: _ts(c, nl.bitwise_and, _t(c, (3, 1), "int8"), c.empty((4, 6), "int8"), _t(c, dtype="int8")),
        r"an operand tile must be \(4, 1\), got \(3, 1\)",
        TARGETS,
        (),
    ),
    (
        lambda c: _stt(c, _t(c, buffer="psum"), _t(c, buffer="psum")),
        "data and operand1 cannot both be in PSUM",
        TARGETS,
        (),
    ),
    (lambda c: _stt(c, b=_t(c, (4, 5))), "data and operand1 must have the same partitions", TARGETS, ()),
    (lambda c: _stt(c, d=c.empty((4, 5))), "dst and data must have the same partitions", TARGETS, ()),
    (lambda c: _stt(c, ops=(nl.bitwise_and, nl.add)), "op0 must be arithmetic, got nl.bitwise_and", TARGETS, ()),
    (lambda c: _stt(c, ops=(nl.add, nl.abs)), "nl.abs takes 1 operands", TARGETS, ()),
    (lambda c: _stt(c, value=c.empty((4, 2))), "operand0 must be a scalar or a tile", TARGETS, ()),
    (lambda c: _stt(c, b=c.empty((4, 6))), "nothing has written", TARGETS, ()),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LIMITS)
def test_limits(refused, call, words, on, fine):
    refused(call, words, on, fine)
