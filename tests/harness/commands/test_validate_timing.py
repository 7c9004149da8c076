"""`triptych validate-timing` as a user types it: table, summary, JSON, Markdown and exit codes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.commands.nki import validate_timing
from triptych.harness.exit_codes import ExitCode
from triptych.harness.measured.instructions import INSTRUCTION_POINTS
from triptych.harness.measured.ladders import LADDER_POINTS
from triptych.harness.measured.records import Call, InFile, Ours, Point, Tensor
from triptych.harness.measured.sources import AUTOTUNE, Public
from triptych.harness.profiling.validation import (
    Outcome,
    by_family,
    coverage,
    intervals,
    predicted,
    prediction_of,
    rank_within,
    ranks,
    spearman,
    summary,
)
from triptych.harness.results.timing_accuracy import REGIMES


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_timing, "GROUPS", {"ours": INSTRUCTION_POINTS, "AWS's": LADDER_POINTS})


def test_without_a_checkout_our_own_kernels_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate-timing"]) == ExitCode.OK
    out = capsys.readouterr().out
    table, _, rest = out.partition("\n\n")
    assert table.splitlines()[0].split()[:3] == ["chip", "kernel", "case"]
    assert len(table.splitlines()) == 1 + len(INSTRUCTION_POINTS)
    assert [line.split()[0] for line in rest.splitlines()[:3]] == ["points", "ours", "all"]
    assert f"not run: {len(LADDER_POINTS)} points of" in rest
    assert rest.rstrip().endswith("needs a checkout of aws-neuron/aws-neuron-sdk")


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate-timing", "--json", "-"]) == ExitCode.OK
    body = json.loads(capsys.readouterr().out)
    assert len(body["points"]) == len(INSTRUCTION_POINTS) + len(LADDER_POINTS)
    ran = [point for point in body["points"] if point["predicted_us"] is not None]
    assert len(ran) == body["summary"]["all"]["points"] == len(INSTRUCTION_POINTS)
    for point in ran:
        assert point["error"] == pytest.approx(point["predicted_us"] / point["measured_us"] - 1)
        assert 0 <= point["mfu"] <= 1 and max(point["busy"].values()) <= 1
    assert {point["reason"] for point in body["points"] if point["predicted_us"] is None} == {
        "needs a checkout of aws-neuron/aws-neuron-sdk"
    }


def test_markdown_numbers_its_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "table.md"
    assert cli.main(["validate-timing", "--md", str(file)]) == ExitCode.OK
    assert "all for calibration" in capsys.readouterr().out
    text = file.read_text()
    assert "validate-timing --md` on 20" in text
    assert "| 1416 ns | [1] |" in text and f"\n1. {INSTRUCTION_POINTS[0].source}\n" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "-", "--md", "-"], "only one of --json and --md can be `-`"),
        (["."], "is no checkout of aws-neuron/aws-neuron-sdk"),
        (["--md", "no/such/folder.md"], "there is no folder"),
    ],
)
def test_usage(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["validate-timing", *words]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == "" and said in err


def outcome(measured: float, predicted: float | None, reason: str = "") -> Outcome:
    call = Call(Ours("load"), "trn2")
    return Outcome(Point(call, "case", measured, "1", "source", "A", "validation"), predicted, reason)


def test_the_summary_of_errors() -> None:
    found = summary([outcome(100, 110), outcome(200, 100), outcome(10, 10.2), outcome(5, None, "away")])
    assert found is not None
    assert (found.count, found.worst_point.measured_us) == (3, 200)
    assert (found.median, found.worst) == pytest.approx((0.1, 0.5))
    assert found.rank_correlation == pytest.approx(0.5)  # 110 before 100: d = 1, 1, 0; 1 - 6 * 2 / (3 * 8)
    assert summary([outcome(5, None)]) is None
    assert (found.bias, found.naive_median) == (pytest.approx(0.02), None)


def test_a_summary_tells_the_ninetieth_percentile_the_bias_and_what_a_roofline_would_have_said() -> None:
    far = [replace(outcome(100, 100 + error), naive_us=100 - 2 * error) for error in (*range(1, 20), -50)]
    found = summary(far)
    assert found is not None
    # 20 errors: 1, 2, .. 19 and -50 %: nine tenths are 18 of them; the middle ones with their sign 9 and 10
    assert (found.percentile_90, found.bias, found.worst) == pytest.approx((0.18, 0.095, 0.5))
    assert found.naive_median == pytest.approx(0.21)  # twice the middle of the absolute errors, 10 and 11 %


def test_a_big_family_counts_once() -> None:
    """Ten of the big family are 1 % off; the small ones 10, 20 and 30 %, and -50 %."""
    big = [outcome(100, 101) for _ in range(10)]
    small, other = [outcome(100, 100 + error) for error in (10, 20, 30)], [outcome(100, 50), outcome(9, None, "away")]
    found = by_family([big, small, other, [outcome(5, None, "away")]])
    assert found is not None and found.count == 3
    # medians 1, 20 and 50 %, 90th percentiles 1, 30 and 50 %, biases +1, +20 and -50 %
    assert (found.median, found.percentile_90, found.bias) == pytest.approx((0.2, 0.3, 0.01))
    assert by_family([]) is None


def test_the_families_are_the_groups_of_points_for_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [outcome(100, 100 + error) for error in (1, 3, 5)]
    fitted = replace(few[2], point=replace(few[2].point, use="calibration"))
    groups = {"one": (few[0].point, few[1].point), "other": (few[2].point, fitted.point)}
    monkeypatch.setattr(validate_timing, "GROUPS", groups)
    found = validate_timing.families([*few, fitted])
    assert found is not None and (found.count, found.median) == (2, pytest.approx(0.035))
    row = validate_timing.summary_rows([*few, fitted])[-1]
    assert row[:5] == ["families for validation", "2", "3.5%", "4.0%", "+3.5%"] and not any(row[5:])
    assert len(row) == len(validate_timing.SUMMARY)
    assert validate_timing.summary_rows([fitted])[-1][0] == "all"
    body = json.loads(validate_timing.document([*few, fitted]))["families_for_validation"]
    assert (body["families"], body["percentile_90_error"]) == (2, pytest.approx(0.04))
    assert json.loads(validate_timing.document([fitted]))["families_for_validation"] is None


def of_regime(regime: str, ratio: float, what: str = "total") -> Outcome:
    """One whose measured time is `ratio` times the predicted."""
    made = outcome(100 * ratio, 100.0)
    return replace(made, regime=regime, point=replace(made.point, what=what))


def test_intervals_leave_a_tenth_on_each_side() -> None:
    many = [of_regime("dma", 1 + n / 100) for n in range(19)]  # k = 2: the second of each side
    few = [of_regime("tensor", ratio) for ratio in (0.5, 0.9, 1.0, 1.1, 3.0)]  # k = 0, so all of them
    other = [of_regime("short", 2.0), of_regime("short", 4.0), of_regime("dma", 9.0, "a part")]
    found = intervals([*many, *few, *other])
    assert found["dma"] == pytest.approx((1.01, 1.17)) and found["tensor"] == pytest.approx((0.5, 3.0))
    assert found["engines"] == pytest.approx((0.9, 3.0))  # all 26: the second of each side
    assert found["short"] == pytest.approx((0.9, 4.0))  # and its own two
    assert intervals([]) == {}


def test_coverage_is_of_points_that_the_intervals_do_not_know() -> None:
    points = [of_regime("dma", ratio) for ratio in (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)]
    assert coverage(points) == {"dma": [False, True, True, True, True, False]}  # the ends are not what the others give
    family = {id(o): n // 3 for n, o in enumerate(points)}
    assert coverage(points, lambda o: family[id(o)]) == {"dma": [False] * 6}
    assert coverage([]) == {}


def test_each_regime_has_a_row_with_its_interval_and_how_many_lie_inside_what_others_give() -> None:
    points = [of_regime("dma", ratio) for ratio in (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)] + [of_regime("short", 1.0)]
    rows = {row[0]: row[1:] for row in validate_timing.interval_rows(points)}
    assert rows["kernels with DMA busiest"] == ["6", "0.80 to 1.30", "67%", "0%"]
    assert rows["short kernels"] == ["1", "0.80 to 1.30", "100%", "0%"]
    assert rows["kernels with the Tensor Engine busiest"] == ["0", "0.80 to 1.30", "", ""]
    assert rows["all of them"] == ["7", "", "71%", "0%"] and len(rows) == len(REGIMES) + 1
    assert validate_timing.interval_rows([]) == []


def test_pairs_of_one_kernel_in_the_order_in_which_they_were_measured() -> None:
    a, b, c = outcome(100.0, 90.0), outcome(105.0, 80.0), outcome(200.0, 85.0)
    other = replace(a, point=replace(a.point, call=Call(Ours("other"), "trn2")), predicted_us=1e6)
    assert rank_within([a, other]) is None
    assert rank_within([a, b, c, other]) == (0.5, 2)  # c after b, but not after a; a and b are too close to count


def test_ranks_share_what_is_equal() -> None:
    assert ranks([3.0, 1.0, 3.0, 7.0]) == [1.5, 0, 1.5, 3]
    assert spearman([1, 2, 3], [10, 20, 400]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(spearman([1, 1], [2, 3]))


def test_a_kernel_that_fails_is_a_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    point = Point(Call(Ours("load"), "trn2"), "no arguments", 1.0, "1 us", "nowhere", "C", "validation")
    monkeypatch.setattr(validate_timing, "GROUPS", {"none": (point,)})
    assert cli.main(["validate-timing"]) == ExitCode.OK
    assert "not run: 1 points of load: " in capsys.readouterr().out


def test_a_number_that_is_the_sum_of_two_calls() -> None:
    one, two = (Call(Ours("exp_of_tile"), "trn2", (Tensor("float32", (128, n)),)) for n in (128, 512))
    failing = Call(Ours("exp_of_tile"), "trn2")
    point = Point(one, "both", 1.0, "1 us", "nowhere", "C", "validation", "total of both", beside=two)
    both, alone, other, none = predicted(
        [point, replace(point, beside=None), replace(point, call=two, beside=None), replace(point, beside=failing)],
        Public(),
    )
    assert both.predicted_us == alone.predicted_us + other.predicted_us > 2 * alone.predicted_us
    assert both.naive_us == alone.naive_us + other.naive_us
    assert none.predicted_us is None and "missing a required argument" in none.reason


def test_latencies_leave_out_a_part_of_the_total() -> None:
    call = Call(Ours("exp_of_tile"), "trn2", (Tensor("float32", (128, 128)),))
    total = Point(call, "one", 1.0, "1 us", "nowhere", "C", "validation")
    latency = replace(total, latency=True)
    found = predicted([total, latency, *[replace(point, beside=call) for point in (total, latency)]], Public())
    one, less, two, less_of_both = found
    assert less.predicted_us == pytest.approx(one.predicted_us - 6.7)
    assert less.naive_us == pytest.approx(one.naive_us - 6.7)
    assert less_of_both.predicted_us == pytest.approx(two.predicted_us - 2 * 6.7)
    assert less_of_both.naive_us == pytest.approx(two.naive_us - 2 * 6.7)
    assert [validate_timing.row(outcome)[3] for outcome in (one, less)] == ["total", "total, latency"]


GATHER = """
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def kernel(x, index):
    at = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(dst=at, src=index)
    row = nl.ndarray((1, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=row, src=x.select(0, at).reshape((1, x.shape[1])))
    out = nl.ndarray(row.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=row)
    return out
"""


def test_a_kernel_that_reads_its_inputs_to_know_what_to_do_is_predicted_on_zeros(tmp_path: Path) -> None:
    (tmp_path / "kernel_library").mkdir()
    (tmp_path / "kernel_library" / "gather.py").write_text(GATHER)
    call = Call(
        InFile(AUTOTUNE, "kernel_library/gather.py", "kernel"),
        "trn2",
        (Tensor("bfloat16", (64, 512)), Tensor("int32", (1, 1))),
    )
    found = prediction_of(call, Public([tmp_path]))
    assert not isinstance(found, str), found
    assert found.total_us > 0


ROUNDS = """
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for i in range(x.shape[0]):
        tile = nl.ndarray(x.shape[1:], dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[i])
        nisa.dma_copy(dst=out[i], src=tile)
    return out
"""


def test_what_was_compiled_with_the_stack_allocator_is_predicted_with_it(tmp_path: Path) -> None:
    (tmp_path / "kernel_library").mkdir()
    (tmp_path / "kernel_library" / "rounds.py").write_text(ROUNDS)
    found = []
    for stacked in (False, True):
        kernel = InFile(AUTOTUNE, "kernel_library/rounds.py", "kernel")
        call = Call(kernel, "trn2", (Tensor("bfloat16", (4, 128, 512)),), stacked=stacked)
        prediction = prediction_of(call, Public([tmp_path]))
        assert not isinstance(prediction, str), prediction
        found.append(prediction)
    assert found[1].timeline.trace.events[0].writes[0].allocation.address == (0, 0)
    assert found[1].total_us > 1.2 * found[0].total_us
