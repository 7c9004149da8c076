"""A device whose constants are known: the simulator with others and noise, in the place of the backend `nki`.

What a real device would say is not known here. That the constants of a device which is like the model are found again,
through the same backend, file and commands, is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from triptych import simulator
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import TimingBudget, summary
from triptych.harness.backends.neuron import parts
from triptych.harness.backends.nki_device import NeuronDevice
from triptych.harness.backends.nki_sim import Simulator
from triptych.harness.calibration import overlay, probes
from triptych.harness.calibration.calibrate import calibrate
from triptych.harness.calibration.fitting import fit
from triptych.harness.calibration.groups import EXACT, GROUPS
from triptych.harness.calibration.observations import Observation
from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.reports.device import text
from triptych.harness.results.document import Document
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Timing
from triptych.harness.running.runner import InThisProcess
from triptych.harness.running.session import Session
from triptych.simulator.chips import TARGETS

TRUE = {  # of the stand-in
    "tensor_ghz": 2.1,
    "matmul_extra_cycles": 20.0,
    "fp32_matmul_passes": 3.5,
    "vector_ghz": 0.9,
    "scalar_ghz": 1.3,
    "access_cycles": 70.0,
    "min_cycles": 80.0,
    "vector_latency_ns": 160.0,
    "scalar_latency_ns": 200.0,
    "gpsimd_ghz": 1.0,
    "gpsimd_start_cycles": 200.0,
    "gpsimd_latency_ns": 400.0,
    "tensor_latency_ns": 260.0,
    "table_load_ns": 1900.0,
    "dma_static_issue_ns": 150.0,
    "dma_software_issue_ns": 700.0,
    "dma_issue_ns": 450.0,
    "dma_gb_per_s": 330.0,
    "dma_descriptor_ns": 9.0,
    "dma_start_ns": 1100.0,
    "hbm_gb_per_s": 560.0,
    "launch_ns": 13_000.0,
}
NOISE, SAMPLES = 0.002, 200  # of a sample


@dataclass
class StandIn(Simulator):
    """The simulator's numbers, the model's time on another chip, and noise."""

    settings: Mapping[str, float] = field(default_factory=lambda: TRUE)
    wrong: bool = False
    name = "nki"
    evidence = Evidence.DEVICE
    default_targets = ()

    @property
    def targets(self) -> tuple[str, ...]:
        return ()

    def run(self, problem: Problem, target: str | None) -> Any:
        out = super().run(problem, "trn2")
        return np.nextafter(out, np.inf, dtype=out.dtype) if self.wrong and problem.op.name == "probe_sum" else out

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        run = self.simulate(problem, problem.own_inputs(), "trn2")
        us = simulator.predict_trace(run.trace, settings=self.settings).total_us
        rng = np.random.default_rng(len(run.trace.events))
        samples = us * (1 + NOISE * rng.standard_normal(SAMPLES))
        return summary(list(map(float, samples)), 1, Evidence.DEVICE, timer="stand-in", cache="warm")


def document(device: StandIn, only: str = "") -> Document:
    """What a device says of the probes: timed through the backend, without the judge, which takes long."""
    results = []
    for op in probes.OPS:
        for case in cases_of(op, ["smoke"], None, {}, 0) if only in op.name else ():
            timing = device.time(Problem.of(op, case), None, TimingBudget())
            results.append(
                Result(
                    op=op.name,
                    case=case.name,
                    dtype=case.dtype,
                    backend="nki",
                    target=None,
                    evidence=Evidence.DEVICE,
                    status=Status.PASSED,
                    timing=timing,
                )
            )
    return Document(env={"neuron": {"chip": "trn2"}}, results=results)


@pytest.mark.parametrize("only", ["probe_v", "probe_g", pytest.param("", marks=pytest.mark.slow)])
def test_the_constants_of_a_device_are_found_again(only: str) -> None:
    found = calibrate(document(StandIn(), only))
    assert found.chip == "NeuronCore-v3" and {one.field for one in found.constants} == set(TRUE)
    decided = [one for one in found.constants if one.after is not None]
    assert len(decided) == {"probe_v": 4, "probe_g": 3, "": len(TRUE)}[only]
    for one in decided:
        assert one.after is not None and one.error is not None, one
        off = abs(one.after / TRUE[one.field] - 1)
        assert off < max(5 * one.error, 0.002), one
        assert off < 0.15 and (off < 0.03 or abs(one.before / TRUE[one.field] - 1) > 2 * off), one
    errors = found.errors(fitted=True)
    assert errors is not None and errors[1] < 0.01 and errors[1] < errors[0] / 2


def test_a_device_that_is_as_the_model_says_changes_nothing() -> None:
    found = calibrate(document(StandIn(settings={}), only="probe_v"))
    for one in found.constants:
        if one.after is not None:
            assert one.error is not None and abs(one.after / one.before - 1) < 5 * one.error
    assert {one.field for one in found.constants if one.after} == {
        "vector_ghz",
        "access_cycles",
        "min_cycles",
        "vector_latency_ns",
    }
    (left,) = {one.why_not for one in found.constants if one.field == "launch_ns"}
    assert left == "none of its probes was timed"


def test_what_the_observations_do_not_decide_is_left_alone() -> None:
    @dataclass(frozen=True)
    class Line(Observation):
        def predicted(self, settings: Mapping[str, float]) -> float:
            both = {"a": 1.0, "b": 2.0, **settings}
            return both["a"] * both["b"]

    fitted = fit([Line("x", 6.0, 0.01, ()), Line("y", 6.0, 0.01, ())], ("a", "b"), {"a": 1.0, "b": 2.0}, {})
    assert len(fitted.values) == 1 and len(fitted.left) == 1
    assert np.prod([{"a": 1.0, "b": 2.0, **fitted.values}[name] for name in "ab"]) == pytest.approx(6, rel=1e-3)


def test_every_probe_decides_something_or_claims_its_bits() -> None:
    named = {probe.partition(" ")[0] for group in GROUPS for probe in group.probes}
    assert {op.name for op in probes.OPS} == named | EXACT.keys()
    fields = [name for group in GROUPS for name in group.fields]
    assert len(fields) == len(set(fields)) and all(hasattr(TARGETS["trn2"], name) for name in fields)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    made = StandIn()
    monkeypatch.setitem(BACKENDS, "nki", made)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    monkeypatch.chdir(tmp_path)
    return made


def run(*words: str) -> int:
    ops = {op.name: op for op in probes.OPS} | builtin()
    return cli.main(words, Session(InThisProcess(ops)))


COMMAND = (
    "verify-device",
    "rmsnorm",
    "--dtype",
    "float32",
    "--probes",
    "probe_table,probe_sum",
    "--file",
    "found.json",
)


def test_verify_then_calibrate_then_predict(device: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND) == ExitCode.OK
    printed = capsys.readouterr().out
    assert "bits: all are equal in 1 of 1 cases in which we claim it" in printed
    assert "the prediction is off by" in printed and "rmsnorm" in printed
    env = json.loads(Path("found.json").read_text())["env"]
    assert env["neuron"]["chip"] == "trn2"
    assert run("calibrate", "found.json", "--write", "chip.txt") == ExitCode.OK
    printed = capsys.readouterr().out
    assert "table_load_ns" in printed and "none of its probes was timed" in printed
    assert "whole kernels, which they were not: off by" in printed
    lines = Path("chip.txt").read_text().splitlines()
    (word,) = [line.partition("#")[0].strip() for line in lines if not line.startswith("#")]
    assert lines[0] == "# NeuronCore-v3" and float(word.removeprefix("table_load_ns=")) == pytest.approx(1900, rel=0.1)
    words = ("profile", "rmsnorm", "--cases", "smoke", "-a", "M=128", "-a", "N=512", "--dtype", "float32")
    assert run(*words, "--set", "@chip.txt") == ExitCode.OK
    assert "what-if" in capsys.readouterr().out
    assert run(*words, "--target", "trn1", "--set", "@chip.txt") == ExitCode.USAGE
    assert "was measured on NeuronCore-v3, and trn1 is NeuronCore-v2" in capsys.readouterr().err


def test_bits_that_are_not_as_claimed_are_named(device: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    device.wrong = True
    assert run("verify-device", "--probes-only", "--probes", "probe_sum") == ExitCode.OK
    printed = capsys.readouterr().out
    assert "bits: all are equal in 0 of 1 cases" in printed
    assert "NOT EQUAL: probe_sum 4096: a sum along the free dimension adds strictly in order" in printed


def test_without_a_device_nothing_runs_and_the_next_step_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(BACKENDS["nki"], NeuronDevice)
    assert run("verify-device") == ExitCode.REQUIRED_MISSING
    assert "the required backend nki is missing: there is no Neuron device here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no overlay of a chip"),
        ("tensor_ghz=2\n", "its first line must name one"),
        ("# NeuronCore-v3\ntensor_hz=2\n", "unknown field 'tensor_hz'"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_is_no_overlay_is_an_error_that_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "chip.txt").write_text(content)
    assert run("profile", "rmsnorm", "--set", f"@{tmp_path / 'chip.txt'}") == ExitCode.USAGE
    assert words in capsys.readouterr().err


def test_a_document_without_probes_is_an_error() -> None:
    with pytest.raises(UsageError, match="holds no probe that a device timed"):
        calibrate(Document(env={"neuron": {"chip": "trn2"}}, results=[]))
    with pytest.raises(UsageError, match="must say of one chip that it is measured on it, and it names none"):
        calibrate(Document(env={}, results=[]))


def test_a_measured_kernel_that_cannot_be_predicted_is_named_and_ends_nothing() -> None:
    found = document(StandIn(), only="probe_table")
    (first, *_) = found.results
    assert isinstance(first, Result)
    for op, case in (("gone", "1x1"), ("rmsnorm", "7x7")):
        found.results.append(structs.replace(first, op=op, case=case))
    told = calibrate(found)
    assert [what.partition(":")[0] for what in told.unpredicted] == ["gone 1x1 float32", "rmsnorm 7x7 float32"]
    assert "not predicted: gone 1x1 float32: the collection has no such op" in text.calibration(told)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = calibrate(document(StandIn(), only="probe_table"))
    path = tmp_path / "chip.txt"
    path.write_text(overlay.text(found.chip, found.constants))
    (word,) = overlay.words(str(path), ["trn2"])
    assert word.startswith("table_load_ns=") and parts.target() is None
