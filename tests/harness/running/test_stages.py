"""The stages of a task in this process, what an exception means, and what decides that a result is not run again."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import Backend, KernelFault
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.collection import builtin
from triptych.harness.emulators.errors import NotEmulated
from triptych.harness.judge.bounds import Bounds
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import RefusedInputs, UninformativeCase
from triptych.harness.ops.loading import OpFileError
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Measured
from triptych.harness.running import crash_location, faults, memory_limit, process, resume, runner
from triptych.harness.running.bench import Bench
from triptych.harness.running.fuzz import Disagreement, Searcher, TimeUp
from triptych.harness.running.plan import check_targets, plan, targets_of
from triptych.harness.running.request import Request
from triptych.harness.running.tasks import Settings, Task, result_without_run
from triptych.harness.running.workers import ended

CASE = Case("op", "c", {"M": 40}, "float32")
SIMULATED = BACKENDS["nki-sim"]


def doubled(x):
    return 2 * x


def tripled(x):
    return 3 * x


def op_of(reference, **options):
    return Op("op", {"x": ("M",)}, reference, {"smoke": [{"M": 40}]}, dtypes=("float32",), **options)


class Fake(Backend):
    """A backend whose kernel is a function of the inputs, by op."""

    name, panel, evidence = "fake", "torch", Evidence.HOST

    def __init__(self):
        self.targets_seen, self.timed = [], 0

    def missing(self):
        return None

    def run(self, problem, target):
        self.targets_seen.append(target)
        return problem.op.torch(**problem.inputs)

    def time(self, problem, target, budget):
        self.timed += 1
        budget.look(self.run(problem, target))
        return Measured(
            timer="t", cache="c", evidence=Evidence.HOST, median_us=1.0, p10_us=1.0, p90_us=1.0, min_us=1.0,
            max_us=1.0, warmups=0, samples_us=[1.0],
        )  # fmt: skip


@pytest.fixture
def fake(monkeypatch):
    backend = Fake()
    monkeypatch.setitem(BACKENDS, "fake", backend)
    return backend


def twice(x):
    return x * np.float32(2)


def bench_of(ops, said=None):
    bench = Bench((said if said is not None else []).append)
    bench.sources = ops
    return bench


def task(source=None, bench=False, target=None, case=CASE):
    return Task("op", source, case, "fake", target, bench=bench)


def test_the_reference_of_one_file_is_never_anothers(fake):
    """Both declare an op of one name, with equal cases."""
    ops = {name: {"op": op_of(reference, torch=twice)} for name, reference in (("a.py", doubled), ("b.py", tripled))}
    bench = bench_of(ops)
    ended = [bench.perform(task(source), Settings()).status for source in ("a.py", "b.py", "a.py", "a.py", "b.py")]
    assert ended == [Status.PASSED, Status.FAILED, Status.PASSED, Status.PASSED, Status.FAILED]


def test_what_tasks_of_one_case_share_is_prepared_once(fake):
    said = []
    bench = bench_of({None: {"op": op_of(doubled, torch=twice)}}, said)
    for _ in range(2):
        assert bench.perform(task(), Settings()).status is Status.PASSED
    first = bench.shared
    bench.perform(task(case=replace(CASE, seed=1)), Settings())
    assert bench.shared is not first and bench.shared[1] is not first[1]
    phases = ["preparing the inputs and the reference", "running the kernel", "running the kernel again"]
    assert said[:3] == phases and said[3:6] == phases


def test_outputs_of_backends_are_held_against_each_other_by_label(fake):
    bench = bench_of({None: {"op": op_of(doubled, torch=twice)}})
    assert bench.perform(task(target="a"), Settings()).parity == {}
    second = bench.perform(task(target="b"), Settings())
    assert list(second.parity) == ["fake[a]"] and second.parity["fake[a]"].identical == 1.0
    assert fake.targets_seen[0] == "a" and fake.targets_seen[-1] == "b"


def test_a_kernel_is_run_again_unless_that_is_switched_off(fake):
    for settings, runs in ((Settings(), 3), (Settings(repeat=False), 1)):
        fake.targets_seen.clear()
        bench_of({None: {"op": op_of(doubled, torch=twice)}}).perform(task(), settings)
        assert len(fake.targets_seen) == runs


@pytest.mark.parametrize(
    ("kernel", "no_check", "timed"), [(twice, False, 1), (twice, True, 1), (tripled, False, 0), (tripled, True, 1)]
)
def test_what_is_right_is_timed_and_what_is_wrong_if_asked_for(fake, kernel, no_check, timed):
    bench = bench_of({None: {"op": op_of(doubled, torch=lambda x: np.float32(kernel(x)))}})
    result = bench.perform(task(bench=True), Settings(no_check=no_check))
    assert fake.timed == timed and (result.timing is not None) is bool(timed)
    assert result.status is (Status.PASSED if kernel is twice else Status.FAILED)
    assert ("not timed, because its result is wrong" in (result.reason or "")) is not bool(timed)
    assert bench_of({None: {"op": op_of(doubled, torch=twice)}}).perform(task(), Settings()).timing is None


def test_an_output_of_another_shape_is_not_timed_even_if_asked_for(fake):
    bench = bench_of({None: {"op": op_of(doubled, torch=lambda x: x[:3])}})
    result = bench.perform(task(bench=True), Settings(no_check=True))
    assert fake.timed == 0 and result.cause is Cause.MALFORMED_OUTPUT


def test_a_kernel_that_replaces_a_function_and_raises_leaves_its_process_unfit(fake, monkeypatch):
    def kernel(x):
        monkeypatch.setattr(np, "exp", lambda x: x)
        raise ValueError("no")

    bench = bench_of({None: {"op": op_of(doubled, torch=kernel)}})
    assert bench.perform(task(), Settings(paranoid=True)).status is Status.ERROR and bench.unfit
    monkeypatch.undo()
    monkeypatch.setitem(BACKENDS, "fake", fake)
    harmless = bench_of({None: {"op": op_of(doubled, torch=lambda x: 1 / 0)}})
    assert harmless.perform(task(), Settings(paranoid=True)).status is Status.ERROR and not harmless.unfit
    assert harmless.shared is None, "what a kernel may have changed is drawn anew"


def test_a_further_call_that_fails_is_told_as_that(fake):
    calls = []

    def kernel(x):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("a second time")
        return twice(x)

    result = bench_of({None: {"op": op_of(doubled, torch=kernel)}}).perform(task(), Settings())
    assert result.status is Status.ERROR and result.reason.startswith("its first call passed, but a further one failed")


def test_an_unknown_op_lists_what_there_is(fake):
    result = bench_of({"a.py": {"other": op_of(doubled)}}).perform(task("a.py"), Settings())
    assert result.status is Status.ERROR and "there is no op 'op'; there is other" in result.reason


# What an exception means


@pytest.mark.parametrize(
    ("error", "status", "cause", "unfit"),
    [
        (faults.NotSupported("no"), Status.UNSUPPORTED, Cause.NOT_SUPPORTED, False),
        (RefusedInputs("no"), Status.ERROR, Cause.REFUSED_INPUTS, False),
        (UninformativeCase(CASE, "no"), Status.ERROR, Cause.UNINFORMATIVE_CASE, False),
        (UninformativeCase(replace(CASE, regime="tiny"), "no"), Status.UNSUPPORTED, Cause.UNINFORMATIVE_CASE, False),
        (UninformativeCase(replace(CASE, axes={"M": 1}), "no"), Status.UNSUPPORTED, Cause.UNINFORMATIVE_CASE, False),
        (OpFileError("no"), Status.ERROR, Cause.INVALID_OP, False),
        (MemoryError(), Status.ERROR, Cause.OUT_OF_MEMORY, True),
        (ValueError("no"), Status.ERROR, Cause.INVALID_OP, False),
    ],
)
def test_what_keeps_a_case_from_being_prepared(error, status, cause, unfit):
    ended = faults.explain_preparation(error, None, 2**30)
    assert (ended.status, ended.cause, ended.unfit) == (status, cause, unfit) and ended.reason
    assert unfit is ("memory limit of 1 GiB a worker (--memory sets it)" in ended.reason)


@pytest.mark.parametrize(
    ("error", "status", "cause", "unfit"),
    [
        (MemoryError(), Status.ERROR, Cause.OUT_OF_MEMORY, True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            *(Status.ERROR, Cause.OUT_OF_MEMORY),
            True,
        ),
        (NotEmulated("no"), Status.UNSUPPORTED, Cause.NOT_SUPPORTED, False),
        (RuntimeError("CUDA error: an illegal memory access"), Status.ERROR, Cause.DEVICE_FAULT, True),
        (RuntimeError("Triton Error [HIP]: Code 719"), Status.ERROR, Cause.DEVICE_FAULT, True),
        (RuntimeError("the NRT said no"), Status.ERROR, Cause.DEVICE_FAULT, True),
        (RuntimeError("the nrtx said no"), Status.ERROR, Cause.KERNEL_ERROR, False),
        (RefusedInputs("no"), Status.ERROR, Cause.REFUSED_INPUTS, False),
        (KernelFault("it wrote"), Status.ERROR, Cause.KERNEL_ERROR, False),
    ],
)
def test_what_ends_a_kernel(error, status, cause, unfit):
    ended = faults.explain_run(error, builtin()["matmul"], SIMULATED, None)
    assert (ended.status, ended.cause, ended.unfit) == (status, cause, unfit)
    assert isinstance(error, KernelFault) is (ended.reason == "it wrote")


# What decides that a result counts as done


def print_of(changed=None, settings=None, **options):
    return resume.fingerprint(
        changed or task(), op_of(doubled, **options), settings or Settings(budget=TimingBudget(seconds=1))
    )


@pytest.mark.usefixtures("fake")
def test_a_result_of_other_versions_is_not_taken_over(monkeypatch):
    before = print_of()
    assert len(before) == 16 and print_of() == before
    for package in environment.PACKAGES:
        with monkeypatch.context() as patch:
            patch.setattr(environment, "version", lambda name, package=package: "9" if name == package else "1")
            one = print_of()
            patch.setattr(environment, "version", lambda name: "1")
            assert print_of() != one, package
    monkeypatch.setattr(np, "__version__", "9.9")
    assert print_of() != before


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    "changed",
    [
        {"case": replace(CASE, seed=1)},
        {"case": replace(CASE, regime="tiny")},
        {"case": replace(CASE, axes={"M": 41})},
        {"target": "trn3"},
        {"bench": True},
    ],
)
def test_a_result_of_another_task_is_not_taken_over(changed):
    assert print_of(replace(task(), **changed)) != print_of()
    assert print_of(replace(task(), repro="triptych check")) == print_of(), "words that repeat it decide nothing"


@pytest.mark.usefixtures("fake")
def test_options_that_decide_a_verdict_count_and_others_do_not():
    before = print_of()
    for one in (Settings(no_check=True), Settings(wanted=Bounds("command line", budget=3)), Settings(paranoid=True)):
        assert print_of(settings=one) != before
    assert print_of(settings=Settings(memory=2**30)) == before
    longer = Settings(budget=TimingBudget(seconds=2))
    assert print_of(settings=longer) == before, "the budget of what is not timed"
    assert print_of(replace(task(), bench=True), longer) != print_of(replace(task(), bench=True))
    tuned = Settings(budget=TimingBudget(seconds=1), tune_s=9)
    for backend, bench, differs in (("triton", False, False), ("triton", True, True), ("nki-sim", True, False)):
        one = replace(task(), backend=backend, bench=bench)
        assert (print_of(one, tuned) != print_of(one)) is differs, "what chooses a configuration"


def test_sources_beside_a_kernel_and_the_file_of_an_op_count(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "JUDGES", (tmp_path / "judge",))
    kernels, mine = tmp_path / "kernels", tmp_path / "mine.py"
    for path in (tmp_path / "judge" / "deep", kernels / "deep"):
        path.mkdir(parents=True)
    mine.write_text("1")
    kernel = f"{kernels / 'k.py'}:kernel"

    def now():
        resume.sources.cache_clear()
        one = replace(task(str(mine)), backend="nki-sim")
        return resume.fingerprint(one, op_of(doubled, nki=kernel), Settings())

    seen = {now()}
    for path in (mine, kernels / "k.py", kernels / "helper.py", tmp_path / "judge" / "deep" / "j.py"):
        path.write_text("other")
        assert now() not in seen, path
        seen.add(now())
    (kernels / "deep" / "far.py").write_text("other")
    assert now() in seen, "a folder below the kernel's"
    resume.sources.cache_clear()


@pytest.mark.parametrize(
    ("status", "cause", "again"),
    [
        (Status.SKIPPED, Cause.BACKEND_MISSING, True),
        (Status.TIMEOUT, Cause.TIME_LIMIT, True),
        (Status.ERROR, Cause.WORKER_DIED, True),
        (Status.ERROR, Cause.OUT_OF_MEMORY, True),
        (Status.ERROR, Cause.KERNEL_ERROR, False),
        (Status.FAILED, Cause.MISMATCH, False),
        (Status.PASSED, None, False),
    ],
)
def test_what_may_end_otherwise_is_tried_again(status, cause, again):
    assert resume.undecided(result_without_run(task(), status, "", cause, Evidence.HOST)) is again


# Limits, and where a process ended


def test_the_memory_limit_is_four_fifths_of_the_lesser_of_machine_and_container(monkeypatch, tmp_path):
    monkeypatch.setattr(memory_limit, "CGROUP", tmp_path)
    monkeypatch.setattr(memory_limit, "_available", lambda: 1000)
    assert memory_limit.default() == 800
    (tmp_path / "memory.max").write_text("700\n")
    (tmp_path / "memory.current").write_text("200\n")
    assert memory_limit.default() == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit.default() == 800
    monkeypatch.setattr(memory_limit, "_available", lambda: None)
    assert memory_limit.default() is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "it exited with code 0"),
        (3, "it exited with code 3"),
        (-11, "killed by SIGSEGV"),
        (-9, "when memory runs out"),
    ],
)
def test_how_a_process_ended(code, said):
    assert said in ended.in_words(code)


def test_a_phase_that_overran_names_the_limit_and_the_line():
    assert "no kernel is to blame for" in process.overrun("starting", 5, "")
    text = process.overrun("running the kernel", 5, " (mine.py:3)")
    assert text == "running the kernel took longer than the time limit of 5 s (mine.py:3); --timeout sets it"


def test_the_innermost_line_of_the_user_is_told():
    frames = "".join(
        f'  File "{name}", line {line} in f\n'
        for name, line in (
            (f"{crash_location.HERE}/harness/bits.py", 1),
            ("/x/site-packages/numpy/core.py", 2),
            ("<string>", 3),
            ("/home/me/mine.py", 47),
            ("/home/me/other.py", 48),
        )
    )
    assert crash_location.read(io.BytesIO(frames.encode())) == " (mine.py:47)"
    assert crash_location.read(io.BytesIO(b"")) == "" and crash_location.read(None) == ""


# Plans


def test_tasks_of_one_case_run_together_and_results_keep_their_order():
    other = replace(CASE, name="d")
    tasks = [replace(task(case=case), target=t) for t in ("a", "b") for case in (CASE, other)]
    assert runner.by_case(tasks) == [[0, 2], [1, 3]]
    seen = []

    def perform(one, settings, timeout_s):
        seen.append((one.case.name, one.target))
        return result_without_run(one, Status.PASSED, "", None, Evidence.HOST)

    by_name = {"fake": Fake()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "fake", by_name["fake"])
        workers = runner.Workers()
        patch.setattr(workers.workers[0], "perform", perform)
        results = workers(tasks, Settings())
    assert seen == [("c", "a"), ("c", "b"), ("d", "a"), ("d", "b")]
    assert [(r.case, r.target) for r in results] == [("c", "a"), ("d", "a"), ("c", "b"), ("d", "b")]


def test_targets_are_those_asked_for_in_the_order_of_the_backend():
    assert targets_of(SIMULATED, []) == ["trn2"]
    assert targets_of(SIMULATED, ["trn3", "trn1"]) == ["trn1", "trn3"]
    assert targets_of(BACKENDS["numpy"], ["trn3"]) == [None]
    check_targets(["trn3"], [SIMULATED])
    for backends, said in (([BACKENDS["numpy"]], "numpy has no targets"), ([SIMULATED], "unknown target 'trn9'")):
        with pytest.raises(Exception, match=said):
            check_targets(["trn9"], backends)


def test_clocks_that_say_nothing_are_read_only_where_they_are_named():
    slow = BACKENDS["numpy"]
    assert slow.slow_clock
    for backends, times in (((), False), (("numpy",), True)):
        made = plan(Request(ops=["matmul"], timed=True, backends=backends))
        assert made.times(slow, "smoke") is times
    assert not plan(Request(ops=["matmul"], backends=["numpy"])).times(slow, "smoke")
    assert made.times(SIMULATED, "model")


def test_a_command_that_repeats_a_task_says_all_that_decides_it():
    tolerance = Bounds("command line", rtol=0.5, atol=0.25)
    request = Request(
        ops=["matmul"], backends=["nki-sim"], targets=["trn3"], dtypes=["float32"], seed=3, tolerance=tolerance
    )
    line = plan(replace(request, axes={"M": [7]})).tasks[0].repro
    assert line == (
        "triptych check matmul --cases smoke -k 7x128x96 --dtype float32 --backend nki-sim --target trn3 -a M=7 "
        "--seed 3 --rtol=0.5 --atol=0.25"
    )
    line = plan(replace(request, specs=["M=1,K=2,N=3"], timed=True)).tasks[0].repro
    assert line.startswith("triptych bench matmul --case M=1,K=2,N=3 --dtype float32 --backend nki-sim")


# The search


class Worker:
    def __init__(self, ends):
        self.ends, self.tasks = ends, []

    def perform(self, one, settings, timeout_s):
        self.tasks.append(one)
        status, cause = self.ends(one)
        return result_without_run(one, status, "", cause)


def searcher(ends, seconds=60.0):
    made = plan(Request(ops=["matmul"], backends=["numpy", "nki-sim", "torch"]))
    return Searcher(made, Worker(ends), Settings(), seconds=seconds, timeout_s=1.0, on_case=lambda _: None)


MATMUL = Case("matmul", "1x2x3", {"M": 1, "K": 2, "N": 3}, "float32")


def test_a_search_keeps_to_the_backend_and_the_way_of_its_first_failure():
    def ends(one):
        return (Status.FAILED, Cause.MISMATCH) if one.backend == "nki-sim" else (Status.PASSED, None)

    one = searcher(ends)
    with pytest.raises(Disagreement):
        one.run(MATMUL)
    assert one.search.cases == 1 and one.search.failure.backend == "nki-sim" and one.search.first == MATMUL
    smaller = replace(MATMUL, name="1x1x1")
    one.worker.tasks.clear()
    with pytest.raises(Disagreement):
        one.run(smaller)
    assert [t.backend for t in one.worker.tasks] == ["nki-sim"], "alone"
    assert (one.search.cases, one.search.first, one.search.smallest) == (1, MATMUL, smaller)
    one.worker.ends = lambda _: (Status.ERROR, Cause.KERNEL_ERROR)
    one.run(smaller)  # another way to fail
    assert one.search.failure.status is Status.FAILED


def test_what_tells_nothing_of_a_kernel_is_no_comparison():
    for status, cause in (
        (Status.UNSUPPORTED, Cause.NOT_SUPPORTED),
        (Status.ERROR, Cause.REFUSED_INPUTS),
        (Status.ERROR, Cause.UNINFORMATIVE_CASE),
    ):
        one = searcher(lambda _, ended=(status, cause): ended)
        one.run(MATMUL)
        assert (one.search.cases, one.search.compared, one.search.failure) == (1, 0, None)
    one = searcher(lambda _: (Status.PASSED, None))
    one.run(MATMUL)
    assert one.search.compared == len(one.backends) - 1, "the reference compares with itself"


def test_a_search_ends_when_its_time_is_up():
    one = searcher(lambda _: (Status.PASSED, None), seconds=-1.0)
    with pytest.raises(TimeUp):
        one.run(MATMUL)
    assert not one.search.whole and one.search.cases == 0


def test_a_failure_is_shrunk_for_ten_seconds_at_least(monkeypatch):
    for seconds, longer in ((1.0, 10.0), (30.0, 30.0)):
        one = searcher(lambda _: (Status.FAILED, Cause.MISMATCH), seconds)
        monkeypatch.setattr("time.monotonic", lambda: 1000.0)
        one.end = 2000.0
        with pytest.raises(Disagreement):
            one.run(MATMUL)
        assert one.end == 1000.0 + longer
        monkeypatch.undo()


def test_the_file_of_the_judge_is_among_what_counts():
    assert Path(resume.__file__).resolve().is_relative_to(resume.JUDGES[0]) and len(resume.JUDGES) == 3


def test_no_memory_limit_is_none(monkeypatch):
    resource = pytest.importorskip("resource")
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, 500))
    for limit in (None, 400, 600):
        memory_limit.apply(limit)
    assert asked == [(400, 500), (500, 500)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (5, resource.RLIM_INFINITY))
    memory_limit.apply(600)
    assert asked[-1] == (600, resource.RLIM_INFINITY)
