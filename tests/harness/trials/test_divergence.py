"""What two runs in lockstep show, of instructions that a test makes up."""

import queue
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from triptych.harness.trials import divergence


class Region:
    def __init__(self):
        self.allocation = SimpleNamespace(id=id(self))


class Tensor:
    """What an observer is handed of a tensor."""

    def __init__(self, values, kind="f", storage=None):
        self.values = np.array(values, np.float32)
        self.shape = self.values.shape
        self.dtype = SimpleNamespace(is_float=kind != "i", kind=kind, __str__=lambda: kind)
        self.storage = storage or object()
        self.region = Region()

    def f32(self):
        return self.values


def test_what_a_tensor_holds_in_words(monkeypatch):
    monkeypatch.setattr(divergence, "form", lambda tensor: f"{tensor.dtype.kind}{list(tensor.shape)}")
    assert divergence.describe(Tensor([1.0, -2.5, 3.0])) == "f[3] in [-2.5, 3]"
    assert divergence.describe(Tensor([1.0, np.nan, np.nan])) == "f[3] in [1, 1] with 2 NaN"
    assert divergence.describe(Tensor([np.nan])) == "f[1] with 1 NaN"
    assert divergence.describe(Tensor([7.0], "i")) == "i[1]", "integers have no range to lose"
    assert divergence.describe(Tensor([7.0], "x")) == "x[1]"


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ([np.inf, 1.0], [1e30, 1.0], 0.0),
        ([np.inf, 3.0], [1e30, 2.0], 0.5),
        ([1e31, 3.0], [1e31, 2.0], 0.5),
        ([np.inf], [9e29], np.inf),
        ([2.0, np.nan], [1.0, np.nan], 1.0),
        ([np.nan, 1.0], [1.0, np.nan], np.inf),
        ([5.0], [0.0], np.inf),
        ([0.0], [0.0], 0.0),
    ],
)
def test_sentinels_neither_differ_nor_count(a, b, apart):
    with np.errstate(all="ignore"):
        assert divergence.distance(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(apart)


def play_of(first, second, ops=("a", "b", "c")):
    """Plays instructions, each of which writes one value: of the run as it is, or of its replay."""

    def play(options):
        for i, op in enumerate(ops):
            values = first if options.round_low_precision else second
            if i < len(values):
                event = SimpleNamespace(op=op, line=("f.py", i), label=f"{op}!", writes=(), reads=())
                options.observe(event, [Tensor([1.0])], [Tensor([values[i]])])

    return play


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(divergence, "form", lambda tensor: tensor.dtype.kind)


@pytest.mark.usefixtures("plain")
def test_the_first_beyond_the_bound_is_named_with_the_largest_before_it():
    found = divergence.bisect(play_of([1.0, 1.1, 2.0], [1.0, 1.0, 1.0]), 0.5)
    assert found.instructions == 3 and found.first.number == 3 and found.first.difference == 1.0
    assert found.largest == pytest.approx(0.1) and found.stopped is None
    within = divergence.bisect(play_of([1.0, 1.1, 1.4], [1.0, 1.0, 1.0]), 0.5)
    assert within.first is None and within.largest == pytest.approx(0.4) and within.instructions == 3


@pytest.mark.usefixtures("plain")
def test_a_replay_that_ends_early_stops_the_comparison():
    found = divergence.bisect(play_of([1.0, 1.0, 1.0], [1.0]), 0.5)
    assert found.stopped == "the replay in float32 ended at b!" and found.instructions == 3


@pytest.mark.usefixtures("plain")
def test_the_first_nan_and_infinity_come_of_operands_that_have_none():
    found = divergence.bisect(play_of([np.inf, np.nan, np.nan], [np.inf, np.nan, np.nan]), 0.5)
    assert found.infinity.number == 1 and found.nan.number == 2


@pytest.mark.usefixtures("plain")
def test_an_operand_that_was_overwritten_in_place_is_told_as_it_was():
    found = divergence.Divergence()
    place = object()
    before, after = Tensor([1.0], storage=place), Tensor([9.0], storage=place)
    assert divergence._operands(found, [before], [after]) == ["f (overwritten in place)"]
    found._ranges[before.region] = "f in [1, 1]"
    assert divergence._operands(found, [before, Tensor([3.0])], [after]) == ["f in [1, 1]", "f in [3, 3]"]


def finding(op="tensor_copy", reads=("a",), writes=("b",), difference=0.5):
    event = SimpleNamespace(op=op, line=("/somewhere/f.py", 7))
    return divergence.Finding(event, 3, list(reads), list(writes), difference)


def test_a_finding_in_words():
    assert str(finding()) == "nisa.tensor_copy at f.py:7 (instruction 3) makes b from a"
    assert str(finding("made_up", (), ("b", "c"))) == "ncc.made_up at f.py:7 (instruction 3) makes b and c"
    assert str(finding(reads=("a", "d"))).endswith("makes b from a and d")


def test_a_finding_as_a_document_holds_it():
    found = finding().record()
    assert (found.instruction, found.line, found.number) == ("nisa.tensor_copy", "f.py:7", 3)
    assert (found.reads, found.writes, found.difference) == (["a"], ["b"], None)
    assert finding().record(0.25).difference == 0.25


@pytest.mark.usefixtures("plain")
def test_the_first_of_two_that_differ_is_the_first():
    found = divergence.bisect(play_of([1.0, 2.0, 9.0], [1.0, 1.0, 1.0]), 0.5)
    assert found.first.number == 2 and found.largest == 0.0 and found.instructions == 3


@pytest.mark.usefixtures("plain")
def test_what_is_as_far_as_the_bound_is_not_beyond_it():
    found = divergence.bisect(play_of([1.5, 1.0], [1.0, 1.0]), 0.5)
    assert found.first is None and found.largest == 0.5


def play(*instructions, replayed=None):
    """Plays (op, reads, writes); others in the replay, if `replayed` is given."""

    def run(options):
        for i, (op, reads, writes) in enumerate(
            instructions if options.round_low_precision else replayed or instructions
        ):
            if isinstance(op, Exception):
                raise op
            options.observe(SimpleNamespace(op=op, line=("f.py", i), label=f"{op}!"), reads, writes)

    return run


@pytest.mark.usefixtures("plain")
def test_a_replay_that_raises_or_takes_another_path_stops_the_comparison():
    def copy(value):
        return ("copy", [Tensor([1.0])], [Tensor([value])])

    fails = divergence.bisect(play(copy(1.0), copy(9.0), replayed=[copy(1.0), (ValueError("too wide"), (), ())]), 0.5)
    assert fails.stopped == "the replay in float32 ended at copy!: too wide" and fails.first is None
    other = ("add", [Tensor([1.0])], [Tensor([1.0])])
    for replayed in ([other, copy(1.0)], [copy(1.0), other]):
        turns = divergence.bisect(play(copy(1.0), copy(1.0), replayed=replayed), 0.5)
        assert turns.stopped == "the replay in float32 takes another path from copy! on" and turns.instructions == 2


@pytest.mark.usefixtures("plain")
def test_the_same_instruction_of_another_line_is_another_path():
    def skipping(options):
        for line in (1, 2, 3) if options.round_low_precision else (1, 3):
            event = SimpleNamespace(op="copy", line=("f.py", line), label=f"copy at {line}")
            options.observe(event, [], [Tensor([1.0])])

    assert divergence.bisect(skipping, 0.5).stopped == "the replay in float32 takes another path from copy at 2 on"


@pytest.mark.usefixtures("plain")
def test_what_is_compared_is_what_stood_there_when_it_was_written():
    """The replay is ahead, and may have overwritten it."""

    def runs(options):
        tile = Tensor([0.0])
        for i in range(3):
            tile.values[...] = i
            options.observe(SimpleNamespace(op="copy", line=("f.py", i), label="copy"), [], [tile])

    found = divergence.bisect(runs, 0.5)
    assert found.first is None and found.largest == 0.0 and found.instructions == 3


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("kind", ["i", "x"])
def test_integers_and_packed_numbers_are_not_compared(kind):
    def step(value):
        return ("copy", [Tensor([1.0])], [Tensor([value], kind), Tensor([value / 8])])

    found = divergence.bisect(play(step(8.0), replayed=[step(9.0)]), 0.5)
    assert found.first is None and found.largest == pytest.approx(1 / 9), "what is written beside them is"


def test_a_message_that_came_before_the_replay_ended_is_not_lost():
    """The queue seemed empty, the replay put its last and ended, and only then is it asked whether it lives."""

    class Late(queue.Queue):
        def get(self, timeout):
            if self.queue[0] == "not yet":
                self.queue.popleft()
                raise queue.Empty
            return super().get(timeout=timeout)

    late = Late()
    late.put("not yet")
    late.put("the last")
    ended = SimpleNamespace(is_alive=lambda: False)
    assert divergence._next(late, ended) == "the last"
    assert divergence._next(queue.Queue(), ended) is None


def test_a_replay_that_lives_is_waited_for():
    asked = []

    def is_alive():
        asked.append(1)
        if len(asked) == 2:
            waiting.put("at last")
        return True

    waiting = queue.Queue()
    assert divergence._next(waiting, SimpleNamespace(is_alive=is_alive)) == "at last" and len(asked) == 2


def test_nothing_is_put_where_nobody_waits():
    done, full = threading.Event(), queue.Queue(1)
    assert divergence.put_when_room(full, done, "first")
    assert full.get_nowait() == "first"
    full.put("there")
    done.set()
    assert not divergence.put_when_room(full, done, "second")
    assert full.get_nowait() == "there" and full.empty()


def test_neither_run_is_linted_again_and_the_second_keeps_float32():
    asked = []
    divergence.bisect(asked.append, 0.5)
    assert [options.lint for options in asked] == [False, False]
    assert sorted(options.round_low_precision for options in asked) == [False, True]


def test_the_replay_has_ended_when_both_are_over():
    ended = []

    def run(options):
        if not options.round_low_precision:
            time.sleep(0.1)
            ended.append("replay")

    divergence.bisect(run, 0.5)
    assert ended == ["replay"]


def test_a_replay_that_is_far_ahead_waits_and_ends_with_the_run(monkeypatch):
    """It is ahead by a few instructions, and leaves the rest where the run ended early."""
    monkeypatch.setattr(divergence, "comparable", lambda tensor: False)
    played = []

    def run(options):
        for i in range(100 if not options.round_low_precision else 2):
            options.observe(SimpleNamespace(op="copy", line=("f.py", i), label="copy"), [], [])
            if not options.round_low_precision:
                played.append(i)

    found = divergence.bisect(run, 0.5)
    assert found.instructions == 2 and len(played) <= 2 + divergence.AHEAD


def watched(reads, writes, found=None):
    found = found or divergence.Divergence()
    divergence._watch(found, SimpleNamespace(op="copy", line=("f.py", 1)), reads, writes)
    return found


NAN, INF = Tensor([1.0, np.nan]), Tensor([np.inf, 1.0])
ORDINARY = Tensor([1.0, 2.0])


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("reads", "writes", "nan", "infinity"),
    [
        ([ORDINARY], [NAN], True, False),
        ([ORDINARY], [INF], False, True),
        ([INF], [NAN], True, False),
        ([ORDINARY, INF], [INF], False, False),
        ([NAN], [NAN], False, False),
        ([ORDINARY, NAN], [NAN], False, False),
        ([NAN], [INF], False, False),
        ([ORDINARY], [ORDINARY], False, False),
        ([ORDINARY], [ORDINARY, NAN], True, False),
        ([], [NAN], False, False),
        ([ORDINARY], [Tensor([np.nan], "x")], False, False),
        ([Tensor([np.nan], "x")], [NAN], True, False),
    ],
)
def test_what_makes_a_nan_or_an_infinity_of_ordinary_numbers(reads, writes, nan, infinity):
    found = watched(reads, [Tensor(tensor.values, tensor.dtype.kind) for tensor in writes])
    assert (found.nan is not None, found.infinity is not None) == (nan, infinity)
    assert not nan or found.nan.difference == 0.0


@pytest.mark.usefixtures("plain")
def test_the_first_that_makes_one_stays_the_first():
    found = watched([ORDINARY], [INF])
    first = found.infinity
    watched([ORDINARY], [INF], found)
    assert found.infinity is first
    watched([ORDINARY], [NAN], found)
    second = found.nan
    watched([ORDINARY], [NAN], found)
    assert found.nan is second and found.infinity is first


@pytest.mark.usefixtures("plain")
def test_an_operand_that_is_overwritten_in_place_is_what_its_memory_has_held():
    place = object()
    tile = Tensor([1.0, np.nan], storage=place)
    assert watched([tile, ORDINARY], [tile]).nan is not None, "it has held none before"
    found = divergence.Divergence()
    divergence._remember(found, [ORDINARY, tile])
    assert watched([tile], [tile], found).nan is None
    elsewhere = Tensor([1.0], storage=object())
    assert not divergence._was_strange(found, elsewhere, [tile], np.isnan)
    assert divergence._was_strange(divergence.Divergence(), tile, [elsewhere], np.isnan), "it is there to be read"


@pytest.mark.usefixtures("plain")
def test_what_was_written_is_remembered_with_its_range_and_what_it_has_held():
    found = divergence.Divergence()
    infinite, whole = Tensor([np.inf, 1.0]), Tensor([1.0], "i")
    divergence._remember(found, [ORDINARY, infinite, whole])
    assert found._ranges == {ORDINARY.region: "f in [1, 2]", infinite.region: "f in [1, inf]"}
    nans, others = found._spoiled.values()
    assert nans == set() and others == {infinite.region.allocation.id}
