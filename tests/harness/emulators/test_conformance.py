"""The self-tests of the emulators: all is right here, what is broken is seen, and it stands where a user looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.harness import emulators
from triptych.harness.backends import BACKENDS
from triptych.harness.commands import cli
from triptych.harness.emulators import conformance, simulator_selftest, usage
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import emulator_table
from triptych.harness.running.provenance import provenance
from triptych.simulator import INSTRUCTIONS


def test_the_simulator_gets_every_row_right() -> None:
    tested = conformance.of_simulator()
    assert isinstance(tested, conformance.Tested) and tested.wrong == []
    assert len(tested.cells) == len(simulator_selftest.TABLE) * len(simulator_selftest.DTYPES)


@pytest.mark.parametrize("name", simulator_selftest.TABLE)
def test_every_row_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = simulator_selftest.TABLE[name]
    off = simulator_selftest.Row(row.issue, lambda a, b: row.expected(a, b) + np.float32(1), row.values, row.ulps)
    monkeypatch.setitem(simulator_selftest.TABLE, name, off)
    assert not any(simulator_selftest.agrees(name, dtype) for dtype in ("float32", "bfloat16", "float16"))


def test_every_row_names_an_instruction() -> None:
    assert {name.split()[0] for name in simulator_selftest.TABLE} <= set(INSTRUCTIONS)


def test_every_row_is_known_by_what_its_kernel_issues(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an instruction that is wrong is found in the trace of a kernel that uses it, in that dtype alone."""
    traces: list[Any] = []
    run = simulator_selftest.run

    def kept(*arguments: Any, **named: Any) -> Any:
        done = run(*arguments, **named)
        traces.append(done.trace.events)
        return done

    monkeypatch.setattr(simulator_selftest, "run", kept)
    for name in simulator_selftest.TABLE:
        traces.clear()
        assert simulator_selftest.agrees(name, "float16")
        found = usage.issued_cells(traces[0])
        assert (name, "float16") in found, found
        assert (name, "bfloat16") not in found


def test_a_simulator_that_is_wrong_is_told_and_blamed() -> None:
    cells = {("reciprocal", "float32"): False, ("memset", "float32"): True}
    broken = conformance.Tested("triptych", cells)
    assert broken.to_dict() == {"emulator": "triptych", "passed": 1, "failed": ["reciprocal float32"]}
    assert "reciprocal  WRONG" in emulator_table.text(broken) and "1 of 2 right" in emulator_table.text(broken)
    assert usage.wrong_among(broken, {("reciprocal", "float32"), ("memset", "float32")}) == ["reciprocal float32"]
    assert usage.wrong_among(broken, {("memset", "float32")}) == []
    assert usage.wrong_among(broken, {("reciprocal", "bfloat16")}) == [], "it is right in what the kernel uses"


def forget() -> None:
    conformance.known.clear()


def test_a_self_test_that_fails_or_cannot_run_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken() -> list[dict[str, Any]]:
        raise ImportError("libtriton.so: undefined symbol")

    monkeypatch.setattr(type(BACKENDS["triton-cpu"]), "missing", lambda self: None)
    monkeypatch.setattr(emulators, "version_support", lambda: None)
    monkeypatch.setattr(emulators, "selftest", broken)
    monkeypatch.setattr(simulator_selftest, "agrees", lambda name, dtype: (name, dtype) != ("reciprocal", "float16"))
    forget()
    path = tmp_path / "out.json"
    try:
        assert cli.main(["doctor"]) == ExitCode.OK
        cli.main(
            ["check", "matmul", "-k", "64x128x96", "--dtype", "float32", "--backend", "nki-sim", "--json", str(path)]
        )
        recorded = provenance("", 0, ["triton-cpu", "numpy"])["conformance"]
    finally:
        forget()
    out, err = capsys.readouterr()
    assert "79 of 80 right" in out and "cannot run: ImportError: libtriton.so: undefined symbol" in out
    assert "triptych: nki-sim computes reciprocal float16 wrongly" in err
    assert json.loads(path.read_text())["env"]["conformance"]["nki-sim"]["failed"] == ["reciprocal float16"]
    assert list(recorded) == ["triton-cpu"] and "cannot run" in conformance.warning(recorded)


def test_doctor_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == ExitCode.OK
    text = capsys.readouterr().out
    assert "The NKI simulator, by class of instruction" in text and "80 of 80 right" in text
    assert "WRONG" not in text


def test_a_document_carries_the_self_tests_of_what_ran(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    arguments = ["check", "matmul", "--dtype", "float32", "-k", "64x128x96", "--backend", "nki-sim,numpy"]
    assert cli.main([*arguments, "--json", str(path)]) == ExitCode.OK
    found: dict[str, Any] = json.loads(path.read_text())["env"]["conformance"]
    assert list(found) == ["nki-sim"] and found["nki-sim"]["failed"] == [] and found["nki-sim"]["passed"] == 80


def test_a_profile_carries_the_self_test(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert cli.main(["profile", "matmul", "-k", "64x128x96", "--cases", "smoke", "--json", str(path)]) == ExitCode.OK
    assert json.loads(path.read_text())["env"]["conformance"]["nki-sim"]["failed"] == []
