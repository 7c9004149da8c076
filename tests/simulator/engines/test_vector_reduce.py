"""Reductions over free dimensions against NumPy's in float64."""

from __future__ import annotations

import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

ARITHMETIC = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "maximum": max,
    "minimum": min,
    "logical_and": lambda x, y: float(bool(x) and bool(y)),
    "logical_or": lambda x, y: float(bool(x) or bool(y)),
    "logical_xor": lambda x, y: float(bool(x) != bool(y)),
}
BITS = {"bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor}


def folded(f, x, kept):
    """f folded over all but the first `kept` dimensions, one element after another."""
    rows = x.reshape(*x.shape[:kept], -1)
    return np.array([functools.reduce(f, row.tolist()) for row in rows.reshape(-1, rows.shape[-1])]).reshape(
        x.shape[:kept]
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(ARITHMETIC)),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(2, 4), st.integers(2, 5)),
    axis=st.sampled_from([3, -1, (3,), (2, 3), [1, 2, 3], (-1, -2), (1, 2, 3)]),
    dtype=st.sampled_from(["float32", "bfloat16", "int8"]),
    layout=st.sampled_from(["dense", "strided", "window", "partitions"]),
    negate=st.booleans(),
    keepdims=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tensor_reduce(core, name, shape, axis, dtype, layout, negate, keepdims, seed):
    axes = {a % 4 for a in ([axis] if isinstance(axis, int) else axis)}
    kept = min(axes)
    with core() as c:
        x = c.random(seed, shape, dtype)
        if dtype == "int8":
            x = np.clip(x, -2, 2)  # 80 factors of up to 127 would leave float32
        dst = c.empty((*shape[:kept], *[1] * (4 - kept)) if keepdims or kept == 1 else shape[:kept])
        nisa.tensor_reduce(dst, getattr(nl, name), c.tile(x, layout=layout), axis, negate, keepdims)
        dst.check_written()
        exact = folded(ARITHMETIC[name], x.astype(np.float64), kept) * (-1.0 if negate else 1.0)
        with np.errstate(over="ignore"):
            exact = exact.astype(np.float32)
        np.testing.assert_allclose(dst.array.reshape(exact.shape), exact, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(list(BITS)),
    dtype=st.sampled_from(["int8", "uint16", "int32"]),
    axis=st.sampled_from([(2,), (1, 2)]),
    seed=st.integers(0, 99),
)
def test_tensor_reduce_of_bit_patterns(core, same, name, dtype, axis, seed):
    with core() as c:
        x = c.random(seed, (3, 2, 4), dtype)
        kept = axis[0]
        dst = c.empty((*x.shape[:kept], 1), dtype)
        nisa.tensor_reduce(dst, getattr(nl, name), c.tile(x), axis)
        assert same(dst, folded(BITS[name], x, kept)[..., None])


# What nisa.tensor_reduce(add) gave on a trn1.2xlarge for the first rows of seed 3 (nki 0.6.0, neuronx-cc 2.27.5334;
# LaelaZorana/kernel-grader-mi300x-rocm-trainium-nki, dataset/nki_bins.jsonl).
ON_TRN1 = (
    *(58.494720458984375, 65.78350067138672, 61.448970794677734, 62.19142532348633, 63.312965393066406),
    *(64.03497314453125, 61.12638854980469, 65.78730773925781, 66.52725982666016, 70.30947875976562),
    *(61.32450866699219, 65.2213134765625, 61.5898323059082, 65.79043579101562, 70.573974609375),
)


def test_sums_are_the_chips_bit_for_bit(core):
    rng = np.random.default_rng(3)
    rng.random((2, 128, 512), dtype=np.float32)  # which the measurement drew before
    x = rng.random((4096, 128), dtype=np.float32)[:128]
    with core("trn1") as c:
        dst = c.empty((128, 1))
        nisa.tensor_reduce(dst, nl.add, c.tile(x), 1)
        assert dst.array[: len(ON_TRN1), 0].tolist() == list(ON_TRN1)
        assert not np.array_equal(dst.array[:, 0], x.sum(axis=1))  # NumPy's, which AWS's simulator gives


@pytest.mark.parametrize("shape", [(1, 300), (3, 300), (5, 300), (128, 128), (128, 129), (2, 3, 400)])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply"])
def test_every_row_is_folded_from_left_to_right(core, same, shape, name):
    with core() as c:
        x = (1 + c.random(1, shape) / 64).astype(np.float32)
        dst = c.empty((*shape[:-1], 1))
        nisa.tensor_reduce(dst, getattr(nl, name), c.tile(x), -1)
        expected = x[..., 0].copy()
        for i in range(1, shape[-1]):
            expected = ARITHMETIC[name](expected, x[..., i])
        assert same(dst, expected[..., None])


def test_sums_are_float32_and_rounded_once(core):
    with core() as c:
        low = c.tile(np.full((1, 4096), 1.0), "bfloat16")
        dst = c.empty((1, 1), "bfloat16")
        nisa.tensor_reduce(dst, nl.add, low, 1)
        assert float(dst.array[0, 0]) == 4096


def test_a_reduction_into_its_own_source(core, same):
    with core() as c:
        x = c.random(0, (4, 8))
        tile = c.tile(x)
        nisa.tensor_reduce(tile[:, 3], nl.maximum, tile, 1)
        assert same(tile[:, 3], x.max(axis=1, keepdims=True))


def test_nan_and_infinity(core, same):
    x = np.array([[np.nan, 1, 2], [np.inf, 1, -np.inf], [-np.inf, -np.inf, 0]], np.float32)
    with core() as c:
        for op, expected in ((nl.maximum, [np.nan, np.inf, 0]), (nl.add, [np.nan, np.nan, -np.inf])):
            dst = c.empty((3, 1))
            nisa.tensor_reduce(dst, op, c.tile(x), 1)
            assert same(dst, np.array(expected)[:, None])


def _reduce(c, op=nl.add, axis=1, dst=None, shape=(4, 6), dtype="float32", **options):
    dst = dst if dst is not None else c.empty((4, 1), dtype)
    nisa.tensor_reduce(dst, op, c.tile(np.zeros(shape), dtype), axis, **options)


LIMITS = [
    (lambda c: _reduce(c, axis=0), r"axis must be the last free dimensions of \(4, 6\).*; got 0"),
    (lambda c: _reduce(c, axis=2), "axis must be the last free dimensions"),
    (lambda c: _reduce(c, axis=()), "axis must be the last free dimensions"),
    (lambda c: _reduce(c, axis=1, shape=(4, 2, 3)), r"axis must be the last free dimensions of \(4, 2, 3\)"),
    (lambda c: _reduce(c, axis=(1, 3), shape=(4, 2, 3, 2)), "axis must be the last free dimensions"),
    (lambda c: _reduce(c, dst=c.empty((4, 2))), "leaves 1 elements per partition, and dst is"),
    (lambda c: _reduce(c, dst=c.empty((2, 2))), "leaves 1 elements per partition, and dst is"),
    (lambda c: _reduce(c, dst=c.empty((3, 1))), "leaves 1 elements per partition, and dst is"),
    (lambda c: _reduce(c, nl.equal), "nl.equal is not a reduction"),
    (lambda c: _reduce(c, nl.abs), "nl.abs is not a reduction"),
    (lambda c: _reduce(c, nl.exp), "nl.exp is not an ALU operator"),
    (lambda c: _reduce(c, nl.bitwise_and), "bitvec operators need integer tiles"),
    (lambda c: _reduce(c, nl.bitwise_and, dtype="int8", negate=True), "negate goes with arithmetic reductions"),
    (lambda c: nisa.tensor_reduce(c.empty((4, 1)), nl.add, c.empty((4, 6)), 1), "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)


def test_absolute_maximum_is_no_reduction(refused):
    """An operator of v4, and by the table of operators not a legal reduction there."""
    refused(lambda c: _reduce(c, nl.abs_max), "nl.abs_max is not a reduction", on=("trn3",))
