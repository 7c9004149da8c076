"""GpSimd: iota and affine_select against their formula, index by index."""

from __future__ import annotations

import itertools
import operator

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

steps = st.integers(-5, 5)
patterns = st.lists(st.tuples(steps, st.integers(1, 4)), min_size=1, max_size=4)
COMPARE = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}


def affine(partitions, pattern, offset, multiplier):
    """The documented loops, written out."""
    rows = []
    for p in range(partitions):
        indices = itertools.product(*[range(n) for _, n in pattern])
        rows.append(
            [offset + p * multiplier + sum(s * i for (s, _), i in zip(pattern, at, strict=True)) for at in indices]
        )
    return np.array(rows)


@settings(max_examples=25, deadline=None)
@given(
    pattern=patterns,
    p=st.sampled_from([1, 3, 128]),
    offset=steps,
    multiplier=steps,
    dtype=st.sampled_from(["int32", "float32", "bfloat16", "int8", "uint8", "tfloat32"]),
)
def test_iota_is_its_formula(core, cast, same, pattern, p, offset, multiplier, dtype):
    expected = affine(p, pattern, offset, multiplier)
    with core() as c:
        dst = c.empty(expected.shape, dtype)
        nisa.iota(dst, [list(pair) for pair in pattern], offset, multiplier)
        assert same(dst, cast(expected, dtype))


def test_iota_rounds_and_saturates_at_the_write(core, same):
    with core() as c:
        narrow, low = c.empty((1, 4), "int8"), c.empty((1, 2), "bfloat16")
        nisa.iota(narrow, [[100, 4]], -100)
        assert same(narrow, [[-100, 0, 100, 127]])
        nisa.iota(low, [[2, 2]], 257)
        assert same(low, np.array([[256, 260]], ml_dtypes.bfloat16))
        medium = c.empty((1, 2), "tfloat32")
        nisa.iota(medium, [[2, 2]], 2049)
        assert same(medium, [[2048, 2052]])


@settings(max_examples=25, deadline=None)
@given(
    pattern=patterns,
    p=st.sampled_from([1, 5]),
    offset=steps,
    multiplier=steps,
    op=st.sampled_from(list(COMPARE)),
    dtypes=st.sampled_from(
        [("float32", "float32"), ("bfloat16", "bfloat16"), ("float32", "bfloat16"), ("bfloat16", "float32")]
    ),
    layout=st.sampled_from(["dense", "strided", "window", "partitions"]),
)
def test_affine_select_is_its_formula(core, cast, same, pattern, p, offset, multiplier, op, dtypes, layout):
    mask = COMPARE[op](affine(p, pattern, offset, multiplier), 0)
    source, target = dtypes
    with core() as c:
        values = c.random(1, mask.shape, source)
        tile = c.tile(values, source, layout=layout)
        dst = c.empty(mask.shape, target)
        nisa.affine_select(dst, pattern, multiplier, tile, -1.7, getattr(nl, op), offset)
        assert same(dst, cast(np.where(mask, values.astype(np.float32), np.float32(-1.7)), target))


@pytest.mark.parametrize(("offset", "step", "multiplier", "last"), [
    (2**31 - 6, 1, 1, 2**31 - 1), (-(2**31) + 5, -1, -1, -(2**31)), (2**31 - 1, -1, 0, 2**31 - 4),
    (-(2**31), 1, 0, -(2**31) + 3), (0, 0, 1 - 2**30, 2 - 2**31), (0, 0, 2**30 - 1, 2**31 - 2),
])  # fmt: skip
def test_a_pattern_may_reach_the_ends_of_int32(core, offset, step, multiplier, last):
    with core() as c:
        dst = c.empty((3, 4), "int32")
        nisa.iota(dst, [[step, 4]], offset, multiplier)
        assert dst.array[-1, -1] == last


def test_affine_select_makes_a_causal_mask_in_place(core, same):
    with core() as c:
        scores = c.random(0, (128, 160))
        tile = c.tile(scores)
        nisa.affine_select(tile, [[-1, 160]], 1, tile, -np.inf, nl.greater_equal, 32)
        assert same(tile, np.where(np.tril(np.ones((128, 160)), 32) > 0, scores, -np.inf))


def test_affine_select_copies_the_same_dtype_bit_for_bit(core, same):
    """Integers beyond float32's 2^24 and NaN payloads survive where dtypes agree."""
    with core() as c:
        big = np.array([[2**31 - 1, 2**24 + 1, -(2**31), 7]], np.int32)
        dst = c.empty((1, 4), "int32")
        nisa.affine_select(dst, [[1, 4]], 0, c.tile(big), -3.0, nl.less, -3)
        assert same(dst, [[2**31 - 1, 2**24 + 1, -(2**31), -3]])
        payload = np.array([[0x7FC00123, 0xFFC00001]], np.uint32).view(np.float32)
        out = c.empty((1, 2), "float32")
        nisa.affine_select(out, [[0, 2]], 0, c.tile(payload), 0.0)
        assert out.array.view(np.uint32).tolist() == [[0x7FC00123, 0xFFC00001]]


def test_fp32_min_rounds_to_minus_infinity_in_bfloat16(core):
    with core() as c:
        dst = c.empty((1, 1), "bfloat16")
        nisa.affine_select(dst, [[0, 1]], 0, c.tile(np.ones((1, 1), ml_dtypes.bfloat16)), -3.4028235e38, offset=1)
        assert np.isneginf(dst.array.astype(np.float32)).all()


LIMITS = [
    (lambda c: nisa.iota(c.empty((4, 6), buffer="psum"), [[1, 6]]), "dst must be a tile in SBUF"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 5]]), r"generates 5 elements per partition, and dst \(4, 6\) has 6"),
    (lambda c: nisa.iota(c.empty((4, 1)), [[1, 1]] * 5), r"1 to 4 \[step, num\] pairs, got 5"),
    (lambda c: nisa.iota(c.empty((4, 1)), []), r"1 to 4 \[step, num\] pairs, got 0"),
    (lambda c: nisa.iota(c.empty((4, 1)), [1, 1]), r"list of 1 to 4 \[step, num\] pairs"),
    (lambda c: nisa.iota(c.empty((4, 1)), [[1, 0]]), "num of pattern must be at least 1"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], 0.5), "offset must be an int32, got float 0.5"),
    (
        lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], c.empty((1, 1), "int32")),
        "offset must be an int32, got NkiTensor",
    ),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], nisa.register_alloc()), "register that nothing has written"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], nisa.register_alloc(2**31 - 3)), "computed in int32"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], 2**31), "offset must be an int32, got 2147483648"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], 2**31 - 3), "computed in int32 and reaches from"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[-1, 6]], 4 - 2**31), "reaches from -2147483649 to -2147483644"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], 2 - 2**31, -1), "reaches from -2147483649 to -2147483641"),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], 0, 2**30), "computed in int32 and reaches from 0 to 3221225477"),
    (lambda c: nisa.iota(c.empty((4, 6), "float8_e5m2_x4"), [[1, 6]]), "dst cannot be a packed dtype"),
    (
        lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((4, 6), buffer="psum"), 0.0),
        "on_true_tile must be a tile in SBUF",
    ),
    (
        lambda c: nisa.affine_select(c.empty((4, 6), buffer="psum"), [[1, 6]], 0, c.empty((4, 6)), 0.0),
        "dst must be a tile in SBUF",
    ),
    (
        lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((3, 6)), 0.0),
        r"same partitions and elements per partition, got \(4, 6\) and \(3, 6\)",
    ),
    (
        lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((4, 6), "float8_e5m2_x4"), 0.0),
        "on_true_tile cannot be a packed dtype",
    ),
    (
        lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((4, 6)), c.empty((4, 1))),
        "on_false_value must be a float32 number",
    ),
    (
        lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((4, 6)), True),
        "on_false_value must be a float32 number, got bool",
    ),
    (lambda c: nisa.iota(c.empty((4, 6)), [[1, 6]], False), "offset must be an int32, got bool"),
    (
        lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((4, 6)), 0.0, nl.add),
        "cmp_op must be one of nl.equal",
    ),
    (lambda c: nisa.affine_select(c.empty((4, 6)), [[1, 6]], 0, c.empty((4, 6)), 0.0), "reads 24 of 24 elements"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)


def test_an_offset_may_be_a_register(core, same):
    """It is read when the instruction runs: a loop's counter, or what register_load brought."""
    with core() as c:
        ones, rows = c.tile(np.ones((2, 3), np.float32)), c.tile(np.zeros((2, 3), np.int32))

        def body(i):
            nisa.iota(rows, [[1, 3]], i, 10)
            nisa.affine_select(ones, [[1, 3]], 0, ones, -1.0, nl.less, offset=i)

        nl.fori_loop(-2, 1, body)
        assert same(rows, [[0, 1, 2], [10, 11, 12]]) and same(ones, [[-1, -1, -1]] * 2)
        loaded = nisa.register_alloc()
        nisa.register_load(loaded, c.tile(np.array([[7]], np.int32)))
        nisa.iota(rows, [[0, 3]], loaded)
        assert same(rows, np.full((2, 3), 7))


def test_an_error_names_the_instruction_and_its_source(core):
    with core() as c, pytest.raises(NkiValidationError) as e:
        nisa.iota(c.empty((4, 6)), [[1, 5]])
    assert str(e.value).startswith("nisa.iota at test_gpsimd_patterns.py:") and "nki/api/nki/isa" in str(e.value)
