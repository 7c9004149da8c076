"""How fast, as the report says it: ratios of one kind of evidence, bounds of the right chip, pictures with captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from triptych.harness.reports.charts.chart import Axis
from triptych.harness.reports.report.data import ReportData
from triptych.harness.reports.report.page import page
from triptych.harness.reports.report.pictures import pictures
from triptych.harness.reports.report.speed import Row, Speed, speed
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.simulator.chips import TARGETS

FLOPS, BYTES = 2 * 10**9, 10**6
H200 = {
    "gpus": [{"name": "NVIDIA H200", "driver": "580.1"}],
    "packages": {"triton": "3.9.0", "torch": "2.13.0"},
    "utc": "2026-11-29T10:00:00",
}


def result(backend: str, us: float, evidence: Evidence, case: str = "a", size: int = 1, **changes: Any) -> Result:
    work = {"flops": size * FLOPS, "bytes": size * BYTES}
    timing: Any
    if evidence is Evidence.PREDICTED:
        timing = Predicted(
            timer="model", evidence=evidence, predicted_us=us, accuracy=LAST_VALIDATION, mfu=0, busy_share={}, **work
        )
    else:
        near = [us * (1 + i / 100) for i in range(-5, 6)]
        numbers = {"median_us": us, "p10_us": us, "p90_us": us, "min_us": near[0], "max_us": near[-1]}
        timing = Measured(timer="t", evidence=evidence, cache="cold", warmups=0, samples_us=near, **numbers, **work)
    return Result(
        op="matmul", case=case, dtype="bfloat16", backend=backend, target="trn2" if backend == "nki-sim" else None,
        evidence=evidence, status=Status.PASSED, timing=timing, **changes,
    )  # fmt: skip


def told(*runs: tuple[Mapping[str, Any], list[Result]]) -> Speed:
    found = speed(ReportData.of(runs))
    assert found is not None
    return found


def row(found: Speed, label: str) -> Row:
    return next(one for one in found.rows if one.entry.label == label)


def test_a_ratio_is_of_one_kind_of_evidence() -> None:
    both = [result("triton", 20.0, Evidence.DEVICE), result("torch", 10.0, Evidence.DEVICE)]
    found = told((H200, [*both, result("nki-sim", 1.0, Evidence.PREDICTED)]))
    assert row(found, "triton").over == 2.0 and row(found, "torch").over == 1.0
    assert row(found, "nki-sim[trn2]").over is None, "the prediction is alone"
    assert [answer for answer in found.answers if "triton" in answer] == [
        "matmul, measured on NVIDIA H200 (driver 580.1): triton takes 2 of torch's time (1 case)"
    ]
    assert not any("nki-sim" in answer and "torch" in answer for answer in found.answers)


def test_the_nodes_of_a_cluster_are_what_times_are_of_and_are_not_compared() -> None:
    nodes = [
        {"node": "h", "cpu": "Xeon", "cores": 192, **H200},
        {"node": "a", "cpu": "EPYC", "cores": 64, "gpus": [{"name": "NVIDIA A100-SXM4-80GB", "driver": "1"}]},
    ]
    laptop = {"cpu": "a laptop's", "cores": 8, "nodes": nodes, "utc": H200["utc"]}
    on_h = [result(name, us, Evidence.DEVICE, node="h") for name, us in (("triton", 20.0), ("torch", 10.0))]
    on_a = result("triton", 40.0, Evidence.DEVICE, case="b", node="a")
    elsewhere = result("torch", 10.0, Evidence.DEVICE, case="b", node="h")
    found = told((laptop, [*on_h, on_a, elsewhere]))
    assert [one.over for one in found.rows] == [2.0, 1.0, None, None]
    assert [one.roofline_us for one in found.rows[1:3]] == pytest.approx([FLOPS / 989e6, FLOPS / 312e6])
    text = page([(laptop, [*on_h, on_a, elsewhere])])
    assert "NVIDIA H200 (driver 580.1), NVIDIA A100-SXM4-80GB (driver 1)" in text and "triton 3.9.0" in text
    head = text.partition("a laptop")[0]
    assert "Xeon, 192 cores, NVIDIA H200" in head and "EPYC, 64 cores, NVIDIA A100-SXM4-80GB" in head


def test_bound_and_peak_are_those_of_the_chip() -> None:
    found = told((H200, [result("triton", 20.0, Evidence.DEVICE), result("nki-sim", 50.0, Evidence.PREDICTED)]))
    on_gpu, predicted = row(found, "triton"), row(found, "nki-sim[trn2]")
    assert on_gpu.roofline_us == pytest.approx(FLOPS / 989e6)
    assert on_gpu.of_peak == pytest.approx(100 * FLOPS / 20e-6 / 989e12)
    least = FLOPS / (TARGETS["trn2"].peak_bf16_tflops.value * 1e6)
    assert predicted.roofline_us == pytest.approx(least)
    assert predicted.of_roofline == pytest.approx(100 * least / 50.0)
    unknown = told(({"gpus": [{"name": "Some GPU", "driver": "1"}]}, [result("triton", 20.0, Evidence.DEVICE)]))
    assert row(unknown, "triton").roofline_us is None


def test_times_that_are_no_kernels_speed_are_left_out() -> None:
    away = [result("numpy", 1.0, Evidence.REFERENCE), result("triton-cpu", 1.0, Evidence.INTERPRETED)]
    assert speed(ReportData.of([({}, away)])) is None
    assert pictures(ReportData.of([({}, away)])) is None


def test_runs_of_two_machines_are_called_by_their_labels_and_never_ranked() -> None:
    runs = [
        ({**H200, "label": name}, [result("triton", us, Evidence.DEVICE)])
        for name, us in (("desk", 5.0), ("rack", 9.0))
    ]
    found = told(*runs)
    assert [one.entry.label for one in found.rows] == ["triton · desk", "triton · rack"]
    assert all(one.over is None for one in found.rows)
    shared = told(*[({**env, "label": "same"}, some) for env, some in runs])
    assert [one.entry.label for one in shared.rows] == ["triton · run 1", "triton · run 2"]


def test_the_times_of_a_case_stand_beside_each_other_the_surest_first() -> None:
    chip = [result("nki-sim", 50.0, Evidence.PREDICTED, case) for case in ("b", "a")]
    gpu = [result("triton", 20.0, Evidence.DEVICE, case) for case in ("a", "b")]
    found = told(({"label": "trn2"}, chip), ({**H200, "label": "H200"}, gpu))
    rows = [(one.entry.result.case, one.entry.result.backend) for one in found.rows]
    assert rows == [("b", "triton"), ("b", "nki-sim"), ("a", "triton"), ("a", "nki-sim")]


def test_a_picture_says_what_it_was_taken_on_and_holds_one_kind() -> None:
    cases = [result(b, 10.0 * n, Evidence.DEVICE, f"c{n}", n) for n in (1, 2, 4) for b in ("triton", "torch")]
    cases += [result("nki-sim", 50.0 * n, Evidence.PREDICTED, f"c{n}", n) for n in (1, 2, 4)]
    found = pictures(ReportData.of([(H200, cases)]))
    assert found is not None
    charts = [*found.rooflines, *found.sizes]
    assert [chart.title for chart in found.rooflines] == [
        "Roofline of H200 SXM, measured",
        "Roofline of trn2, one core, predicted",
    ]
    for chart in charts:
        kinds = {one.evidence for one in chart.series}
        assert len(kinds) == 1 and kinds <= set(chart.title.replace(",", "").split())
    assert "NVIDIA H200 (driver 580.1) · triton 3.9.0, torch 2.13.0 · median" in found.rooflines[0].caption
    assert "2026-11-29" in found.rooflines[0].caption and "without spread" in found.rooflines[1].caption
    (spread,) = found.spreads
    assert len(spread.rows) == 6 and "11 samples" in spread.rows[0].words
    html = page([(H200, cases)])
    assert html.count("<svg xmlns") == len(charts) and 'class="joint sortable"' in html
    assert html.index("triton takes") < html.index('id="speed"'), "the answer comes first"


def test_no_mark_lies_above_its_roofline() -> None:
    cases = [result("triton", 1e6 * n, Evidence.DEVICE, f"c{n}", n) for n in (1, 50)]
    found = pictures(ReportData.of([(H200, cases)]))
    assert found is not None
    (chart,) = found.rooflines
    (peak,) = {y for _, y in chart.bounds[0].points[1:]}
    assert peak == 989
    for mark in chart.series[0].marks:
        assert mark.y < min(peak, mark.x * 4.8)
        assert float(chart.py(mark.y)) > float(chart.py(peak))


@pytest.mark.parametrize("values", [[1.0], [3.0, 4.0], [1e-3, 1e9], [10.0, 100.0]])
def test_an_axis_holds_its_values_and_has_ticks(values: list[float]) -> None:
    axis = Axis.over("x", values)
    assert all(0 <= axis.at(value) <= 1 for value in values)
    assert 2 <= len(axis.ticks) <= 12 and all(0 <= at <= 1.001 for at, _ in axis.ticks)
