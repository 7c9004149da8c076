"""Cores that take turns: who meets, and what is said of those who never do."""

from __future__ import annotations

import functools
import threading

import pytest

from triptych.simulator import KernelError
from triptych.simulator.machine.cores import ranks_in_words, take_turns


@pytest.mark.parametrize(
    "ranks, words",
    [
        ([3], "rank 3"),
        ([2, 3], "ranks 2-3"),
        ([0, 1, 2, 5], "ranks 0-2, 5"),
        ([5, 0, 2, 0], "ranks 0, 2, 5"),
        ([4, 4], "rank 4"),
    ],
)
def test_ranks_in_words(ranks, words):
    assert ranks_in_words(ranks) == words


def test_those_who_meet_see_what_each_offered_in_the_order_of_who_waits():
    everyone = [(0, 0), (0, 1), (1, 0)]

    def work(core):
        met = core.meet("there", core.who, everyone)
        return met.offers, met.once(lambda: core.who)

    results = take_turns(dict.fromkeys(everyone, work))
    assert [offers for offers, _ in results.values()] == [tuple(everyone)] * 3
    assert len({first for _, first in results.values()}) == 1


def test_a_core_waits_in_vain_for_one_that_has_ended():
    works = {(0, 0): lambda core: core.meet("barrier", None, [(0, 0), (0, 1)]), (0, 1): lambda core: None}
    words = r"for ever: core 0 waits for barrier at .*, and core 1 has ended; all must synchronise in the same order"
    with pytest.raises(KernelError, match=words):
        take_turns(works)


def test_ranks_that_wait_for_each_other_are_named_with_whom_they_wait_for():
    pair, everyone = [(0, 0), (1, 0)], [(rank, 0) for rank in range(4)]

    def work(core):
        if core.who[0] == 3:
            return core.meet("sum", None, everyone)
        return core.meet("pair" if core.who[0] else "other", None, pair if core.who[0] < 2 else everyone, "the pair")

    with pytest.raises(KernelError) as error:
        take_turns(dict.fromkeys(everyone, work))
    said = str(error.value)
    assert "ranks 0-1 wait for the pair at" in said and "with ranks 0-1, and rank 2 waits for the pair at" in said
    assert "with ranks 0-3, and rank 3 waits for sum at" in said


def test_an_error_of_one_core_ends_the_others():
    def work(core):
        if core.who[1]:
            raise ValueError("of core 1")
        core.meet("barrier", None, [(0, 0), (0, 1)])

    with pytest.raises(ValueError, match="of core 1"):
        take_turns({(0, 0): work, (0, 1): work})
    assert not [thread for thread in threading.enumerate() if "_run" in thread.name]


def stuck(ranks, waits):
    """What is said where cores wait: `waits(rank, core)` gives what for and with whom, or None for one that ends."""
    everyone = [(rank, core) for rank in range(ranks) for core in range(2)]

    def work(core):
        wait = waits(*core.who)
        if wait:
            core.meet(wait[0], None, wait[1])

    with pytest.raises(KernelError) as error:
        take_turns(dict.fromkeys(everyone, work))
    return error.value


def test_cores_of_several_ranks_are_named_by_rank_and_core():
    everyone = [(rank, core) for rank in range(4) for core in range(2)]
    error = stuck(4, lambda rank, core: None if (rank, core) == (3, 1) else ("sum", everyone))
    assert "ranks 0-2 and core 0 of rank 3 wait for sum at test_cores.py:" in str(error)
    assert "with ranks 0-3, and core 1 of rank 3 has ended; all must" in str(error)
    assert error.source == "neuron-runtime/about/collectives.rst"
    pair = stuck(1, lambda rank, core: ("a" if core else "b", [(0, 0), (0, 1)]))
    assert "core 0 waits for b at test_cores.py:" in str(pair) and "and core 1 waits for a at" in str(pair)
    assert pair.source == "nki/get-started/about/lnc.rst" and " with rank" not in str(pair)
    both = stuck(2, lambda rank, core: None if rank else ("sum", everyone[:2] + everyone[2:4]))
    assert "rank 0 waits for sum" in str(both) or "rank 0 wait for sum" in str(both)
    assert "rank 1 have ended" in str(both)
    assert both.line == error.line


def test_cores_of_one_rank_in_one_state_are_named_together():
    three = [(0, 0), (0, 1), (1, 0)]
    error = stuck(1, lambda rank, core: ("sum", three))
    assert "core 0 and core 1 wait for sum at" in str(error)


def test_who_is_alone_waits_for_nobody():
    def work(core):
        met = core.meet("there", "mine", [core.who])
        return met.offers

    assert take_turns({(2, 1): work}) == {(2, 1): ("mine",)}
    assert take_turns({(0, 0): work, (0, 1): work}) == {(0, 0): ("mine",), (0, 1): ("mine",)}


def test_cores_meet_again_and_again_and_pairs_do_not_disturb_each_other():
    pairs = {0: [(0, 0), (1, 0)], 1: [(1, 1), (0, 1)]}  # the second names the other first
    made = []

    def work(core):
        seen = []
        for turn in range(3):
            met = core.meet(f"turn {turn}", (core.who, turn), pairs[core.who[1]])
            seen.append(met.offers)
            met.once(functools.partial(made.append, (core.who[1], turn)))
        return seen

    results = take_turns({(rank, core): work for rank in range(2) for core in range(2)})
    for (_, core), seen in results.items():
        assert seen == [tuple((who, turn) for who in pairs[core]) for turn in range(3)]
    assert sorted(made) == [(core, turn) for core in range(2) for turn in range(3)]


def test_cores_take_turns_until_each_waits():
    order = []

    def work(core):
        for step in range(2):
            order.append((core.who[1], step))
            core.meet("there", None, [(0, 0), (0, 1)])
        return core.who

    take_turns({(0, 0): work, (0, 1): work})
    assert order == [(0, 0), (1, 0), (0, 1), (1, 1)]
