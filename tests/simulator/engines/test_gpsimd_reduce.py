"""tensor_partition_reduce against NumPy's reductions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

dtypes = st.sampled_from(["float32", "bfloat16", "int16", "uint8"])


@pytest.mark.parametrize("op", ["add", "average", "maximum", "max"])
@settings(max_examples=8, deadline=None)
@given(
    p=st.sampled_from([1, 5, 128]),
    types=st.tuples(dtypes, dtypes),
    layout=st.sampled_from(["dense", "strided", "window", "partitions", "split"]),
)
def test_arithmetic_is_done_in_float32(core, cast, op, p, types, layout):
    with core() as c:
        x = cast(4 * c.random(0, (p, 6)), types[0])
        dst = c.empty((1, 6), types[1])
        nisa.tensor_partition_reduce(dst, getattr(nl, op), c.tile(x, types[0], layout=layout))
        f = {"add": np.sum, "average": np.mean}.get(op, np.max)
        exact = f(x.astype(np.float64), axis=0, keepdims=True)
        step = 2e-2 if types[1] == "bfloat16" else 1e-5
        bound = step * np.abs(exact) + (0.51 if types[1] in ("int16", "uint8") else 1e-5)
        limits = (0, 255) if types[1] == "uint8" else (-np.inf, np.inf)
        assert (np.abs(dst.array.astype(np.float64) - np.clip(exact, *limits)) <= bound).all()


@pytest.mark.parametrize(("op", "f"), [("bitwise_or", np.bitwise_or), ("bitwise_and", np.bitwise_and)])
@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_bit_patterns(core, same, op, f, dtype):
    with core() as c:
        x = c.random(0, (3, 2, 5), dtype)
        dst = c.empty((1, 10), dtype)
        nisa.tensor_partition_reduce(dst, getattr(nl, op), c.tile(x))
        assert same(dst, f.reduce(x, axis=0).reshape(1, 10))


def test_the_result_may_lie_in_the_data(core, same):
    with core() as c:
        tile = c.tile(np.arange(6, dtype=np.float32).reshape(3, 2))
        nisa.tensor_partition_reduce(tile[0:1], nl.add, tile)
        assert same(tile, [[6, 9], [2, 3], [4, 5]])


def _reduce(c, dst=(1, 6), op=nl.add, data=(4, 6), kinds=("float32", "float32"), buffer="sbuf"):
    nisa.tensor_partition_reduce(c.empty(dst, kinds[0]), op, c.empty(data, kinds[1], buffer))


LIMITS = [
    (lambda c: _reduce(c, dst=(4, 6)), "dst must have 1 partition of 6 elements"),
    (lambda c: _reduce(c, dst=(1, 5)), "dst must have 1 partition of 6 elements"),
    (lambda c: _reduce(c, op=nl.multiply), "op must be one of nl.add, nl.average, nl.maximum, nl.bitwise_or"),
    (lambda c: _reduce(c, op="add"), "op must be one of nl.add"),
    (lambda c: _reduce(c, op=nl.bitwise_or), "bitvec operators need integer tiles"),
    (lambda c: _reduce(c, op=nl.bitwise_or, kinds=("int8", "int16")), "integers of one size"),
    (lambda c: _reduce(c, buffer="psum"), "data must be a tile in SBUF"),
    (_reduce, "nothing has written"),
]


@pytest.mark.parametrize(("call", "words"), LIMITS)
def test_limits(refused, call, words):
    refused(call, words)
