"""`verify-device` and `calibrate` as commands, on the stand-in; which files and documents are none of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs
from stand_in import StandIn, document

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.nki_device import NeuronDevice
from triptych.harness.calibration import probes
from triptych.harness.calibration.calibrate import calibrate
from triptych.harness.calibration.groups import EXACT, GROUPS
from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports.device import text
from triptych.harness.results.document import Document
from triptych.harness.results.result import Result
from triptych.harness.running.runner import InThisProcess
from triptych.harness.running.session import Session
from triptych.simulator.chips import TARGETS


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
    assert lines[0] == "# NeuronCore-v3, measured on trn2"
    assert float(word.removeprefix("table_load_ns=")) == pytest.approx(1900, rel=0.1)
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
