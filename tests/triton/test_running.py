"""A run leaves Triton as it was, keeps to the bounds of its arguments, and says in one sentence what went wrong."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
import triton
import triton.language as tl
from triton.runtime import driver, interpreter
from triton.runtime.jit import JITFunction

from triptych.harness.emulators import (
    KernelRaised,
    OrderError,
    OutOfBoundsError,
    ReadOnlyError,
    UnsupportedVersionError,
    interpret,
    interpret_backwards,
    version,
    version_support,
)
from triptych.kernels.triton import matmul as module


@triton.jit
def _double(x):
    return x * 2


@triton.jit
def _kernel(x, y, out, shift, N: tl.constexpr, WHAT: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    if WHAT == "copy":
        tl.store(out + at, _double(tl.load(x + at + shift)))
    elif WHAT == "masked":
        tl.store(out + at, tl.load(x + at + shift, mask=at + shift < 64, other=-1.0))
    elif WHAT == "store":
        tl.store(out + at + shift, tl.load(x + at))
    elif WHAT == "input":
        tl.store(x + at, tl.load(y + at))
    elif WHAT == "choose":
        tl.store(out + at, tl.load(tl.where(at % 2 == 0, x + at, y + at)))
    elif WHAT == "atomic":
        tl.atomic_add(out + at // 2, tl.load(x + at))
    elif WHAT == "raise":
        tl.store(out + at, tl.load(x + at) + tl.load(y + tl.arange(0, 2 * N)))


def launch(x, y, out, what="copy", shift=0):
    _kernel[(4,)](x, y, out, shift, N=16, WHAT=what)


@pytest.fixture
def arrays():
    return {"x": np.arange(64, dtype=np.float32), "y": -np.arange(64, dtype=np.float32)}


def test_device_functions_are_interpreted_too(arrays):
    out = np.full(64, np.nan, np.float32)
    interpret(launch, arrays, out)
    assert np.array_equal(out, 2 * arrays["x"])


@pytest.mark.parametrize(
    ("what", "shift", "error", "says"),
    [
        (
            "copy",
            1,
            OutOfBoundsError,
            r"reads element 64 of 'x', which has 64 elements \(shape \(64,\)\) in program",
        ),
        ("copy", -3, OutOfBoundsError, r"reads element -3 of 'x'.* in program \(0"),
        ("copy", 10**6, OutOfBoundsError, r"of 'x'"),
        ("store", 5, OutOfBoundsError, r"writes element 68 of 'out'"),
        ("input", 0, ReadOnlyError, r"writes to its input 'x'.*test_running.py:\d+\)"),
    ],
)
def test_memory_errors_name_the_argument_the_element_and_the_line(arrays, what, shift, error, says):
    with pytest.raises(error, match=says):
        interpret(launch, arrays, np.zeros(64, np.float32), what=what, shift=shift)


def test_masked_lanes_may_point_anywhere(arrays):
    out = np.zeros(64, np.float32)
    interpret(launch, arrays, out, what="masked", shift=60)
    assert out.tolist() == [60, 61, 62, 63] + [-1] * 60


def test_one_load_may_read_two_arguments(arrays):
    out = np.zeros(64, np.float32)
    interpret(launch, arrays, out, what="choose")
    assert np.array_equal(out, np.where(np.arange(64) % 2, arrays["y"], arrays["x"]))


def test_atomics_update_the_output(arrays):
    out = np.zeros(32, np.float32)
    interpret(launch, arrays, out, what="atomic")
    assert np.array_equal(out, arrays["x"].reshape(32, 2).sum(1))
    with pytest.raises(OutOfBoundsError, match="updates element 23 of 'out'"):
        interpret(launch, arrays, np.zeros(16, np.float32), what="atomic")


def test_a_kernel_that_raises_gives_one_sentence(arrays):
    with pytest.raises(KernelRaised, match=r"^the kernel raised \w+: .*\(test_running.py:\d+\)$"):
        interpret(launch, arrays, np.zeros(64, np.float32), what="raise")


@pytest.mark.parametrize("what", ["copy", "raise"])
def test_triton_is_as_before(arrays, what):
    """After a run that ends well and after one that raises."""
    importlib.import_module("triton.experimental.gluon")
    before = {owner: dict(vars(owner)) for owner in (tl, tl.core, tl.math, tl.standard, tl.tensor, interpreter)}
    active = driver._active
    if what == "raise":
        with pytest.raises(KernelRaised):
            interpret(launch, arrays, np.zeros(64, np.float32), what=what)
    else:
        interpret(launch, arrays, np.zeros(64, np.float32), what=what)
    for owner, names in before.items():
        assert dict(vars(owner)) == names
    assert driver._active is active
    assert isinstance(_kernel, JITFunction) and isinstance(module._matmul_kernel, JITFunction)


@triton.autotune([triton.Config({"N": 16}), triton.Config({"N": 32})], key=["n"])
@triton.heuristics({"TWICE": lambda arguments: arguments["n"] == 64})
@triton.jit
def _tuned(x, out, n, N: tl.constexpr, TWICE: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(out + at, tl.load(x + at) * (2 if TWICE else 1))


def tuned(x, y, out):
    _tuned[lambda meta: (64 // meta["N"],)](x, out, 64)


def test_autotuned_kernels_run_with_their_first_configuration(arrays):
    out = np.zeros(64, np.float32)
    interpret(tuned, arrays, out)
    assert np.array_equal(out, 2 * arrays["x"])


def through_scratch(x, y, out):
    scratch = x.new_zeros((64,))
    _kernel[(4,)](x, y, scratch, 0, N=16, WHAT="copy")
    _kernel[(4,)](scratch, y, out, 0, N=16, WHAT="copy")


def test_a_launcher_may_ask_a_tensor_for_scratch(arrays):
    out = np.zeros(64, np.float32)
    interpret(through_scratch, arrays, out)
    assert np.array_equal(out, 4 * arrays["x"])


def test_an_unknown_triton_is_refused_with_a_sentence(monkeypatch, arrays):
    assert version_support() is None
    monkeypatch.setattr(version, "installed", lambda: "4.1.0")
    assert "Triton 4.1.0 is installed" in str(version_support())
    with pytest.raises(UnsupportedVersionError, match="knows Triton 3.6"):
        interpret(launch, arrays, np.zeros(64, np.float32))
    monkeypatch.setattr(version, "installed", lambda: None)
    assert "not installed" in str(version_support())


def test_the_package_imports_without_triton_or_torch():
    program = (
        "import sys; sys.modules['triton'] = sys.modules['torch'] = None\n"
        "from triptych.harness.emulators import interpret, selftest, version_support"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})


@triton.jit
def _racing(x, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(x + at + tl.program_id(0) * N))


def last_program_wins(x, y, out):
    _racing[(4,)](x, out, N=16)


def test_programs_in_reverse_order_show_a_race_and_leave_atomics_alone(arrays):
    forwards, backwards = np.full(16, np.nan, np.float32), np.full(16, np.nan, np.float32)
    interpret(last_program_wins, arrays, forwards)
    interpret_backwards(last_program_wins, arrays, backwards)
    assert np.array_equal(forwards, arrays["x"][48:]) and np.array_equal(backwards, arrays["x"][:16])
    out = np.full(64, np.nan, np.float32)
    interpret_backwards(launch, arrays, out)
    assert np.array_equal(out, 2 * arrays["x"])
    with pytest.raises(OrderError):
        interpret_backwards(launch, arrays, np.zeros(64, np.float32), what="atomic")
