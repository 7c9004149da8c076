"""Python's operators on tensors, which NKI has not: each error says what to write."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

X = np.ones((4, 8), np.float32)
REFUSED = [
    (lambda t: t + t, r"no `\+` on tensors, here on NkiTensor.*; write nl.add\(x, y\), or nisa.tensor_tensor\("),
    (lambda t: t - 1, r"no `-` on tensors.*nl.subtract\(x, y\), or nisa.tensor_scalar\("),
    (lambda t: 2.0 * t, "nl.multiply"),
    (lambda t: np.float32(2) * t, "nl.multiply"),
    (lambda t: t / t, r"nl.multiply\(x, nl.reciprocal\(y\)\): no engine divides"),
    (lambda t: t**2, "nl.power"),
    (lambda t: t @ t, "nisa.nc_matmul"),
    (lambda t: -t, r"nl.negative\(x\)"),
    (lambda t: ~t, r"nl.invert\(x\)"),
    (abs, r"nl.abs\(x\)"),
    (lambda t: +t, r"no `\+` on tensors.*; write x itself"),
    (lambda t: t // t, "nl.multiply by the reciprocal, and nl.floor"),
    (lambda t: t % 2, "the remainder on the host: no engine has one"),
    (lambda t: 1 / t, r"no `/` on tensors.*no engine divides"),
    (lambda t: t & t, r"nl.bitwise_and\(x, y\), or nisa.tensor_tensor"),
    (lambda t: t | 1, r"nl.bitwise_or\(x, y\), or nisa.tensor_scalar"),
    (lambda t: t ^ t, "nl.bitwise_xor"),
    (lambda t: t << 1, "nl.left_shift"),
    (lambda t: t >> 1, "nl.right_shift"),
    (lambda t: t >= t, "nl.greater_equal"),
    (lambda t: t <= t, "nl.less_equal"),
    (
        lambda t: operator.ifloordiv(t, t),
        r"no `//=` on tensors.*nisa.tensor_tensor\(dst=x, data1=x, data2=.., op=nl...\)",
    ),
    (lambda t: t > 0, "nl.greater"),
    (lambda t: t < 0, "nl.less"),
    (lambda t: operator.iadd(t, t), r"no `\+=` on tensors.*nisa.tensor_tensor\(dst=x, data1=x, data2=.., op=nl.add\)"),
    (lambda t: operator.iadd(nl.zeros((4, 4), nl.float32, nl.psum), t), "nisa.nc_matmul.* on the same dst, which adds"),
    (lambda t: t + nisa.reciprocal(t, t), r"reciprocal gave no tile to use with `\+`: an instruction takes dst first"),
]


@pytest.mark.parametrize(("use", "words"), REFUSED)
def test_an_operator_says_what_to_write(use, words):
    def kernel(x):
        use(nl.load(x))
        return x

    with pytest.raises(NkiValidationError, match=f"test_arithmetic.py:.*{words}"):
        nki.simulate(kernel)(X)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "power", "greater", "less", "negative", "reciprocal"])
def test_what_is_advised_is_there(name):
    assert callable(getattr(nl, name))


def test_a_part_that_is_replaced_is_a_copy():
    def kernel(x):
        total, tile = nl.zeros(x.shape, x.dtype), nl.load(x)
        for _ in range(4):
            total[...] = nl.add(total, tile)
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        nl.store(out, total)
        return out

    assert (nki.simulate(kernel)(X) == 4).all()


def test_equality_asks_whether_it_is_the_same_tensor():
    def kernel(x):
        tile = nl.load(x)
        assert tile == tile and tile != None and tile in [tile]  # noqa: E711
        return x

    nki.simulate(kernel)(X)
