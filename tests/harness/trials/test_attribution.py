"""A wrong kernel is blamed on what is wrong with it: each fault is planted in one softmax, at a line that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.triton_device import TritonDevice
from triptych.harness.collection import builtin
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import expect
from triptych.harness.ops import loading
from triptych.harness.ops.cases import cases_of
from triptych.harness.reports import problems
from triptych.harness.results.findings import Attribution
from triptych.harness.results.measures import Derived
from triptych.harness.results.record import to_plain
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status
from triptych.harness.running.bench import Bench
from triptych.harness.running.runner import run
from triptych.harness.running.tasks import Settings, Task
from triptych.harness.trials import attribution, divergence

SOFTMAX = """
import nki, nki.isa as nisa, nki.language as nl
import numpy as np
from triptych import Op

def reference(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)

@nki.jit
def kernel(x):
    R, C = x.shape
    out = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    rows = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=x)
    m = nl.ndarray((R, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=m, op=nl.maximum, data=rows, axis=1, negate=True)  # MAX
    e = nl.ndarray((R, C), dtype=nl.float32, buffer=nl.sbuf)
    total = nl.ndarray((R, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation_reduce(dst=e, op=nl.exp, data=rows, bias=m, reduce_op=nl.add, reduce_res=total)  # EXP
    scale = nl.ndarray((R, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.reciprocal(dst=scale, data=total)  # RECIPROCAL
    nisa.tensor_scalar(dst=e, data=e, op0=nl.multiply, operand0=scale)  # SCALE
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=result, src=e)
    nisa.dma_copy(dst=out, src=result)
    return out

op = Op("soft", {"x": ("R", "C")}, reference, [{"R": 64, "C": 100}, {"R": 64, "C": 100, "regime": "large"}],
        dtypes=("float32", "bfloat16"), nki=kernel)
"""
LINES = SOFTMAX.splitlines()


def line(mark: str) -> str:
    return next(f"soft.py:{i}" for i, text in enumerate(LINES, 1) if text.endswith(f"# {mark}"))


def checked(folder: Path, source: str, dtype: str, regime: str = "normal") -> Result:
    path = folder / "soft.py"
    path.write_text(source)
    op = loading.from_file(path)["soft"]
    (case,) = (c for c in cases_of(op, ["smoke"], [dtype], {}, 0) if c.regime == regime)
    return Bench(lambda _: None).perform(Task("soft", str(path), case, "nki-sim", "trn2"), Settings())


def blamed(*arguments: Any) -> Attribution:
    result = checked(*arguments)
    assert result.status is Status.FAILED, result.reason
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.attribution.text in problems.problems([result])
    return result.attribution


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_kernel_has_nothing_to_attribute(tmp_path: Path, dtype: str) -> None:
    result = checked(tmp_path, SOFTMAX, dtype)
    assert result.status is Status.PASSED and result.attribution is None


def test_a_tile_of_too_low_precision_is_rounding_and_is_found(tmp_path: Path) -> None:
    low = SOFTMAX.replace("e = nl.ndarray((R, C), dtype=nl.float32", "e = nl.ndarray((R, C), dtype=nl.bfloat16")
    about = blamed(tmp_path, low, "float32")
    assert about.cause == "rounding"
    first = about.first_beyond_rounding
    assert (first.instruction, first.line) == ("nisa.activation_reduce", line("EXP"))
    assert first.writes[0] == "bfloat16[64, 100]" and first.reads[0].startswith("float32[64, 100] in [-")
    assert 1e-4 < first.difference < 1e-2


def test_an_overflow_of_float16_is_rounding_and_is_found(tmp_path: Path) -> None:
    low = SOFTMAX.replace("e = nl.ndarray((R, C), dtype=nl.float32", "e = nl.ndarray((R, C), dtype=nl.float16")
    raised = "nisa.tensor_scalar(dst=m, data=m, op0=nl.add, operand0=12.0)"  # exp(12) is 1.6e5, float16 ends at 65504
    low = low.replace("# MAX", f"; {raised}")
    about = blamed(tmp_path, low, "bfloat16")
    assert about.cause == "rounding"
    assert about.first_beyond_rounding.line == about.first_infinity.line == line("EXP")


def test_a_wrong_factor_is_logic_and_nothing_is_named(tmp_path: Path) -> None:
    wrong = SOFTMAX.replace("op=nl.exp, data=rows", "op=nl.exp, scale=1.2, data=rows")
    about = blamed(tmp_path, wrong, "bfloat16")
    assert about.cause == "logic" and set(to_plain(about)) == {"cause", "text"}
    assert "comparing them cannot show where it is" in about.text
    assert "float32 alone" in blamed(tmp_path, wrong, "float32").text


def test_the_first_infinity_and_the_first_nan_are_found(tmp_path: Path) -> None:
    """Without its maximum exp(100) is infinite, and infinity times 1 / infinity is NaN, written over what it read."""
    wrong = SOFTMAX.replace("# MAX", "; nisa.memset(dst=m, value=0.0)")
    about = blamed(tmp_path, wrong, "bfloat16", "large")
    assert about.cause == "logic"
    assert about.first_infinity.line == line("EXP") and "[0, 0]" in about.first_infinity.reads[1]
    nan = about.first_nan
    assert nan.line == line("SCALE") and nan.reads[0] == "float32[64, 100] in [0, inf]"


def test_an_error_near_the_tolerance_of_float32_is_left_open(tmp_path: Path) -> None:
    wrong = SOFTMAX.replace(
        "# RECIPROCAL", "; nisa.tensor_scalar(dst=scale, data=scale, op0=nl.multiply, operand0=1.000001)"
    )
    assert blamed(tmp_path, wrong, "float32").cause == "unknown"


@pytest.mark.parametrize("how", ["__import__('time').sleep(60)", "__import__('os')._exit(7)"])
def test_a_verdict_survives_what_happens_while_its_cause_is_sought(tmp_path: Path, how: str) -> None:
    wrong = SOFTMAX.replace(
        "# RECIPROCAL", "; nisa.tensor_scalar(dst=scale, data=scale, op0=nl.multiply, operand0=2.0)"
    )
    second = f"    RUNS.append(1)\n    if len(RUNS) > 1: {how}\n    R, C = x.shape"
    path = tmp_path / "soft.py"
    path.write_text("RUNS = []\n" + wrong.replace("    R, C = x.shape", second))
    op = loading.from_file(path)["soft"]
    case = cases_of(op, ["smoke"], ["float32"], {}, 0)[0]
    (result,) = run([Task("soft", str(path), case, "nki-sim", "trn2")], timeout_s=5)
    assert result.status is Status.FAILED and "honest baselines" in (result.reason or "")
    assert result.attribution.cause == "unknown"
    assert "while finding the cause" in result.attribution.text or "time limit of 5 s" in result.attribution.text


SUM = """
import triton
import triton.language as tl
from triptych import Op

def reference(x):
    return x.sum(axis=1, keepdims=True)

@triton.jit
def kernel(x, out, C: tl.constexpr, B: tl.constexpr):
    columns = tl.arange(0, B)
    values = tl.load(x + tl.program_id(0) * C + columns, mask=columns < C, other=0.0)
    total = tl.sum(values.to(tl.float32), axis=0)  # SUM
    tl.store(out + tl.program_id(0), total.to(out.dtype.element_ty))

def launch(x, out):
    kernel[(x.shape[0],)](x, out, x.shape[1], B=triton.next_power_of_2(x.shape[1]))

op = Op("total", {"x": ("R", "C")}, reference, [{"R": 16, "C": 200}], dtypes=("float32", "bfloat16"), triton=launch)
"""


@pytest.mark.skipif(BACKENDS["triton-cpu"].missing() is not None, reason="Triton has wheels for Linux alone")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "old, new, cause",
    [
        ("values.to(tl.float32)", "values.to(tl.float8e5).to(tl.float32)", "rounding"),  # the kernel's own narrowing
        ("total.to(out", "total.to(tl.float8e5).to(tl.float32).to(out", "rounding"),
        ("columns < C", "columns < C - 40", "logic"),
        ("values.to(tl.float32)", "tl.where(columns < 9, 0.0, values.to(tl.float8e5).to(tl.float32))", "logic"),
    ],
)
def test_triton_kernels_run_again_without_rounding(tmp_path: Path, old: str, new: str, cause: str, dtype: str) -> None:
    path = tmp_path / "total.py"
    path.write_text(SUM.replace(old, new))
    op = loading.from_file(path)["total"]
    (case,) = cases_of(op, ["smoke"], [dtype], {}, 0)
    result = Bench(lambda _: None).perform(Task("total", str(path), case, "triton-cpu", None), Settings())
    assert result.status is Status.FAILED, result.reason
    assert result.attribution.cause == cause, result.attribution


def test_logic_and_rounding_together_are_both_told(tmp_path: Path) -> None:
    narrow = SOFTMAX.replace("e = nl.ndarray((R, C), dtype=nl.float32", "e = nl.ndarray((R, C), dtype=nl.float8_e4m3")
    about = blamed(tmp_path, narrow.replace("operand0=scale)", "operand0=1.5)"), "float32")
    assert about.cause == "logic" and about.first_beyond_rounding.line == line("EXP")


def test_rounding_is_told_where_the_order_of_a_sum_is_also_off(tmp_path: Path) -> None:
    """The replay in float32 is not within its tolerance, yet nearly all of the error is gone."""
    prepared = of_matmul("float32")
    tolerance, reference = prepared.expected.tolerance, prepared.expected.reference
    assert isinstance(tolerance, Derived)
    off = [(reference * (1 + times * tolerance.rel_l2)).astype(np.float32) for times in (3.0, 1000.0)]
    verdict, before = map(prepared.judge, off)
    assert verdict.status is Status.FAILED
    assert attribution.conclude(prepared, verdict, before, "bfloat16")[0] == "rounding"
    assert attribution.conclude(prepared, verdict, verdict, "bfloat16")[0] == "logic"
    assert attribution.conclude(prepared, verdict, verdict, "")[0] == "unknown"


def of_matmul(dtype: str) -> Prepared:
    op = builtin()["matmul"]
    problem = Problem.of(op, cases_of(op, ["smoke"], [dtype], {}, 0)[0])
    return Prepared(problem, expect(problem))


def alone(prepared: Prepared) -> PreparedCase:
    return PreparedCase(prepared.problem, {"": prepared})


class Narrow(TritonDevice):
    """A backend of another kind, whose kernel sums in its inputs' dtype, or leaves out a term."""

    def __init__(self, wrong: bool = False) -> None:
        self.wrong = wrong

    def run(self, problem: Problem, target: Any) -> Any:
        a, b = problem.inputs["lhsT"].T, problem.inputs["rhs"]
        total = np.zeros((a.shape[0], b.shape[1]), a.dtype)
        for i in range(self.wrong, a.shape[1]):
            total = total + a[:, i : i + 1] * b[i : i + 1]
        return total


@pytest.mark.parametrize(
    "dtype, wrong, cause", [("bfloat16", False, "rounding"), ("bfloat16", True, "logic"), ("float32", True, "unknown")]
)
def test_other_backends_run_on_wider_inputs(dtype: str, wrong: bool, cause: str) -> None:
    prepared, backend = of_matmul(dtype), Narrow(wrong)
    out = backend.run(prepared.problem, None)
    assert prepared.judge(out).status is Status.FAILED
    assert attribution.attribute(backend, alone(prepared), None, {"": out}).cause == cause


def test_what_cannot_run_again_is_said() -> None:
    class Broken(Narrow):
        def run(self, problem: Problem, target: Any) -> Any:
            raise RuntimeError("the device is gone")

    prepared = of_matmul("bfloat16")
    about = attribution.attribute(Broken(), alone(prepared), None, {"": prepared.problem.rounded})
    assert about.cause == "unknown" and "the device is gone" in about.text


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0, np.inf], [1.0, 70000.0], np.inf),
        ([1.0, -np.inf], [1.0, -3e38], 0.0),  # a mask, which a narrow dtype rounds to infinity
        ([np.nan], [np.nan], 0.0),
    ],
)
def test_apart(a: list[float], b: list[float], expected: float) -> None:
    assert divergence.distance(np.array(a, np.float32), np.array(b, np.float32)) == pytest.approx(expected, rel=1e-6)
