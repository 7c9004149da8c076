"""Serial arithmetic, operation by operation: float32, one term after the other, functions a little off."""

import numpy as np
import pytest

from triptych.harness.judge.yardstick import serial_arithmetic
from triptych.harness.judge.yardstick.baselines import baselines_of
from triptych.harness.judge.yardstick.serial_arithmetic import Arithmetic, Coarse, einsum
from triptych.harness.ops.op import Op

FLOAT = np.float32
RNG = np.random.default_rng(0)


def arithmetic(backwards=False):
    return Arithmetic(np.dtype(FLOAT), backwards)


def one_by_one(terms, backwards=False):
    total = FLOAT(0)
    for term in reversed(terms) if backwards else terms:
        total = FLOAT(total + term)
    return total


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (1,)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_sums_go_from_one_end_to_the_other(backwards, axis, keepdims):
    x = (1000 * RNG.standard_normal((5, 6, 70))).astype(FLOAT)
    found = arithmetic(backwards).total(x, axis, keepdims)
    assert found.shape == x.sum(axis=axis, keepdims=keepdims).shape
    moved = x if axis is None else np.moveaxis(x, axis, tuple(range(-len(np.atleast_1d(axis)), 0)))
    count = x.size if axis is None else int(np.prod([x.shape[a] for a in np.atleast_1d(axis)]))
    terms = moved.reshape(-1, count)
    assert found.reshape(-1).tolist() == [one_by_one(row, backwards) for row in terms]


def test_a_sum_of_nothing_is_zero():
    assert arithmetic().total(np.zeros((3, 0), FLOAT), 1, False).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("a", "b"),
    [((7,), (7,)), ((7,), (7, 3)), ((4, 7), (7,)), ((2, 4, 7), (7, 3)), ((2, 1, 4, 7), (5, 7, 3)), ((4, 7), (2, 7, 3))],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_products_are_contracted_one_term_after_the_other(a, b, backwards):
    left, right = ((100 * RNG.standard_normal(shape)).astype(FLOAT) for shape in (a, b))
    found = arithmetic(backwards).contract(left, right)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    assert found.shape == exact.shape and found.dtype == FLOAT
    assert np.allclose(found, exact, rtol=1e-4, atol=1e-2)
    if len(a) == len(b) == 1:
        assert found == one_by_one([FLOAT(x * y) for x, y in zip(left, right, strict=True)], backwards)


def test_large_products_take_several_terms_at_once(monkeypatch):
    monkeypatch.setattr(serial_arithmetic, "MOST_WORK", 4 * 7 * 3 // 2)
    one = arithmetic()
    seen = []
    monkeypatch.setattr(one, "starts", lambda size, step: seen.append((size, step)) or range(0, size, step))
    one.contract(np.ones((4, 7), FLOAT), np.ones((7, 3), FLOAT))
    assert seen == [(7, 2)]
    assert list(arithmetic(True).starts(7, 2)) == [6, 4, 2, 0] and list(arithmetic().starts(7, 2)) == [0, 2, 4, 6]


def test_functions_are_two_units_off_and_exact_operations_are_not():
    x = np.full(200, 2.0, FLOAT)

    def units(reference, right):
        found = serial_arithmetic.evaluate(reference, {"x": x}, False)
        return {int(u) for u in np.rint((found.astype(float) / right - 1) / 2.0**-23)}

    assert units(lambda x: np.sqrt(x), 2**0.5) <= {-2, 2}
    assert units(lambda x: np.exp(x), np.exp(2.0)) <= {-3, -2, -1, 1, 2, 3}
    assert units(lambda x: np.log(x), np.log(2.0)) <= {-3, -2, -1, 1, 2, 3}
    assert units(lambda x: x / 3, 2 / 3) <= {-3, -2, -1, 1, 2, 3}
    for exact in (lambda x: x / 4, lambda x: x * 3 - x, lambda x: np.maximum(x, 1.0), lambda x: abs(-x)):
        assert np.array_equal(serial_arithmetic.evaluate(exact, {"x": x}, False), exact(x))


def test_backwards_moves_the_inputs_by_a_unit():
    x = np.ones(1000, FLOAT)
    found = serial_arithmetic.evaluate(lambda x: 1.0 * x, {"x": x}, True)
    assert set(found.tolist()) == {1 - 2.0**-23, 1 - 2.0**-24, 1.0, 1 + 2.0**-23}
    assert np.array_equal(serial_arithmetic.evaluate(lambda x: 1.0 * x, {"x": x}, False), x)


def test_coarse_sums_lose_what_bfloat16_does():
    coarse = Coarse(np.dtype(FLOAT), False)
    x = np.ones((1, 1000), FLOAT)
    assert coarse.total(x, 1, False).tolist() == [256.0], "where one more is below the last place"
    long = np.ones((1, 5000), FLOAT)
    assert coarse.contract(long, long.T).tolist() == [[4096.0]], "sixteen terms at once"
    assert coarse.off(x) is x


@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "bij,bjk->bik", "ij->i", "ij,ij->", "i,j->ij", "ij->ji"])
def test_einsum_sums_its_longest_index(subscripts):
    shapes = {"i": 3, "j": 50, "k": 4, "b": 2}
    operands = [
        RNG.standard_normal([shapes[letter] for letter in term]).astype(FLOAT)
        for term in subscripts.split("->")[0].split(",")
    ]
    found = einsum(arithmetic(), subscripts, operands)
    if set(subscripts.split("->")[0]) - {","} == set(subscripts.split("->")[1]):
        assert found is None, "nothing is summed"
        return
    assert found.dtype == FLOAT and np.allclose(found, np.einsum(subscripts, *operands), atol=1e-4)
    assert not np.array_equal(found, einsum(arithmetic(True), subscripts, operands))


def test_formulas_of_other_than_plain_letters_are_left_to_numpy():
    x = np.ones((2, 2), FLOAT)
    assert einsum(arithmetic(), "...i->...", [x]) is None and einsum(arithmetic(), "ij,jk", [x, x]) is None
    assert einsum(arithmetic(), "ij,jk->ik", [x, np.ones((1, 2), FLOAT)]) is None


def test_the_baselines_of_a_reference_by_its_framework():
    assert baselines_of(Op("op", {"x": ("M",)}, lambda x: x, {})).names == [
        *("float32", "one_by_one", "backwards", "rounded_once_more")
    ]
    torch = pytest.importorskip("torch")
    named = baselines_of(Op("op", {"x": ("M",)}, lambda x: torch.sqrt(x), {}))
    assert named.names == ["torch", "float32", "rounded_once_more"] and named.finer().names == ["torch", "float32"]


def test_outputs_that_are_handed_in_are_filled():
    def halves(x):
        whole, rest = np.empty_like(x), np.empty_like(x)
        assert np.divmod(x, 2, out=(whole, rest))[1] is rest
        total = np.empty_like(x)
        assert np.add(whole, rest, out=total) is total
        return np.stack([whole, rest, total])

    x = np.array([3.0, 4.0, 5.5], FLOAT)
    assert serial_arithmetic.evaluate(halves, {"x": x}, False).tolist() == [[1, 2, 2], [1, 0, 1.5], [2, 2, 3.5]]


def test_every_way_to_write_a_product_is_one_product():
    x, w = RNG.standard_normal((5, 300)).astype(FLOAT), RNG.standard_normal((4, 300)).astype(FLOAT)
    expected = arithmetic().contract(x, w.T.copy())
    for product in (lambda x, w: x @ w.T, lambda x, w: np.inner(x, w), lambda x, w: np.dot(x, w.T)):
        assert np.array_equal(serial_arithmetic.evaluate(product, {"x": x, "w": w}, False), expected)


def test_a_norm_is_the_root_of_a_serial_sum():
    x = RNG.standard_normal((5, 300)).astype(FLOAT)
    found = serial_arithmetic.evaluate(lambda x: np.linalg.norm(x, axis=1, keepdims=True), {"x": x}, False)
    exact = np.sqrt([[float(one_by_one((row**2).tolist()))] for row in x])
    assert found.shape == (5, 1) and np.abs(found / exact - 1).max() < 4 * 2.0**-23
