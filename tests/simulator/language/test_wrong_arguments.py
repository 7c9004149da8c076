"""Arguments of no kind that a function takes are refused in words, by the function that they were given to."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

SHAPE = "a shape is a tuple of integers, got"
CALLS = {
    "a tensor for a dtype": (lambda t, wrong: nl.add(t, t, dtype=wrong), "is not a dtype of NKI", ["tensor", "number"]),
    "a new tensor's dtype": (lambda t, wrong: nl.ndarray((4, 4), wrong), "is not a dtype of NKI", ["tensor", "array"]),
    "a reduction's axis": (
        lambda t, wrong: nl.sum(t, wrong),
        r"axis must be the last free dimensions of \(32, 16\)",
        ["none", "number", "text", "array", "tensor", "nothing"],
    ),
    "an instruction's axis": (
        lambda t, wrong: nisa.tensor_reduce(t, nl.add, t, wrong),
        "axis must be the last free dimensions",
        ["none", "number", "text", "array", "tensor", "nothing"],
    ),
    "a shape": (lambda t, wrong: nl.zeros(wrong, nl.float32), SHAPE, ["none", "number", "array"]),
    "a shape of text": (lambda t, wrong: nl.ndarray(wrong, nl.float32), "a shape is integers, got", ["text"]),
    "what zeros are like": (
        lambda t, wrong: nl.zeros_like(wrong),
        "x must be a tensor, got",
        ["none", "array", "text"],
    ),
    "what is broadcast to": (
        lambda t, wrong: nl.broadcast_to(t, wrong),
        r"shape must have x's rank, .* got \(32, 16\) and \(\)",
        ["none", "number", "array", "tensor", "nothing"],
    ),
    "a new dimension": (
        lambda t, wrong: nl.expand_dims(t, wrong),
        "axis must be an integer, got",
        ["none", "number", "text", "array"],
    ),
    "a mean's count": (
        lambda t, wrong: nl.rms_norm(t, t, 1, wrong),
        "n must be a number, got",
        ["none", "text", "array", "tensor", "nothing"],
    ),
    "a transpose's axes": (
        lambda t, wrong: nisa.dma_transpose(nl.ndarray((16, 32), nl.float32), t, wrong),
        r"axes must be \(1, 0\)",
        ["number", "text", "nothing"],
    ),
}


def wrong(kind, t):
    values = {"none": None, "number": 1.5, "text": "x", "array": np.zeros((32, 16), np.float32)}
    return {**values, "tensor": t, "nothing": ()}[kind]


@pytest.mark.parametrize(("what", "kind"), [(what, kind) for what, row in CALLS.items() for kind in row[2]])
def test_what_no_argument_can_be_is_refused(core, what, kind):
    call, words, _ = CALLS[what]
    with core() as c, pytest.raises(NkiValidationError, match=rf"(?s)test_wrong_arguments.py:\d+: .*{words}"):
        t = c.tile(np.ones((32, 16), np.float32))
        call(t, wrong(kind, t))


def test_that_an_instruction_returns_nothing_is_said_where_it_lacks_an_argument(core):
    calls = [lambda t: nisa.tensor_copy(t), lambda t: nisa.tensor_copy(t, t, of=1), lambda t: nl.store(t)]
    with core() as c:
        for call, said in zip(calls, (True, False, False), strict=True):
            with pytest.raises(NkiValidationError, match="cannot be called so") as error:
                call(c.empty((4, 4)))
            assert ("returns no tile" in str(error.value)) is said


def test_what_they_may_be(core):
    with core() as c:
        t = c.tile(np.ones((32, 2, 8), np.float32))
        for axis in (2, -1, np.int64(2), [2], (2,), [-1]):
            assert nl.sum(t, axis).shape == (32, 2)
        assert nl.sum(t, [1, 2]).shape == nl.sum(t, range(1, 3)).shape == (32, 1)
        assert nl.zeros([4, np.int64(3)], np.float32).shape == nl.zeros((4, 3), "float32").shape
        two, turned = c.tile(np.ones((32, 16), np.float32)), c.empty((16, 32))
        for axes in (None, (1, 0), [1, 0]):
            nisa.dma_transpose(turned, two, axes)
