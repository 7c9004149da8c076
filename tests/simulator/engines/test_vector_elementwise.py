"""Copies, constants and elementwise arithmetic, against the same arithmetic in NumPy's float32 or on integers."""

from __future__ import annotations

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
        assert same(dst[:, 2:5], cast(np.ones((3, 3)), dtype)) and dst.storage.first_missing()[1] == 15
        if dtype.startswith(("float", "bfloat")):
            nisa.memset(dst, -np.inf, gpsimd)
            assert np.isneginf(dst.array.astype(np.float32)).all()


def test_memset_takes_a_whole_float_for_an_integer_with_a_remark(core, same):
    with core(strict=False) as c:
        dst = c.empty((2, 3), "int8")
        nisa.memset(dst, -3.0)
        assert same(dst, np.full((2, 3), -3)) and len(c.trace.notes) == 1 and "an integer that int8" in c.trace.notes[0]
        for wrong in (0.5, 128.0):
            with pytest.raises(NkiValidationError, match="an integer that int8 holds"):
                nisa.memset(dst, wrong)


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
