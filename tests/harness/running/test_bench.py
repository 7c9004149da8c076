"""What each stage of a task leaves in its result, and what a kernel that misbehaves in one of them costs."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import Backend
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.judge.bounds import Bounds
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.kinds import Float, Output
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Measured
from triptych.harness.running import bench as room
from triptych.harness.running.bench import Bench
from triptych.harness.running.tasks import Settings, Task

CASE = Case("op", "c", {"M": 40}, "float32")
FLOAT = np.float32


class Fake(Backend):
    """A backend whose kernel is a function of the inputs, by op."""

    name, panel, evidence = "fake", "torch", Evidence.HOST
    is_reference = False
    unsupported = None

    def __init__(self):
        self.runs, self.again, self.budgets = 0, 0, []

    def missing(self):
        return None

    def supports(self, op, case, target):
        return self.unsupported

    def run(self, problem, target):
        self.runs += 1
        return problem.op.torch(**problem.inputs)

    def run_again(self, problem, target):
        self.again += 1
        return self.run(problem, target)

    def time(self, problem, target, budget):
        self.budgets.append(budget)
        us = dict.fromkeys(("median_us", "p10_us", "p90_us", "min_us", "max_us"), 1.0)
        return Measured(timer="t", cache="c", evidence=Evidence.HOST, **us, warmups=0, samples_us=[1.0])


@pytest.fixture
def fake(monkeypatch):
    backend = Fake()
    monkeypatch.setitem(BACKENDS, "fake", backend)
    monkeypatch.setitem(BACKENDS, "other", backend)
    return backend


def op_of(kernel, reference=lambda x: 2 * x, **options):
    flops = {"flops": lambda axes, params: 7 * axes["M"]}
    return Op(
        "op", {"x": ("M",)}, reference, {"smoke": [{"M": 40}]}, dtypes=("float32",), torch=kernel, **flops, **options
    )


def twice(x):
    return x * FLOAT(2)


def performed(kernel, settings=None, bench=None, task=None, **options):
    """The result of one task, and who performed it."""
    bench = bench or Bench(lambda phase: None)
    bench.sources = {None: {"op": op_of(kernel, **options)}}
    return bench.perform(task or Task("op", None, CASE, "fake", None), settings or Settings()), bench


TIMED = Task("op", None, CASE, "fake", None, bench=True)


def test_what_a_backend_does_not_support_is_not_prepared(fake):
    fake.unsupported = "it has no such dtype"
    result, bench = performed(twice)
    assert (result.status, result.reason, result.cause) == (
        Status.UNSUPPORTED,
        "it has no such dtype",
        Cause.NOT_SUPPORTED,
    )
    assert bench.shared is None and result.tolerance is None and fake.runs == 0 and not bench.unfit


def test_a_pass_has_numbers_and_a_tolerance(fake):
    result, bench = performed(twice)
    assert result.status is Status.PASSED and result.reason is None and result.cause is None and result.failure is None
    assert result.metrics.mismatches == 0 and result.tolerance.source == "default" and result.outputs == {}
    assert result.invariance.other_inputs and result.invariance.runs.identical and fake.again == 1
    assert not bench.unfit and bench.functions is None and result.attribution is None and result.timing is None


def test_a_kernel_that_raises_has_the_tolerance_that_it_was_to_meet(fake):
    def raises(x):
        raise ValueError("no")

    result, bench = performed(raises)
    assert result.status is Status.ERROR and "no" in result.reason and result.tolerance.source == "default"
    assert bench.shared is None and not bench.unfit


def test_each_output_of_several_is_in_the_result(fake):
    def two(x):
        return {"a": twice(x), "b": x + FLOAT(1)}

    kinds = {"a": Float(tolerance={"atol": 1e-3}), "b": Output()}
    result, _ = performed(two, reference=lambda x: {"a": 2 * x, "b": x}, outputs=kinds, settings=Settings(repeat=False))
    assert result.output == "b" and {name: one.passed for name, one in result.outputs.items()} == {
        "a": True,
        "b": False,
    }
    assert result.outputs["a"].tolerance.source == "op" and result.outputs["b"].metrics.mismatches == 40
    assert result.failure is not None and result.cause is Cause.MISMATCH


def test_outputs_that_cannot_be_compared_have_no_parity(fake):
    bench, short = Bench(lambda phase: None), [True, False, False, True]
    parities = [
        set(performed(lambda x: x[:3] if short.pop(0) else twice(x), Settings(repeat=False), bench, task)[0].parity)
        for task in (Task("op", None, CASE, "fake", target) for target in "abcd")
    ]
    assert parities == [set(), set(), {"fake[b]"}, set()]


def test_the_tolerance_in_a_result_is_that_of_the_output_it_is_about(fake):
    """Where there is none, as of an output that should not be, the first one's."""
    kinds = {"a": Float(tolerance={"atol": 1e-3}), "b": Float(tolerance={"atol": 1e-4})}

    def two(x):
        return {"a": twice(x), "b": twice(x) + FLOAT(1)}

    result, _ = performed(two, reference=lambda x: {"a": 2 * x, "b": 2 * x}, outputs=kinds)
    assert result.output == "b" and result.tolerance.atol == 1e-4
    result, _ = performed(lambda x: (twice(x), x), reference=lambda x: (2 * x, None))
    assert result.output == "1" and result.tolerance.source == "default"


def test_where_one_output_cannot_be_compared_there_is_no_parity(fake):
    bench, short = Bench(lambda phase: None), [False, True]

    def two(x):
        return {"a": twice(x), "b": x[:3] if short.pop(0) else twice(x)}

    for target in "ab":
        task = Task("op", None, CASE, "fake", target)
        result, _ = performed(two, Settings(repeat=False), bench, task, reference=lambda x: {"a": 2 * x, "b": 2 * x})
    assert result.cause is Cause.MALFORMED_OUTPUT and result.parity == {}


def test_what_a_kernel_warns_of_is_noted_once(fake):
    def warns(x):
        for text in ("one", "two", "one"):
            warnings.warn(text, stacklevel=1)
        return twice(x)

    result, _ = performed(warns)
    assert [note.rpartition(": ")[2] for note in result.notes] == ["one", "two"] or len(result.notes) == 2

    def raises(x):
        warnings.warn("before", stacklevel=1)
        raise ValueError

    assert len(performed(raises)[0].notes) == 1


def test_the_time_of_a_kernel_is_that_of_its_run(fake, monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(room, "perf_counter", lambda: next(clock))
    seen = []
    monkeypatch.setattr(Bench, "confirm", lambda self, trial: seen.append(trial.seconds))
    performed(twice)
    assert seen == [2.5]


def test_a_pass_under_a_bound_that_accepts_wrong_outputs_is_remarked(fake):
    result, _ = performed(twice, Settings(wanted=Bounds("command line", atol=100.0), repeat=False))
    assert result.status is Status.PASSED and result.reason.startswith("atol 100 + rtol 0 x |reference| of the command")

    def two(x):
        return {"a": twice(x), "b": twice(x)}

    loose = Settings(wanted=Bounds("command line", atol=100.0), repeat=False)
    result, _ = performed(two, loose, reference=lambda x: {"a": 2 * x, "b": 2 * x})
    assert result.reason.startswith("output a: atol 100") and "; output b: atol 100" in result.reason


def test_the_reference_is_not_run_again(fake):
    fake.is_reference = True
    result, _ = performed(twice)
    assert fake.runs == 1 and result.invariance.runs is None


def test_a_result_that_is_wrong_is_not_run_again(fake):
    performed(lambda x: x * FLOAT(3))
    assert fake.again == 0


@pytest.mark.parametrize(
    ("kernel", "status", "cause", "said"),
    [
        ("keeps", Status.ERROR, Cause.KEPT_STATE, "of its first call for other inputs"),
        ("differs", Status.FAILED, Cause.BROKEN_PROMISE, "two runs on the same inputs differ"),
        (
            "fails",
            Status.ERROR,
            Cause.KERNEL_ERROR,
            "its first call passed, but a further one failed: the kernel raised",
        ),
        ("runs out", Status.ERROR, Cause.OUT_OF_MEMORY, "the kernel ran out of memory"),
    ],
)
def test_what_a_further_run_shows(fake, kernel, status, cause, said):
    calls = []

    def run(x):
        calls.append(twice(x))
        if kernel == "keeps":
            return calls[0].copy()
        if kernel == "differs" and len(calls) == 3:
            return np.nextafter(calls[-1], FLOAT(np.inf))
        if kernel == "fails" and len(calls) == 2:
            raise KeyError("words")
        if kernel == "runs out" and len(calls) == 2:
            raise MemoryError
        return calls[-1]

    result, bench = performed(run, task=TIMED)
    assert (result.status, result.cause) == (status, cause) and said in result.reason
    assert bench.unfit is (kernel == "runs out") and result.timing is None and fake.budgets == []


@pytest.mark.parametrize(
    ("seconds", "though_slow", "runs"), [(9.0, True, (3, 1)), (9.0, False, (1, 1)), (1.0, True, (3, 3))]
)
def test_a_slow_kernel_is_run_again_once(fake, monkeypatch, seconds, though_slow, runs):
    """In the case that its task names, and each kernel by its backend and target."""
    clock = iter(range(1000))
    monkeypatch.setattr(room, "perf_counter", lambda: next(clock) * seconds)
    bench, task = Bench(lambda phase: None), Task("op", None, CASE, "fake", None, though_slow=though_slow)
    for expected, one in zip((*runs, runs[0]), (task, task, replace(task, target="b")), strict=True):
        fake.runs = 0
        performed(twice, bench=bench, task=one)
        assert fake.runs == expected


def test_a_slow_kernel_is_one_that_takes_over_two_seconds(fake, monkeypatch):
    for seconds, slow in ((2.0, 0), (2.1, 1)):
        clock = iter([0.0, seconds])
        monkeypatch.setattr(room, "perf_counter", lambda clock=clock: next(clock))
        assert len(performed(twice)[1].repeated_though_slow) == slow


def test_a_time_comes_with_its_work_and_looks_at_what_is_returned(fake):
    budget = TimingBudget(seconds=3)
    result, _ = performed(twice, Settings(budget=budget), task=TIMED)
    assert result.timing.flops == 7 * 40 and result.timing.median_us == 1.0
    (seen,) = fake.budgets
    assert seen.seconds == 3 and isinstance(seen.look, room.TimedOutputs)
    fake.is_reference = True
    performed(twice, Settings(budget=budget), task=TIMED)
    assert fake.budgets[-1] is budget, "what is right by definition is not looked at"
    fake.is_reference = False
    wrong, _ = performed(lambda x: x * FLOAT(3), Settings(budget=budget, no_check=True), task=TIMED)
    assert fake.budgets[-1] is budget and wrong.status is Status.FAILED and wrong.timing is not None


def test_phases_are_announced_and_a_verdict_settled_before_its_cause_is_sought(fake):
    said, settled = [], []
    bench = Bench(said.append, lambda result: settled.append((result.status, result.attribution)))
    performed(lambda x: x * FLOAT(3), bench=bench, task=TIMED)
    assert said == [
        "preparing the inputs and the reference",
        "running the kernel",
        "finding the cause of a disagreement",
    ]
    assert settled == [(Status.FAILED, None)]
    said.clear()
    bench.shared = None
    performed(twice, bench=bench, task=TIMED)
    assert said[1:] == ["running the kernel", "running the kernel again", "timing the kernel"]


def test_guards_are_up_only_where_somebody_asks_for_them(fake, monkeypatch):
    checks = []
    monkeypatch.setattr(room, "Integrity", lambda functions, prepared: SimpleNamespace(check=lambda: checks.append(1)))
    compared = []
    monkeypatch.setattr(room.self_reference, "self_comparison", lambda *words: compared.append(words[:2]) and None)
    performed(twice)
    assert checks == [] == compared
    _, bench = performed(twice, Settings(paranoid=True))
    assert len(checks) == 2 and len(compared) == 1, "after the first run and after all others"
    noted = bench.functions
    performed(twice, Settings(paranoid=True), bench=bench)
    assert bench.functions is noted, "as they were before the first file was loaded"


def test_who_calls_the_reference_keeps_state(fake, monkeypatch):
    monkeypatch.setattr(room.self_reference, "self_comparison", lambda *words: "it calls the reference")
    result, _ = performed(twice, Settings(paranoid=True))
    assert (result.status, result.cause, result.reason) == (Status.ERROR, Cause.KEPT_STATE, "it calls the reference")


def test_a_file_is_loaded_once_and_looked_at_if_asked_for(fake, monkeypatch, tmp_path):
    loaded, looked = [], []
    monkeypatch.setattr(room.loading, "from_file", lambda path: loaded.append(path) or {"op": op_of(twice)})
    monkeypatch.setattr(room.Functions, "check_after_loading", lambda self, path: looked.append(path))
    for settings, expected in ((Settings(), []), (Settings(paranoid=True), ["mine.py"])):
        bench = Bench(lambda phase: None)
        for _ in range(2):
            assert bench.perform(Task("op", "mine.py", CASE, "fake", None), settings).status is Status.PASSED
        assert loaded == ["mine.py"] and looked == expected
        loaded.clear()
    assert Bench(lambda phase: None).op(Task("matmul", None, CASE, "fake", None)).name == "matmul", "ours, of no file"
