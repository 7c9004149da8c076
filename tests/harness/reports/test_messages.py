"""Kernels that are wrong in form: the sentence names the user's line and nothing of ours, and says what to do."""

import sys

import pytest

from triptych.harness.ops.case import Case
from triptych.harness.results.status import Status
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import Settings, Task

OTHERS = """
from triptych import Op


def reference(x):
    return 2 * x


def two_inputs(x, y):
    pass


def mutates(x):
    x.nope()


OPS = {
    "two_inputs": {"nki": two_inputs},
    "tuple": {"torch": lambda x: (x, x)},
    "nothing": {"torch": lambda x: None},
    "wide": {"torch": lambda x: 2 * x.double()},
    "unknown": {"torch": mutates},
}
globals().update({f"op_{name}": Op(name, {"x": ("M", "N")}, reference, [{"M": 2, "N": 4}], **of)
                  for name, of in OPS.items()})
"""

TRITON = """
import numpy as np
import triton
import triton.language as tl
from triptych import Op


def reference(x):
    return 2 * x


@triton.jit
def kernel(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, 2 * tl.load(x + i))


def without_out(x):
    pass


def without_grid(x, out):
    kernel(x, out, N=8)


def without_size(x, out):
    kernel[(1,)](x, out)


def too_large(x, out):
    np.ones(10**12)


KERNELS = (without_out, without_grid, without_size, too_large)
globals().update({f"op_{k.__name__}": Op(k.__name__, {"x": ("M", "N")}, reference, [{"M": 2, "N": 4}], triton=k)
                  for k in KERNELS})
"""

SAID = {
    ("nki-sim", "two_inputs"): "mine.py has two_inputs(x, y), which is called as two_inputs(x), after the op's inputs "
    "and params: missing a required argument: 'y'",
    ("torch", "tuple"): "the kernel returned 2 values instead of one array: an op has one output, which it must return",
    ("torch", "nothing"): "the kernel returned None instead of an array: return its output",
    ("torch", "wide"): "the output has a wrong dtype: expected bfloat16, got float64",
    ("torch", "unknown"): "the kernel raised AttributeError: 'Tensor' object has no attribute 'nope' (mine.py:14)",
    ("triton-cpu", "without_out"): "the launcher returns nothing, and takes no out=; it must return a tensor, or write",
    (
        "triton-cpu",
        "without_grid",
    ): "kernel is called without a grid: launch it as kernel[(n,)](..) (mine.py:23)",
    ("triton-cpu", "without_size"): "cannot be launched so: missing a required argument: 'N' (mine.py:27)",
    ("triton-cpu", "too_large"): "the kernel ran out of memory: this needs more than the memory limit of",
}


@pytest.mark.parametrize(("backend", "op"), SAID)
def test_a_wrong_form_is_told_in_the_users_terms(backend, op, worker, tmp_path):
    if backend == "torch":
        pytest.importorskip("torch")
    if backend == "triton-cpu" and sys.platform != "linux":
        pytest.skip("Triton has wheels for Linux alone")
    path = tmp_path / "mine.py"
    path.write_text(TRITON if backend == "triton-cpu" else OTHERS)
    case = Case(op, "2x4", {"M": 2, "N": 4}, "bfloat16")
    result = worker.perform(Task(op, str(path), case, backend, None), Settings(), 60)
    assert result.status is Status.ERROR and SAID[backend, op] in result.reason, result.reason


@pytest.fixture(scope="module")
def worker():
    with WorkerProcess() as worker:
        yield worker


FORM = """
import numpy as np
from triptych import Op

def reference(x):
    return 2 * x

def kernel(x):
    pass

SHAPES, CASES = {"x": ("M", "N")}, [{"M": 8, "N": 16}]
"""

DECLARED = {
    'Op("o", SHAPES, lambda x: x + np.random.normal(size=x.shape), CASES)': "gives two results for the same inputs",
    'Op("o", SHAPES, lambda x: None, CASES)': "the reference of o returned a NoneType: it must return one array",
    'Op("o", SHAPES, lambda x: [None, None], CASES)': "the reference of o returns no output: there is nothing",
    'Op("o", SHAPES, lambda x: 1 / 0, CASES)': "prepared: ZeroDivisionError: division by zero (mine.py:13)",
    'Op("o", lambda case, rng: None, reference, CASES)': "must be NumPy arrays by name, numbers or None; got a None",
    'Op("o", SHAPES, reference, CASES, corruptions={"c": lambda *a: (0, np.ones(3))})': "the corruption 'c' of o fails",
    'Op("o", SHAPES, reference, CASES, dtypes="float32")': "dtypes of op o takes a sequence, as ('float32',)",
    'Op("o", SHAPES, reference, CASES, tolerance={"rtol": "1e-3"})': "whose rtol is '1e-3'; it takes a number",
    'Op("o", SHAPES, reference, CASES, alone=Alone("Q", {"x": 0}, 0, {}, ""))': "bits along axis 'Q'; it has M",
}


@pytest.mark.parametrize("declared", DECLARED)
def test_a_wrong_declaration_says_what_is_wrong_with_it(declared, worker, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FORM.replace("import Op", "import Alone, Op") + f"\no = {declared}\n")
    case = Case("o", "8x16", {"M": 8, "N": 16}, "float32")
    result = worker.perform(Task("o", str(path), case, "numpy", None), Settings(), 60)
    assert result.status is Status.ERROR and DECLARED[declared] in result.reason, result.reason
