"""Copies, constants and elementwise arithmetic, against the same arithmetic in NumPy's float32 or on integers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import BINARY as BEFORE_V4
from operators import BITS, MAGNITUDES

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

V2, V3, V4 = TARGETS = ("trn1", "trn2", "trn3")
vector, scalar, gpsimd, tensor = (nisa.engine[e] for e in ("vector", "scalar", "gpsimd", "tensor"))

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


# tensor_copy and memset


@settings(max_examples=40, deadline=None)
@given(
    dtypes=st.tuples(dtypes, dtypes),
    layouts=st.tuples(layouts, layouts),
    on=st.sampled_from([nisa.engine.unknown, vector, scalar, gpsimd]),
    **sizes,
)
def test_tensor_copy_casts_through_float32(core, cast, same, p, f, seed, dtypes, layouts, on):
    with core() as c:
        x = cast(c.random(seed, (p, f), dtypes[0]), dtypes[0])
        dst = c.tile(np.zeros((p, f)), dtypes[1], layout=layouts[1])
        nisa.tensor_copy(dst, c.tile(x, dtypes[0], layout=layouts[0]), on)
        same_dtype = dtypes[0] == dtypes[1]
        assert same(dst, x if same_dtype else cast(x.astype(np.float32), dtypes[1]))


def test_tensor_copy_keeps_every_bit_where_dtypes_agree(core):
    with core() as c:
        for dtype, size in (("float32", 4), ("bfloat16", 2), ("float8_e4m3", 1), ("int32", 4), ("float8_e5m2_x4", 4)):
            raw = np.random.default_rng(0).integers(0, 256, (4, 8 * size), np.uint8)
            source, dst = c.empty((4, 8), dtype), c.empty((4, 8), dtype)
            source.array.view(np.uint8)[...] = raw
            source.wrote()
            nisa.tensor_copy(dst, source)
            np.testing.assert_array_equal(dst.array.view(np.uint8), raw)


def test_a_cast_rounds_an_integer_that_float32_cannot_hold(core, same):
    with core() as c:
        dst = c.empty((1, 2), "uint32")
        nisa.tensor_copy(dst, c.tile(np.array([[2**24 + 1, 2**31 - 1]], np.int32)))
        assert same(dst, np.array([[2**24, 2**31]], np.uint32))


def test_tensor_copy_within_one_tile(core, same):
    with core() as c:
        tile = c.tile(np.arange(8, dtype=np.float32)[None, :])
        nisa.tensor_copy(tile[:, 1::2], tile[:, ::2])
        assert same(tile, [[0, 0, 2, 2, 4, 4, 6, 6]])
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_copy(tile[:, 2:], tile[:, :-2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "int8", "uint32", "bool_"])
def test_memset(core, cast, same, dtype):
    with core() as c:
        dst = c.empty((3, 8), dtype)
        nisa.memset(dst[:, 2:5], 1)
        assert same(dst[:, 2:5], cast(np.ones((3, 3)), dtype)) and dst.storage.missing == 15
        if dtype.startswith(("float", "bfloat")):
            nisa.memset(dst, -np.inf, gpsimd)
            assert np.isneginf(dst.array.astype(np.float32)).all()


def test_memset_rounds_and_holds_what_the_dtype_holds(core, same):
    with core() as c:
        low, whole = c.empty((1, 1), "bfloat16"), c.empty((1, 1), "uint32")
        nisa.memset(low, 1 + 2**-9)
        nisa.memset(whole, 2**32 - 1)
        assert same(low, [[1.0]]) and same(whole, np.array([[2**32 - 1]], np.uint32))


# tensor_tensor


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(BINARY)),
    kinds=st.tuples(dtypes, dtypes, dtypes),
    layouts=st.tuples(layouts, layouts),
    buffers=st.sampled_from([("sbuf", "sbuf", "sbuf"), ("psum", "sbuf", "psum"), ("sbuf", "psum", "sbuf")]),
    on=st.sampled_from([nisa.engine.unknown, vector]),
    **sizes,
)
def test_tensor_tensor(core, cast, same, p, f, seed, name, kinds, layouts, buffers, on):
    with core(V4) as c:
        x, y = (cast(c.random(seed + i, (p, f), k), k) for i, k in enumerate(kinds[:2]))
        a = c.tile(x, kinds[0], buffers[0], layouts[0])
        b = c.tile(y, kinds[1], buffers[1], layouts[1])
        dst = c.empty(a.shape, kinds[2], buffers[2])
        exact = set(kinds) == {"int32"} and "psum" not in buffers and on is not vector
        work = np.int64 if exact else np.float32
        nisa.tensor_tensor(dst, a, b, op(name), on)
        result = BINARY[name](x.astype(work), y.astype(work))
        assert same(dst, result.astype(np.int32) if exact else cast(result, kinds[2]))


def test_tensor_tensor_of_int32_is_exact_on_gpsimd_only(core, same):
    with core() as c:
        x, one = np.array([[2**24, 2**30 + 1]], np.int32), np.ones((1, 2), np.int32)
        dst = c.empty((1, 2), "int32")
        nisa.tensor_tensor(dst, c.tile(x), c.tile(one), nl.add)
        assert same(dst, x + 1) and c.trace.events[-1].engine == "gpsimd"
        nisa.tensor_tensor(dst, c.tile(x), c.tile(one), nl.add, vector)
        assert same(dst, [[2**24, 2**30]]) and c.trace.events[-1].engine == "vector"
        nisa.tensor_tensor(dst, c.tile(x, buffer="psum"), c.tile(one), nl.add)  # GpSimd cannot reach PSUM
        assert same(dst, [[2**24, 2**30]]) and c.trace.events[-1].engine == "vector"


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_integers_beyond_32_bits_wrap_around_on_gpsimd_and_saturate_on_vector(core, same, dtype):
    largest = int(np.iinfo(dtype).max)
    with core() as c:
        x, y = (np.array([[largest, 7, largest]]).astype(dtype), np.array([[1, 3, largest]]).astype(dtype))
        dst = c.empty((1, 3), dtype)
        nisa.tensor_tensor(dst, c.tile(x), c.tile(y), nl.multiply)
        product = [[largest, 21, largest * largest % 2**32]]
        assert same(dst, product) and "nl.multiply: 1 results leave" in c.trace.notes[0]
        nisa.tensor_tensor(dst, c.tile(x), c.tile(y), nl.add)
        assert same(dst, np.array([[largest + 1, 10, 2 * largest]]).astype(dtype))
        assert "nl.add: 2 results leave" in c.trace.notes[1] and "test_vector_elementwise.py:" in c.trace.notes[1]
        nisa.tensor_tensor(dst, c.tile(x), c.tile(y), nl.maximum)
        assert same(dst, x.clip(3)) and len(c.trace.notes) == 2
        nisa.tensor_tensor(dst, c.tile(x), c.tile(y), nl.add, vector)
        assert same(dst, [[largest, 10, largest]]) and len(c.trace.notes) == 2


def test_a_nan_that_becomes_an_integer_is_noted(core, same):
    with core() as c:
        dst = c.empty((1, 3), "int8")
        nisa.tensor_copy(dst, c.tile(np.array([[np.nan, 300, np.nan]], np.float32)))
        assert same(dst, [[0, 127, 0]]) and len(c.trace.notes) == 1
        assert "2 NaN are cast to int8, as 0" in c.trace.notes[0] and "test_vector_elementwise.py:" in c.trace.notes[0]
        nisa.tensor_copy(dst, c.tile(np.array([[np.inf, -np.inf, 0.5]], np.float32)))
        assert same(dst, [[127, -128, 0]]) and len(c.trace.notes) == 1


def test_power_runs_on_gpsimd(core, same):
    with core() as c:
        dst, whole = c.empty((1, 3)), c.empty((1, 3), "int32")
        nisa.tensor_tensor(
            dst, c.tile(np.array([[2, 4, -1]], np.float32)), c.tile(np.array([[3, 0.5, 3]], np.float32)), nl.power
        )
        assert same(dst, [[8, 2, -1]]) and c.trace.events[-1].engine == "gpsimd"
        base = np.array([[3, 2, -2]], np.int32)
        nisa.tensor_tensor(whole, c.tile(base), c.tile(np.array([[19, -1, 31]], np.int32)), nl.power)
        assert same(whole, [[3**19, 0, -(2**31)]])


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(BITS)),
    kind=st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "uint32"]),
    layout=layouts,
    constant=st.booleans(),
    **sizes,
)
def test_bitvec_operators_work_on_patterns(core, p, f, seed, name, kind, layout, constant):
    """On signed integers too a right shift brings in zeros: it is the engine's logical shift."""
    unsigned = np.dtype("u" + kind.removeprefix("u"))
    with core() as c:
        x, y = c.random(seed, (p, f), kind), c.random(seed + 1, (p, f), kind)
        if "shift" in name:
            y = (y.view(unsigned) % (8 * unsigned.itemsize)).astype(kind)
        y = np.full_like(y, y[0, 0]) if constant else y
        a = c.tile(x, layout=layout)
        dst = c.empty(a.shape, kind)
        if constant:
            nisa.tensor_scalar(dst, a, op(name), int(y[0, 0]))
        else:
            nisa.tensor_tensor(dst, a, c.tile(y), op(name))
        expected = BITS[name](x.view(unsigned), y.view(unsigned))
        np.testing.assert_array_equal(dst.array.reshape(p, f).view(unsigned), expected)


def test_two_bitvec_operators_and_a_column(core, same):
    with core() as c:
        x = np.array([[0b1100, -1], [0b1010, 5]], np.int32)
        dst = c.empty((2, 2), "int32")
        column = c.tile(np.array([[0b0110], [0b0011]], np.int32))
        nisa.tensor_scalar(dst, c.tile(x), nl.bitwise_and, column, op1=nl.left_shift, operand1=30)
        assert same(dst, [[0b0100 << 30 & 0, -(2**31)], [-(2**31), 2**30]])
        nisa.tensor_scalar(dst, c.tile(x), nl.invert, None)
        assert same(dst, ~x)
        nisa.tensor_scalar(dst, c.tile(x), nl.left_shift, 1, reverse0=True)  # 1 << x
        assert dst.array[1].tolist() == [1024, 32]


# tensor_scalar and scalar_tensor_tensor


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


def test_a_column_of_the_data_may_be_the_operand(core, same):
    with core() as c:
        x = c.random(0, (4, 6))
        tile, dst = c.tile(x), c.empty((4, 6))
        nisa.tensor_scalar(dst, tile, nl.subtract, tile[:, 2], op1=nl.multiply, operand1=tile[:, 3])
        assert same(dst, (x - x[:, 2:3]) * x[:, 3:4])
        with pytest.raises(NkiValidationError, match="overlaps"):
            nisa.tensor_scalar(tile, tile, nl.subtract, tile[:, 2])


@pytest.mark.parametrize(("call", "expected"), [
    (lambda d, a: nisa.tensor_scalar(d, a, nl.maximum, 0.0), [np.nan, np.inf, 0, 0]),
    (lambda d, a: nisa.tensor_scalar(d, a, nl.multiply, 0.0), [np.nan, np.nan, np.nan, -0.0]),
    (lambda d, a: nisa.tensor_scalar(d, a, nl.equal, np.inf), [0, 1, 0, 0]),
    (lambda d, a: nisa.tensor_tensor(d, a, a, nl.equal), [0, 1, 1, 1]),
    (lambda d, a: nisa.tensor_tensor(d, a, a, nl.subtract), [np.nan, np.nan, np.nan, 0]),
    (lambda d, a: nisa.reciprocal(d, a), [np.nan, 0, -0.0, -0.5]),
])  # fmt: skip
def test_nan_and_infinity(core, same, call, expected):
    with core() as c:
        dst = c.empty((1, 4))
        call(dst, c.tile(np.array([[np.nan, np.inf, -np.inf, -2.0]], np.float32)))
        assert same(dst, [expected])


# reciprocal


@settings(max_examples=20, deadline=None)
@given(kinds=st.tuples(dtypes, dtypes), layout=layouts, **sizes)
def test_reciprocal(core, cast, same, p, f, seed, kinds, layout):
    with core() as c:
        x = cast(c.random(seed, (p, f), kinds[0]), kinds[0])
        a = c.tile(x, kinds[0], layout=layout)
        dst = c.empty(a.shape, kinds[1])
        nisa.reciprocal(dst, a)
        assert same(dst, cast(np.float32(1) / x.astype(np.float32), kinds[1]))


# Limits


def _t(c, shape=(4, 6), dtype="float32", buffer="sbuf"):
    return c.tile(np.zeros(shape), dtype, buffer)


def _tt(c, a=None, b=None, d=None, o=nl.add, **options):
    nisa.tensor_tensor(
        d if d is not None else c.empty((4, 6)),
        a if a is not None else _t(c),
        b if b is not None else _t(c),
        o,
        **options,
    )


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
    (lambda c: nisa.tensor_copy(c.empty((4, 5)), _t(c)), r"got \(4, 5\) and \(4, 6\)", TARGETS, ()),
    (lambda c: nisa.tensor_copy(c.empty((3, 8)), _t(c)), r"got \(3, 8\) and \(4, 6\)", TARGETS, ()),
    (lambda c: nisa.tensor_copy(c.empty((4, 6)), c.empty((4, 6))), "nothing has written", TARGETS, ()),
    (
        lambda c: nisa.tensor_copy(c.empty((4, 6), buffer="shared_hbm"), _t(c)),
        "dst must be a tile in SBUF or",
        TARGETS,
        (),
    ),
    (lambda c: nisa.tensor_copy(c.empty((4, 6)), _t(c), scalar), "no tensor_copy on NeuronCore-v2", (V2,), (V3, V4)),
    (lambda c: nisa.tensor_copy(c.empty((4, 6)), _t(c), tensor), "engine must be one of", TARGETS, ()),
    (
        lambda c: nisa.tensor_copy(c.empty((4, 6)), _t(c, buffer="psum"), gpsimd),
        "GpSimd cannot access PSUM",
        TARGETS,
        (),
    ),
    (
        lambda c: nisa.tensor_copy(c.empty((4, 6)), _t(c), "vector"),
        "engine must be one of .* got 'vector'",
        TARGETS,
        (),
    ),
    (lambda c: nisa.tensor_copy(c.empty((4, 6)), _t(c, dtype="float8_e5m2_x4")), "packed", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6), "int8"), 128), "an integer that int8 holds, got 128", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6), "int8"), 0.5), "an integer that int8 holds, got 0.5", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6), "int32"), 2.0), "an integer that int32 holds, got 2.0", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6), "float8_e4m3fn_x4"), 1), "can only be set to 0", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6), "float8_e4m3fn_x4"), 0), "never", (), TARGETS),
    (lambda c: nisa.memset(c.empty((4, 6)), c.empty((4, 1))), "value must be a number, got NkiTensor", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6)), 0, scalar), "engine must be one of", TARGETS, ()),
    (lambda c: nisa.memset(c.empty((4, 6), buffer="psum"), 0, gpsimd), "GpSimd cannot access PSUM", TARGETS, ()),
    (
        lambda c: _tt(c, _t(c, buffer="psum"), _t(c, buffer="psum")),
        "data1 and data2 cannot both be in PSUM",
        TARGETS,
        (),
    ),
    (lambda c: _tt(c, _t(c, (4, 5))), "data1 and data2 must have the same partitions", TARGETS, ()),
    (lambda c: _tt(c, d=c.empty((4, 7))), "dst and data1 must have the same partitions", TARGETS, ()),
    (lambda c: _tt(c, c.empty((4, 6))), "nothing has written", TARGETS, ()),
    (lambda c: _tt(c, o=nl.abs), "nl.abs takes 1 operands", TARGETS, ()),
    (lambda c: _tt(c, o=np.add), "is not an ALU operator", TARGETS, ()),
    (lambda c: _tt(c, o=nl.abs_max), "nl.abs_max needs NeuronCore-v4 or newer", (V2, V3), (V4,)),
    (lambda c: _tt(c, o=nl.abs_min), "nl.abs_min needs NeuronCore-v4 or newer", (V2, V3), (V4,)),
    (lambda c: _tt(c, _t(c, buffer="psum"), o=nl.power), "GpSimd cannot access PSUM", TARGETS, ()),
    (lambda c: _tt(c, o=nl.power, engine=vector), "engine must be one of nisa.engine.gpsimd", TARGETS, ()),
    (lambda c: _tt(c, o=nl.add, engine=scalar), "engine must be one of", TARGETS, ()),
    (lambda c: _tt(c, _t(c, buffer="psum"), engine=gpsimd), "GpSimd cannot access PSUM", TARGETS, ()),
    (lambda c: _tt(c, o=nl.bitwise_and), "bitvec operators need integer tiles", TARGETS, ()),
    (
        lambda c: _tt(c, _t(c, dtype="int8"), _t(c, dtype="int32"), c.empty((4, 6), "int32"), nl.bitwise_or),
        "integers of one size; got int32, int8, int32",
        TARGETS,
        (),
    ),
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
        lambda c: _stt(c, _t(c, buffer="psum"), _t(c, buffer="psum")),
        "data and operand1 cannot both be in PSUM",
        TARGETS,
        (),
    ),
    (lambda c: _stt(c, b=_t(c, (4, 5))), "data and operand1 must have the same partitions", TARGETS, ()),
    (lambda c: _stt(c, d=c.empty((4, 5))), "dst and data must have the same partitions", TARGETS, ()),
    (lambda c: _stt(c, ops=(nl.bitwise_and, nl.add)), "must be arithmetic, got nl.bitwise_and and nl.add", TARGETS, ()),
    (lambda c: _stt(c, ops=(nl.add, nl.abs)), "nl.abs takes 1 operands", TARGETS, ()),
    (lambda c: _stt(c, value=c.empty((4, 2))), "operand0 must be a scalar or a tile", TARGETS, ()),
    (lambda c: _stt(c, b=c.empty((4, 6))), "nothing has written", TARGETS, ()),
    (lambda c: nisa.reciprocal(c.empty((4, 5)), _t(c)), "dst and data must have the same partitions", TARGETS, ()),
    (lambda c: nisa.reciprocal(c.empty((4, 6)), c.empty((4, 6))), "nothing has written", TARGETS, ()),
    (
        lambda c: nisa.reciprocal(c.empty((4, 6)), 1.0),
        "data must be a tile in SBUF or PSUM, got float 1.0",
        TARGETS,
        (),
    ),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LIMITS)
def test_limits(refused, call, words, on, fine):
    refused(call, words, on, fine)


def test_bfloat16_arithmetic_is_float32_until_the_write(core, same):
    """(1 + 2^-8) * 256 - 256 is 1; rounded to bfloat16 between the steps it would be 0."""
    with core() as c:
        one = c.tile(np.ones((1, 1), ml_dtypes.bfloat16))
        dst = c.empty((1, 1), "bfloat16")
        nisa.scalar_tensor_tensor(dst, one, nl.add, 2.0**-8, nl.subtract, one)
        assert same(dst, [[2.0**-8]])
