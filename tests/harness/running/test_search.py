"""The search for a case that fails: what is drawn, what is missing, and what is said of it."""

import itertools
import sys
import time
from types import SimpleNamespace

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.errors import UsageError
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import fuzz
from triptych.harness.running.fuzz import Disagreement, Search, Searcher, TimeUp, search, summary
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.tasks import Settings, result_without_run

OP = Op("one", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 40}]}, dtypes=("float32",))
CASE = Case("one", "9", {"M": 9}, "float32")


class Worker:
    """Ends each task as `ends` says, and is asked nothing after it was left."""

    left = 0

    def __init__(self, ends):
        self.ends, self.tasks, self.limits = ends, [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.left += 1

    def perform(self, task, settings, timeout_s):
        self.tasks.append(task)
        self.limits.append((settings, timeout_s))
        status, cause = self.ends(task)
        return result_without_run(task, status, "", cause)


def passes(task):
    return Status.PASSED, None


def above(limit):
    return lambda task: (Status.FAILED, Cause.MISMATCH) if task.case.axes["M"] > limit else (Status.PASSED, None)


def plan_of(**asked):
    return plan(Request(**{"backends": ["numpy", "nki-sim"], **asked}), {"one": OP})


@pytest.fixture
def searched(monkeypatch):
    """A search with a worker of the test's, in which each look at the clock takes a second."""
    clock = itertools.count()
    monkeypatch.setattr(fuzz, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))

    def run(ends, seconds=1000.0, **asked):
        worker = Worker(ends)
        monkeypatch.setattr(fuzz, "WorkerProcess", lambda: worker)
        seen = []
        found = search(
            plan_of(**asked), Settings(), seconds=seconds, timeout_s=3.0, on_case=lambda s: seen.append(s.cases)
        )
        assert worker.left == 1
        return found, worker, seen

    return run


def test_a_failure_is_shrunk_to_the_smallest_that_fails(searched):
    found, worker, _ = searched(above(7))
    assert found.smallest.axes == {"M": 8} and found.failure.case == found.smallest.name and found.whole
    assert found.first.axes["M"] >= 8 and found.cases >= 1 and worker.limits[0] == (Settings(), 3.0)


def test_the_same_seed_draws_the_same_cases(searched):
    first, second, other = (
        [task.case for task in searched(passes, seconds=9.0, seed=seed)[1].tasks] for seed in (1, 1, 2)
    )
    assert first == second != other


def test_a_search_that_finds_nothing_ends_with_its_time(searched):
    found, _, seen = searched(passes, seconds=9.0)
    assert found.failure is None and found.cases == seen[-1] == 9 and not found.whole
    assert found.compared == found.cases and seen[0] == 1, "the reference compares with itself"


def test_what_fails_once_and_not_again_is_kept(searched):
    seen = []

    def flaky(task):
        seen.append(task)
        return (Status.FAILED, Cause.MISMATCH) if len(seen) == 4 else (Status.PASSED, None)

    found, _, _ = searched(flaky)
    assert found.failure is not None and not found.whole


def test_without_a_backend_that_is_here_nothing_is_drawn(searched, monkeypatch):
    monkeypatch.setattr(type(BACKENDS["torch"]), "missing", lambda self: "it is away")
    found, worker, _ = searched(passes, backends=["torch"])
    assert worker.tasks == [] and found.missing == {"torch": "it is away"} and found.cases == 0
    found, worker, _ = searched(passes, backends=["numpy", "torch"], seconds=9.0)
    assert {task.backend for task in worker.tasks} == {"numpy"} and found.compared == found.cases, "alone it counts"


def test_without_hypothesis_there_is_no_search(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(UsageError, match="with hypothesis, and hypothesis is not installed: pip install"):
        search(plan_of(), Settings(), seconds=1.0, timeout_s=1.0)


def searcher(ends=passes, seconds=60.0, **asked):
    return Searcher(plan_of(**asked), Worker(ends), Settings(), seconds=seconds, timeout_s=1.0, on_case=lambda _: None)


def test_every_target_is_tried_and_says_how_it_is_repeated():
    one = searcher(backends=["nki-sim"], targets=["trn1", "trn3"])
    assert [(task.backend, task.target, task.source) for task in one.tasks(CASE)] == [
        ("nki-sim", "trn1", None), ("nki-sim", "trn3", None),
    ]  # fmt: skip
    ours = Searcher(
        plan(Request(ops=["matmul"], backends=["nki-sim"], seed=3)),
        *(None, Settings()), seconds=1.0, timeout_s=1.0, on_case=lambda _: None,
    )  # fmt: skip
    (task,) = ours.tasks(Case("matmul", "1x2x3", {"M": 1, "K": 2, "N": 3}, "float32", seed=3))
    assert (
        task.repro
        == "triptych check matmul --case M=1,K=2,N=3 --dtype float32 --backend nki-sim --target trn2 --seed 3"
    )
    ours.kind = ("matmul", "nki-sim", "trn1", Status.FAILED)
    assert ours.tasks(task.case) == [], "only where it failed"


def test_a_failure_of_another_target_is_another():
    def ends(task):
        return (Status.FAILED, Cause.MISMATCH) if task.target == "trn3" else (Status.PASSED, None)

    one = searcher(ends, backends=["nki-sim"], targets=["trn1", "trn3"])
    with pytest.raises(Disagreement):
        one.run(CASE)
    assert one.kind == ("one", "nki-sim", "trn3", Status.FAILED) and one.search.compared == 2
    with pytest.raises(Disagreement):
        one.run(CASE)
    assert one.search.compared == 2 and one.search.cases == 1, "shrinking is no search"


def test_time_is_up_after_the_end_and_not_at_it(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = searcher(seconds=5.0)
    now[0] = 105.0
    one.run(CASE)
    assert one.search.whole
    now[0] = 105.1
    with pytest.raises(TimeUp):
        one.run(CASE)
    assert not one.search.whole


SMALL, LARGE = Case("one", "3", {"M": 3}, "float32"), CASE


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Search(3, 0), "fuzz: 3 cases of one, and nothing could be compared: no chosen backend runs them"),
        (Search(1, 1), "fuzz: 1 case, 1 comparison of one in 2.5 s, and none fails · seed 7"),
        (Search(2, 3), "fuzz: 2 cases, 3 comparisons of one in 2.5 s, and none fails · seed 7"),
        (
            Search(2, 3, "failure", LARGE, LARGE),
            "fuzz: a failure after 2 cases, 3 comparisons, which is as small as it gets · seed 7",
        ),
        (
            Search(2, 3, "failure", LARGE, LARGE, whole=False),
            "fuzz: a failure after 2 cases, 3 comparisons, which was not shrunk in the time · seed 7",
        ),
        (
            Search(2, 3, "failure", LARGE, SMALL),
            "fuzz: a failure after 2 cases, 3 comparisons, shrunk from 9 · seed 7",
        ),
        (
            Search(2, 3, "failure", LARGE, SMALL, whole=False),
            "fuzz: a failure after 2 cases, 3 comparisons, shrunk from 9, not to the end for lack of time · seed 7",
        ),
    ],
)
def test_the_last_line(found, said):
    assert summary(found, plan_of(seed=7), 2.5) == said
