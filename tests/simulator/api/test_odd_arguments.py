"""Whatever is given for one of its arguments, a function of NKI does its work or says in words what is wrong."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from triptych.simulator import NkiError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

# What raises Python's own errors: ranges, grids, which AWS documents so, loops, which call a function, and prints.
OWN = {"affine_range", "sequential_range", "static_range", "range", "tiles", "blocks", "alloc_tiles", "alloc_blocks"}
OWN |= {"fori_loop", "while_loop", "device_print"}
FITTING = {
    **{name: nl.add for name in ("op", "op0", "op1", "reduce_op")},
    **{"value": 1.0, "imm0": 1.0, "operand0": 1.0, "axis": 1, "n": 16, "pattern": [[1, 16]], "shape": (32, 16)},
    "dtype": nl.float32,
}


FUNCTIONS = {"activation": nl.exp, "activation_reduce": nl.exp, "activate2": nl.prelu}  # whose op is no ALU operator


def functions():
    """The functions of each module, by their names."""
    for module in (nisa, nl, ncc):
        for name, value in sorted(vars(module).items()):
            function = getattr(value, "wrapper", value)  # an operator's call form
            if not name.startswith("_") and name not in OWN and callable(function) and not isinstance(function, type):
                yield pytest.param(function, id=f"{module.__name__}.{name}")


def odd(c):
    """Values of every kind but an array, which is no single value."""
    ones = np.ones((32, 16), np.float32)
    tile = c.tile(ones)
    yield from (None, 1.5, -1, 2**70, "x", (), [], [tile], {}, nl.add, nl.float32, nl.sbuf, nisa.engine.scalar, True)
    yield c.tile(ones, buffer="private_hbm")
    yield c.tile(ones, buffer="psum")
    yield c.tile(ones, "int8")
    yield c.tile(np.zeros((32, 16), np.uint32), "float8_e5m2_x4")
    yield c.tile(np.ones((3, 5, 7), np.float32))
    yield c.tile(np.ones((32, 16, 2), np.float32)).select(1, nisa.register_alloc(0))
    yield c.tile(ones).indirect(c.tile(np.zeros((32, 1), np.uint32)), 16)
    yield nisa.register_alloc(3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", list(functions()))
def test_it_works_or_says_what_is_wrong(core, function):
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    with core("trn3", strict=False) as c:
        fitting = {p.name: FITTING.get(p.name) for p in named if p.default is p.empty}
        if "op" in fitting:
            fitting["op"] = FUNCTIONS.get(function.__name__, nl.add)
        for parameter in named:
            for value in odd(c):
                arguments = {n: c.tile(np.ones((32, 16), np.float32)) if v is None else v for n, v in fitting.items()}
                try:
                    function(**{**arguments, parameter.name: value})
                except NkiError as error:
                    assert str(error)
