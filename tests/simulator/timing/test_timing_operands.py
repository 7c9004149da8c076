"""What an instruction takes beside its elements: an access, a column that it also reads, an activation function."""

import pytest

from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing.work import works

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

N, HALF, QUARTER = 512, 256, 128  # elements a partition, and the cycles of faster modes
ACCESS, COLUMN, FUNCTION, IN_SBUF = 64, 60, 107, 51  # cycles, trn2 and trn3
FLOAT32, BFLOAT16, IN_PSUM = (
    {"dtype": d, "buffer": b} for d, b in (("float32", "sbuf"), ("bfloat16", "sbuf"), ("float32", "psum"))
)


def cycles(core, target, call):
    """Cycles of its engine that an instruction occupies; it has been called before, so that its table is loaded."""
    with core(target, check_uninitialized=False) as c:
        for _ in range(2):
            call(c)
        work = works(c.trace)[-1]
        return work.busy * getattr(c.machine.chip, f"{work.track}_ghz").value


def tile(c, how=FLOAT32):
    return c.empty((128, N), **how)


def column(c, how=FLOAT32):
    return c.empty((128, 1), **how)


def scaled(*operands, how=FLOAT32, **more):
    """tensor_scalar: a tile of N elements a partition by one or two operands."""

    def call(c):
        given = [each if isinstance(each, float) else column(c, each) for each in operands]
        second = {"op1": nl.add, "operand1": given[1]} if len(given) > 1 else {}
        nisa.tensor_scalar(tile(c, how), tile(c, how), nl.multiply, given[0], **second, **more)

    return call


def scaled_and_added(c):
    nisa.scalar_tensor_tensor(tile(c), tile(c), nl.multiply, column(c), nl.add, tile(c))


@pytest.mark.parametrize(
    ("target", "call", "expected"),
    [
        ("trn2", scaled(2.0), HALF + ACCESS),
        ("trn2", scaled(FLOAT32), HALF + ACCESS + COLUMN),
        ("trn3", scaled(FLOAT32), HALF + ACCESS + COLUMN),
        ("trn1", scaled(FLOAT32), N + 50),
        ("trn2", scaled(IN_PSUM), HALF + ACCESS + COLUMN),
        ("trn2", scaled(2.0, FLOAT32), HALF + ACCESS + COLUMN),
        ("trn2", scaled(FLOAT32, FLOAT32), HALF + ACCESS + COLUMN),  # two columns take no longer than one
        ("trn2", scaled(FLOAT32, how=IN_PSUM), N + ACCESS + COLUMN),
        ("trn2", scaled(FLOAT32, how=BFLOAT16), QUARTER + ACCESS + COLUMN),
        ("trn2", scaled(FLOAT32, engine=nisa.engine.scalar), N + ACCESS),
        ("trn2", scaled_and_added, N + ACCESS + COLUMN),
        ("trn2", lambda c: nisa.tensor_reduce(column(c), nl.add, tile(c), axis=1), N + ACCESS),  # which it writes
        ("trn2", lambda c: nisa.tensor_scalar(column(c), column(c), nl.multiply, column(c)), 64 + ACCESS),
    ],
)  # fmt: skip
def test_a_column_that_vector_reads_beside_a_tile(core, target, call, expected):
    assert cycles(core, target, call) == pytest.approx(expected)


def activated(function, how=FLOAT32, to=FLOAT32):
    return lambda c: nisa.activation(tile(c, to), function, tile(c, how))


def in_three_steps(function):
    return lambda c: nisa.activate2(tile(c), function, tile(c), 1.0, 0.0, nl.multiply, nl.add)


@pytest.mark.parametrize(
    ("target", "call", "expected"),
    [
        ("trn2", activated(nl.exp), N + ACCESS + FUNCTION + IN_SBUF),
        ("trn2", activated(nl.exp, IN_PSUM), N + ACCESS + FUNCTION),
        ("trn2", activated(nl.exp, to=IN_PSUM), N + ACCESS + FUNCTION + IN_SBUF),  # what is read decides
        ("trn2", activated(nl.exp, BFLOAT16), N + ACCESS + FUNCTION + IN_SBUF),
        ("trn2", activated(nl.copy), N + ACCESS),
        ("trn2", activated(nl.copy, IN_PSUM), N + ACCESS),
        ("trn3", activated(nl.square, IN_PSUM), N + ACCESS + FUNCTION),
        ("trn3", activated(nl.square), N + ACCESS + FUNCTION + IN_SBUF),
        ("trn1", activated(nl.exp), N + 50),
        ("trn1", activated(nl.exp, IN_PSUM), N + 50),
        (
            "trn2",  # columns cost Scalar nothing
            lambda c: nisa.activation(tile(c), nl.exp, tile(c), bias=column(c), scale=column(c)),
            N + ACCESS + FUNCTION + IN_SBUF,
        ),
        (
            "trn2",
            lambda c: nisa.activation_reduce(tile(c), nl.exp, tile(c, IN_PSUM), nl.add, column(c)),
            N + 64 + ACCESS + FUNCTION,
        ),
        ("trn3", in_three_steps(nl.exp), N + ACCESS + FUNCTION + IN_SBUF),
        ("trn3", in_three_steps(nl.copy), N + ACCESS),
        ("trn2", lambda c: nisa.tensor_copy(tile(c), tile(c), engine=nisa.engine.scalar), N + ACCESS),
    ],
)  # fmt: skip
def test_an_activation_function_that_is_no_copy(core, target, call, expected):
    assert cycles(core, target, call) == pytest.approx(expected)
