"""Scalars and registers of the sequencers: their arithmetic, and what Python cannot ask of them."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.registers import VirtualRegister, bound_value, writers
from triptych.simulator.machine.scalars import LateValue, NkiScalar

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@pytest.mark.parametrize("dtype, bits", [(None, 32), ("int32", 32), (nl.int32, 32), ("int64", 64), (nl.int64, 64)])
def test_a_scalar_wraps_around(dtype, bits):
    half = 2 ** (bits - 1)
    for state, value in ((half - 1, half - 1), (half, -half), (-half - 1, half - 1), (5 - 2 * half, 5)):
        scalar = NkiScalar(state, dtype)
        assert (scalar.value(), scalar.dtype) == (value, f"int{bits}")
    assert repr(NkiScalar(7, dtype)) == f"NkiScalar(7, int{bits})"
    assert (NkiScalar(half - 1, dtype) + 1).value() == -half


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_arithmetic_of_scalars_is_pythons(dtype):
    a, b = NkiScalar(7, dtype), NkiScalar(-3, dtype)
    for f in (operator.add, operator.sub, operator.mul):
        for x, y in ((a, b), (a, 5), (5, a), (b, -2)):
            left, right = (v.state if isinstance(v, NkiScalar) else v for v in (x, y))
            got = f(x, y)
            assert isinstance(got, NkiScalar) and (got.value(), got.dtype) == (f(left, right), dtype)
            assert not got.is_comparison
    assert (-a).value() == -7 and (-a).dtype == dtype
    assert a.value() == 7, "operators give new ones"


def test_what_comes_of_scalars_names_all_instructions_that_they_come_from(core):
    with core() as c:
        tile = c.tile(np.ones((1, 2), np.int32))
        first, second = (nisa.tensor_copy(c.empty((1, 2), "int32"), tile) for _ in range(2))
    a, b = NkiScalar(1, written_by=(first,)), NkiScalar(2, written_by=(second,))
    assert (a + b).written_by == (a - b).written_by == (a < b).written_by == (first, second)
    assert (1 - a).written_by == (-a).written_by == (a * 2).written_by == (first,)
    register, fresh = VirtualRegister(3), VirtualRegister(4)
    register.written_by = second
    assert writers(register, fresh, 5, a + b) == (second, first, second) and writers(None, 1) == ()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: NkiScalar(1, "int8"), "a scalar is nl.int32 or nl.int64, got 'int8'"),
        (lambda: NkiScalar(1.0), "a scalar is made of an integer, got 1.0"),
        (lambda: NkiScalar(1) + NkiScalar(1, "int64"), "scalars of int32 and int64 do not mix"),
        (lambda: NkiScalar(1) + True, "a scalar computes with integers and scalars, got True"),
        (lambda: 1.5 * NkiScalar(1), "a scalar computes with integers and scalars, got 1.5"),
        (lambda: NkiScalar(1) < 1.5, "a scalar computes with integers and scalars, got 1.5"),
        (lambda: NkiScalar(1) + (NkiScalar(1) < 2), "the result of a comparison of scalars cannot be used"),
        (lambda: (NkiScalar(1) < 2) + 1, "the result of a comparison of scalars cannot be used"),
    ],
)
def test_what_a_scalar_is_not(make, words):
    with pytest.raises(NkiValidationError, match=words):
        make()


@pytest.mark.parametrize(
    "use",
    [
        bool,
        int,
        float,
        operator.index,
        *[lambda x, f=f: f(x, 2) for f in (operator.floordiv, operator.truediv, operator.mod, operator.pow)],
        *[
            lambda x, f=f: f(x, 2)
            for f in (operator.lshift, operator.rshift, operator.and_, operator.or_, operator.xor)
        ],
        *[lambda x, f=f: f(2, x) for f in (operator.floordiv, operator.truediv, operator.mod)],
        range,
    ],
)
def test_python_cannot_use_what_a_scalar_holds(use):
    with pytest.raises(LateValue, match="a scalar's value is not known while the kernel is built"):
        use(NkiScalar(4))


@pytest.mark.parametrize(
    "use",
    [
        *[lambda x, f=f: f(x, 2) for f in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)],
        *[lambda x, f=f: f(2, x) for f in (operator.add, operator.sub, operator.mul)],
        *[lambda x, f=f: f(x, 2) for f in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq)],
        lambda x: x == 2.0,
        lambda x: x == np.int32(2),
        operator.neg,
        int,
        operator.index,
        bool,
    ],
)
def test_python_cannot_use_what_a_register_holds(core, use):
    with core(), pytest.raises(LateValue, match="a register's value is not known while the kernel is built"):
        use(VirtualRegister(4))


def test_a_register_is_itself():
    one, other = VirtualRegister(4), VirtualRegister(4)
    assert one == one and one != other and one != None and hash(one) != hash(other)  # noqa: E711
    assert repr(one) == "VirtualRegister(4)" and not one.frozen and one.written_by is None
    with pytest.raises(NkiValidationError, match="reads a register that nothing has written"):
        VirtualRegister().value()
    with pytest.raises(NkiValidationError, match="reads a register that nothing has written"):
        bound_value(VirtualRegister())
    assert bound_value(VirtualRegister(0)) == 0


def test_a_loop_of_python_on_a_register_is_of_an_older_version(core):
    with core(api="0.6") as c:
        register, rounds = VirtualRegister(2), 0
        while register:
            register.state -= 1
            rounds += 1
        assert rounds == 2 and len(c.trace.notes) == 3
        assert "`while register:` is deprecated in NKI 0.6" in c.trace.notes[0]
        with pytest.raises(LateValue):
            bool(register)
    with core(api="0.7"), pytest.raises(LateValue):
        while VirtualRegister(2):
            pass


def test_the_integer_that_something_stands_for(core):
    with core("trn2"):
        register = nisa.register_alloc(7)
        values = [bound_value(x) for x in (register, NkiScalar(-3), 5, np.int16(6))]
    assert values == [7, -3, 5, 6] and all(type(value) is int for value in values)
    assert bound_value(NkiScalar(5_000_000_000, "int64"), wide=True) == 5_000_000_000


@pytest.mark.parametrize(
    "value, words",
    [
        (NkiScalar(5, "int64"), r"expected a scalar of 32 bits, got NkiScalar\(5, int64\)"),
        (2.0, "expected an integer or a register, got float 2.0"),
        (None, "expected an integer or a register, got NoneType None"),
        (NkiScalar(5) < 6, "the result of a comparison of scalars cannot be used"),
    ],
)
def test_what_stands_for_no_integer(value, words):
    with pytest.raises(NkiValidationError, match=words):
        bound_value(value)


def test_a_scalar_is_never_none():
    scalar = NkiScalar(5)
    assert (scalar == None) is False and (scalar != None) is True  # noqa: E711
    for compared in (scalar == 5, scalar != 5, scalar != NkiScalar(6), scalar >= 4):
        assert isinstance(compared, NkiScalar) and compared.is_comparison
    with pytest.raises(NkiValidationError, match="scalars of 64 bits cannot be compared"):
        _ = NkiScalar(5, "int64") != 5
