"""Rounds of loops on the chip: what one may differ in from the first, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.enums import engine
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.registers import VirtualRegister
from triptych.simulator.machine.rounds import Rounds
from triptych.simulator.machine.scalars import NkiScalar

with simulated_nki():
    import nki.isa as nisa

LINE = ("kernel.py", 3)


class Kernel:
    """The rounds of a loop as a test writes them: calls, each a name and what it is given."""

    def __init__(self, c):
        self.c, self.rounds = c, Rounds()

    def round(self, *calls, line=LINE):
        self.begin()
        for name, args, kwargs in calls:
            self.rounds.see(name, args, kwargs, line)
        self.rounds.end(("kernel.py", 9))

    def begin(self):
        machine = self.c.machine
        self.rounds.begin(len(machine.trace.allocations), machine.shared, machine.shared_seen)


@pytest.fixture
def kernel(core):
    with core("trn2") as c:
        yield Kernel(c)


def call(*args, name="nisa.memset", **kwargs):
    return name, args, kwargs


class Plain:
    """What says nothing of itself."""


class Saying(Plain):
    def __init__(self, what):
        self.what = what

    def __repr__(self):
        return f"Saying({self.what})"


SAME = [
    (1, 1),
    (1.5, 1.5),
    ("a", "a"),
    (None, None),
    (True, True),
    (engine.vector, engine.vector),
    (np.float32(2), np.float32(2)),
    ((1, [2, "a"]), [1, (2, "a")]),
    (np.arange(3), np.arange(3)),
    (VirtualRegister(1), VirtualRegister(2)),
    (NkiScalar(1), NkiScalar(5)),
    (Plain(), Plain()),
    (Saying("a"), Saying("a")),
]
DIFFERENT = [
    (1, 2, "1 in round 1 and 2"),
    (1, 1.0, "1 in round 1 and 1.0"),
    (1, True, "1 in round 1 and True"),
    (0.0, -0.0, "0.0 in round 1 and -0.0"),
    ("a", "b", "'a' in round 1 and 'b'"),
    (None, 0, "None in round 1 and 0"),
    (engine.vector, engine.scalar, ".* in round 1 and"),
    (np.float32(2), np.float32(3), ".* in round 1 and"),
    ((1, 2), (1, 3), ".* in round 1 and"),
    (np.arange(3), np.arange(3).astype(np.float32), ".* in round 1 and"),
    (np.arange(4), np.arange(4).reshape(2, 2), ".* in round 1 and"),
    (np.arange(3), np.arange(1, 4), ".* in round 1 and"),
    (Saying("a"), Saying("b"), r"Saying\(a\) in round 1 and Saying\(b\)"),
    (VirtualRegister(1), NkiScalar(1), "VirtualRegister in round 1 and NkiScalar"),
    (
        (VirtualRegister(1),) * 3,
        (1, 2, 3),
        r"\('VirtualRegister', 'VirtualRegister', 'VirtualRegister'\) in round 1 and",
    ),
    ((), (1,), r"\(\) in round 1 and"),
]


@pytest.mark.parametrize("first, second", SAME)
def test_what_is_given_again(kernel, first, second):
    for given in (first, second, first):
        kernel.round(call(given, value=given))


@pytest.mark.parametrize("first, second, words", DIFFERENT)
def test_what_differs_between_rounds(kernel, first, second, words):
    kernel.round(call(value=first))
    with pytest.raises(NkiValidationError, match=f"nisa.memset has value {words}.* in round 2: only the counter") as e:
        kernel.round(call(value=second))
    assert e.value.line == LINE


def test_an_argument_is_named_by_where_it_stands(kernel):
    kernel.round(call(1, 2))
    with pytest.raises(NkiValidationError, match="nisa.memset has argument 2 2 in round 1 and 3 in round 2"):
        kernel.round(call(1, 3))


def test_an_argument_that_the_first_round_did_not_give(kernel):
    kernel.round(call())
    with pytest.raises(NkiValidationError, match="nisa.memset has value None in round 1 and 3 in round 2"):
        kernel.round(call(value=3))


def test_a_round_has_the_instructions_of_the_first_one(kernel):
    kernel.round(call(), call(name="nisa.iota"))
    kernel.round(call(), call(name="nisa.iota"))
    with pytest.raises(NkiValidationError, match="round 3 has no nisa.iota, which round 1 has at kernel.py:3") as e:
        kernel.round(call())
    assert e.value.line == ("kernel.py", 9)
    with pytest.raises(NkiValidationError, match="round 4 has a nisa.rng that round 1 has not"):
        kernel.round(call(), call(name="nisa.iota"), call(name="nisa.rng"))
    with pytest.raises(NkiValidationError, match="round 5 has nisa.rng at kernel.py:3 where round 1 has nisa.memset"):
        kernel.round(call(name="nisa.rng"))
    with pytest.raises(NkiValidationError, match="has nisa.memset at kernel.py:4 where round 1 has nisa.memset at ker"):
        kernel.round(call(), line=("kernel.py", 4))


def test_a_tensor_of_the_kernel_is_itself(kernel):
    t, other = kernel.c.empty((4, 8)), kernel.c.empty((4, 8))
    kernel.round(call(t[:, 2:4]))
    kernel.round(call(t[:, 2:4]))
    for wrong, words in (
        (other[:, 2:4], "has argument 1 't0' at 2 in round 1 and 'other' at 2"),
        (t[:, 4:6], "at 2 in round 1 and .* at 4"),
        (t[:, 2:5], "has argument 1"),
        (t[:, 2:6:2], "has argument 1"),
        (t[:, 2:4].view("int32"), "has argument 1"),
        (3, "in round 1 and 3"),
    ):
        with pytest.raises(NkiValidationError, match=words):
            kernel.round(call(wrong))


def test_a_view_that_an_index_moves_is_the_same_wherever_it_is(kernel):
    t = kernel.c.empty((4, 3, 8))
    kernel.round(call(t.select(1, nisa.register_alloc(0))))
    kernel.round(call(t[:, 1:].select(1, nisa.register_alloc(1))))
    with pytest.raises(NkiValidationError, match="has argument 1"):
        kernel.round(call(t[:, 1]))


def test_what_a_round_makes_is_known_by_when_it_appears(kernel):
    def body(swapped):
        kernel.begin()
        a, b = (kernel.c.empty((4, 8)) for _ in range(2))
        for t in (b, a) if swapped else (a, b):
            kernel.rounds.see("nisa.memset", (t,), {}, LINE)
        kernel.rounds.see("nisa.tensor_copy", (a, b), {}, LINE)
        kernel.rounds.end(LINE)

    body(False)
    body(False)
    with pytest.raises(NkiValidationError, match="made in the round 0, float32 .* and made in the round 1, float32"):
        body(True)


def test_a_shared_tensor_is_made_in_the_round_though_the_other_core_made_it_first(kernel):
    rounds, shared = Rounds(), [kernel.c.empty((4, 8), buffer="shared_hbm") for _ in range(3)]
    rounds.begin(100, shared, 1)
    rounds.see("nisa.dma_copy", (shared[1],), {}, LINE)
    rounds.end(LINE)
    rounds.begin(100, shared, 2)
    rounds.see("nisa.dma_copy", (shared[2],), {}, LINE)
    rounds.end(LINE)
    rounds.begin(100, shared, 2)
    with pytest.raises(NkiValidationError, match="made in the round 0.* and .* at 0 in round 3"):
        rounds.see("nisa.dma_copy", (shared[1],), {}, LINE)


def test_loops_inside_a_loop_have_rounds_of_their_own():
    rounds = Rounds()
    rounds.begin(0, (), 0)
    first, second = rounds.inside(), rounds.inside()
    assert first is not second
    rounds.end(LINE)
    rounds.begin(0, (), 0)
    assert (rounds.inside(), rounds.inside()) == (first, second)
    third = rounds.inside()
    assert third not in (first, second, rounds)
