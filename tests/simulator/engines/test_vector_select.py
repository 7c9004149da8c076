"""range_select, select_reduce and tensor_copy_predicated, and the accumulator that the first two share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import NkiValidationError, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

FP32_MIN = np.finfo(np.float32).min
COMPARE = {
    "equal": np.equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}
layouts = st.sampled_from(["dense", "strided", "window", "partitions", "split"])
floats = st.sampled_from(["float32", "bfloat16", "float16", "float8_e5m2"])
cmd = nisa.reduce_cmd


@settings(max_examples=25, deadline=None)
@given(
    p=st.integers(1, 9),
    f=st.integers(1, 12),
    start=st.integers(-3, 9),
    ops=st.tuples(*[st.sampled_from(list(COMPARE))] * 2),
    dtypes=st.tuples(floats, floats),
    layout=layouts,
    seed=st.integers(0, 99),
)
def test_range_select_is_its_numpy_equivalent(core, cast, same, p, f, start, ops, dtypes, layout, seed):
    rng = np.random.default_rng(seed)
    low, high = (rng.integers(-2, 14, (p, 1)).astype(np.float32) for _ in "ab")
    index = start + np.arange(f)[None, :]
    mask = COMPARE[ops[0]](index, low) & COMPARE[ops[1]](index, high)
    with core("trn2") as c:
        values = c.random(seed, (p, f), dtypes[0])
        chosen = np.where(mask, values.astype(np.float32), FP32_MIN)
        tile, largest = c.tile(values, layout=layout), c.empty((p, 1))
        dst = c.empty(tile.shape, dtypes[1])
        ops = [getattr(nl, op) for op in ops]
        nisa.range_select(dst, tile, *ops, c.tile(low), c.tile(high), reduce_res=largest, range_start=start)
        assert same(dst, cast(chosen, dtypes[1]))
        assert same(largest, chosen.max(axis=1, keepdims=True))


def test_range_select_of_an_empty_range_is_safe_for_a_softmax(core):
    """A full row of FP32_MIN is -inf in bfloat16, but its float32 maximum stays finite: -inf - max gives no NaN."""
    with core("trn2") as c:
        dst, largest = c.empty((1, 4), "bfloat16"), c.empty((1, 1))
        zero = c.tile(np.zeros((1, 1), np.float32))
        nisa.range_select(dst, c.tile(np.ones((1, 4), np.float32)), nl.less, nl.less, zero, zero, reduce_res=largest)
        assert np.isneginf(dst.array.astype(np.float32)).all() and largest.array[0, 0] == FP32_MIN


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_a_running_maximum_over_several_selections(core, same, target):
    with core(target) as c:
        parts = [c.random(i, (4, 6)) for i in range(3)]
        ones = c.tile(np.ones((4, 6), np.uint8))
        largest = c.empty((4, 1))
        for i, part in enumerate(parts):
            nisa.select_reduce(
                c.empty((4, 6)),
                ones,
                c.tile(part),
                0.0,
                largest if i == 2 else None,
                cmd.reset_reduce if i == 0 else cmd.reduce,
            )
        assert same(largest, np.concatenate(parts, axis=1).max(axis=1, keepdims=True))


def test_range_select_and_select_reduce_share_one_accumulator(core, same):
    with core("trn2") as c:
        first, second = c.random(0, (4, 6)), c.random(1, (4, 6))
        zero, ten = (c.tile(np.full((4, 1), v, np.float32)) for v in (0, 10))
        largest = c.empty((4, 1))
        nisa.range_select(c.empty((4, 6)), c.tile(first), nl.greater_equal, nl.less, zero, ten)
        ones = c.tile(np.ones((4, 6), np.uint8))
        nisa.select_reduce(c.empty((4, 6)), ones, c.tile(second), 0.0, largest, cmd.reduce)
        assert same(largest, np.maximum(first, second).max(axis=1, keepdims=True))


def test_each_partition_has_a_register_of_its_own(core, same):
    """Two halves of one tile accumulate apart."""
    with core("trn2") as c:
        values = c.random(0, (128, 6))
        tile, ones, dst, largest = (
            c.tile(values),
            c.tile(np.ones((128, 6), np.uint8)),
            c.empty((128, 6)),
            c.empty((128, 1)),
        )
        for part in (slice(0, 64), slice(64, 128)):
            nisa.select_reduce(dst[part], ones[part], tile[part], 0.0, reduce_cmd=cmd.reset_reduce)
        nisa.select_reduce(dst, ones, tile, 0.0, largest, cmd.reduce)
        assert same(largest, values.max(axis=1, keepdims=True))


def test_reduce_needs_an_accumulator_that_holds_something(core):
    with core("trn2") as c:
        tile, ones = c.tile(np.ones((4, 6), np.float32)), c.tile(np.ones((4, 6), np.uint8))
        with pytest.raises(NkiValidationError, match="holds nothing on partition 0"):
            nisa.select_reduce(c.empty((4, 6)), ones, tile, 0.0, reduce_cmd=cmd.reduce)
        nisa.select_reduce(c.empty((4, 6)), ones, tile, 0.0, reduce_cmd=cmd.reset_reduce)
        nisa.select_reduce(c.empty((1, 6)), ones[0], tile[0], 0.0)  # idle may change the register of partition 0
        with pytest.raises(NkiValidationError, match="holds nothing on partition 0: .* idle has run since"):
            nisa.select_reduce(c.empty((4, 6)), ones, tile, 0.0, reduce_cmd=cmd.reduce)


@pytest.mark.parametrize("start", [2**24 - 5, -(2**24)])
def test_indices_reach_as_far_as_float32_counts(core, same, start):
    with core("trn2") as c:
        x, dst = c.random(0, (1, 6)), c.empty((1, 6))
        low, high = (c.tile(np.array([[start + i]], np.float32)) for i in (0, 5))
        nisa.range_select(dst, c.tile(x), nl.greater, nl.less, low, high, range_start=start)
        lowest = np.finfo(np.float32).min
        assert same(dst, np.where((np.arange(6) > 0) & (np.arange(6) < 5), x, lowest))


def test_reset_alone_leaves_minus_infinity(core):
    with core("trn2") as c:
        zero, largest = c.tile(np.zeros((2, 1), np.float32)), c.empty((2, 1))
        tile = c.tile(np.ones((2, 3), np.float32))
        nisa.range_select(c.empty((2, 3)), tile, nl.less, nl.less, zero, zero, cmd.reset, largest)
        assert np.isneginf(largest.array).all()


@settings(max_examples=25, deadline=None)
@given(
    p=st.integers(1, 9),
    f=st.integers(1, 12),
    dtypes=st.tuples(st.sampled_from(["float32", "bfloat16", "int16", "uint8", "float8_e4m3"]), floats),
    predicate=st.sampled_from(["int8", "uint8", "int16", "uint16", "bool_"]),
    column=st.booleans(),
    reverse=st.booleans(),
    layout=layouts,
    buffers=st.sampled_from([("sbuf", "sbuf"), ("psum", "sbuf"), ("sbuf", "psum")]),
    seed=st.integers(0, 99),
)
def test_select_reduce_is_where(core, cast, same, p, f, dtypes, predicate, column, reverse, layout, buffers, seed):
    rng = np.random.default_rng(seed)
    chooses = rng.integers(-1 if predicate.startswith("int") else 0, 2, (p, f))
    other = rng.standard_normal((p, 1)).astype(np.float32) if column else np.float32(-2.5)
    with core() as c:
        values = c.random(seed, (p, f), dtypes[0])
        chosen = np.where((chooses == 0) if reverse else (chooses != 0), values.astype(np.float32), other)
        tile = c.tile(values, dtypes[0], buffers[0], layout)
        dst, largest = c.empty(tile.shape, dtypes[1]), c.empty((p, 1))
        nisa.select_reduce(
            dst,
            c.tile(chooses, predicate, buffers[1]),
            tile,
            c.tile(other) if column else float(other),
            largest,
            cmd.reset_reduce,
            reverse_pred=reverse,
        )
        assert same(dst, cast(chosen, dtypes[1]))
        assert same(largest, chosen.max(axis=1, keepdims=True))


@settings(max_examples=25, deadline=None)
@given(
    p=st.integers(1, 9),
    f=st.integers(1, 12),
    dtype=st.sampled_from(["float32", "bfloat16", "int32", "uint8", "tfloat32"]),
    predicate=st.sampled_from(["uint8", "uint16", "uint32", "bool_"]),
    reverse=st.booleans(),
    scalar=st.booleans(),
    layout=layouts,
    seed=st.integers(0, 99),
)
def test_tensor_copy_predicated_leaves_the_rest(
    core, cast, same, p, f, dtype, predicate, reverse, scalar, layout, seed
):
    chooses = np.random.default_rng(seed).integers(0, 2, (p, f))
    with core() as c:
        new = cast(np.full((p, f), 3) if scalar else c.random(seed, (p, f), dtype), dtype)
        old = cast(c.random(seed + 1, (p, f), dtype), dtype)
        dst = c.tile(old, dtype, layout=layout)
        nisa.tensor_copy_predicated(dst, 3 if scalar else c.tile(new, dtype), c.tile(chooses, predicate), reverse)
        assert same(dst, np.where((chooses == 0) if reverse else (chooses != 0), new, old))


def test_a_number_that_tensor_copy_predicated_writes_is_an_integer_to_the_last_bit(core):
    with core() as c:
        dst = c.tile(np.zeros((4, 8), np.int32), "int32")
        nisa.tensor_copy_predicated(dst, 2**24 + 1, c.tile(np.ones((4, 8), np.uint8), "uint8"))
        assert np.all(dst.array == 2**24 + 1)


def test_tensor_copy_predicated_writes_only_what_it_chooses(core):
    with core() as c:
        dst = c.empty((2, 4))
        mask = np.array([[1, 1, 0, 1], [1, 1, 1, 1]], np.uint8)
        nisa.tensor_copy_predicated(dst, 1.5, c.tile(mask))
        nisa.dma_copy(c.empty((1, 4)), dst[1])
        with pytest.raises(Uninitialized, match=r"1 of 8 elements that nothing has written, first at \[0, 2\]"):
            nisa.tensor_copy(c.empty((2, 4)), dst)
        nisa.tensor_copy_predicated(dst, 2.0, c.tile(mask), reverse_pred=True)
        assert dst.storage.missing == 0 and dst.array.tolist() == [[1.5, 1.5, 2, 1.5], [1.5] * 4]


def test_a_nan_is_selected_like_any_value_and_wins_the_maximum(core):
    with core() as c:
        tile, largest = c.tile(np.array([[np.nan, 1.0], [np.inf, 1.0]], np.float32)), c.empty((2, 1))
        nisa.select_reduce(tile, c.tile(np.ones((2, 2), np.uint8)), tile, 0.0, largest, cmd.reset_reduce)
        assert np.isnan(largest.array[0, 0]) and np.isposinf(largest.array[1, 0])
        assert np.isnan(tile.array[0, 0])


def _range(c, dst=None, tile=None, ops=(nl.less, nl.less), low=None, high=None, **others):
    column = c.tile(np.zeros((4, 1), np.float32))
    tile = tile if tile is not None else c.tile(np.zeros((4, 6), np.float32))
    dst = dst if dst is not None else c.empty((4, 6))
    nisa.range_select(
        dst, tile, *ops, low if low is not None else column, high if high is not None else column, **others
    )


def _select(c, dst=None, predicate=None, tile=None, other=0.0, **others):
    tile = tile if tile is not None else c.tile(np.zeros((4, 6), np.float32))
    predicate = predicate if predicate is not None else c.tile(np.zeros((4, 6), np.uint8))
    nisa.select_reduce(dst if dst is not None else c.empty((4, 6)), predicate, tile, other, **others)


def _copy(c, dst=None, src=0.0, predicate=None, **others):
    predicate = predicate if predicate is not None else c.tile(np.zeros((4, 6), np.uint8))
    nisa.tensor_copy_predicated(dst if dst is not None else c.empty((4, 6)), src, predicate, **others)


V3 = ("trn2", "trn3")
ALL = ("trn1", *V3)
LIMITS = [
    (lambda c: _range(c), "needs NeuronCore-v3 or newer, and the target is NeuronCore-v2", ("trn1",)),
    (lambda c: _range(c, tile=c.tile(np.zeros((4, 6), np.int32))), "on_true_tile must have a floating-point dtype", V3),
    (lambda c: _range(c, ops=(nl.not_equal, nl.less)), "comp_op0 must be one of nl.equal", V3),
    (lambda c: _range(c, ops=(nl.less, nl.add)), "comp_op1 must be one of nl.equal", V3),
    (lambda c: _range(c, low=c.empty((3, 1))), r"bound0 must be \(4, 1\) in float32", V3),
    (lambda c: _range(c, high=c.empty((4, 2))), r"bound1 must be \(4, 1\) in float32", V3),
    (lambda c: _range(c, high=c.empty((4, 1), "bfloat16")), r"bound1 must be \(4, 1\) in float32", V3),
    (lambda c: _range(c, low=0.0), "bound0 must be a tile in SBUF or PSUM, got float 0.0", V3),
    (lambda c: _range(c, on_false_value=-1.0), "on_false_value must be FP32_MIN", V3),
    (lambda c: _range(c, range_start=2**24 - 4), "must stay within 2\\^24", V3),
    (lambda c: _range(c, range_start=-(2**24) - 1), "must stay within 2\\^24", V3),
    (lambda c: _range(c, range_start=0.5), "range_start must be an integer, got float 0.5", V3),
    (lambda c: _range(c, reduce_op=nl.add), "reduce_op must be nl.maximum, got nl.add", V3),
    (lambda c: _range(c, reduce_cmd=cmd.load_reduce), "reduce_cmd must be one of", V3),
    (lambda c: _range(c, reduce_cmd=cmd.idle, reduce_res=c.empty((4, 1))), "reduce_res with reduce_cmd idle", V3),
    (lambda c: _range(c, reduce_res=c.empty((4, 2))), r"reduce_res must be \(4, 1\), got \(4, 2\)", V3),
    (lambda c: _range(c, dst=c.empty((4, 5))), "same partitions and elements per partition", V3),
    (lambda c: _range(c, low=c.empty((4, 1))), "nothing has written", V3),
    (
        lambda c: _select(
            c, predicate=c.tile(np.zeros((4, 6)), "uint8", "psum"), tile=c.tile(np.zeros((4, 6)), "float32", "psum")
        ),
        "on_true and predicate cannot both be in PSUM",
        ALL,
    ),
    (lambda c: _select(c, predicate=c.empty((4, 6), "uint32")), "predicate must be int8, uint8, int16, uint16", ALL),
    (lambda c: _select(c, tile=c.empty((4, 6), "int32")), "any dtype but tfloat32, int32, uint32", ALL),
    (lambda c: _select(c, tile=c.empty((4, 6), "tfloat32")), "any dtype but tfloat32, int32, uint32", ALL),
    (lambda c: _select(c, tile=c.empty((4, 5))), "same partitions and elements per partition", ALL),
    (lambda c: _select(c, predicate=c.empty((4, 5), "uint8")), "same partitions and elements per partition", ALL),
    (lambda c: _select(c, other=c.empty((4, 6))), r"on_false must be a scalar or a tile of shape \(4, 1\)", ALL),
    (lambda c: _select(c, reduce_op=nl.minimum), "reduce_op must be nl.maximum, got nl.minimum", ALL),
    (lambda c: _select(c, reduce_cmd=cmd.reset), "reduce_cmd must be one of", ALL),
    (lambda c: _select(c, reduce_res=c.empty((4, 1))), "reduce_res with reduce_cmd idle", ALL),
    (
        lambda c: _select(c, reduce_res=c.empty((4, 1), "int32"), reduce_cmd=cmd.reset_reduce),
        "reduce_res must have a floating-point dtype",
        ALL,
    ),
    (lambda c: _copy(c, predicate=c.empty((4, 6), "int8")), "predicate must be uint8, uint16, uint32", ALL),
    (lambda c: _copy(c, src=c.empty((4, 6), "bfloat16")), "src and dst must have the same dtype", ALL),
    (lambda c: _copy(c, src=c.empty((4, 5))), "same partitions and elements per partition", ALL),
    (lambda c: _copy(c, predicate=c.empty((4, 5), "uint8")), "same partitions and elements per partition", ALL),
    (
        lambda c: _copy(c, src=c.empty((4, 6), buffer="psum"), predicate=c.empty((4, 6), "uint8", "psum")),
        "src and predicate cannot both be in PSUM",
        ALL,
    ),
    (lambda c: _copy(c, dst=c.empty((4, 6), "int32"), src=0.5), "src must be a tile or a number that int32 holds", ALL),
    (lambda c: _copy(c, src="one"), "src must be a tile or a number that float32 holds, got str", ALL),
]


@pytest.mark.parametrize(("call", "words", "on"), LIMITS)
def test_limits(refused, call, words, on):
    refused(call, words, on)


def test_range_select_runs_where_it_exists(refused):
    refused(_range, "needs NeuronCore-v3", on=("trn1",), fine=V3)


def test_a_reduction_may_be_named_max_as_the_documentation_does(core):
    with core("trn2") as c:
        _select(c, reduce_cmd=cmd.reset_reduce, reduce_op=nl.max)
