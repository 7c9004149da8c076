"""Whatever a view is asked for with, there is one or words that say why not."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from triptych.simulator import NkiError, NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

FITTING = {"dims": (0, 1), "shape": (32, 4, 4), "dim": 1, "size": 4, "dtype": nl.int8, "pattern": [[16, 32], [1, 16]]}
FITTING |= {"start_dim": 1, "end_dim": 1, "start": 0, "end": 2}
METHODS = ["reshape", "permute", "broadcast", "expand_dim", "squeeze_dim", "view", "ap", "select", "vector_select"]
METHODS += ["indirect", "reshape_dim", "flatten_dims", "slice", "__getitem__"]
TENSORS = {
    "in SBUF": lambda c, x: c.tile(x),
    "in HBM": lambda c, x: c.tile(x, buffer="private_hbm"),
    "of one column": lambda c, x: c.tile(x[:, :1]),
    "at an address": lambda c, x: c.machine.allocate((32, 16), "float32", nl.sbuf, address=(32, 64)),
    "selected": lambda c, x: c.tile(np.ones((32, 16, 2), np.float32)).select(1, nisa.register_alloc(0)),
    "gathered": lambda c, x: c.tile(x).indirect(c.tile(np.zeros((32, 1), np.uint32)), 16),
}


def odd(c):
    """Numbers, names, sequences and tensors that may fit or not."""
    yield from (None, 1.5, -1, 0, 1, 2, 99, 2**70, "x", True, np.int64(1), np.float32(1))
    yield from ((), [], {}, (1, 0), [0, 1], (32, 4, 4), (32, -1), (-1, -1), (0, 0), (32, "x"), [1], (32, 1.5))
    yield from ([[16, 32], [1, 16]], [[1]], [[]], ((16, 32), (1, "x")), [["16", 32], [1, None]])
    yield from (slice(0, 4), slice(4, 0), slice(None, None, 0), slice("a"), (slice(None), 1.5), ..., (..., ...))
    yield from (nl.float32, nl.int8, nl.sbuf, nl.add, c.tile(np.zeros((1, 1), np.int32)), nisa.register_alloc(0))
    yield from (c.tile(np.zeros((32, 1), np.int32)), [c.tile(np.ones((2, 2), np.float32))])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", TENSORS)
def test_there_is_a_view_or_words(core, kind, method):
    call = getattr(nl.NkiTensor, method)
    signature = inspect.signature(call)
    parameters = list(signature.parameters.values())[1:]
    met = 0
    with core("trn3", strict=False) as c:
        t = TENSORS[kind](c, np.ones((32, 16), np.float32))
        column = c.tile(np.zeros((32, 1), np.int32))
        needed = {p.name: FITTING.get(p.name, column) for p in parameters if p.default is p.empty}
        for parameter in parameters:
            for value in odd(c):
                try:
                    bound = signature.bind(t, **{**needed, parameter.name: value})
                    view = call(*bound.args, **bound.kwargs)
                    assert all(type(n) is int for n in view.shape)
                except NkiError as error:
                    met += bool(str(error))
    assert met


@pytest.mark.parametrize("size", [0, -1, 1.5, "x", None])
def test_a_dimension_is_repeated_a_whole_number_of_times(core, size):
    with core() as c, pytest.raises(NkiValidationError, match="broadcast (repeats a dimension once or more|takes int)"):
        c.empty((4, 1)).broadcast(1, size)


def test_a_register_in_a_pattern_is_told_of_as_one(core):
    with core() as c, pytest.raises(NkiValidationError, match="a register's value is not known while the kernel is"):
        c.empty((32, 16)).ap([[16, 32], [nisa.register_alloc(1), 4]])
