"""nl.rand, nl.random_seed, nl.dropout: their ranges and shares, what a seed repeats, and where on which generation."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

TARGETS = ("trn1", "trn2", "trn3")


def seed_tile(c, value):
    return c.tile(np.array([[value]], np.int32))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("shape", "buffer"), [((128, 300), "sbuf"), ((64, 2, 200), "psum"), ((3, 128, 700), "hbm")])
def test_rand_is_uniform_from_0_to_below_1(core, target, shape, buffer):
    with core(target):
        made = nl.rand(shape, nl.float32, getattr(nl, buffer), "noise")
        assert (made.shape, made.dtype, made.name, made.buffer) == (shape, "float32", "noise", getattr(nl, buffer))
        made.check_written()
        x = made.array.astype(np.float64)
        assert 0 <= x.min() < 1e-3 and 1 - 1e-3 < x.max() < 1
        assert abs(x.mean() - 0.5) < 5 * math.sqrt(1 / 12 / x.size) and abs(x.var() - 1 / 12) < 2e-3
        assert len(np.unique(x)) > 0.99 * x.size


@pytest.mark.parametrize(("target", "drawn_by"), [("trn1", "rng"), ("trn2", "rng"), ("trn3", "rand2")])
def test_the_instruction_that_draws(core, target, drawn_by):
    with core(target) as c:
        nl.rand((4, 6), nl.bfloat16)
        assert c.trace.events[0].op == drawn_by and {e.engine for e in c.trace.events} == {"vector"}
        assert {e.line[0] for e in c.trace.events} == {__file__}


@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_gives_rand_the_same_numbers(core, target):
    with core(target) as c:
        drawn = []
        for value in (42, 42, 43):
            nl.random_seed(seed_tile(c, value))
            drawn.append((nl.rand((4, 9), nl.float32).array.copy(), nl.rand((4, 9), nl.float32).array.copy()))
        np.testing.assert_array_equal(drawn[0], drawn[1])
        assert (drawn[0][0] != drawn[0][1]).any() and (drawn[0][0] != drawn[2][0]).any()


@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_that_may_not_reach_rand_is_noted(core, target):
    with core(target) as c:
        seed = seed_tile(c, 1)
        nl.random_seed(seed)
        line = inspect.currentframe().f_lineno - 1
        if target == "trn3":
            assert not c.trace.notes
        else:
            assert len(c.trace.notes) == 1 and f"test_wrappers_randomness.py:{line}" in c.trace.notes[0]
            assert "nl.random_seed may have no effect on nl.rand" in c.trace.notes[0]


def noise(a):
    seed, out = nl.load(a), nl.ndarray((4, 64), nl.float32, nl.shared_hbm)
    nl.random_seed(seed)
    nl.store(out, nl.rand((4, 64), nl.float32))
    return out


def both(a):
    """Each core's numbers in a row of its own."""
    seed, out = nl.load(a), nl.ndarray((2, 64), nl.float32, nl.shared_hbm)
    nl.random_seed(seed)
    core = nl.program_id(0)
    nl.store(out[core : core + 1], nl.rand((1, 64), nl.float32))
    nisa.core_barrier(out, (0, 1))
    return out


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_a_seed_means_the_same_in_every_run_and_on_both_cores(target):
    seed = np.array([[7]], np.int32)
    first = simulator.run(noise, seed, target=target).outputs
    np.testing.assert_array_equal(simulator.run(noise, seed, target=target).outputs, first)
    on_two = simulator.run(simulator.jit(both)[2], seed, target=target).outputs
    np.testing.assert_array_equal(on_two[0], on_two[1])
    np.testing.assert_array_equal(on_two[0], first[0])


@pytest.mark.parametrize("target", TARGETS)
def test_dropout_zeroes_a_share_and_casts_after(core, target):
    with core(target) as c:
        x = np.full((128, 400), 1 + 2.0**-9, np.float32)
        rates = np.tile(np.array([[0.0], [0.25], [1.0], [0.75]], np.float32), (32, 1))
        for rate, shares in ((0.25, [0.25] * 4), (c.tile(rates), [0, 0.25, 1, 0.75])):
            dropped = nl.dropout(c.tile(x), rate)
            assert c.trace.events[-1].op == "dropout"
            assert dropped.dtype == "float32" and set(np.unique(dropped.array)) <= {np.float32(0), x[0, 0]}
            zeros = (dropped.array == 0).mean(axis=1).reshape(32, 4).mean(axis=0)
            np.testing.assert_allclose(zeros, shares, atol=0.02)
        low = nl.dropout(c.tile(x), 0.0, dtype=nl.bfloat16)
        assert low.dtype == "bfloat16" and (low.array.astype(np.float32) == 1).all()


LIMITS = [
    (lambda c: nl.rand((4, 6), nl.float32, "sbuf"), "buffer must be nl.sbuf", TARGETS, ()),
    (lambda c: nl.rand((4, 6), nl.float8_e4m3fn), "dst must be one of float8_e4m3,", ("trn3",), ()),
    (lambda c: nl.random_seed(42), "src_seeds must be a tile in SBUF or PSUM, got int 42", TARGETS, ()),
    (lambda c: nl.random_seed(c.tile(np.ones((2, 1), np.int32))), r"src_seeds must be \(1, 1\) of 32", TARGETS, ()),
    (lambda c: nl.dropout(3.0, 0.5), "x must be a tile in SBUF or PSUM", TARGETS, ()),
    (lambda c: nl.dropout(c.empty((4, 6)), 0.5), "nothing has written", TARGETS, ()),
    (lambda c: nl.dropout(c.tile(np.ones((4, 6)), "int8"), c.empty((4, 2))), "prob must be a scalar", TARGETS, ()),
]


@pytest.mark.parametrize(("call", "words", "on", "fine"), LIMITS)
def test_limits(refused, call, words, on, fine):
    refused(call, words, on, fine)
