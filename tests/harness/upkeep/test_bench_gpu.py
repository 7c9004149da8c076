"""What `make bench-gpu` judges and computes, without the GPU: its tensors lie on the CPU here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from triptych.harness.backends.clocks import summary
from triptych.harness.backends.triton_launcher import launcher_of
from triptych.harness.collection import builtin
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.case import Case
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import draw_inputs
from triptych.harness.reports import tables
from triptych.harness.results.document import read
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.upkeep.figures.bench_gpu import __main__ as command
from triptych.harness.upkeep.figures.bench_gpu import calls, filled, judged, parts, points, shares
from triptych.harness.upkeep.figures.bench_gpu.clocks import nvml
from triptych.harness.upkeep.figures.bench_gpu.drawn import Inputs, draw
from triptych.harness.upkeep.figures.bench_gpu.record import identity

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'triptych[torch]'")

import gpu_rehearsal as rehearsal  # noqa: E402

from triptych.harness.upkeep.figures.bench_gpu.session import DeviceLost  # noqa: E402

OPS = builtin()
WITH_TRITON = [name for name, op in OPS.items() if op.triton is not None]


def rows_of(path: Path) -> dict[tuple[str, str | None], Result]:
    """The rows that were to be timed, by op and rival."""
    timed = {identity(case) for case in rehearsal.CASES}
    rows = [row for row in read(str(path)).results if isinstance(row, Result)]
    return {
        (f"{row.op} {row.dtype}", row.target or row.backend): row
        for row in rows
        if (row.op, row.case, row.dtype) in timed
    }


# What is measured ----------------------------------------------------------------------------------------------------


def test_every_op_with_a_triton_panel_is_measured_and_the_most_telling_come_first() -> None:
    cases = points.points(OPS)
    assert {case.op for case in cases} == set(WITH_TRITON)
    assert len({identity(case) for case in cases}) == len(cases) > 230
    assert [case.name for case in cases[:2]] == ["8192x8192x8192", "4096x4096x4096"]
    early = cases[:60]
    assert {case.op for case in early} >= set(WITH_TRITON) - set(points.SAME_PRODUCT)
    assert {case.op for case in cases[-20:]} <= set(points.SAME_PRODUCT)


def test_all_ops_are_checked_in_all_their_dtypes_first() -> None:
    found = {(case.op, case.dtype) for case in points.checks(OPS)}
    assert found == {(name, dtype) for name in WITH_TRITON for dtype in OPS[name].dtypes}


@pytest.mark.parametrize("name", WITH_TRITON)
def test_inputs_drawn_on_the_device_are_those_of_the_op(name: str) -> None:
    op = OPS[name]
    for case in cases_of(op, ["smoke"], ["bfloat16"], {}, 0)[:2]:
        own, found = draw_inputs(op, case), draw(op, case, "cpu")
        assert dict(found.constants).keys() == own.constants.keys()
        assert {n: (tuple(x.shape), found.array(n, x).dtype) for n, x in found.tensors.items()} == {
            n: (x.shape, x.dtype) for n, x in own.arrays.items()
        }


# How it is judged ----------------------------------------------------------------------------------------------------

CUT = {
    "matmul": {"M": 131, "K": 96, "N": 210},
    "matmul_batched": {"B": 2, "M": 131, "K": 16, "N": 20},
    "matmul_fp8": {"M": 131, "K": 96, "N": 65},
    "rope": {"S": 131, "H": 2, "D": 16},
    "linear_transposed": {"M": 131, "K": 32, "N": 40},
    "cross_entropy_backward": {"M": 131, "V": 40},
    "attention_window": {"B": 2, "H": 4, "Hkv": 2, "Sq": 140, "Sk": 150, "D": 16},
    "attention_packed": {"B": 2, "H": 4, "Hkv": 2, "S": 150, "D": 16},
    "attention_prefill": {"B": 2, "H": 4, "Hkv": 2, "T": 140, "S": 300, "D": 16},
    "attention_decode": {"B": 3, "H": 4, "Hkv": 2, "T": 1, "S": 70, "D": 16},
    "attention_backward": {"B": 2, "H": 4, "Hkv": 2, "Sq": 140, "Sk": 150, "D": 16},
}
PARAMS: dict[str, dict[str, Any]] = {
    "attention_window": {"causal": True, "window": 50},
    "attention_packed": {"causal": True},
    "attention_backward": {"causal": True},
}


def cut(name: str) -> tuple[Case, Inputs, list[parts.Part], dict[str, Any]]:
    """A case of an op, its pieces, and what PyTorch computes of it."""
    op, case = OPS[name], Case(name, "c", CUT[name], "bfloat16", PARAMS.get(name, {}))
    inputs = draw(op, case, "cpu")
    pieces = parts.parts(op, case, inputs)
    rival = [
        one for one in calls.made(op, case, inputs) if one.target in (None, "flash", *OWN) and one.backend == "torch"
    ]
    own = {n: x.clone() for n, x in inputs.tensors.items()}
    return case, inputs, pieces, {n: x.detach() for n, x in rival[0].prepare(own)().items()}


OWN = ("mask", "sdpa", "eager", "autograd", "cublas", "scaled_mm")


def verdict(case: Case, inputs: Inputs, piece: parts.Part, outputs: Mapping[str, Any]) -> Any:
    arrays = {n: inputs.array(n, x) for n, x in piece.inputs.items()}
    found = calls.as_arrays(OPS[case.op], case, inputs, piece.cut(outputs))
    return judged.each(case.op, piece.case, arrays, [found], [None])[0]


def test_a_piece_that_takes_the_judge_too_long_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_ever(*given: Any) -> Any:
        while True:
            pass

    monkeypatch.setattr(judged, "SECONDS", 0.01)
    monkeypatch.setattr(judged, "each", for_ever)
    assert judged.verdicts("matmul", rehearsal.CASES[0], {}, [], []) is None


@pytest.mark.parametrize("name", CUT)
def test_pieces_are_the_same_op_and_the_last_row_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALL_NUMBERS", 0)
    monkeypatch.setattr(parts, "COLUMNS", 100)
    case, inputs, pieces, outputs = cut(name)
    last = pieces[-1]
    found = verdict(case, inputs, last, outputs)
    assert found.status is Status.PASSED, found.reason
    assert not judged.unjudged([piece.cut(outputs) for piece in pieces], outputs)
    wrong = {n: x.clone() for n, x in outputs.items()}
    spoiled = next(iter(last.cut(wrong).values()))
    spoiled[..., -1, :].fill_(100)
    assert verdict(case, inputs, last, wrong).status is Status.FAILED


def test_what_cannot_be_cut_is_judged_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    op, case = OPS["heads_first"], Case("heads_first", "h", {"S": 5, "H": 3, "D": 4}, "bfloat16")
    inputs = draw(op, case, "cpu")
    assert [dict(piece.case.axes) for piece in parts.parts(op, case, inputs)] == [dict(case.axes)]
    monkeypatch.setattr(parts, "SMALL_NUMBERS", 0)
    monkeypatch.setattr(parts, "WHOLE_NUMBERS", 0)
    assert parts.parts(op, case, inputs) == []
    assert judged.unjudged([], {"": None}) == ["the output"]


# The session ---------------------------------------------------------------------------------------------------------


def test_a_session_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    script = Path(rehearsal.__file__)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    dead = subprocess.run([sys.executable, str(script), str(path), "rope"], env=environ, capture_output=True, text=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    before = read(str(path))
    assert not before.complete and 0 < len(before.results) < (before.planned or 0)
    assert before.env["under_way"]

    lines: list[str] = []
    one = rehearsal.session(str(path), say=lines.append)
    one.run()
    assert lines[0].endswith(f"holds {len(before.results)} results of these sources: they stay")
    assert lines[1].startswith("checked 0 small cases")
    assert not any(line.startswith("quantize_fp8") for line in lines)
    after = read(str(path))
    assert after.complete and len(after.results) == after.planned and "under_way" not in after.env

    rows = rows_of(path)
    for right in (("matmul bfloat16", "triton"), ("matmul float32", "tf32"), ("quantize_fp8 bfloat16", "eager")):
        row = rows[right]
        assert row.status is Status.PASSED and row.timing is not None, (right, row.reason)
    assert rows["attention_decode bfloat16", "triton"].timing
    assert rows["matmul float32", "tf32"].notes == ["products in TF32: right within atol 0.103"]
    wrong = {
        "matmul_mk": "elements off by more than",
        "rope": "not timed, because its kernel fails the smaller case 33x3x64",
        "cross_entropy": "RuntimeError: out of resource: shared memory",
        "rmsnorm": "input x was changed in 1 places, where 0 may be",
    }
    for name, reason in wrong.items():
        row = rows[f"{name} bfloat16", "triton"]
        assert row.timing is None and row.status is not Status.PASSED and reason in (row.reason or "")
        rivals = [r for (op, who), r in rows.items() if op == f"{name} bfloat16" and who != "triton"]
        assert all(rival.timing for rival in rivals) and rivals
    assert rows["matmul bfloat16", "triton"].timing.speed_over_torch == 1.0  # type: ignore[union-attr]


TWO = rehearsal.CASES[:2]


def test_a_session_ends_with_its_time_and_says_what_is_left(tmp_path: Path) -> None:
    path, lines = tmp_path / "report.json", []
    ticks = iter(range(1000))
    one = rehearsal.session(str(path), 3, cases=TWO, clock=lambda: float(next(ticks)), say=lines.append)
    one.run()
    assert any(line.endswith("of 2 points are left for another session") for line in lines)
    assert not read(str(path)).complete


def test_a_lost_device_costs_the_call_that_lost_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, device = tmp_path / "report.json", rehearsal.StandIn()
    right = calls.by_triton

    def lose(op: Any, case: Case, *rest: Any) -> Any:
        if case.name == "m" and case.dtype == "float32":
            device.lost = True
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return right(op, case, *rest)

    monkeypatch.setattr(calls, "by_triton", lose)
    with pytest.raises(DeviceLost):
        rehearsal.session(str(path), device=device, cases=TWO, say=lambda line: None).run()
    assert rows_of(path)["matmul float32", "triton"].cause is Cause.DEVICE_FAULT
    device.lost = False
    rehearsal.session(str(path), device=device, cases=TWO, say=lambda line: None).run()
    rows = rows_of(path)
    assert rows["matmul float32", "triton"].cause is Cause.DEVICE_FAULT
    assert all(row.timing for row in rows.values() if row.cause is None) and read(str(path)).complete


def test_times_below_the_roofline_are_no_results_and_a_throttled_clock_is_told(tmp_path: Path) -> None:
    path, device = tmp_path / "report.json", rehearsal.StandIn(us=1e-6)
    device.reasons = ("power cap",)
    rehearsal.session(str(path), device=device, cases=TWO[:1], say=lambda line: None).run()
    for row in rows_of(path).values():
        assert row.status is Status.ERROR and row.timing is None and "H200 SXM needs at its peaks" in (row.reason or "")
        assert row.notes == [
            "the clock was held back (power cap): 1980 -> 1980 -> 1980 MHz before, amid and after the samples"
        ]


def test_rows_of_other_sources_are_measured_again_and_those_of_other_ops_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lines = tmp_path / "report.json", []
    rehearsal.session(str(path), cases=TWO, say=lambda line: None).run()
    rows = read(str(path)).results
    gpu = [{"name": "NVIDIA H100", "driver": "0"}]
    one = rehearsal.session(str(path), cases=TWO[1:], device=rehearsal.StandIn(gpus=gpu), say=lines.append)
    one.run()
    assert lines[0].startswith("checked 1") and len(read(str(path)).results) == len(rows)


# What is read off it -------------------------------------------------------------------------------------------------


def timed(op: str, backend: str, us: float, dtype: str = "bfloat16", target: str | None = None) -> Result:
    timing = structs.replace(summary([us], 0, Evidence.DEVICE, timer="t", cache="c"), flops=1000, bytes=10)
    where: dict[str, Any] = {"op": op, "case": "c", "dtype": dtype, "backend": backend, "target": target}
    return Result(**where, evidence=Evidence.DEVICE, status=Status.PASSED, timing=timing)


def test_shares_are_of_the_largest_product_and_of_the_fastest_rival() -> None:
    results = [timed("matmul", "triton", 4), timed("matmul", "torch", 2), timed("attention", "triton", 8)]
    results += [timed("attention", "torch", 16, target="math"), timed("attention", "torch", 4, target="flash")]
    results += [timed("attention", "torch", 8, "float16"), timed("matmul", "torch", 0.5, target="tf32")]
    shares.add_shares(results)
    timings = [r.timing for r in results if r.timing]
    assert [t.percent_of_peak for t in timings] == pytest.approx([50.0, 100.0, 25.0, 12.5, 50.0, None, 400.0])
    assert [t.speed_over_torch for t in timings] == [0.5, None, 0.5, None, None, None, None]
    assert "0.50 times torch's speed" in shares.summarise(results)
    assert "% of peak" in tables.text(results)


def test_a_clock_that_nothing_holds_back_needs_no_words() -> None:
    assert nvml.in_words([nvml.Clock(1980, ()), None]) == ""


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(type(command.BACKENDS["triton"]), "missing", lambda self: "there is no GPU")
    assert command.main([]) == ExitCode.REQUIRED_MISSING
    out, err = capsys.readouterr()
    assert out == "" and err == "bench-gpu needs a GPU with Triton and PyTorch: there is no GPU.\n"


# Triton's cache ------------------------------------------------------------------------------------------------------


def test_a_filled_cache_holds_what_a_launch_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton import knobs
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    from triptych.harness.emulators.devices import DEVICES, pretend

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found: list[bool] = []
    monkeypatch.setattr(knobs.compilation, "listener", lambda **said: found.append(said["cache_hit"]))
    case = Case("heads_first", "h", {"S": 40, "H": 3, "D": 16}, "bfloat16")
    assert filled.fill("heads_first", case, "sm_90") == ""
    assert found == [False] and list(tmp_path.rglob("_heads_first_kernel.cubin"))

    # What Triton makes of a launch on tensors that are there, none of the emulators' patches in its way.
    op = OPS["heads_first"]
    with launcher_of(calls.shapes_alone(op, case, draw(op, case, "meta"))) as (launcher, _):
        kernel = launcher.__globals__["_heads_first_kernel"]
    run = JITFunction.run
    monkeypatch.setattr(JITFunction, "run", lambda self, *args, **named: run(self, *args, **named | {"warmup": True}))
    with pretend(DEVICES["sm_90"]):
        monkeypatch.setattr(driver.active, "get_current_stream", lambda index: 0, raising=False)
        kernel.device_caches.clear()
        launcher(x=torch.zeros(40, 3, 16, dtype=torch.bfloat16), out=torch.zeros(3, 40, 16, dtype=torch.bfloat16))
        kernel.device_caches.clear()
    assert found == [False, True]


def test_what_does_not_compile_is_said_case_by_case(capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("heads_first", "h", {"S": 40, "H": 3, "D": 16}, "no dtype")
    assert command.fill([case], "sm_90") == ExitCode.MISMATCH
    assert "heads_first h no dtype: " in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_judges_and_compiles_in_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(command, "builtin", rehearsal.table)
    monkeypatch.setattr(command, "Cuda", rehearsal.StandIn)
    cases, small = rehearsal.CASES[:1], rehearsal.first(rehearsal.CASES[:1])
    monkeypatch.setattr(points, "points", lambda ops: cases)
    monkeypatch.setattr(points, "checks", lambda ops: small)
    monkeypatch.setattr(filled, "target_here", lambda: "sm_90")
    for name in ("triton", "torch"):
        monkeypatch.setattr(type(command.BACKENDS[name]), "missing", lambda self: None)
    path, cache = tmp_path / "report.json", tmp_path / "cache"
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    for name in command.ONE_THREAD:
        monkeypatch.setenv(name, "1")
    assert command.main(["--json", str(path), "--cache", str(cache)]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "matmul: triton runs at 1.00 times torch's speed" in out and "matmul m bfloat16: 2 of 2 timed" in err
    assert read(str(path)).complete and list(cache.rglob("_matmul_kernel.cubin"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--fill", "sm_7"], "cannot compile for 'sm_7'; the targets are sm_80, sm_90, sm_100, gfx942"),
        (["softmax"], "softmax"),
    ],
)
def test_a_wrong_command_line_says_what_there_is(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(argv) == ExitCode.USAGE
    assert said in capsys.readouterr().err
