"""The cases of the command line under pytest-benchmark.

    pytest tests/benchmarks --benchmark-enable

Without the option, and under xdist, each runs once and is timed by nobody: in the slow step. What is timed is the
backend's own call: for `nki-sim` the simulation itself, a group of its own; the prediction for the chip goes into
`extra_info` under its own name. Nothing timed is asserted.
"""

from __future__ import annotations

from typing import Any

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.collection import builtin
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.results.status import Evidence

TABLE = builtin()
DTYPES = ("float32", "bfloat16")
SMOKE = [
    case
    for op in TABLE.values()
    for case in cases_of(op, ["smoke"], [dtype for dtype in DTYPES if dtype in op.dtypes], {}, seed=0)
]
MODEL = [
    case
    for op in TABLE.values()
    if "model" in op.case_sets and op.name != "matmul_tiled"
    for case in cases_of(op, ["model"], None, {}, seed=0)[:1]
]
# Triton's interpreter would take minutes for the sizes of a model, and its time says nothing.
RUNS = [(case, name) for case in SMOKE for name in BACKENDS] + [
    (case, name) for case in MODEL for name, b in BACKENDS.items() if b.evidence is not Evidence.INTERPRETED
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "backend"), RUNS, ids=[f"{case.op}-{case.name}-{case.dtype}-{name}" for case, name in RUNS]
)
def test_speed(benchmark: Any, case: Case, backend: str) -> None:
    chosen, op = BACKENDS[backend], TABLE[case.op]
    target = chosen.default_targets[0] if chosen.default_targets else None
    away = chosen.missing() or chosen.supports(op, case, target)
    if away:
        pytest.skip(away)
    benchmark.group = f"{case.op} {case.name} {case.dtype}, {chosen.evidence}"  # ranks within one kind of evidence
    problem = Problem.of(op, case)
    outputs = problem.named(benchmark(chosen.run, problem, target))
    assert all(outputs[name].size > 0 for name in problem.outputs)
    benchmark.extra_info.update(
        op=case.op,
        case=case.name,
        dtype=case.dtype,
        axes=dict(case.axes),
        backend=backend,
        target=target,
        evidence=str(chosen.evidence),
    )
    if op.flops is not None:
        benchmark.extra_info["flops"] = op.flops(case.axes, case.params)
    if benchmark.enabled and chosen.evidence is Evidence.SIMULATED:
        timing = chosen.time(problem, target, TimingBudget())
        benchmark.extra_info.update(predicted_us=timing.predicted_us, predicted_evidence=timing.evidence)
