"""What a run backwards does again: the launches whose programs meet in memory, and those that find other arguments."""

import numpy as np
import pytest
import triton
import triton.language as tl

from triptych.harness.emulators import OrderError, interpret, interpret_backwards
from triptych.harness.emulators.interpreter import launches as module
from triptych.harness.emulators.interpreter.launches import Launches
from triptych.harness.emulators.memory import Memory

FACTOR = tl.constexpr(1)


@triton.jit
def _times(x):
    return x * FACTOR


@triton.jit
def _kernel(x, out, scale, N: tl.constexpr, WHAT: tl.constexpr):
    me = tl.program_id(0)
    at = me * N + tl.arange(0, N)
    if WHAT == "apart":
        tl.store(out + at, scale * tl.load(x + at))
    elif WHAT == "interleaved":
        tl.store(out + me + tl.arange(0, N) * 4, tl.load(x + at))
    elif WHAT == "in place":
        tl.store(out + at, 1 + tl.load(out + at))
    elif WHAT == "one place":
        tl.store(out + tl.arange(0, N), tl.load(x + at))
    elif WHAT == "narrow in wide":
        tl.store(out.to(tl.pointer_type(tl.int8)) + 4 * at, tl.load(x + at).to(tl.int8))
    elif WHAT == "what an earlier one wrote":
        tl.store(out + at, tl.load(x + at) + tl.load(out + at - 1, mask=at > 0, other=0.0))
    elif WHAT == "what a later one writes":
        tl.store(out + at, tl.load(x + at) + tl.load(out + at + 1, mask=at < 63, other=0.0))
    elif WHAT == "a constant":
        tl.store(out + at, _times(tl.load(x + at)))
    elif WHAT == "atomic":
        tl.atomic_add(out + at // 2, tl.load(x + at))


X = np.arange(64, dtype=np.float32)


@pytest.fixture
def stores(monkeypatch):
    """How many stores were interpreted, as the length of a list."""
    seen = []
    store = Memory.store

    def counted(self, *arguments):
        seen.append(arguments)
        store(self, *arguments)

    monkeypatch.setattr(Memory, "store", counted)
    return seen


def twice(launcher, stores, **params):
    """What a run and another one backwards give, and how many stores the second one made."""
    launches, results = Launches(), []
    for how in (interpret, interpret_backwards):
        out = np.zeros(64, np.float32)
        stores.clear()
        how(launcher, {"x": X}, out, (), launches, **params)
        results.append(out)
    return *results, len(stores)


def launch(x, out, what):
    _kernel[(4,)](x, out, 2.0, N=16, WHAT=what)


@pytest.mark.parametrize("what", ["apart", "interleaved", "in place", "narrow in wide"])
def test_programs_that_keep_apart_are_not_run_again(stores, what):
    first, second, stored = twice(launch, stores, what=what)
    assert first.any() and np.array_equal(first, second) and stored == 0


@pytest.mark.parametrize("what", ["one place", "what an earlier one wrote", "what a later one writes"])
def test_programs_that_meet_are_run_in_reverse_order(stores, what):
    first, second, stored = twice(launch, stores, what=what)
    assert stored == 4 and not np.array_equal(first, second)


def test_atomics_are_left_alone_as_ever(stores):
    with pytest.raises(OrderError):
        twice(launch, stores, what="atomic")


def test_a_launcher_that_does_otherwise_is_seen(stores):
    calls = []

    def another_number(x, out):
        calls.append(x)
        _kernel[(4,)](x, out, float(len(calls)), N=16, WHAT="apart")

    first, second, stored = twice(another_number, stores)
    assert stored == 4 and np.array_equal(second, 2 * first)

    def other_memory(x, out):
        calls.append(x)
        scratch = x.new_zeros(64).fill_(len(calls))
        _kernel[(4,)](scratch, out, 2.0, N=16, WHAT="apart")

    first, second, stored = twice(other_memory, stores)
    assert stored == 4 and not np.array_equal(first, second)

    def other_constant(x, out):
        global FACTOR
        FACTOR = tl.constexpr(len(calls))
        calls.append(x)
        _kernel[(4,)](x, out, 2.0, N=16, WHAT="a constant")

    first, second, stored = twice(other_constant, stores)
    assert stored == 4 and not np.array_equal(first, second)

    def other_grid(x, out):
        calls.append(x)
        _kernel[(len(calls) % 2 + 2,)](x, out, 2.0, N=16, WHAT="apart")

    first, second, stored = twice(other_grid, stores)
    assert stored in (2, 3) and not np.array_equal(first, second)


def test_one_launch_after_the_other_finds_what_that_left(stores):
    def two(x, out):
        scratch = x.new_empty(64)
        _kernel[(4,)](x, scratch, 3.0, N=16, WHAT="apart")
        _kernel[(4,)](scratch, out, 2.0, N=16, WHAT="apart")

    first, second, stored = twice(two, stores)
    assert np.array_equal(first, 6 * X) and np.array_equal(second, first) and stored == 0


def test_much_memory_is_not_looked_at(stores, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 2 * X.nbytes - 1)
    assert twice(launch, stores, what="apart")[2] == 4
    monkeypatch.setattr(module, "MOST_BYTES", 2 * X.nbytes)
    assert twice(launch, stores, what="apart")[2] == 0
