"""When the Tensor Engine's clock is halved and when it is whole. Times are in windows since the first use, or in ns."""

import dataclasses

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.timing.throttle import Throttle

WINDOW = 3413.3  # ns, trn2 and trn3; the first use falls in the middle of one
WARM_FROM, COOL_UNTIL = 0.755, 0.365  # shares of a window


def used(throttle, steps):
    """How long matmuls take, of each of which is given when it begins and how long it takes at the whole clock."""
    return [throttle.time(begin * WINDOW, need * WINDOW) / WINDOW for begin, need in steps]


def takes_whole_clock(throttle, begin):
    """Whether a short matmul takes no longer than at the whole clock."""
    (took,) = used(throttle, [(begin, 0.001)])
    assert took == pytest.approx(0.001) or took == pytest.approx(0.002)
    return took == pytest.approx(0.001)


def cold():
    """An engine whose first use, of no length, begins at 0: windows end at 0.5, 1.5, 2.5 and so on."""
    throttle = Throttle(chip_of("trn2"))
    throttle.time(0.0, 0.0)
    return throttle


def warm():
    """The same, and in use for all of the windows that end at 1.5 and 2.5."""
    throttle = cold()
    used(throttle, [(0.5, 0.5), (1.5, 1.0)])
    return throttle


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_the_records_say_windows_and_shares(target):
    chip = chip_of(target)
    assert (chip.warm_up_ns.value, chip.warm_up_slowdown.value) == (WINDOW, 2)
    assert (chip.warm_up_use.value, chip.cool_down_use.value) == (WARM_FROM, COOL_UNTIL)


@pytest.mark.parametrize(("share", "whole"), [(0.754, False), (0.756, True), (1.0, True)])
def test_a_window_of_three_quarters_use_makes_the_clock_whole(share, whole):
    """At half the clock, what needs half of that share takes all of it."""
    throttle = cold()
    assert used(throttle, [(0.5, share / 2)]) == pytest.approx([share])
    assert takes_whole_clock(throttle, 2) == whole


@pytest.mark.parametrize(("share", "whole"), [(0.0, False), (0.36, False), (0.37, True), (0.754, True)])
def test_a_window_of_a_third_use_halves_the_clock(share, whole):
    throttle = warm()
    assert used(throttle, [(2.5, share)]) == pytest.approx([share])
    assert takes_whole_clock(throttle, 4) == whole


def test_between_both_shares_the_clock_stays_as_it_was():
    """Half of each of twenty windows: cold stays cold, and warm stays warm."""
    was_cold, was_warm = cold(), warm()
    for window in range(3, 23):
        assert used(was_cold, [(window, 0.25)]) == pytest.approx([0.5])
        assert used(was_warm, [(window, 0.5)]) == pytest.approx([0.5])


def test_the_clock_is_whole_a_window_and_a_half_after_the_first_use():
    """In use without a gap from then on: half a window is too little, the next is full."""
    throttle, now, found = Throttle(chip_of("trn2")), 5000.0, []
    for _ in range(40):
        took = throttle.time(now, 100.0)
        found.append((now - 5000.0, took))
        now += took
    slow = [begin for begin, took in found if took == 200.0]
    assert [took for _, took in found] == [200.0] * len(slow) + [100.0] * (40 - len(slow))
    assert slow[-1] == 5000.0 < 1.5 * WINDOW <= found[len(slow)][0] == 5200.0


def test_a_long_wait_halves_the_clock_and_moves_no_window():
    """A thousand windows later: they still end where they did, and one full of use makes the clock whole again."""
    throttle = warm()
    assert takes_whole_clock(throttle, 3)
    assert not takes_whole_clock(throttle, 1003)
    assert used(throttle, [(1003.5, 0.5)]) == pytest.approx([1.0])
    assert takes_whole_clock(throttle, 1005)
    assert not takes_whole_clock(throttle, 1006)  # the window that ended at 1005.5 was hardly in use


@pytest.mark.parametrize(
    ("steps", "whole"),
    [
        ([(0.5, 0.2), (0.6, 0.15), (0.6, 0.1)], False),  # until 0.9, 0.9 and 0.8: 0.4 of the window
        ([(0.5, 0.2), (0.8, 0.25), (1.2, 0.05)], True),  # until 0.9, 1.3 and 1.3: 0.8
        ([(0.5, 0.2), (0.9, 0.2)], True),  # the same behind each other
    ],
)
def test_tiles_that_are_in_use_together_count_once(steps, whole):
    throttle = cold()
    used(throttle, steps)
    assert takes_whole_clock(throttle, 2) == whole


@pytest.mark.parametrize(
    ("begin", "need", "first", "second"),
    [
        (0.72, 0.77, True, True),  # 0.78 of the window that ends at 1.5 and 0.76 of the next
        (0.76, 0.77, False, True),  # 0.74 and 0.80
        (0.76, 0.73, False, False),  # 0.74 and 0.72
    ],
)
def test_what_runs_over_the_end_of_a_window_counts_in_both(begin, need, first, second):
    throttle = cold()
    assert used(throttle, [(begin, need)]) == pytest.approx([2 * need])
    assert takes_whole_clock(throttle, begin + 2 * need) == first
    assert takes_whole_clock(throttle, 3) == second


def test_a_matmul_keeps_the_clock_with_which_it_began():
    """It runs over two ends of windows, of which the first makes the clock whole."""
    throttle = cold()
    assert used(throttle, [(0.5, 1.5)]) == pytest.approx([3.0])
    assert takes_whole_clock(throttle, 3.5)


def with_fact(chip, name, value):
    return dataclasses.replace(chip, **{name: dataclasses.replace(getattr(chip, name), value=value)})


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_without_windows_the_clock_is_always_whole(target):
    never = Throttle(with_fact(chip_of(target), "warm_up_ns", 0.0))
    assert [never.time(begin, 100.0) for begin in (0.0, 100.0, 10_000.0, 1e6)] == [100.0] * 4


def test_how_much_slower_is_a_number_of_the_chip():
    slower = Throttle(with_fact(chip_of("trn2"), "warm_up_slowdown", 3.0))
    assert slower.time(0.0, 100.0) == 300.0


HOT = 8 / 7  # trn1: how much longer a matmul takes once the engine was in use for a window


def hot():
    """Trn1's engine, used for all of the window that ends at 1.5."""
    throttle = Throttle(chip_of("trn1"))
    assert used(throttle, [(0.0, 0.5), (0.5, 1.0)]) == pytest.approx([0.5, 1.0])
    return throttle


def test_the_record_of_trn1_says_seven_eighths():
    chip = chip_of("trn1")
    assert (chip.warm_up_ns.value, chip.warm_up_slowdown.value) == (WINDOW, 1)
    assert chip.sustained_slowdown.value == pytest.approx(HOT)
    assert [chip_of(target).sustained_slowdown.value for target in ("trn2", "trn3")] == [1, 1]


@pytest.mark.parametrize(("target", "slower"), [("trn1", HOT), ("inf2", 8 / 5)])
def test_a_long_product_runs_at_the_limit_of_its_chip(target, slower):
    throttle = Throttle(chip_of(target))
    assert used(throttle, [(0.0, 0.5), (0.5, 1.0), (1.5, 10.0)]) == pytest.approx([0.5, 1.0, 10.0 * slower])


@pytest.mark.parametrize(("share", "slow"), [(0.0, False), (0.754, False), (0.756, True), (1.0, True)])
def test_trn1_is_slower_after_a_window_of_three_quarters_use(share, slow):
    """Until then it is not throttled: what needs that share of a window takes it."""
    throttle = Throttle(chip_of("trn1"))
    assert used(throttle, [(0.0, 0.5), (0.5, share)]) == pytest.approx([0.5, share])
    assert used(throttle, [(1.6, 0.1)]) == pytest.approx([0.1 * HOT if slow else 0.1])


@pytest.mark.parametrize(("share", "slow"), [(0.0, False), (0.36, False), (0.37, True), (1.0, True)])
def test_trn1_is_slower_until_a_window_of_a_third_use(share, slow):
    throttle = hot()
    assert used(throttle, [(1.5, share / HOT)]) == pytest.approx([share])
    assert used(throttle, [(2.6, 0.1)]) == pytest.approx([0.1 * HOT if slow else 0.1])


@pytest.mark.parametrize(("used_ns", "whole"), [(384, False), (385, True), (767, False), (768, True)])
def test_a_window_is_measured_from_its_begin_to_the_nanosecond(used_ns, whole):
    """768 of 1024 ns make the clock whole, 384 halve it; the second window forgets what the first was used for."""
    chip = chip_of("trn2")
    facts = {"warm_up_ns": 1024.0, "warm_up_use": 0.75, "cool_down_use": 0.375}
    chip = dataclasses.replace(chip, **{k: dataclasses.replace(getattr(chip, k), value=v) for k, v in facts.items()})
    throttle = Throttle(chip)
    throttle.time(0.0, 0.0)  # in the middle of a window, so that others end at 512, 1536 and 2560
    if used_ns < 512:
        assert throttle.time(512.0, 512.0) == 1024 and throttle.time(1536.0, float(used_ns)) == used_ns
        assert throttle.time(3000.0, 1.0) == 1 + (not whole)
    else:
        assert throttle.time(300.0, 10.0) == 20 and throttle.time(512.0, used_ns / 2) == used_ns
        assert throttle.time(1600.0, 1.0) == 1 + (not whole)
