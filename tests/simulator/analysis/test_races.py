"""What races, element by element, against a model in plain Python; and which pair of accesses is shown."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator.analysis.races import check_races, races
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.trace import Allocation, Event, Region, Trace

TRN2 = chip_of("trn2")
SHAPE = (3, 4)
TENSORS = [Allocation(i, name, "shared_hbm", SHAPE, TABLE["float32"], ("k.py", 1)) for i, name in enumerate("ab")]
OWN = Allocation(9, "own", "sbuf", SHAPE, TABLE["float32"], ("k.py", 1))
INDEX = np.arange(12).reshape(SHAPE)


def region(rows, columns, allocation=TENSORS[0]):
    view = INDEX[rows[0] : rows[1], columns[0] : columns[1]]
    return Region(allocation, int(view[0, 0]), view.shape, (4, 1), TABLE["float32"])


def touches(region):
    offsets = region.offset + 4 * np.arange(region.shape[0])[:, None] + np.arange(region.shape[1])
    return {(region.allocation.id, at) for at in offsets.ravel().tolist()}


def access(core, write, where, value=0, epoch=0, line=1, op="dma_copy"):
    """A transfer between shared HBM and the core's own SBUF."""
    reads, writes = ((region((0, 1), (0, 1), OWN),), (where,)) if write else ((where,), (region((0, 1), (0, 1), OWN),))
    return Event(op, "dma", reads, writes, ("k.py", line), core, None, {"epoch": epoch, "written": (value,)})


@st.composite
def programs(draw):
    """Accesses of two cores in their order: few places and values, so that many are the same on both."""
    spans = st.sampled_from([(0, 1), (0, 2), (1, 3), (0, 3)])
    step = st.tuples(
        st.integers(0, 1), st.booleans(), spans, spans, st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)
    )
    steps = draw(st.lists(step, min_size=2, max_size=7))
    both = draw(st.lists(step, max_size=3))  # by one core and then by the other
    steps += [(core, *rest) for core in (0, 1) for _, *rest in both]
    return [
        access(core, write, region(rows, columns, TENSORS[tensor]), value, epoch, line)
        for line, (core, write, rows, columns, value, epoch, tensor) in enumerate(steps, 1)
    ]


def identity(event):
    """What makes a write the same on both cores: where and what; None of a read."""
    (written,) = event.writes
    return None if written.allocation is OWN else (written, event.attributes["written"], event.attributes["epoch"])


def shared(event):
    return next(r for r in (*event.reads, *event.writes) if r.allocation is not OWN)


def racing(events):
    """The (epoch, element) of which the result depends on who comes first."""
    found = set()
    for epoch in (0, 1):
        for place in {place for event in events for place in touches(shared(event))}:
            writes, early, late = ([], []), [False, False], [False, False]
            for event in events:
                if event.attributes["epoch"] != epoch or place not in touches(shared(event)):
                    continue
                mine = writes[event.core]
                if identity(event) is None:
                    (late if mine else early)[event.core] = True
                elif not mine or mine[-1] != identity(event):
                    mine.append(identity(event))
            a, b = writes
            unlike = bool(a and b) and (a != b or (len(a) > 1 and any(late)))
            if unlike or (a and early[1]) or (b and early[0]):
                found.add((epoch, place))
    return found


def harmless(first, second, events):
    """Whether a pair is two reads, one write by both, or a read by a core after it has written the same itself."""
    a, b = identity(first), identity(second)
    if a == b:
        return True
    if a is not None and b is not None:
        return False
    reader, write = (first, b) if a is None else (second, a)
    return any(identity(e) == write for e in events[: events.index(reader)] if e.core == reader.core)


@settings(max_examples=150)
@given(programs())
def test_what_races_and_the_pair_that_is_shown(events):
    expected = racing(events)
    found = list(races(Trace(TRN2, "trn2", events)))
    assert {(e.attributes["epoch"], r.allocation.id) for e, _, r in found} == {(at, place[0]) for at, place in expected}
    for first, second, at in found:
        assert (first.core, second.core) == (0, 1) and at == shared(second)
        assert first.attributes["epoch"] == second.attributes["epoch"]
        common = touches(shared(first)) & touches(at)
        assert common & {place for epoch, place in expected if epoch == first.attributes["epoch"]}
        assert not harmless(first, second, events)


@pytest.mark.parametrize("before", [[], [1], [1, 2]])
def test_a_write_that_one_core_carries_out_again_at_once_is_the_same(before):
    sides = [[*before, 3, 3], [*before, 3]]
    events = [access(core, True, region((0, 1), (0, 1)), value) for core in (0, 1) for value in sides[core]]
    assert not racing(events) and not list(races(Trace(TRN2, "trn2", events)))


def test_a_view_that_runs_backwards_touches_what_lies_before_it():
    backwards = Region(TENSORS[0], 3, (1, 4), (4, -1), TABLE["float32"])
    for column in range(4):
        events = [access(0, True, backwards, 1), access(1, False, region((0, 1), (column, column + 1)))]
        assert len(list(races(Trace(TRN2, "trn2", events)))) == 1
    events = [access(0, True, backwards, 1), access(1, False, region((1, 2), (0, 4)))]
    assert not list(races(Trace(TRN2, "trn2", events)))


WHOLE = region((0, 3), (0, 4))


def test_a_read_of_what_both_cores_have_written_alike_is_not_the_pair_that_is_shown():
    mine = [access(0, True, WHOLE, 1, line=1), access(0, False, WHOLE, line=2), access(0, True, WHOLE, 2, line=3)]
    for core in (0, 1):
        events = [
            access(e.core ^ core, bool(identity(e)), WHOLE, *e.attributes["written"], line=e.line[1]) for e in mine
        ]
        ((*pair, _),) = races(Trace(TRN2, "trn2", [*events, access(1 - core, True, WHOLE, 1, line=4)]))
        assert sorted(event.line[1] for event in pair) == [3, 4]


@pytest.mark.parametrize(("column", "race"), [(0, True), (1, False), (2, True), (3, False)])
@pytest.mark.parametrize("core", [0, 1])
def test_of_a_view_with_gaps_each_part_races_by_itself(column, race, core):
    gaps = Region(TENSORS[0], 0, (3, 2), (4, 2), TABLE["float32"])
    writes, reads = access(core, True, gaps, 1), access(1 - core, False, region((1, 2), (column, column + 1)))
    expected = [tuple(sorted((writes, reads), key=lambda event: event.core))] if race else []
    for events in ([writes, reads], [reads, writes]):
        assert [tuple(pair) for *pair, _ in races(Trace(TRN2, "trn2", events))] == expected


@pytest.mark.parametrize(("reads_at", "race"), [(None, False), (0, True), (1, True), (2, True)])
@pytest.mark.parametrize("core", [0, 1])
def test_a_read_between_or_behind_two_writes_that_both_cores_carry_out_alike(reads_at, race, core):
    mine = [access(core, True, WHOLE, value) for value in (1, 2)]
    if reads_at is not None:
        mine.insert(reads_at, access(core, False, WHOLE))
    events = [*mine, *[access(1 - core, True, WHOLE, value) for value in (1, 2)]]
    assert bool(racing(events)) == bool(list(races(Trace(TRN2, "trn2", events)))) == race


@pytest.mark.parametrize(("first", "apart"), [(0, False), (3, False), (4, True), (8, True)])
@pytest.mark.parametrize("core", [0, 1])
def test_where_bytes_are_apart_no_element_is_looked_at(monkeypatch, first, apart, core):
    looked = []
    monkeypatch.setattr("triptych.simulator.analysis.races._Cells", lambda regions: looked.append(regions) or 1 / 0)
    other = Region(TENSORS[0], first, (1, 4), (4, 1), TABLE["float32"])
    events = [access(core, True, region((0, 1), (0, 4)), 1), access(1 - core, True, other, 2)]
    with contextlib.nullcontext() if apart else pytest.raises(ZeroDivisionError):
        assert not list(races(Trace(TRN2, "trn2", events)))
    assert len(looked) == (not apart)


@pytest.mark.parametrize("op", ["core_barrier", "all_reduce"])
def test_what_both_cores_carry_out_together_is_no_race(op):
    events = [access(core, True, WHOLE, value=core, op=op) for core in (0, 1)]
    for event in events:
        event.attributes["joint"] = op == "all_reduce"
    assert not list(races(Trace(TRN2, "trn2", events)))


def test_a_copy_onto_itself_is_a_read_and_another_instruction_is_not():
    for op, found in (("dma_copy", 0), ("tensor_copy", 1)):
        waits = Event(op, "dma", (WHOLE,), (WHOLE,), ("k.py", 1), 0, None, {"written": (5,)})
        events = [waits, access(1, False, WHOLE)]
        assert len(list(races(Trace(TRN2, "trn2", events)))) == found


def test_the_error_names_both():
    events = [access(0, True, WHOLE, 1, line=7), access(1, False, region((2, 3), (3, 4)), line=9)]
    with pytest.raises(NkiValidationError, match=r"race on 'a' \(3, 4\): dma_copy at k.py:7 and dma_copy at k.py:9"):
        check_races(Trace(TRN2, "trn2", events))
    check_races(Trace(TRN2, "trn2", events[:1]))
