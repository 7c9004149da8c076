"""What a file already holds is taken over or kept beside, and what comes is written, though nothing runs."""

import json
from dataclasses import replace

import pytest

from triptych.harness.errors import UsageError
from triptych.harness.locks import Locked
from triptych.harness.ops.op import Op
from triptych.harness.results.document import Document, read
from triptych.harness.results.status import Cause, Status
from triptych.harness.running import resume
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.resume import Resume, summary_of
from triptych.harness.running.session import Run
from triptych.harness.running.tasks import Settings, key, result_without_run

OP = Op("one", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": m} for m in (3, 4, 5)]}, dtypes=("float32",))
ENV = {"seed": 7, "command": "triptych check", "utc": "2026-01-01T00:00:00+00:00", "blas": "none", "cpu": "fast"}


def run_of(env=ENV):
    run = Run(plan(Request(backends=["numpy"]), {"one": OP}), Settings())
    run.env = dict(env)
    return run


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "run.json")


def publish(run):
    return Document(complete=not run.left, env=run.env, results=run.results)


def started(path, run=None):
    """A run that a file is resumed for, the observer, and what it said."""
    run, said = run or run_of(), []
    observer = Resume(path, said.append, publish)
    observer.started(run)
    return run, observer, said


def ended(observer, run, *ends):
    """End the first tasks that are left, each in its way."""
    for task, (status, cause) in zip(run.left, ends, strict=False):
        result = result_without_run(task, status, "words", cause)
        run.add(result)
        observer.on_result(run, result)
    observer.ended(run)


PASSED, FAILED = (Status.PASSED, None), (Status.FAILED, Cause.MISMATCH)
TIMEOUT, DIED = (Status.TIMEOUT, Cause.TIME_LIMIT), (Status.ERROR, Cause.WORKER_DIED)


def test_a_file_that_is_not_there_begins_with_this_run(path):
    run, observer, said = started(path)
    assert said == [] and len(run.left) == 3
    ended(observer, run, PASSED, FAILED, PASSED)
    body = read(path)
    assert body.complete and body.planned == 3 and len(body.results) == 3 and "earlier" not in body.env
    assert [result.fingerprint for result in body.results] == [observer.prints[key(task)] for task in run.plan.tasks]


def test_what_is_there_is_not_run_again(path):
    ended(*reversed(started(path)[:2]), PASSED, FAILED)
    run, observer, said = started(path)
    assert said == [f"resuming {path}: 2 of 3 results are there"]
    assert [result.status for result in run.results] == [Status.PASSED, Status.FAILED] and len(run.left) == 1
    ended(observer, run, PASSED)
    body = read(path)
    assert body.complete and len(body.results) == 3
    assert body.env["earlier"] == [{name: ENV[name] for name in ("seed", "command", "utc", "cpu")}]
    third, last, _ = started(path)
    last.ended(third)
    assert len(read(path).env["earlier"]) == 2, "of every run before"


def test_what_may_end_otherwise_is_run_again_and_nobody_is_told_of_a_change(path):
    ended(*reversed(started(path)[:2]), TIMEOUT, DIED, PASSED)
    run, observer, said = started(path)
    assert said == [f"resuming {path}: 1 of 3 results are there"] and len(run.left) == 2
    ended(observer, run, PASSED, PASSED)
    assert [result.status for result in read(path).results] == [Status.PASSED] * 3


def test_a_run_that_was_cut_short_is_not_complete(path):
    run, observer, _ = started(path)
    ended(observer, run, PASSED)
    body = read(path)
    assert not body.complete and body.planned == 3 and len(body.results) == 1


def test_while_a_run_goes_on_its_file_is_not_complete(path):
    run, observer, _ = started(path)
    for task in run.left:
        result = result_without_run(task, Status.PASSED, "")
        run.add(result)
        observer.on_result(run, result)
        observer.written = 0.0
    assert len(read(path).results) == 3 and not read(path).complete
    observer.ended(run)
    assert read(path).complete


def test_a_result_is_written_once_a_second_at_most(path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    run, observer, _ = started(path)
    held = []
    for task, later in zip(run.left, (0.0, 1.0, 0.001), strict=True):
        now[0] += later
        result = result_without_run(task, Status.PASSED, "")
        run.add(result)
        observer.on_result(run, result)
        held.append(len(read(path).results))
    observer.ended(run)
    assert held == [1, 1, 3], "after more than a second"


def test_sources_that_changed_are_run_again_and_told(path, monkeypatch):
    ended(*reversed(started(path)[:2]), PASSED, FAILED, TIMEOUT)
    monkeypatch.setattr(resume.environment, "version", lambda name: "another")
    run, observer, said = started(path)
    assert said == [
        f"resuming {path}: 0 of 3 results are there; 2 more are run again, because their sources, options or tools "
        "changed"
    ]
    assert len(run.left) == 3
    ended(observer, run, PASSED)
    body = read(path)
    assert [result.status for result in body.results] == [Status.PASSED] and "earlier" not in body.env


def test_results_of_other_selections_stay(path):
    ended(*reversed(started(path)[:2]), PASSED, FAILED, PASSED)
    other = Op("two", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 3}]}, dtypes=("float32",))
    run = Run(plan(Request(backends=["numpy"]), {"two": other}), Settings())
    run, observer, said = started(path, run)
    assert said == [f"resuming {path}: 0 of 1 results are there; 3 of other selections stay in it"]
    ended(observer, run, PASSED)
    body = read(path)
    assert [result.op for result in body.results] == ["one"] * 3 + ["two"] and body.planned == 4
    assert body.env["earlier"][0]["seed"] == 7


def test_another_kernels_result_of_the_same_name_stays_too(path):
    run, observer, _ = started(path)
    ended(observer, run, PASSED, PASSED, PASSED)
    again = run_of()
    tasks = [
        replace(task, case=replace(task.case, seed=9), repro="triptych check --seed 9") for task in again.plan.tasks
    ]
    again.plan.__dict__["tasks"] = tasks
    again, observer, said = started(path, again)
    assert said == [f"resuming {path}: 0 of 3 results are there; 3 of other selections stay in it"]
    observer.release()


def test_what_this_version_does_not_know_of_a_file_is_kept(path):
    ended(*reversed(started(path)[:2]), PASSED)
    with open(path) as file:
        body = json.load(file)
    with open(path, "w") as file:
        json.dump({**body, "of_later": [1, 2]}, file)
    run, observer, _ = started(path)
    ended(observer, run, PASSED, PASSED)
    with open(path) as file:
        assert json.load(file)["of_later"] == [1, 2]


def test_a_file_is_held_by_one_run_until_it_ends(path):
    run, observer, _ = started(path)
    with pytest.raises(Locked):
        started(path)
    observer.ended(run)
    _, second, _ = started(path)
    second.release()


def test_a_file_that_is_no_document_is_let_go(path):
    with open(path, "w") as file:
        file.write("words")
    for _ in range(2):
        with pytest.raises(UsageError, match="is not a document") as caught:
            started(path)
        assert not isinstance(caught.value, Locked)


def test_a_system_that_refuses_the_file_is_told_once_and_tried_again(path, monkeypatch):
    run, observer, said = started(path)
    refusing = [True]
    write = resume.files.write

    def fails(path, text):
        if refusing[0]:
            raise UsageError("no room.")
        write(path, text)

    monkeypatch.setattr(resume.files, "write", fails)
    tasks = list(run.left)
    for i, task in enumerate(tasks):
        refusing[0] = i < 2
        observer.written = 0.0
        result = result_without_run(task, Status.PASSED, "")
        run.add(result)
        observer.on_result(run, result)
    assert said == ["triptych: no room. The run goes on and tries the file again later."]
    observer.ended(run)
    assert len(read(path).results) == 3 and observer.refused == ""


def test_what_is_refused_at_the_end_is_known_and_the_file_let_go(path, monkeypatch):
    run, observer, _ = started(path)

    def fails(path, text):
        raise UsageError("no room.")

    monkeypatch.setattr(resume.files, "write", fails)
    observer.ended(run)
    assert observer.refused == "no room."
    _, again, _ = started(path)
    again.release()


def test_a_run_is_summed_up_by_what_tells_it_from_another():
    names = ("label", "utc", "command", "seed", "triptych", "git", "kernels", "cpu", "gpus")
    env = {name: name.upper() for name in (*names, "blas", "threads")}
    assert summary_of(env) == [{name: name.upper() for name in names}]
    assert summary_of({"blas": "x"}) == [{}]
