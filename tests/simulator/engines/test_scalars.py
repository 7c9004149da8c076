"""Scalars of NKI 0.7: integers of 32 or 64 bits that are known when the kernel runs, and what computes on them."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError, ShapeDtype
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

LARGE = 5_000_000_000
KINDS = {"int32": np.int32, "int64": np.int64}


def computed(f):
    """A kernel that stores what `f` makes of the one element of n."""

    def kernel(n):
        out = nl.ndarray((1, 1), n.dtype, buffer=nl.shared_hbm)
        nisa.scalar_store(out, f(nisa.scalar_load(n)))
        return out

    return kernel


@pytest.mark.parametrize(
    ("f", "dtype", "n", "expected"),
    [
        (lambda s: s * 100000, "int32", 100000, 1410065408),  # the page's example: 32 bits wrap
        (lambda s: s * 100000, "int64", 100000, 10_000_000_000),
        (lambda s: s + 1, "int32", 2**31 - 1, -(2**31)),
        (lambda s: 10 - s, "int32", 3, 7),
        (lambda s: s - 10, "int32", 3, -7),
        (lambda s: -s, "int64", LARGE, -LARGE),
        (lambda s: 2 * s + s, "int64", LARGE, 3 * LARGE),
        (lambda s: s + nisa.NkiScalar(5), "int32", 4, 9),
        (lambda s: s + nisa.NkiScalar(5, nl.int64), "int64", 4, 9),
    ],
)
def test_arithmetic(f, dtype, n, expected):
    assert simulator.run(computed(f), np.array([[n]], KINDS[dtype])).outputs.item() == expected


LIMITS = [
    (lambda s, n: s + nisa.NkiScalar(5, nl.int64), "scalars of int32 and int64 do not mix"),
    (lambda s, n: s + 1.5, "computes with integers and scalars, got 1.5"),
    (lambda s, n: s // 2, "not known while the kernel is built"),
    (lambda s, n: s % 2, "not known while the kernel is built"),
    (lambda s, n: int(s), "not known while the kernel is built"),
    (lambda s, n: range(s), "not known while the kernel is built"),
    (lambda s, n: [1, 2][s], "not known while the kernel is built"),
    (lambda s, n: 1 if s else 2, "not known while the kernel is built"),
    (lambda s, n: 1 if s > 1 else 2, "not known while the kernel is built"),
    (lambda s, n: (s == 1) + 1, "result of a comparison of scalars cannot be used"),
    (lambda s, n: nisa.NkiScalar(1, nl.int64) > 1, "64 bits cannot be compared"),
    (lambda s, n: nisa.NkiScalar(1, nl.int16), "nl.int32 or nl.int64"),
    (lambda s, n: nisa.NkiScalar(1.5), "made of an integer, got 1.5"),
    (lambda s, n: nl.fori_loop(0, nisa.NkiScalar(1, nl.int64), lambda i: None), "expected a scalar of 32 bits"),
    (lambda s, n: n[:, nl.ds(s, 1)], "an index or a start of nl.ds is known while the kernel is built"),
    (lambda s, n: nisa.scalar_store(n, 3), "value must be a scalar of int32, got int 3"),
    (lambda s, n: nisa.scalar_store(n, nisa.NkiScalar(1, nl.int64)), "value must be a scalar of int32"),
    (lambda s, n: nisa.scalar_load(nl.zeros((1, 1), nl.uint32)), "src must be one int32 or int64 in HBM or SBUF"),
    (lambda s, n: nisa.scalar_load(3), "src must be one int32 or int64 in HBM or SBUF, got int 3"),
    (
        lambda s, n: nisa.scalar_load(n.vector_select(0, nl.zeros((1, 1), nl.int32))),
        "src has one index a row, which only DMA takes",
    ),
    (
        lambda s, n: nisa.scalar_load(nl.zeros((1, 1), nl.int32, buffer=nl.psum)),
        "src must be one int32 or int64 in HBM",
    ),
    (lambda s, n: nisa.scalar_load(nl.zeros((1, 2), nl.int32)), "src must be one int32 or int64 in HBM or SBUF"),
    (lambda s, n: nisa.scalar_load(nl.ndarray((1, 1), nl.int32)), "nothing has written"),
    (lambda s, n: nl.copy(nl.ndarray((4, 4), nl.int64)), "engines compute on no integers of 64 bits"),
    (lambda s, n: nl.copy(nl.ndarray((4, 4), nl.uint64)), "engines compute on no integers of 64 bits"),
    (lambda s, n: nisa.scalar_load(nl.ndarray((1, 1), nl.uint64)), "src must be one int32 or int64 in HBM or SBUF"),
]


@pytest.mark.parametrize(("act", "words"), LIMITS)
def test_limits(act, words):
    def kernel(n):
        act(nisa.scalar_load(n), n)
        return n

    with pytest.raises(NkiValidationError, match=words):
        simulator.run(kernel, np.array([[3]], np.int32), options=simulator.Options(lint=False))


def test_a_scalar_bounds_a_loop_and_moves_a_pattern():
    """The trace says whom the loop and the address wait for."""

    def kernel(x, n):
        count = nisa.scalar_load(n)
        out, tile = nl.ndarray((4, 8), x.dtype, buffer=nl.shared_hbm), nl.ndarray((1, 8), x.dtype)
        nisa.dma_copy(dst=out, src=x[0:4])

        def body(i):
            nisa.dma_copy(dst=tile, src=x.ap([[8, 1], [1, 8]], scalar_offset=i + 4))
            nisa.dma_copy(dst=out.ap([[8, 1], [1, 8]], scalar_offset=i), src=tile)

        nl.fori_loop(0, count - 1, body)
        return out

    x = np.arange(64, dtype=np.float32).reshape(8, 8)
    run = simulator.run(kernel, x, np.array([[4]], np.int32))
    np.testing.assert_array_equal(run.outputs, np.concatenate([x[4:7], x[3:4]]))
    load, moved = run.trace.events[0], run.trace.events[2]
    assert load.op == "scalar_load" and load in moved.attributes["registers"]


def test_a_wide_scalar_chooses_in_hbm_alone():
    def kernel(x, n, on_chip):
        at, tile = nisa.scalar_load(n), nl.load(x)
        source = tile.ap([[8, 4], [1, 1]], scalar_offset=at, indirect_dim=1) if on_chip else None
        out = nl.ndarray((1, 8), x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=x.ap([[8, 1], [1, 8]], scalar_offset=at))
        if on_chip:
            nisa.tensor_copy(nl.ndarray((4, 1), x.dtype), source)
        return out

    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_array_equal(simulator.run(kernel, x, np.array([[2]], np.int64), False).outputs, x[2:3])
    with pytest.raises(NkiValidationError, match="expected a scalar of 32 bits"):
        simulator.run(kernel, x, np.array([[2]], np.int64), True)


def test_only_one_integer_of_64_bits_is_an_argument():
    with pytest.raises(TypeError, match="dtype int64, which is not a dtype of NKI; cast it to int32"):
        simulator.run(computed(lambda s: s), np.array([[1, 2]], np.int64))


def test_without_data_a_scalar_is_not_known():
    with pytest.raises(simulator.NeedsData):
        simulator.run(computed(lambda s: s), ShapeDtype((1, 1), "int32"))
