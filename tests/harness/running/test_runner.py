"""Every way in which a kernel can misbehave becomes a status and a sentence, and costs its own case alone."""

import ast
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.collection import builtin
from triptych.harness.judge.bounds import Bounds
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Predicted
from triptych.harness.running import memory_limit, process, runner
from triptych.harness.running.tasks import Settings, Task

FILE = """
import ctypes, os, signal, subprocess, sys, time
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op


def reference(x):
    return 2 * x


def doubled(x, factor=2.0):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    nisa.dma_copy(dst=out, src=tile)
    return out


POISONED = False

def right(x):
    if POISONED:  # as every call after a GPU fault in the same process
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return doubled(x)

def wrong(x):
    return doubled(x, factor=2.5)

def raises(x):
    raise RuntimeError("the kernel's own words\\nand more of them")

def exits(x):
    sys.exit("bye")

def hangs(x):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)

def dies(x):
    os._exit(3)

def segfaults(x):
    ctypes.string_at(0)

def out_of_memory(x):
    os.kill(os.getpid(), signal.SIGKILL)

def allocates(x):
    global HELD
    HELD = []
    while True:
        HELD.append(np.empty(2**24))

def faults(x):
    global POISONED
    POISONED = True
    raise RuntimeError("CUDA error: an illegal memory access was encountered\\nCompile with TORCH_USE_CUDA_DSA")

def forks(x):
    os.fork()  # and the child goes on as if it were the worker
    return doubled(x)

def hangs_in_c(x):
    open(__file__ + ".pid", "w").write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock

def writes_to_pipes(x):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"no pickle")
        except OSError:
            pass
    return doubled(x)

class Mute(BaseException):
    def __str__(self):
        raise ValueError

def raises_mute(x):
    raise Mute

def prints(x):
    print("a kernel's print")
    os.system("echo a print of its child")
    return doubled(x)

def returns_none(x):
    doubled(x)

def wrong_shape(x):
    return doubled(x[:, :-1])

def changes_input(x):
    nisa.dma_copy(dst=x, src=doubled(x))
    return doubled(x)

def unwritten(x):
    return nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)

def out_of_bounds(x):
    out = doubled(x)
    nisa.dma_copy(dst=out[:, 1:97], src=doubled(x))
    return out


KERNELS = (right, wrong, raises, exits, hangs, dies, segfaults, out_of_memory, allocates, faults, forks,
           hangs_in_c, writes_to_pipes, raises_mute, prints,
           returns_none, wrong_shape, changes_input, unwritten, out_of_bounds)
OPS = [Op(kernel.__name__, {"x": ("M", "N")}, reference, [{"M": 32, "N": 96}], nki=kernel) for kernel in KERNELS]
globals().update({"op_" + op.name: op for op in OPS})
no_panel = Op("no_panel", {"x": ("M", "N")}, reference, [{"M": 32, "N": 96}])
bad_inputs = Op("bad_inputs", lambda case, rng: 1 / 0, reference, [{"M": 3}], nki=right)
"""


def last_line(kernel):
    """Where the last statement of a kernel stands, as "my_kernels.py:41"."""
    (function,) = [node for node in ast.parse(FILE).body if getattr(node, "name", "") == kernel]
    return f"my_kernels.py:{function.body[-1].lineno}"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "my_kernels.py"
    path.write_text(FILE)
    return str(path)


def task(source, op, backend="nki-sim", **settings):
    case = Case(op, "32x96", {"M": 32, "N": 96}, "float32")
    return Task(op, source, case, backend, None, **settings)


SAID = {
    "right": (Status.PASSED, None),
    "wrong": (Status.FAILED, "elements off by more than"),
    "raises": (Status.ERROR, "the kernel's own words"),
    "exits": (Status.ERROR, "SystemExit: bye"),
    "hangs": (
        Status.TIMEOUT,
        f"the kernel took longer than the time limit of 6 s ({last_line('hangs')}); --timeout",
    ),
    "hangs_in_c": (
        Status.TIMEOUT,
        f"the kernel took longer than the time limit of 6 s ({last_line('hangs_in_c')}); --timeout",
    ),
    "writes_to_pipes": (Status.ERROR, "it closed the pipe that it answers through, or wrote into it"),
    "raises_mute": (
        Status.ERROR,
        f"the kernel raised Mute: (its message could not be made) ({last_line('raises_mute')})",
    ),
    "forks": (Status.PASSED, None),
    "dies": (Status.ERROR, "the worker process died while running the kernel: it exited with code 3"),
    "segfaults": (Status.ERROR, f"killed by SIGSEGV ({last_line('segfaults')})"),
    "out_of_memory": (Status.ERROR, "killed by SIGKILL, as the system does when memory runs out"),
    "allocates": (
        Status.ERROR,
        "the kernel ran out of memory: this needs more than the memory limit of 1 GiB a worker",
    ),
    "faults": (Status.ERROR, "CUDA error: an illegal memory access was encountered (my_kernels.py:"),
    "prints": (Status.PASSED, None),
    "returns_none": (Status.ERROR, "None"),
    "wrong_shape": (Status.ERROR, "wrong shape: expected (32, 96), got (32, 95)"),
    "changes_input": (Status.ERROR, "the kernel changed its input x"),
    "unwritten": (Status.ERROR, "written"),
    "out_of_bounds": (Status.ERROR, ""),
    "no_panel": (Status.UNSUPPORTED, "op no_panel has no nki panel"),
    "bad_inputs": (Status.ERROR, "the case could not be prepared: ZeroDivisionError: division by zero"),
    "not_there": (Status.ERROR, "there is no op 'not_there'; there is right, wrong"),
}


HANGING = {"hangs", "hangs_in_c"}


@pytest.fixture(scope="module")
def results(source):
    """All of them, a right kernel after each. The limit is short for those that hang alone: machines are busy."""
    found = []
    for limit, names in ((6, HANGING), (120, SAID.keys() - HANGING)):
        tasks = [task(source, name) for pair in ((name, "right") for name in sorted(names)) for name in pair]
        came = []
        results = runner.run(tasks, settings=Settings(memory=2**30), timeout_s=limit, on_result=came.append)
        assert sorted(map(id, came)) == sorted(map(id, results))
        assert [result.op for result in results] == [task.op for task in tasks]
        found += results
    return found


@pytest.mark.skipif(os.name != "posix", reason="signals have these names on POSIX alone")
@pytest.mark.parametrize("name", SAID)
def test_each_misbehaviour_has_a_status_and_a_sentence(results, name):
    status, said = SAID[name]
    result = next(result for result in results if result.op == name)
    assert result.status is status, result.reason
    assert (result.reason is None) if said is None else (said in result.reason)
    assert result.reason is None or "\n" not in result.reason


def test_the_other_results_are_kept(results):
    assert {result.status for result in results if result.op == "right"} == {Status.PASSED}


def test_an_error_names_the_line_of_the_kernel(results):
    raised = next(result for result in results if result.op == "raises")
    assert "my_kernels.py:" in raised.reason


def test_what_kernels_print_never_reaches_standard_output(source):
    """And the worker starts without running the caller's __main__ again, from a main that has no guard."""
    script = f"""
    from triptych.harness.ops import loading
    from triptych.harness.ops.cases import cases_of
    from triptych.harness.running import runner
    from triptych.harness.running.tasks import Task
    print("main")
    op = loading.from_file({source!r})["prints"]
    cases = cases_of(op, ["smoke"], None, {{}}, 0)
    tasks = [Task("prints", {source!r}, case, "nki-sim", None) for case in cases]
    print([str(r.status) for r in runner.run(tasks, timeout_s=60)])
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["main", "['passed', 'passed', 'passed']"], done.stderr
    assert "a kernel's print" in done.stderr and "a print of its child" in done.stderr


def test_a_backend_that_is_not_here_is_skipped_with_its_reason(source, monkeypatch):
    monkeypatch.setattr(runner.BACKENDS["nki"], "missing", lambda: "no device")
    (result,) = runner.run([task(source, "right", backend="nki")], timeout_s=10)
    assert (result.status, result.reason, result.evidence) == (Status.SKIPPED, "no device", Evidence.DEVICE)


def test_an_unknown_backend_is_a_usage_error(source):
    with pytest.raises(ValueError, match="there is no backend 'gpu'; there is numpy, nki-sim"):
        runner.run([task(source, "right", backend="gpu")], timeout_s=10)


def test_timing_carries_evidence_samples_and_work():
    op = builtin()["matmul"]
    case = cases_of(op, ["smoke"], ["float32"], {}, 0)[0]
    tasks = [Task("matmul", None, case, backend, None, bench=True) for backend in ("numpy", "nki-sim")]
    budget = TimingBudget(warmup_seconds=0, seconds=0, fewest=2)
    reference, simulated = runner.run(tasks, Settings(budget=budget), timeout_s=60)
    assert reference.timing.evidence == "reference" and len(reference.timing.samples_us) == 2
    assert reference.timing.flops == 2 * 64 * 128 * 96
    assert simulated.timing.evidence == "predicted" and simulated.timing.predicted_us > 0
    assert isinstance(simulated.timing, Predicted) and simulated.evidence is Evidence.SIMULATED


def test_a_wrong_kernel_is_not_timed_unless_asked(source):
    tasks = [task(source, "wrong", bench=True)]
    (refused,) = runner.run(tasks, timeout_s=60)
    assert refused.timing is None and "not timed, because its result is wrong" in refused.reason
    (timed,) = runner.run(tasks, Settings(no_check=True), timeout_s=60)
    assert timed.status is Status.FAILED and timed.timing.predicted_us > 0


def test_bounds_of_the_command_line_reach_the_judge(source):
    (result,) = runner.run([task(source, "wrong")], Settings(wanted=Bounds("command line", atol=100.0)), timeout_s=60)
    assert result.status is Status.PASSED and result.tolerance.source == "command line"


def test_the_default_memory_limit_is_a_share_of_what_is_free(tmp_path, monkeypatch):
    assert 2**20 < memory_limit.default() < memory_limit._available()
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(memory_limit, "CGROUP", tmp_path)
    assert memory_limit.default() == int(0.8 * 2000), "a container's own limit counts"
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit.default() > 2**20


def test_a_slow_start_is_not_the_kernels_fault(source, monkeypatch):
    monkeypatch.setattr(process, "START_LIMIT_S", 0.001)
    (result,) = runner.run([task(source, "right")], timeout_s=60)
    assert result.status is Status.TIMEOUT and "did not start within 0.001 s, which no kernel" in result.reason


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends a process with its parent on Linux alone")
def test_a_hanging_worker_does_not_outlive_a_parent_that_is_killed(source, tmp_path):
    path = tmp_path / "my_kernels.py"
    path.write_text(FILE)
    script = f"""
    from triptych.harness.ops import loading
    from triptych.harness.ops.cases import cases_of
    from triptych.harness.running import runner
    from triptych.harness.running.tasks import Task
    case = cases_of(loading.from_file({str(path)!r})["hangs_in_c"], ["smoke"], None, {{}}, 0)[0]
    runner.run([Task("hangs_in_c", {str(path)!r}, case, "nki-sim", None)], timeout_s=60)
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=env)
    told = tmp_path / "my_kernels.py.pid"
    until(lambda: told.exists() and told.read_text())
    time.sleep(0.2)  # into the C call
    parent.kill()
    parent.wait()
    status = Path(f"/proc/{told.read_text()}/status")
    until(lambda: not status.exists() or "Z (zombie)" in status.read_text())


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
