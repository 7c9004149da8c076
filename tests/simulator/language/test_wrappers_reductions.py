"""Reductions, norms and selection of nki.language, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import issued

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

F32 = np.float32
REDUCTIONS = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod, "mean": np.mean}
AXES = [((5, 12), 1), ((5, 12), [-1]), ((5, 3, 4), 2), ((5, 3, 4), (1, 2)), ((5, 2, 3, 2), [2, 3])]


def fn(name):
    return getattr(nl, name)


def values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(F32)


def on_chip(shape):
    return shape if len(shape) > 1 else (*shape, 1)


def axes(axis):
    return axis if isinstance(axis, int) else tuple(axis)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(("shape", "axis"), AXES)
@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
def test_reductions(core, cast, name, shape, axis, buffer):
    x = values(shape)
    expected = REDUCTIONS[name](x.astype(np.float64), axis=axes(axis))
    kept = REDUCTIONS[name](x.astype(np.float64), axis=axes(axis), keepdims=True)
    with core() as c:
        result = fn(name)(c.tile(x, buffer=buffer), axis)
        assert (result.shape, result.dtype, result.buffer) == (on_chip(expected.shape), "float32", nl.sbuf)
        np.testing.assert_allclose(result.array.reshape(expected.shape), expected, 1e-5, 1e-6)
        result = fn(name)(c.tile(x), axis=axis, dtype=nl.bfloat16, keepdims=True)
        assert (result.shape, result.dtype) == (kept.shape, "bfloat16")
        np.testing.assert_allclose(result.array.astype(F32), kept, 2**-8, 1e-6)
        poison = c.tile(np.full(shape, np.nan, F32))
        assert np.isnan(fn(name)(poison, axis).array).all()
        expected_ops = [("tensor_reduce", "vector")] + [("tensor_scalar", "vector")] * (name == "mean")
        assert issued(c) == expected_ops * 3 and {e.line[0] for e in c.trace.events} == {__file__}


def test_the_mean_is_taken_in_float32(core):
    with core() as c:  # the sum, 257, would round to 256 in bfloat16
        x = np.ones((1, 257), F32)
        assert nl.mean(c.tile(x, "bfloat16"), 1).array.astype(F32) == 1
        assert nl.mean(c.tile(x.astype(np.int32)), 1).array == 1


def test_all(core, same):
    x = np.array([[1, 2, 3], [1, 0, 3], [0, 0, 0]], F32)
    with core() as c:
        assert same(nl.all(c.tile(x), axis=1), [[1], [0], [0]])
        assert same(nl.all(c.tile(x.astype(np.uint8)), 1, nl.bool_), [[1], [0], [0]])
        assert same(nl.all(c.tile(np.array([[np.nan]], F32)), 1), [[1]])
        assert nl.all(c.tile(np.ones((4, 2, 3), F32)), -1).shape == (4, 2)


@pytest.mark.parametrize(("shape", "axis"), [*AXES, ((3, 1500), 1)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_var_keeps_its_dimensions_always(core, shape, axis, keepdims):
    x = values(shape) + 3
    expected = np.var(x.astype(np.float64), axis=axes(axis), keepdims=True)
    with core() as c:
        result = nl.var(c.tile(x), axis, keepdims=keepdims)
        assert result.shape == expected.shape and result.dtype == "float32"
        np.testing.assert_allclose(result.array, expected, 1e-5)
        assert nl.var(c.tile(x), axis, nl.float16).dtype == "float16"


@pytest.mark.parametrize("name", ["sum", "all", "var", "softmax"])
def test_only_the_last_free_dimensions_are_reduced(refused, name):
    for axis in (0, (0, 1), 1, (0, 1, 2), ()):
        refused(lambda c, axis=axis: fn(name)(c.tile(values((2, 3, 4))), axis), "last free dimensions")


def test_max_and_min_are_also_names_of_an_accumulation(core, same):
    x = values((4, 8))
    with core() as c:
        res, dst = c.empty((4, 1)), c.empty((4, 8))
        nisa.select_reduce(
            dst, c.tile(np.ones((4, 8), np.uint8)), c.tile(x), 0.0, res, nisa.reduce_cmd.reset_reduce, nl.max
        )
        assert same(res, x.max(1, keepdims=True))


# Norms


@pytest.mark.parametrize(("shape", "axis"), AXES)
@pytest.mark.parametrize("buffer", ["sbuf", "psum"])
def test_softmax(core, shape, axis, buffer):
    x = values(shape) * 10
    y = np.exp(x.astype(np.float64) - x.max(axis=axes(axis), keepdims=True))
    expected = y / y.sum(axis=axes(axis), keepdims=True)
    with core() as c:
        np.testing.assert_allclose(nl.softmax(c.tile(x, buffer=buffer), axis).array, expected, 1e-5, 1e-8)
        half = nl.softmax(c.tile(x), axis, nl.bfloat16)
        assert half.dtype == "bfloat16"
        np.testing.assert_allclose(half.array.astype(F32), expected, 2**-8, 1e-8)
        assert {e.engine for e in c.trace.events} == {"vector", "scalar"}
        assert {e.line[0] for e in c.trace.events} == {__file__}


def test_softmax_takes_the_last_axis_and_hides_infinities(core, same):
    x = np.array([[0, -np.inf, 0], [np.nan, 0, 0]], F32)
    with core() as c:
        assert same(nl.softmax(c.tile(x)), np.array([[0.5, 0, 0.5], [np.nan] * 3]))
        assert not c.trace.notes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rms_norm(core, cast, dtype, refused):
    x, w = cast(values((5, 64)), dtype), cast(values((5, 64), 1), dtype)
    y = x.astype(np.float64)
    expected = y / np.sqrt((y * y).sum(1, keepdims=True) / 64 + 0.1) * w.astype(np.float64)
    with core() as c:
        result = nl.rms_norm(c.tile(x, dtype), c.tile(w, dtype), 1, 64, epsilon=0.1)
        assert result.dtype == dtype
        np.testing.assert_allclose(result.array.astype(F32), expected, 1e-5 if dtype == "float32" else 2**-8, 1e-6)
        result = nl.rms_norm(c.tile(x, dtype), c.tile(w, dtype), axis=1, n=64, dtype=nl.float32, epsilon=0.1)
        assert result.dtype == "float32"
        np.testing.assert_allclose(result.array, expected, 1e-5, 1e-6)
        coarse = nl.rms_norm(
            c.tile(x, dtype), c.tile(w, dtype), 1, 64, 0.1, nl.float32, compute_dtype=nl.bfloat16
        ).array
        assert 1e-4 < np.abs(coarse / expected - 1).max() < 0.03
    x, w = (values((5, 3, 4), seed) for seed in (2, 3))
    with core() as c:
        result = nl.rms_norm(c.tile(x), c.tile(w), [1, 2], 12)
        expected = x / np.sqrt((x * x).sum((1, 2), keepdims=True) / 12 + 1e-6) * w
        np.testing.assert_allclose(result.array, expected, 1e-5, 1e-6)
    refused(lambda c: nl.rms_norm(c.tile(values((2, 4))), c.tile(values((2, 1))), 1, 4), "w must have x's shape")


# Selection


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_where(core, cast, same, dtype, refused):
    condition = np.array([[1, 0, 1, 0], [0, 0, np.nan, -2]], F32)
    x, y = cast(values((2, 4)) * 9, dtype), cast(values((2, 4), 1) * 9, dtype)
    expected = np.where(condition != 0, x, y)
    with core() as c:
        assert same(nl.where(c.tile(condition), c.tile(x, dtype), c.tile(y, dtype)), expected)
        wide = nl.where(c.tile(condition), c.tile(x, dtype), c.tile(y, dtype), nl.float16)
        assert wide.dtype == "float16" and same(wide, expected.astype(np.float16))
        assert issued(c)[:3] == [
            ("tensor_scalar", "vector"),
            ("tensor_copy", "vector"),
            ("tensor_copy_predicated", "vector"),
        ]
    refused(lambda c: nl.where(c.tile(condition), c.tile(condition), 0.0), "y must be a tile")
    refused(lambda c: nl.where(c.tile(condition[:, :1]), c.tile(condition), c.tile(condition)), "same shape")
