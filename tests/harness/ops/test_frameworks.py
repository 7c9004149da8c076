"""A reference in PyTorch or JAX is called on its own tensors, in float64, and errors of its own are not hidden."""

import textwrap

import ml_dtypes
import numpy as np
import pytest

from triptych import Op
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.yardstick.baselines import baselines_of
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.frameworks import framework_of, on_arrays
from triptych.harness.results.status import Status
from triptych.harness.running import runner
from triptych.harness.running.plan import plan
from triptych.harness.running.request import Request
from triptych.harness.running.tasks import Settings

torch = pytest.importorskip("torch")
X = np.arange(12.0).reshape(3, 4)


def evaluated(op):
    return Problem.of(op, cases_of(op, ["smoke"], ["float32"], {}, 0)[0]).reference


def softmax(x):
    return torch.softmax(x, dim=-1)


def by_a_helper(x):
    return softmax(x) * 2


def imports_inside(x):
    import torch.nn.functional as F

    return F.softmax(x, dim=-1)


def annotated(x: "torch.Tensor"):
    return x.softmax(dim=-1)


def makes_its_own(x):
    return torch.softmax(torch.from_numpy(x), dim=-1)


def in_numpy(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def closes_over(module):
    return lambda x: module.softmax(x, -1)


def by_its_methods(x):
    e = (x - x.amax(dim=-1, keepdim=True)).exp()
    return e / e.sum(dim=-1, keepdim=True)


TORCH = [softmax, imports_inside, annotated, makes_its_own, closes_over(torch), by_its_methods]


@pytest.mark.parametrize("reference", TORCH)
def test_a_reference_in_pytorch_is_known_and_computes_in_float64(reference):
    assert framework_of(reference) == "torch"
    out = on_arrays(reference)(x=X)
    assert isinstance(out, np.ndarray) and out.dtype == np.float64
    np.testing.assert_allclose(out, in_numpy(X), rtol=1e-14)


def test_what_a_function_calls_counts_and_numpy_stays_numpy():
    assert (
        framework_of(by_a_helper) == "torch" and framework_of(in_numpy) == "numpy" and framework_of(np.exp) == "numpy"
    )


def test_words_that_are_no_keywords_of_a_call_say_nothing():
    def reference(x):
        names = ("dim", "keepdim")
        return np.sum(x) + len(names)

    assert framework_of(reference) == "numpy"
    assert framework_of(lambda dim: np.sum(dim, keepdims=True)) == "numpy"


def test_a_reference_in_jax_computes_in_float64():
    jax = pytest.importorskip("jax")

    def reference(x):
        return jax.nn.softmax(x.at[0, 0].set(3.0), axis=-1)

    assert framework_of(reference) == "jax"
    x = X.copy()
    x[0, 0] = 3
    out = on_arrays(reference)(x=X)
    assert isinstance(out, np.ndarray) and out.dtype == np.float64
    np.testing.assert_allclose(out, in_numpy(x), rtol=1e-14)
    assert on_arrays(reference)(x=X.astype(ml_dtypes.bfloat16)).dtype == ml_dtypes.bfloat16


def test_other_errors_of_a_reference_are_its_own():
    calls = []

    def wrong(x):
        calls.append(type(x))
        return torch.softmax(x, dim="no")

    with pytest.raises(TypeError):
        on_arrays(wrong)(x=X)
    assert calls == [torch.Tensor], "no second try with other arguments"


def test_a_framework_that_is_not_here_is_one_sentence():
    def reference(x):
        import torch_is_not_here

        return torch_is_not_here.exp(x)

    op = Op("a", {"x": ("M",)}, reference, [{"M": 4}])
    with pytest.raises(InvalidOp, match="needs torch_is_not_here, which is not installed"):
        evaluated(op)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_reference_in_the_dtype_of_the_case_is_the_first_baseline(dtype):
    op = Op("a", {"x": ("M", "N")}, softmax, [{"M": 4, "N": 40}])
    problem = Problem.of(op, cases_of(op, ["smoke"], [dtype], {}, 0)[0])
    baselines = baselines_of(op)
    out = baselines.functions[0](**problem.arguments)
    assert baselines.names == ["torch", "float32", "rounded_once_more"] and out.dtype == problem.dtype
    assert 0 < np.abs(out.astype(np.float64) - problem.reference).max() < 0.01


def test_a_reference_that_computes_in_float32_is_refused():
    op = Op("a", {"x": ("M", "N")}, lambda x: torch.softmax(x.float(), dim=-1), [{"M": 4, "N": 40}])
    with pytest.raises(InvalidOp, match="must compute in float64"):
        evaluated(op)


FILE = """
    import torch, triton, triton.language as tl
    from triptych import Op

    @triton.jit
    def rows(x, out, N, B: tl.constexpr):
        i = tl.arange(0, B)
        v = tl.load(x + tl.program_id(0) * N + i, mask=i < N, other=-float("inf")).to(tl.float32)
        e = tl.exp(v - tl.max(v, axis=0))
        tl.store(out + tl.program_id(0) * N + i, e / tl.sum(e, axis=0){wrong}, mask=i < N)

    def launch(x):
        x = x.contiguous()
        out = torch.empty_like(x)
        rows[(x.shape[0],)](x, out, x.shape[1], B=triton.next_power_of_2(x.shape[1]))
        return out

    op = Op("softmax", {{"x": ("M", "N")}}, {reference}, [{{"M": 5, "N": 100}}], triton=launch)
"""


@pytest.mark.parametrize(
    ("reference", "wrong", "status"),
    [
        ("lambda x: torch.softmax(x, dim=-1)", "", Status.PASSED),
        ("lambda x: torch.softmax(torch.from_numpy(x), dim=-1)", "", Status.PASSED),
        ("lambda x: torch.softmax(x, dim=-1)", " * 1.02", Status.FAILED),
    ],
)
def test_a_kernel_is_judged_by_a_reference_in_pytorch(tmp_path, reference, wrong, status):
    pytest.importorskip("triton")
    path = tmp_path / "soft.py"
    path.write_text(textwrap.dedent(FILE.format(reference=reference, wrong=wrong)))
    results = runner.run(plan(Request(sources=(str(path),), backends=("triton-cpu",))).tasks, Settings(), timeout_s=120)
    assert [result.status for result in results] == [status] * 3, [result.message for result in results]
