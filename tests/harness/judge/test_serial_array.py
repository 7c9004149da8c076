"""An array in serial arithmetic, called as references call NumPy: what it gives, and that it stays what it is."""

import numpy as np
import pytest

from triptych.harness.judge.yardstick import serial_arithmetic
from triptych.harness.judge.yardstick.serial_arithmetic import Arithmetic, Coarse, SerialArray, power_of_two

FLOAT = np.float32
MANY = np.full((2, 3, 20000), 0.1, FLOAT)  # one after the other their sum is off in the fourth digit


def arithmetic(backwards=False):
    return Arithmetic(np.dtype(FLOAT), backwards)


def serial(x):
    return arithmetic().array(x)


def one_by_one(x, axis=-1):
    return np.add.accumulate(x, axis=axis).take(-1, axis)


def bits(found):
    assert isinstance(found, SerialArray) and found.dtype == FLOAT
    return np.asarray(found).tolist()


def test_the_sums_of_these_tests_depend_on_their_order():
    assert not np.allclose(one_by_one(MANY), MANY.sum(axis=-1), rtol=1e-5, atol=0)


def test_containers_hold_such_arrays_and_all_else_is_left_alone():
    one, x, i = arithmetic(), np.ones(3), np.arange(3)
    for container in (tuple, list):
        held = one.array(container([x, i, 2.5]))
        assert type(held) is container and type(held[0]) is SerialArray and held[1] is i and held[2] == 2.5
        plain = one.plain(container([held[0], i, 2.5]))
        assert type(plain) is container and type(plain[0]) is np.ndarray and plain[1] is i and type(plain[2]) is float
    assert type(one.array(np.array([1.5, 2], object))) is SerialArray, "as `np.vectorize` returns them"
    assert type(one.array(FLOAT(1))) is SerialArray
    assert one.plain(x).dtype == FLOAT and one.plain(x := np.ones(3, FLOAT)) is x


def test_inputs_that_are_no_floats_are_not_moved():
    i = np.arange(3)
    assert arithmetic(True).input(i) is i and arithmetic(True).input(2.5) == 2.5
    assert arithmetic(False).input(np.ones(3, FLOAT)).tolist() == [1, 1, 1]


def test_two_units_up_or_down():
    one, i = arithmetic(), np.arange(3)
    assert set(one.off(np.ones(99, FLOAT)).tolist()) == {1 - 2.0**-22, 1 + 2.0**-22}
    assert one.off(i) is i and one.off(2.5) == 2.5
    floats, other = np.array([1.5, 2.5], object), np.array([1.5, "a"], object)
    assert one.off(floats).dtype == FLOAT and one.off(other) is other


def test_powers_of_two_divide_exactly():
    assert power_of_two(np.array([0.0, 1, -2, 0.25, 3, -1.25, 1.25])).tolist() == [True] * 4 + [False] * 3


def test_a_sum_of_nothing_along_the_last_of_three_axes():
    assert arithmetic().total(np.zeros((2, 3, 0), FLOAT), 2, False).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize(("k", "step"), [(64, 1), (65, 2)])
def test_products_of_more_than_so_much_work_take_two_terms_at_once(k, step, monkeypatch):
    one, seen = arithmetic(), []
    monkeypatch.setattr(one, "starts", lambda size, by: seen.append((size, by)) or range(0))
    one.contract(np.broadcast_to(FLOAT(1), (2, 2**9, k)), np.broadcast_to(FLOAT(1), (2, k, 2**10)))
    assert seen == [(k, step)]


def test_coarse_products_begin_with_the_first_term():
    coarse = Coarse(np.dtype(FLOAT), False)
    assert coarse.contract(np.ones((1, 20), FLOAT), np.arange(1, 21, dtype=FLOAT)[:, None]).tolist() == [[210.0]]


def test_casts():
    x = serial(np.array([1.0001, 2.5], FLOAT))
    for dtype in (np.float64, FLOAT):
        assert bits(x.astype(dtype)) == bits(x)
    assert bits(x.astype(np.float16)) == [1.0, 2.5], "which rounds"
    for dtype in (np.int64, np.int32, bool):
        cast = x.astype(dtype)
        assert type(cast) is np.ndarray and cast.dtype == dtype and cast.tolist() == [1, dtype(2.5)]


def test_every_way_to_write_a_sum_is_serial():
    x = serial(MANY)
    assert bits(x.sum(axis=2)) == bits(x.sum(axis=-1, dtype=np.float64)) == one_by_one(MANY).tolist()
    assert bits(x.sum(axis=2, keepdims=True)) == one_by_one(MANY)[..., None].tolist()
    assert bits(np.add.reduce(x, 2)) == bits(np.add.reduce(x, axis=2)) == one_by_one(MANY).tolist()
    assert bits(np.add.reduce(serial(MANY[0].T))) == one_by_one(MANY[0]).tolist()


def test_other_reductions_are_numpys():
    values = np.array([[1, 2, 4], [2, 8, 0.5]], FLOAT)
    x, mask = serial(values), np.array([[True, False, True], [False, True, True]])
    assert bits(x.prod(axis=1)) == [8, 8] and bits(x.max(axis=1)) == [4, 8]
    assert bits(x.sum(axis=1, where=mask)) == [5, 8.5] and bits(x.max(axis=1, where=mask, initial=0)) == [4, 8]
    assert bits(x.sum(axis=1, initial=5)) == [12, 15.5]
    assert np.allclose(np.divide.reduce(x, axis=1), [0.125, 0.5], rtol=1e-6)


def test_outputs_that_are_handed_in_are_filled():
    values = np.array([[1, 2, 4], [2, 8, 0.5]], FLOAT)
    x, mask = serial(values), np.array([[True, False, True], [False, True, True]])
    out = serial(np.full((2, 3), 9, FLOAT))
    assert np.add(x, 1, out=out) is out and bits(out) == (values + 1).tolist()
    assert np.multiply(x, 2, out=out, where=mask) is out
    assert bits(out) == np.where(mask, values * 2, values + 1).tolist()
    total = serial(np.zeros(2, FLOAT))
    assert np.add.reduce(x, axis=1, where=mask, out=total) is total and bits(total) == [5, 8.5]
    assert np.add.reduce(x, axis=1, out=total) is total and bits(total) == [7, 10.5]
    whole, rest = serial(np.zeros(2, FLOAT)), serial(np.zeros(2, FLOAT))
    found = np.modf(serial(np.array([1.5, 4.25], FLOAT)), out=(rest, whole))
    assert found[0] is rest and found[1] is whole and bits(whole) == [1, 4] and bits(rest) == [0.5, 0.25]
    assert [bits(one) for one in np.divmod(serial(np.array([7.5], FLOAT)), 2)] == [[3], [1.5]]


def test_in_place_at_some_elements():
    x = serial(np.zeros(2, FLOAT))
    assert np.exp.at(x, [0]) is None
    assert bits(x) == [1, 0]


def units(found, exact):
    return np.abs(np.asarray(found, np.float64) / exact - 1) / 2.0**-23


def test_exponentials_and_logarithms_go_by_way_of_base_2():
    large = np.linspace(60, 80, 50).astype(FLOAT)
    off = units(np.exp(serial(large)), np.exp(large.astype(np.float64)))
    assert 8 < off.max() < 80, "the exponent is rounded once more"
    near = FLOAT([1000, 2000, 0.001])
    for function in (np.log, np.log10, np.exp2, np.log2, np.sqrt):
        x = near if function is not np.exp2 else FLOAT([3.3, 1.7, -2.2])
        off = units(
            function(serial(x)), function(np.abs(x.astype(np.float64)) if function is np.sqrt else x.astype(float))
        )
        assert 0.5 < off.max() < 5, function


def test_dot_products_of_vectors_are_serial():
    ones = np.ones_like(MANY)
    assert bits(np.vecdot(serial(MANY), serial(ones))) == one_by_one(MANY).tolist()
    assert bits(np.vecdot(serial(MANY), serial(3 * ones))) == one_by_one(MANY * FLOAT(3)).tolist()
    columns = np.array([[1, 2], [3, 4]], FLOAT)
    across = np.matmul(serial(columns), serial(columns), axes=[(1, 0), (0, 1), (0, 1)])
    assert np.allclose(np.vecdot(serial(columns), serial(columns), axis=0), [10, 20], rtol=1e-6)
    assert np.allclose(across, columns.T @ columns, rtol=1e-6)


X, W = MANY[0, :, :3000], np.full((4, 3000), 0.3, FLOAT)
PRODUCT = arithmetic().contract(X, W.T).tolist()


@pytest.mark.parametrize(
    "product",
    [
        lambda x, w: x @ w.T,
        lambda x, w: np.inner(x, w),
        lambda x, w: np.dot(x, w.T),
        lambda x, w: np.dot(x, w.T, np.empty_like(x[:, :4])),
        lambda x, w: np.stack([np.dot(x, row) for row in w], axis=1),
        lambda x, w: np.einsum("ij,kj->ik", x, w),
        lambda x, w: np.einsum("ij,kj->ik", x, w, optimize=True),
    ],
)
def test_every_way_to_write_a_product_is_serial(product):
    assert bits(product(serial(X), serial(W))) == PRODUCT
    assert not np.allclose(PRODUCT, X @ W.T, rtol=2e-6, atol=0)


SMALL, CUBE = np.arange(6, dtype=FLOAT).reshape(2, 3), np.arange(24, dtype=FLOAT).reshape(4, 2, 3)


@pytest.mark.parametrize(
    "product",
    [
        lambda x, y: np.inner(x, y),
        lambda x, y: np.inner(x, 2.0),
        lambda x, y: np.dot(x, y.swapaxes(1, 2)),
        lambda x, y: np.dot(2.0, x),
        lambda x, y: np.einsum(x, [0, 1], [1, 0]),
        lambda x, y: np.einsum("ij->ji", x),
        lambda x, y: np.einsum("ij->j", x, dtype=FLOAT),
        lambda x, y: np.stack([x, x]),
        lambda x, y: np.tensordot(x, x, axes=([1], [1])),
    ],
)
def test_other_products_are_numpys(product):
    assert np.array_equal(product(serial(SMALL), serial(CUBE)), product(SMALL, CUBE))


@pytest.mark.parametrize("options", [{"axis": 1}, {"axis": 1, "keepdims": True}, {}, {"keepdims": True}])
def test_norms_are_roots_of_serial_sums(options):
    squares = X**2
    exact = one_by_one(squares if "axis" in options else squares.reshape(1, -1)).astype(np.float64) ** 0.5
    found = np.linalg.norm(serial(X), **options)
    assert found.shape == np.linalg.norm(X, **options).shape
    assert isinstance(found, SerialArray) and units(found.reshape(-1), exact).max() < 3


def test_a_product_fills_what_is_handed_in():
    out = serial(np.zeros((2, 2), FLOAT))
    np.dot(serial(SMALL), serial(SMALL.T.copy()), out=out)
    assert bits(out) == (SMALL @ SMALL.T).tolist()


def test_of_several_contracted_indices_the_longest_is_serial(monkeypatch):
    one, seen = arithmetic(), []
    monkeypatch.setattr(one, "starts", lambda size, by: seen.append((size, by)) or range(0))
    serial_arithmetic.einsum(one, "ijk->", [np.ones((3, 50, 4), FLOAT)])
    assert seen == [(50, 1)]


def test_other_norms_are_numpys():
    for norm in (lambda x: np.linalg.norm(x, 1), lambda x: np.linalg.norm(x, ord=1)):
        assert float(norm(serial(SMALL))) == 7.0


def test_one_input_in_float64_makes_all_of_it_float64():
    wide, narrow = np.full(3, 1 / 3), np.ones(3, FLOAT)
    for arguments in ({"x": wide, "y": narrow}, {"x": narrow, "y": wide}):
        found = serial_arithmetic.evaluate(lambda x, y: x + y, arguments, backwards=False)
        assert found.dtype == np.float64 and found.tolist() == (wide + 1).tolist()
    assert serial_arithmetic.evaluate(lambda x, y: x + y, {"x": narrow, "y": 2.0}, False).dtype == FLOAT


def test_coarse_evaluation():
    ones = {"x": np.ones(1000, FLOAT)}
    totals = [float(serial_arithmetic.evaluate(lambda x: x.sum(), ones, False, coarse=c)) for c in (False, True)]
    assert totals == [1000, 256] and serial_arithmetic.evaluate(lambda x: x.sum(), ones, False) == 1000
