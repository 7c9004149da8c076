"""Each backend computes what the reference says, says why it is not here, and notices what kernels do to memory."""

import subprocess
import sys
from importlib.machinery import PathFinder

import ml_dtypes
import numpy as np
import pytest

from triptych.harness.backends import BACKENDS, gpu, guarded
from triptych.harness.backends.base import KernelFault
from triptych.harness.backends.neuron import parts
from triptych.harness.backends.sealed import Sealed
from triptych.harness.collection import builtin
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import judge
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence, Status

OPS = builtin()
DTYPES = ("float32", "bfloat16", "float16")
CASES = [
    Case("matmul", "5x40x7", {"M": 5, "K": 40, "N": 7}, ""),
    Case("attention", "a", {"B": 1, "H": 2, "Hkv": 1, "Sq": 5, "Sk": 3, "D": 8}, "", {"causal": True}),
    Case("attention", "b", {"B": 2, "H": 4, "Hkv": 2, "Sq": 3, "Sk": 9, "D": 16}, "", {"causal": True}),
    Case("attention", "c", {"B": 1, "H": 1, "Hkv": 1, "Sq": 4, "Sk": 4, "D": 5}, "", {"causal": False}),
]


def needs(name):
    why = BACKENDS[name].missing()
    return pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=str(why)))


def cast(case, dtype):
    return Case(case.op, case.name, case.axes, dtype, case.params)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.name}")
@pytest.mark.parametrize("name", [needs(name) for name in BACKENDS])
def test_backends_agree_with_the_reference(name, case, dtype):
    op, case = OPS[case.op], cast(case, dtype)
    inputs = make_inputs(op, case)
    before = {key: x.copy() for key, x in inputs.items()}
    problem = Problem(op, case, inputs)
    verdict = judge(problem, BACKENDS[name].run(problem, None))
    assert verdict.status is Status.PASSED, verdict.reason
    assert all(x.tobytes() == before[key].tobytes() for key, x in inputs.items())


def test_looking_at_all_backends_imports_nothing_heavy():
    code = (
        "import sys; sys.path[:] = %r; from triptych.harness.backends import BACKENDS; "
        "print(list(BACKENDS), {m for m in ('torch', 'triton') if m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code % sys.path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['numpy', 'nki-sim', 'nki', 'triton-cpu', 'triton', 'torch'] set()\n", done.stderr


def test_every_backend_that_is_missing_says_so_in_one_sentence():
    for backend in BACKENDS.values():
        why = backend.missing()
        assert why is None or (len(why) > 10 and "\n" not in why)


def test_the_placeholder_of_nki_does_not_count(tmp_path, monkeypatch):
    """PyPI's `nki` raises when it is imported; the one that triptych lends is no device either."""
    monkeypatch.setattr(parts, "DEVICE", str(tmp_path))
    assert BACKENDS["nki"].missing().startswith("AWS's nki is not installed") or PathFinder.find_spec("neuronxcc")
    (tmp_path / "nki.py").write_text("raise ImportError('WRONG PACKAGE: this is a placeholder\\nmore')")
    (tmp_path / "neuronxcc.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nki", raising=False)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if getattr(f, "__module__", "") != "triptych"])
    why = BACKENDS["nki"].missing()
    assert why.startswith("the installed nki is the placeholder of the public registry, not AWS's")


def test_torch_says_where_it_ran():
    assert BACKENDS["torch"].evidence is (Evidence.DEVICE if gpu.gpu_here() else Evidence.HOST)


def test_support_is_refused_with_a_reason():
    op = OPS["attention"]
    nonfinite = Case("attention", "n", CASES[1].axes, "float32", {"causal": True}, "nonfinite")
    simulator = BACKENDS["nki-sim"]
    assert simulator.supports(op, nonfinite, "trn1") is None
    assert simulator.supports(op, nonfinite, "trn2") is None
    assert simulator.supports(op, cast(CASES[1], "int8"), "trn2") == (
        "op attention is declared for float32, bfloat16, float16, not for int8"
    )
    bare = Op("bare", {"x": ("M",)}, lambda x: x, [{"M": 1}])
    assert BACKENDS["triton"].supports(bare, CASES[0], None) == "op bare has no triton panel"


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)])
def test_guards_notice_what_was_written(dtype):
    flat, view = guarded.guarded_copy(np.arange(12).reshape(3, 4).astype(dtype))
    guarded.check_margins(flat, "x")
    guarded.check_written(flat, (3, 4))
    sealed = Sealed({"x": np.arange(12).reshape(3, 4).astype(dtype)})
    sealed.check({"x": view})
    view[1, 2] = 99
    with pytest.raises(KernelFault, match="changed 1 of 12 elements of its input x"):
        sealed.check({"x": view})
    flat[guarded.MARGIN + 12] = 0
    with pytest.raises(KernelFault, match="wrote out of bounds: 1 element past the end of x"):
        guarded.check_margins(flat, "x")


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)])
def test_guards_notice_what_was_not_written(dtype):
    flat = guarded.pattern_buffer((3, 4), dtype)
    out = guarded.inside(flat, (3, 4), dtype)
    assert np.isnan(out).all() and out.dtype == dtype
    out[:] = np.nan  # an honest NaN is another pattern
    guarded.check_written(flat, (3, 4))
    flat[guarded.MARGIN + 6] = guarded.UNWRITTEN[dtype.itemsize]
    with pytest.raises(KernelFault, match=r"left 1 of 12 output elements unwritten, the first at \[1, 2\]"):
        guarded.check_written(flat, (3, 4))


TRITON_FILE = """
import triton
import triton.language as tl
from triptych import Op

@triton.jit
def copy(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)

def right(x, out):
    copy[(triton.cdiv(x.shape[0], 16),)](x, out, x.shape[0], BLOCK=16)

def forgets_the_tail(x, out):
    copy[(x.shape[0] // 16,)](x, out, x.shape[0], BLOCK=16)

def overruns(x, out):
    copy[(triton.cdiv(x.shape[0], 16),)](x, out, x.shape[0] + 5, BLOCK=16)

right_op = Op("right", {"x": ("M",)}, lambda x: x.copy(), [{"M": 37}], triton=right)
tail = Op("tail", {"x": ("M",)}, lambda x: x.copy(), [{"M": 37}], triton=forgets_the_tail)
over = Op("over", {"x": ("M",)}, lambda x: x.copy(), [{"M": 37}], triton=overruns)
"""


@pytest.mark.skipif(BACKENDS["triton-cpu"].missing() is not None, reason="Triton's interpreter is not here")
def test_a_triton_kernel_that_forgets_or_overruns_is_caught(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TRITON_FILE)
    found = loading.from_file(path)
    (case,) = cases_of(found["right"], ["smoke"], ["float32"], {}, 0)
    inputs = make_inputs(found["right"], case)
    backend = BACKENDS["triton-cpu"]
    assert (backend.run(Problem(found["right"], case, inputs), None) == inputs["x"]).all()
    with pytest.raises(KernelFault, match=r"left 5 of 37 output elements unwritten, the first at \[32\]"):
        backend.run(Problem(found["tail"], case, inputs), None)
    with pytest.raises(Exception, match="reads element .* of 'x', which has 37 elements"):
        backend.run(Problem(found["over"], case, inputs), None)


@pytest.mark.parametrize(("backend", "dtype"), [("triton-cpu", "float8_e4m3"), ("nki-sim", "float64")])
def test_a_dtype_that_a_language_lacks_is_unsupported(backend, dtype):
    op = Op("twice", {"x": ("N",)}, lambda x: 2 * x, [], dtypes=(dtype,), nki="mine.py:f", triton="mine.py:f")
    assert BACKENDS[backend].supports(op, Case("twice", "t", {}, dtype), None) == f"{backend} has no dtype {dtype}"
