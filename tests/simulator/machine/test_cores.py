"""Cores that take turns: who meets, and what is said of those who never do."""

from __future__ import annotations

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
