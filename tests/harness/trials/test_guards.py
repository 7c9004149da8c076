"""Each way to pass without being right: a kernel that cheats so, and the sentence that it gets.

Every guard is on here, those too that only a deceitful kernel needs. References and baselines that would let anything
pass are in test_tolerance, tolerances in test_sensitivity, buffers that a kernel does not write or overruns in
test_backends.
"""

import gc
from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from msgspec import structs

from triptych.harness.backends import BACKENDS, guarded
from triptych.harness.backends.base import Backend, KernelFault
from triptych.harness.collection import builtin
from triptych.harness.judge.prepared import prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import BatchInvariance, Op
from triptych.harness.results.findings import Alone, Invariance, Runs
from triptych.harness.results.status import Evidence, Status
from triptych.harness.running import runner
from triptych.harness.running.bench import Bench
from triptych.harness.running.tasks import Settings, Task
from triptych.harness.trials import invariance

MATMUL = builtin()["matmul"]
CASE = Case("mm", "mm", {"M": 40, "K": 64, "N": 30}, "float32")


class Cheat(Backend):
    """A backend whose kernel is a function of the inputs."""

    name, panel, evidence = "cheat", "torch", Evidence.HOST

    def __init__(self, kernel):
        self.kernel = kernel

    def missing(self):
        return None

    def run(self, problem, target):
        return self.kernel(**problem.inputs)

    def time(self, *_):
        raise AssertionError("not timed")


OP = Op("mm", MATMUL.inputs, MATMUL.reference, {}, axes=MATMUL.axes, honest=MATMUL.honest, torch=lambda: None)


@pytest.fixture
def verdict(monkeypatch):
    def of(kernel, case=CASE, paranoid=True, **declared):
        monkeypatch.setitem(BACKENDS, "cheat", Cheat(kernel))
        op = replace(OP, torch=kernel, **declared)
        bench = Bench(lambda _: None)
        bench.sources[None] = {"mm": op}
        return bench.perform(Task("mm", None, case, "cheat", None), Settings(paranoid=paranoid))

    return of


def right(lhsT, rhs):
    out = lhsT.astype(np.float32).T @ rhs.astype(np.float32)
    return out.astype(lhsT.dtype)


def test_what_only_a_deceitful_kernel_does_is_looked_for_where_that_is_asked_for(verdict):
    """It costs every run of every honest kernel, so that other kernels alone meet it; inputs are sealed for all."""
    assert verdict(the_reference).status is Status.ERROR
    assert verdict(the_reference, paranoid=False).status is Status.PASSED
    assert "changed its input" in verdict(changes, paranoid=False).reason


def test_an_honest_kernel_passes_all_of_them(verdict):
    result = verdict(right)
    assert result.status is Status.PASSED and result.reason is None
    assert result.invariance == Invariance(other_inputs=True, runs=Runs(identical=True, promised=True))


def by_shape():
    kept = {}
    return lambda lhsT, rhs: kept.setdefault((lhsT.shape, rhs.shape), right(lhsT, rhs)).copy()


def by_address():
    kept = {}
    return lambda lhsT, rhs: kept.setdefault((lhsT.ctypes.data, rhs.ctypes.data), right(lhsT, rhs)).copy()


def one_stale_element():
    kept = []

    def kernel(lhsT, rhs):
        out = right(lhsT, rhs)
        kept.append(out[3, 3])
        out[3, 3] = kept[0]
        return out

    return kernel


def found_in_memory():
    known = []  # the problem that it finds first: which that is, is up to the garbage collector

    def kernel(lhsT, rhs):
        if not known:
            known.append(next(x for x in gc.get_objects() if isinstance(x, Problem) and x.op.name == "mm"))
        return known[0].reference.astype(np.float32)

    return kernel


def loosened(lhsT, rhs):
    for found in gc.get_objects():
        if isinstance(found, Expected) and found.reference.shape == (40, 30):
            for bound in ("max_abs", "max_local", "rel_l2"):
                structs.force_setattr(found.tolerance, bound, 1e9)
    return np.zeros((40, 30), np.float32)


def overwritten(lhsT, rhs):
    for found in gc.get_objects():
        if isinstance(found, Expected) and found.reference.shape == (40, 30):
            found.reference[...] = found.rounded[...] = 1
    return np.ones((40, 30), np.float32)


def one_buffer():
    out = np.empty((40, 30), np.float32)

    def kernel(lhsT, rhs):
        out[:] = right(lhsT, rhs)
        return out

    return kernel


def kept_transpose():
    kept = []

    def kernel(lhsT, rhs):
        kept.append(lhsT.copy())
        return right(kept[0], rhs)

    return kernel


def finite_at_first(lhsT, rhs):
    """The bug: what one number of the inputs is decides whether the sum overflows."""
    first = Problem.of(OP, CASE).inputs["rhs"][0, 0]
    return right(lhsT, rhs) * np.float32(1 if rhs[0, 0] == first else np.inf)


def never_written():
    out = []

    def kernel(lhsT, rhs):
        out.append(right(lhsT, rhs))
        return out[0].copy()

    return kernel


def noisy():
    rng = np.random.default_rng(0)
    return lambda lhsT, rhs: right(lhsT, rhs) * (1 + np.float32(2e-7) * rng.integers(0, 2, (40, 30), dtype=np.int8))


def changes(lhsT, rhs):
    rhs[0, 0] += 1
    return right(lhsT, rhs)


def changes_later():
    calls = []

    def kernel(lhsT, rhs):
        calls.append(1)
        out = right(lhsT, rhs)
        if len(calls) == 3:
            lhsT[0, 0] += 1
        return out

    return kernel


def fails_later():
    calls = []

    def kernel(lhsT, rhs):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("out of slots")
        return right(lhsT, rhs)

    return kernel


def other_dtype_later():
    calls = []

    def kernel(lhsT, rhs):
        calls.append(1)
        return right(lhsT, rhs).astype(np.float32 if len(calls) == 1 else np.float64)

    return kernel


def the_reference(lhsT, rhs):
    return MATMUL.reference(lhsT.astype(np.float64), rhs.astype(np.float64)).astype(lhsT.dtype)


CHEATS = {
    "a result cached by shape": (by_shape, Status.ERROR, "the kernel returned the result of its first call for other"),
    "an output never written again": (never_written, Status.ERROR, "or never writes its output; compute from the"),
    "a result cached by address": (by_address, Status.ERROR, "it keeps a result by shape or address, or never writes"),
    "an element kept": (one_stale_element, Status.FAILED, "regime (1 of 1200 elements, the first at [3, 3]: expected"),
    "the reference found in memory": (found_in_memory, Status.ERROR, "returned the result of its first call for other"),
    "a tolerance loosened": (lambda: loosened, Status.ERROR, "changed the reference or the tolerance that it is"),
    "a reference overwritten": (lambda: overwritten, Status.ERROR, "changed the reference or the tolerance that it is"),
    "one buffer for all calls": (one_buffer, Status.ERROR, "returns a buffer that its next call overwrites"),
    "a cached intermediate": (kept_transpose, Status.FAILED, "keeps something of its first call, as a converted or"),
    "right for some numbers alone": (lambda: finite_at_first, Status.FAILED, "(not finite where the reference is): it"),
    "another dtype the second time": (other_dtype_later, Status.ERROR, "a second call returns float64[40, 30] for"),
    "noise": (noisy, Status.FAILED, "two runs on the same inputs differ in "),
    "inputs modified": (lambda: changes, Status.ERROR, "the kernel changed its input rhs"),
    "inputs modified in a later call": (changes_later, Status.ERROR, "the kernel changed its input lhsT"),
    "an exception in a later call": (
        fails_later, Status.ERROR, "its first call passed, but a further one failed: the kernel raised RuntimeErr"
    ),
    "the reference itself": (lambda: the_reference, Status.ERROR, "the kernel calls the reference (matmul): its"),
    "an input as output": (lambda: lambda lhsT, rhs: rhs[:40], Status.ERROR, "the output shares memory with input rhs"),
    "zeros": (lambda: lambda lhsT, rhs: np.zeros((40, 30), np.float32), Status.FAILED, "1200 of 1200 elements off"),
    "elements masked": (
        lambda: lambda lhsT, rhs: np.ma.masked_array(np.zeros((40, 30), np.float32), mask=True), Status.ERROR,
        "the kernel returned a MaskedArray instead of one array"
    ),
    "None": (lambda: lambda lhsT, rhs: None, Status.ERROR, "returned None instead of an array"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_caught_and_told(verdict, name):
    make, status, said = CHEATS[name]
    result = verdict(make())
    assert (result.status, said in result.reason) == (status, True), result.reason


def test_a_kernel_that_replaces_what_it_is_judged_with_is_told_and_its_process_given_up(verdict, monkeypatch):
    def replaces(lhsT, rhs):
        monkeypatch.setattr(np, "sqrt", lambda x: x)
        return right(lhsT, rhs)

    assert verdict(replaces).reason.startswith("the kernel replaced numpy.sqrt, which it is judged with: ")
    monkeypatch.undo()

    def half(lhsT, rhs):
        return 0.5 * (lhsT.T @ rhs)

    def reference(lhsT, rhs):
        return lhsT.T @ rhs

    def rewrites(lhsT, rhs):
        reference.__code__ = half.__code__
        return right(lhsT, rhs)

    assert verdict(rewrites, reference=reference).reason.startswith("the kernel replaced reference, which it is judged")


@pytest.mark.parametrize("line", ["np.exp = np.exp2", "np.seterr(all='raise')", "warnings.simplefilter('error')"])
def test_what_a_file_does_when_it_is_loaded_does_not_reach_the_judge(tmp_path, line):
    path = tmp_path / "mine.py"
    path.write_text(
        f"import warnings\nimport numpy as np\nimport triptych\n{line}\n"
        "op = triptych.Op('e', {'x': ('M',)}, lambda x: np.exp(x), [{'M': 40}])\n"
    )
    task = Task("e", str(path), Case("e", "40", {"M": 40}, "float16", regime="tiny"), "numpy", None)
    (result,) = runner.run([task], Settings(paranoid=True), timeout_s=60)
    if "exp2" in line:
        assert result.reason.startswith(f"loading {path} replaces numpy.exp, which the judge uses: ")
    else:
        assert result.status is Status.PASSED, result.reason


def test_constant_and_zero_outputs_are_named(verdict):
    assert "zero everywhere: was it written" in verdict(CHEATS["zeros"][0]()).failure.diagnosis
    assert verdict(lambda lhsT, rhs: np.full((40, 30), 2, np.float32)).failure.diagnosis == "every element is 2"


def test_a_kernel_that_is_better_than_honest_ones_is_no_cheat(verdict):
    """It has the reference's bits, and does not call it."""
    result = verdict(lambda lhsT, rhs: (lhsT.astype(np.float64).T @ rhs.astype(np.float64)).astype(np.float32))
    assert result.status is Status.PASSED and result.metrics.max_ulp == 0


def test_the_second_run_on_the_same_inputs_is_the_backends_own_second_run(verdict, monkeypatch):
    monkeypatch.setattr(Cheat, "run_again", lambda self, problem, target: -self.kernel(**problem.inputs))
    result = verdict(right)
    assert result.status is Status.FAILED and result.reason.startswith("two runs on the same inputs differ in 1200")


def test_an_op_need_not_repeat_its_bits(verdict):
    result = verdict(noisy(), repeatable=False)
    assert result.status is Status.PASSED
    assert result.invariance.runs == Runs(identical=False, promised=False)


def by_rows(lhsT, rhs):
    """Sums in another order when there are many rows."""
    if lhsT.shape[1] == 1:
        return right(lhsT, rhs)
    parts = [right(lhsT[i::2], rhs[i::2]) for i in range(2)]
    return parts[0] + parts[1]


@pytest.mark.parametrize("promised", [True, False])
def test_a_row_alone_has_the_bits_of_the_batch_where_the_op_promises_it(verdict, promised):
    alone = BatchInvariance("M", {"lhsT": 1}, 0, {"cheat": 1} if promised else {}, "for the test")
    result = verdict(by_rows, alone=alone)
    found = result.invariance.alone
    assert found == Alone(axis="M", part="M = 20", identical=False, promised=promised)
    if promised:
        assert result.status is Status.FAILED
        assert result.reason.startswith("M = 20 computed alone differs from the same within a batch of 40, in ")
        assert "the op promises the same bits (for the test); look for tiles" in result.reason
    else:
        assert result.status is Status.PASSED


@pytest.mark.parametrize(("together", "part"), [(16, "M = 16-31"), (32, "M = 0-31")])
def test_neighbours_that_stay_together_are_cut_out_as_whole_tiles(verdict, together, part):
    seen = []

    def kernel(lhsT, rhs):
        seen.append(lhsT.shape[1])
        return right(lhsT, rhs)

    result = verdict(kernel, alone=BatchInvariance("M", {"lhsT": 1}, 0, {"cheat": together}, ""))
    assert result.invariance.alone.part == part and seen == [40, 40, 40, together]
    whole = verdict(right, alone=BatchInvariance("M", {"lhsT": 1}, 0, {"cheat": 40}, ""))
    assert whole.invariance.alone is None


def test_a_slow_kernel_is_repeated_in_one_case_alone_and_says_so(verdict, monkeypatch):
    monkeypatch.setattr("triptych.harness.trials.invariance.LONGEST_S", 0.0)
    assert verdict(by_shape()).status is Status.ERROR
    result = verdict(right)
    assert result.status is Status.PASSED and "runs again on other inputs alone" in result.invariance.skipped
    prepared = prepare(Problem.of(OP, CASE))
    repeater = invariance.Repeater(prepared)
    never = pytest.fail
    out = {"": right(**prepared.problem.inputs)}
    once = repeater.repeat(Cheat(right), out, never, never, 3.0, though_slow=False)
    assert "runs once, except in one case" in once.found.skipped


def test_one_byte_outputs_start_out_differently_in_each_run():
    """What is not written has no pattern of its own there, and is told by another value in the next run."""
    dtype = np.dtype(ml_dtypes.float8_e4m3fn)
    first, second = (guarded.pattern_buffer((8, 16), dtype) for _ in range(2))
    assert (first != second).sum() > 100 and (first[: guarded.MARGIN] == guarded.OUTSIDE[1]).all()
    guarded.check_written(first, (8, 16))


class Streams:
    """A stand-in for torch.cuda: work on a side stream is done when all streams are waited for. No real GPU is used."""

    def __init__(self, on_side):
        self.out, self.on_side = np.zeros(6), on_side

    def current_stream(self):
        return SimpleNamespace(synchronize=lambda: None)

    def synchronize(self):
        self.out[: self.on_side] = 1


@pytest.mark.parametrize("on_side", [0, 4])
def test_work_left_on_another_stream_is_told(on_side):
    cuda = Streams(on_side)
    if not on_side:
        return guarded.check_streams(cuda, cuda.out.copy)
    with pytest.raises(KernelFault, match="leaves work on another stream: 4 of 6 elements of its output changed after"):
        guarded.check_streams(cuda, cuda.out.copy)
