"""What a request means: which backends, cases and targets, how it is judged, and the command that repeats a task."""

import math
from argparse import Namespace

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.errors import UsageError
from triptych.harness.judge.bounds import Bounds
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.running.plan import plan, slow_ones_once
from triptych.harness.running.request import Request, bounds
from triptych.harness.running.tasks import TIMEOUT_S, Settings, Task, key, result_without_run

OP = Op(
    "one", {"x": ("M",)}, lambda x: 2 * x, {"smoke": [{"M": 3}], "model": [{"M": 9}]}, dtypes=("float32", "bfloat16")
)
OPS = {"one": OP}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("RTOL", "ATOL", "BUDGET"):
        monkeypatch.delenv(f"TRIPTYCH_{name}", raising=False)


def names(made):
    return [backend.name for backend in made.backends]


def test_backends_are_those_asked_for_with_those_that_must_be_here():
    assert names(plan(Request(), OPS)) == list(BACKENDS) == names(plan(Request(required=["torch"]), OPS))
    assert names(plan(Request(backends=["nki-sim"], required=["numpy"]), OPS)) == ["numpy", "nki-sim"]
    assert plan(Request(backends=["nki-sim"], required=["numpy"]), OPS).named == ["nki-sim"]
    for asked in ({"backends": ["nki-simm"]}, {"required": ["nki-simm"]}):
        with pytest.raises(UsageError, match="nki-simm"):
            plan(Request(**asked), OPS)


def test_every_case_meets_every_backend_and_target():
    made = plan(
        Request(backends=["numpy", "nki-sim"], targets=["trn3", "trn2"], sets=["smoke"], dtypes=["float32"]), OPS
    )
    assert [(task.backend, task.target) for task in made.tasks] == [
        ("numpy", None),
        ("nki-sim", "trn2"),
        ("nki-sim", "trn3"),
    ]
    assert {task.case.dtype for task in plan(Request(backends=["numpy"]), OPS).tasks} == {"float32", "bfloat16"}
    assert not any(task.bench for task in made.tasks)


def test_a_target_that_no_backend_has_names_the_backends():
    for backends, said in (
        (["numpy"], "(numpy has no targets)"),
        (["numpy", "torch"], "(numpy, torch have no targets)"),
    ):
        with pytest.raises(UsageError) as caught:
            plan(Request(backends=backends, targets=["trn2"]), OPS)
        assert said in str(caught.value)


def test_a_name_that_no_case_has_lists_those_there_are():
    assert len(plan(Request(backends=["numpy"], names="3", dtypes=["float32"]), OPS).tasks) == 1
    with pytest.raises(UsageError, match=r"unknown case '4'.*3"):
        _ = plan(Request(backends=["numpy"], names="4"), OPS).tasks
    nothing = Op("two", {"x": ("M",)}, lambda x: x, {"smoke": []}, dtypes=("float32",))
    assert plan(Request(backends=["numpy"]), {"two": nothing}).tasks == []


def test_what_is_timed():
    request = {"sets": ["smoke", "model"], "dtypes": ["float32"], "timed": True}

    def timed(**more):
        made = plan(Request(**{**request, **more}), OPS)
        return {(task.backend, task.case.name) for task in made.tasks if task.bench}

    assert timed(backends=["nki-sim"]) == {("nki-sim", "3"), ("nki-sim", "9")}
    assert timed(backends=["nki-sim"], stand_ins=["model"]) == {("nki-sim", "3")}
    assert timed(backends=["nki-sim"], timed=False) == set()
    assert {backend for backend, _ in timed()}.isdisjoint({"numpy", "triton-cpu"})
    assert timed(backends=["numpy"]) == {("numpy", "3"), ("numpy", "9")}, "whoever names it has the time"
    assert timed(backends=["numpy"], stand_ins=["model"]) == {("numpy", "3"), ("numpy", "9")}, "it is not predicted"


def test_bounds_are_those_of_the_request_before_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("TRIPTYCH_BUDGET", "5")
    asked = Bounds("command line", rtol=0.5)
    assert plan(Request(tolerance=asked), OPS).tolerance is asked
    assert plan(Request(), OPS).tolerance == Bounds("environment", budget=5.0)
    monkeypatch.setenv("TRIPTYCH_BUDGET", "many")
    with pytest.raises(UsageError, match=r"TRIPTYCH_BUDGET must be a number, got 'many'\.$"):
        plan(Request(), OPS)
    monkeypatch.delenv("TRIPTYCH_BUDGET")
    assert plan(Request(), OPS).tolerance is None


def test_a_request_is_carried_over():
    made = plan(Request(seed=3, jobs=5, timed=True, stand_ins=["model"], targets=["trn3"], axes={"M": [7]}), OPS)
    assert (made.selection.seed, made.jobs, made.timed) == (3, 5, True)
    assert (made.stand_ins, made.targets, made.selection.axes) == (["model"], ["trn3"], {"M": [7]})
    assert {task.case.seed for task in made.tasks} == {3} and {task.case.axes["M"] for task in made.tasks} == {7}


def test_which_sets_are_usual():
    assert plan(Request(), OPS).selection.sets == ["smoke"]
    assert plan(Request(sets=["model"]), OPS).selection.sets == ["model"]
    assert plan(Request(specs=["M=5"]), OPS).selection.sets == []
    assert plan(Request(specs=["M=5"], sets=["model"], axes={"M": [4]}), OPS).selection.sets == ["model"]
    short = plan(Request(default_sets=("smoke", "adversarial-short")), OPS).selection.sets
    assert short == ["smoke", "adversarial-short"]
    rare = Op("two", {"x": ("M",)}, lambda x: x, {"edge": [{"M": 3}]}, dtypes=("float32",))
    found = plan(Request(default_sets=("smoke", "adversarial-short")), {"two": rare}).selection.sets
    assert "edge" in found and "adversarial-short" not in found


def test_axes_of_cases_that_are_written_out_are_in_them():
    with pytest.raises(UsageError, match="--case gives every axis itself"):
        plan(Request(specs=["M=5"], axes={"M": [1]}), OPS)
    with pytest.raises(UsageError, match="one has no axis 'K'"):
        plan(Request(axes={"K": [1]}), OPS)


def test_the_file_that_an_op_is_from_is_in_its_tasks_and_their_command():
    made = plan(Request(sources=["mine.py"], backends=["numpy"], dtypes=["float32"]), OPS)
    (task,) = made.tasks
    assert task.source == "mine.py"
    assert (
        task.repro == "triptych check one --kernel mine.py --cases smoke -k 3 --dtype float32 --backend numpy --seed 0"
    )
    assert plan(Request(), OPS).sources == {}


def test_a_file_is_loaded_for_its_ops(tmp_path):
    path = tmp_path / "mine file.py"
    path.write_text(
        "from triptych import Op\n"
        "op = Op('mine', {'x': ('M',)}, lambda x: 2 * x, {'smoke': [{'M': 3}]}, dtypes=('float32',))\n"
    )
    made = plan(Request(sources=[str(path)], backends=["numpy"]))
    assert list(made.ops) == ["mine"] and made.sources == {"mine": str(path)}
    assert f"--kernel '{path}'" in made.tasks[0].repro and made.tasks[0].source == str(path)
    assert "matmul" in plan(Request(backends=["numpy"])).ops


def test_every_bound_is_in_the_command():
    def line(**asked):
        made = plan(
            Request(ops=["matmul"], backends=["numpy"], names="64*", dtypes=["float32"], tolerance=Bounds("c", **asked))
        )
        return made.tasks[0].repro.partition("--seed 0")[2]

    assert line(budget=3) == " --budget=3" and line(rtol=0.0, atol=1e-5) == " --rtol=0 --atol=1e-05"


def test_the_largest_case_of_each_kernel_is_the_one_that_may_be_slow():
    def task(m, n, op="one", target=None):
        case = next(iter(plan(Request(backends=["numpy"], specs=[f"M={m}"]), OPS).tasks)).case
        return Task(op, None, type(case)(op, f"{m}x{n}", {"M": m, "N": n}, "float32"), "numpy", target)

    tasks = [task(2, 8), task(4, 4), task(3, 6), task(1, 1, "two"), task(1, 2, target="b"), task(2, 1, target="b")]
    assert math.prod((3, 6)) > 16
    assert [one.though_slow for one in slow_ones_once(tasks)] == [False, False, True, True, True, False], (
        "of equal ones the first"
    )


# Requests


def test_one_file_at_a_time_where_one_is_taken():
    assert Request().source is None and Request(sources=["a.py"]).source == "a.py"
    with pytest.raises(UsageError, match=r"one file at a time: got a.py, b.py\."):
        _ = Request(sources=["a.py", "b.py"]).source


def test_a_request_of_a_command_line():
    options = {"seed": 4, "backends": ["numpy"], "verbose": True}
    found = Request.from_arguments(Namespace(**options, rtol=None, atol=0.5, budget=None))
    assert found == Request(seed=4, backends=["numpy"], tolerance=Bounds("command line", atol=0.5))
    assert Request.from_arguments(Namespace(rtol=None, atol=None, budget=None)) == Request()


def test_bounds_in_words_of_usage():
    assert bounds("option", None, None, None) is None
    assert bounds("option", 0.0, None, None) == Bounds("option", rtol=0.0)
    with pytest.raises(UsageError, match=r"the option gives rtol -1: it must be a finite number zero or above\.$"):
        bounds("option", -1, None, None)


def test_what_holds_unless_somebody_says_otherwise():
    request, settings = Request(), Settings()
    assert (request.seed, request.timeout_s, request.default_sets) == (0, TIMEOUT_S, ("smoke",)) and TIMEOUT_S == 120
    assert not any((request.timed, request.no_check, request.paranoid, settings.no_check, settings.paranoid))
    assert settings.repeat and request.jobs is request.memory is settings.memory is None
    task = plan(Request(backends=["numpy"], dtypes=["float32"]), OPS).tasks[0]
    assert Task("one", None, task.case, "numpy", None) == Task(
        "one", None, task.case, "numpy", None, bench=False, though_slow=True, repro=""
    )


def test_a_task_and_its_result_have_one_key():
    task = plan(Request(backends=["nki-sim"], dtypes=["float32"], targets=["trn3"], seed=2), OPS).tasks[0]
    result = result_without_run(task, Status.SKIPPED, "away", Cause.BACKEND_MISSING)
    assert key(task) == key(result) == ("one", "3", "float32", "nki-sim", "trn3")
    assert (result.regime, result.repro, result.evidence) == ("normal", task.repro, Evidence.SIMULATED)
    assert (result.status, result.reason, result.cause) == (Status.SKIPPED, "away", Cause.BACKEND_MISSING)
    assert result_without_run(task, Status.SKIPPED, "", None, Evidence.HOST).evidence is Evidence.HOST
