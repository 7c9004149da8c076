"""Steady loops by hand, of tiles of a quarter of SBUF: where they begin, and how many rounds are scheduled."""

import pytest

from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing import Span, steady
from triptych.simulator.timing.steady import Loop, shortened, steady_loop
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Region, Trace


def region(number, buffer="sbuf", n=57_344):
    allocation = Allocation(number, "t", buffer, (128, n), TABLE["int8"], ("k.py", number))
    return Region(allocation, 0, (128, n), (n, 1), TABLE["int8"])


def event(reads, writes, op="memset", **attributes):
    return Event(op, "vector", tuple(map(region, reads)), tuple(map(region, writes)), ("k.py", 1), 0, None, attributes)


def by_hand(read, rounds=20, **attributes):
    """Round r sets tile 100 + r and reads tile 100 + read(r) into 200 + r; before them 300 is set, and then read."""
    events = [event([], [300], "store")]
    for r in range(rounds):
        events += [event([], [100 + r]), event([100 + read(r)], [200 + r], "activation", **attributes)]
    return Trace(chip_of("trn2"), "trn2", [*events, event([300], [], "load")])


@pytest.mark.parametrize(
    ("read", "loop"),
    [
        (lambda r: r, Loop(1, 2, 20)),
        (lambda r: r if r < 3 else r - 1, Loop(7, 2, 17)),  # the fourth round is the first that is like the next
        (lambda r: max(0, r - 1), Loop(3, 2, 19)),
        (lambda r: max(0, r - 2), Loop(39, 2, 1)),  # five events ago: not of this round or the one before
        (lambda r: 100 + max(0, r - 2) if r else 0, Loop(5, 2, 18)),  # four events ago
        (lambda r: 200, Loop(5, 2, 18)),  # what comes before the loop, which is near at first
    ],
)
def test_from_which_round_on_a_loop_is_steady(read, loop):
    assert steady_loop(by_hand(read)) == loop


def test_a_loop_whose_rounds_all_read_what_was_written_before_it_is_steady():
    """Each round's distance from it is another, its place the same; and so it is of tiles first used there."""
    events = [event([], [1]), event([2], [3])]
    for r in range(20):
        events += [event([], [100 + r], "memset"), event([1, 2, 100 + r], [200 + r], "activation")]
    assert steady_loop(Trace(chip_of("trn2"), "trn2", events)) == Loop(6, 2, 18)


@pytest.mark.parametrize("attribute", ["after", "registers"])
def test_what_a_kernel_orders_itself_is_scheduled_whole(attribute):
    trace = by_hand(lambda r: r)
    trace.events[30].attributes[attribute] = []
    assert steady_loop(trace) is None and steady_loop(by_hand(lambda r: r, no_reorder=None)) is not None


def test_what_events_wait_for_is_counted_back_from_them_or_a_place():
    """The third event sets a tile that the fifth to eighth read, the fourth one that the sixth reads."""
    events = [event([], [1]), event([], [2]), event([], [3]), event([], [4])]
    events += [event([3], []), event([4], []), event([3], []), event([3], []), event([3, 4], []), event([4, 3], [])]
    signs = list(steady._signs(Trace(chip_of("trn2"), "trn2", events), 2))
    assert signs[4] == signs[5] != signs[6] == signs[7]  # two events ago; the place 2, which is another thing
    assert signs[8] != signs[9] and signs[0] == signs[1] == signs[2] == signs[3]


def test_a_write_two_events_ago_is_not_the_place_two():
    """Of one tile, which both events know by its first use."""
    events = [event(*sides) for sides in (([], [1]), ([], [2]), ([], [1]), ([], [2]), ([1], []), ([], [2]), ([1], []))]
    signs = list(steady._signs(Trace(chip_of("trn2"), "trn2", events), 2))
    assert signs[4] != signs[6]


@pytest.mark.parametrize(
    ("ends", "asked", "left_out"),
    [
        ({2: 100, 4: 120, 8: 160}, [2, 4, 8], (56, 0.0)),  # 10 ns a round
        ({2: 100, 4: 120, 8: 160.02}, [2, 4, 8], (56, 0.005 * 56 / (160.02 + 10.005 * 56))),
        ({2: 100, 4: 120, 8: 160.2, 16: 240.6}, [2, 4, 8, 16], (48, 0.0)),  # 10, and then 10.05 twice
        ({2: 4, 4: 16, 8: 64, 16: 256, 32: 1024}, [2, 4, 8, 16, 32], None),
    ],
)
def test_rounds_are_scheduled_until_the_total_is_known(ends, asked, left_out):
    """Of 64 rounds twice as many each time, from the two on that fill SBUF."""
    check_rounds(ends, asked, left_out)


def test_a_total_is_known_if_it_changes_by_no_more_than_is_allowed(monkeypatch):
    monkeypatch.setattr(steady, "STEADY", 0.0)
    check_rounds({2: 100, 4: 120, 8: 160}, [2, 4, 8], (56, 0.0))


def check_rounds(ends, asked, left_out):
    trace, seen = by_hand(lambda r: r, 64), []

    def spans_of(short):
        rounds = (len(short.events) - 2) // 2
        seen.append(rounds)
        spans = [Span(i, 0, "vector", 0.0, 1.0, 1.0, None, "start") for i in range(len(short.events))]
        spans[-2] = spans[-2]._replace(end_ns=float(ends[rounds]))
        return spans

    found = steady.extrapolated(trace, spans_of)
    assert seen == asked and (found is None) == (left_out is None)
    if found is not None:
        spans, told = found
        assert (told.rounds, told.of, told.period) == (left_out[0], 64, 2)
        assert told.error == pytest.approx(left_out[1], abs=1e-12)
        assert [span.index for span in spans] == list(range(len(trace.events)))


def test_what_comes_after_the_loop_stays_what_it_is():
    """Beside tiles of the loop, those of before and after it; and what is read through a few indices."""
    trace = by_hand(lambda r: r)
    through = IndirectRegion(*region(119))
    through.offsets = (3, 5)
    last = event([300, 101], [400])
    last.reads += (through,)
    trace.events[-1:] = [event([], [400]), last]
    short = shortened(trace, Loop(1, 2, 20), 5, steady._first_uses(trace)).events
    assert len(short) == 1 + 2 * 5 + 2 and short[:11] == trace.events[:11]
    assert [r.allocation.id for r in short[-1].reads + short[-1].writes] == [300, 101, 104, 400]
    assert short[-1].reads[2].offsets == (3, 5) and short[-1].reads[2].free_size == 2


def test_what_fills_the_memories_is_what_a_round_allocates_on_chip():
    """A bank of PSUM is an eighth of it; what lies in HBM, or half fills SBUF and comes from before, fills nothing."""
    regions = [region(100, "psum", 8), region(101, "private_hbm", 10**9), region(1, n=114_688)]
    events = [Event("memset", "vector", (), (region(1, n=114_688),), ("k.py", 1), 0, None, {})]
    events.append(Event("memset", "vector", (), tuple(regions), ("k.py", 1), 0, None, {}))
    trace = Trace(chip_of("trn2"), "trn2", events)
    assert steady._filling(trace, Loop(1, 1, 1), steady._first_uses(trace)) == 8
    assert steady._filling(trace, Loop(0, 1, 1), steady._first_uses(trace)) == 2
