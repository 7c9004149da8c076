"""What a register, a scalar or a constant stands for where an instruction reads it."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.registers import bound_value
from triptych.simulator.machine.scalars import NkiScalar

with simulated_nki():
    import nki.isa as nisa


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
