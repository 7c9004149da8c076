"""What an instruction takes beside its elements: an access, a column that it also reads, an activation function."""

import pytest

from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing.work import works

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

N, HALF, QUARTER = 512, 256, 128  # elements a partition, and the cycles of faster modes
ACCESS, COLUMN = 64, 60  # cycles, trn2 and trn3: of an access, and of Vector's columns
EACH, IN_SBUF = 110, 45  # the same on Scalar: of each column, and of a tile in SBUF
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


def two(c):
    """The narrowest tile."""
    return c.empty((128, 2), **FLOAT32)


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
        ("trn2", scaled_and_added, N + ACCESS + COLUMN),
        ("trn2", lambda c: nisa.tensor_reduce(column(c), nl.add, tile(c), axis=1), N + ACCESS),  # which it writes
        ("trn2", lambda c: nisa.tensor_scalar(column(c), column(c), nl.multiply, column(c)), 64 + ACCESS),
        ("trn2", lambda c: nisa.tensor_scalar(two(c), two(c), nl.multiply, column(c)), 64 + ACCESS + COLUMN),
    ],
)  # fmt: skip
def test_a_column_that_vector_reads_beside_a_tile(core, target, call, expected):
    assert cycles(core, target, call) == pytest.approx(expected)


ON_SCALAR = {"engine": nisa.engine.scalar}


def activated(function, how=FLOAT32, to=FLOAT32, **columns):
    """An activation of a tile, with a column of float32 as the bias, the scale or both."""

    def call(c):
        given = {name: column(c, each) for name, each in columns.items()}
        nisa.activation(tile(c, to), function, tile(c, how), **given)

    return call


def in_three_steps(function, *columns):
    def call(c):
        given = [column(c) if each else 1.0 for each in columns]
        nisa.activate2(tile(c), function, tile(c), *given, nl.multiply, nl.add)

    return call


def copied_by_scalar(how):
    return lambda c: nisa.tensor_copy(tile(c), tile(c, how), engine=nisa.engine.scalar)


BIAS, SCALE = {"bias": FLOAT32}, {"scale": FLOAT32}


@pytest.mark.parametrize(
    ("target", "call", "expected"),
    [
        ("trn2", activated(nl.copy), N + ACCESS + IN_SBUF),
        ("trn2", activated(nl.copy, IN_PSUM), N + ACCESS),
        ("trn2", activated(nl.copy, to=IN_PSUM), N + ACCESS + IN_SBUF),  # what is read decides
        ("trn2", activated(nl.copy, BFLOAT16), N + ACCESS + IN_SBUF),
        ("trn3", activated(nl.copy), N + ACCESS + IN_SBUF),
        ("trn1", activated(nl.copy), N + 50),
        ("trn1", activated(nl.copy, IN_PSUM), N + 50),
        ("trn3", in_three_steps(nl.copy, False, False), N + ACCESS + IN_SBUF),
        ("trn2", copied_by_scalar(FLOAT32), N + ACCESS + IN_SBUF),
        ("trn2", copied_by_scalar(IN_PSUM), N + ACCESS),
        ("trn2", scaled(2.0, **ON_SCALAR), N + ACCESS + IN_SBUF),
        ("trn2", scaled(2.0, how=IN_PSUM, **ON_SCALAR), N + ACCESS),
    ],
)  # fmt: skip
def test_a_tile_that_scalar_reads_in_sbuf(core, target, call, expected):
    assert cycles(core, target, call) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("target", "call", "columns"),
    [
        ("trn2", activated(nl.copy, IN_PSUM, **BIAS), 1),
        ("trn2", activated(nl.copy, IN_PSUM, **SCALE), 1),
        ("trn2", activated(nl.copy, IN_PSUM, **BIAS, **SCALE), 2),
        ("trn2", activated(nl.copy, IN_PSUM, bias=IN_PSUM), 1),
        ("trn3", activated(nl.copy, IN_PSUM, **BIAS, **SCALE), 2),
        ("trn2", scaled(2.0, FLOAT32, how=IN_PSUM, **ON_SCALAR), 1),
        ("trn2", scaled(FLOAT32, FLOAT32, how=IN_PSUM, **ON_SCALAR), 2),
    ],
)
def test_each_column_that_scalar_reads_beside_a_tile(core, target, call, columns):
    assert cycles(core, target, call) == pytest.approx(N + ACCESS + columns * EACH)


@pytest.mark.parametrize(
    ("target", "call", "expected"),
    [
        ("trn2", activated(nl.exp), N + ACCESS + EACH + IN_SBUF),
        ("trn2", activated(nl.exp, IN_PSUM), N + ACCESS + EACH),
        ("trn2", activated(nl.exp, to=IN_PSUM), N + ACCESS + EACH + IN_SBUF),
        ("trn2", activated(nl.exp, BFLOAT16), N + ACCESS + EACH + IN_SBUF),
        ("trn3", activated(nl.square, IN_PSUM), N + ACCESS + EACH),
        ("trn3", activated(nl.square), N + ACCESS + EACH + IN_SBUF),
        ("trn2", activated(nl.exp, IN_PSUM, **BIAS), N + ACCESS + EACH),
        ("trn2", activated(nl.exp, IN_PSUM, **SCALE), N + ACCESS + 2 * EACH),
        ("trn2", activated(nl.exp, IN_PSUM, **BIAS, **SCALE), N + ACCESS + 2 * EACH),
        ("trn1", activated(nl.exp), N + 50),
        ("trn1", activated(nl.exp, IN_PSUM, **BIAS, **SCALE), N + 50),
        (
            "trn2",
            lambda c: nisa.activation_reduce(tile(c), nl.exp, tile(c, IN_PSUM), nl.add, column(c)),
            N + 64 + ACCESS + EACH,
        ),
        ("trn3", in_three_steps(nl.exp, False, False), N + ACCESS + EACH + IN_SBUF),
        ("trn3", in_three_steps(nl.exp, True, False), N + ACCESS + 2 * EACH + IN_SBUF),
        ("trn3", in_three_steps(nl.exp, False, True), N + ACCESS + EACH + IN_SBUF),
        ("trn3", in_three_steps(nl.exp, True, True), N + ACCESS + 2 * EACH + IN_SBUF),
    ],
)  # fmt: skip
def test_an_activation_function_always_reads_a_bias(core, target, call, expected):
    """Given or not, beside the column of a scale; a copy has none."""
    assert cycles(core, target, call) == pytest.approx(expected)
