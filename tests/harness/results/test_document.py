"""Results survive a document: numbers that JSON has no name for, empty parts, and documents of earlier versions."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest

from triptych.harness.results import document
from triptych.harness.results.findings import Attribution, Failure, Histogram, Map, Worst
from triptych.harness.results.measures import (
    Derived,
    Fixed,
    Kinds,
    Metrics,
    Nonfinite,
    OneOutput,
    Parity,
    SensitivityReport,
)
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.results.timing_accuracy import TimingAccuracy

KINDS = Kinds(nan=1, inf=0, minus_inf=2)
FAILED = Result(
    op="matmul",
    case="64x64",
    dtype="float32",
    backend="nki-sim",
    target="trn2",
    evidence=Evidence.SIMULATED,
    status=Status.FAILED,
    reason="1 of 2 elements",
    cause=Cause.MISMATCH,
    metrics=Metrics(
        max_abs=math.inf,
        max_rel=0.5,
        rel_l2=math.nan,
        cosine=1.0,
        max_abs_ulp=2.0,
        max_ulp=7,
        worst_index=[1, 0],
        expected=3,
        got=-math.inf,
        mismatches=1,
        nonfinite=Nonfinite(expected=KINDS, got=KINDS, misplaced=1, at=[[1, 0]]),
    ),
    tolerance=Derived(
        source="default",
        regime="normal",
        factor=2.0,
        baseline="plain",
        baselines=["plain"],
        draws=3,
        max_abs=1.0,
        rel_l2=0.5,
        floor=0.0,
        max_local=4.0,
        sensitivity=SensitivityReport(caught=["zeros"], without_effect=[], accepted=[]),
    ),
    timing=Predicted(
        timer="timing model",
        evidence=Evidence.PREDICTED,
        predicted_us=2.0,
        accuracy=TimingAccuracy(median=0.1, worst=0.5, rank_correlation=0.9, points=9, date="2026-11-23"),
        mfu=0.5,
        busy_share={"tensor": 1.0},
        flops=12,
    ),
    failure=Failure(
        diagnosis="the only element is wrong",
        worst=Worst(index=[1, 0], axes={"M": 1, "N": 0}, expected=3.0, got=math.nan, error=0.0, allowed=1.0),
        histogram=Histogram(edges=[0.0, math.inf], counts=[1], nonfinite=1),
        map=Map(of="M down, N across", rows=1, columns=1, row_tile=0, column_tile=0, lines=["0  x"]),
    ),
    parity={"numpy": Parity(share=0.5, max_abs=0.25, identical=0.5, strange=0)},
    attribution=Attribution(cause="logic", text="because"),
)
SKIPPED = Result(
    op="matmul",
    case="64x64",
    dtype="float32",
    backend="nki",
    target=None,
    evidence=Evidence.DEVICE,
    status=Status.SKIPPED,
    reason="no device",
    cause=Cause.BACKEND_MISSING,
)


@pytest.mark.parametrize("result", [FAILED, SKIPPED], ids=["failed", "skipped"])
def test_a_document_gives_back_what_was_put_into_it(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(document.dumps({"seed": np.int64(3)}, [result]))
    read = document.read(str(path))
    assert read.env == {"seed": 3} and repr(read.results) == repr([result]), "NaN is not equal to itself"
    assert read.results[0].to_dict() == result.to_dict()
    assert repr(pickle.loads(pickle.dumps(result))) == repr(result)


def test_numbers_without_a_name_in_json_are_words_and_empty_parts_are_empty() -> None:
    row = json.loads(json.dumps(FAILED.to_dict(), allow_nan=False))
    assert (row["metrics"]["rel_l2"], row["metrics"]["max_abs"], row["metrics"]["got"]) == ("nan", "inf", "-inf")
    assert row["metrics"]["nonfinite"]["got"] == {"nan": 1, "inf": 0, "-inf": 2} and row["metrics"]["expected"] == 3
    assert row["tolerance"]["rule"] == "derived" and row["tolerance"]["teeth"]["caught"] == ["zeros"]
    assert row["failure"]["histogram"]["edges"] == [0.0, "inf"] and row["invariance"] == {}
    empty = SKIPPED.to_dict()
    assert all(empty[part] == {} for part in ("metrics", "tolerance", "timing", "failure", "parity", "attribution"))
    assert "fingerprint" not in empty and empty["notes"] == []


def test_documents_from_before_causes_and_kinds_of_timing_load() -> None:
    row = FAILED.to_dict()
    del row["cause"], row["timing"]["kind"]
    old = Result.from_dict({**row, "a field that nobody knows": 1})
    assert old.cause is None and isinstance(old.timing, Predicted)
    samples = {"median_us": 1.0, "p10_us": 1.0, "p90_us": 1.0, "min_us": 1.0, "max_us": 1.0, "samples_us": [1.0]}
    measured = {"timer": "host clock", "cache": "warm", "evidence": "host", "warmups": 0, **samples}
    assert isinstance(Result.from_dict({**row, "timing": measured}).timing, Measured)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "great"}, r"Invalid enum value 'great' - at `\$.results\[0\].status`"),
        ({"metrics": {"max_abs": 1.0}}, r"missing required field `max_rel` - at `\$.results\[0\].metrics`"),
        ({"tolerance": {"rule": "vague"}}, r"Invalid value 'vague' - at `\$.results\[0\].tolerance.rule`"),
        ({"notes": 3}, r"Expected `array`, got `int` - at `\$.results\[0\].notes`"),
    ],
)
def test_one_sentence_says_what_is_wrong_with_a_document_and_where(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"schema_version": 1, "env": {}, "results": [{**SKIPPED.to_dict(), **change}]}))
    with pytest.raises(document.DocumentError, match=said):
        document.read(str(path))


def test_the_types_are_a_schema() -> None:
    """What `{}` and the names of non-finite numbers add to it is said in `record` and `result`."""
    schema = msgspec.json.schema(document.Document)
    required = ["kind", "op", "case", "dtype", "backend", "target", "evidence", "status"]
    assert schema["$defs"]["Result"]["required"] == required
    assert set(schema["$defs"]["Fixed"]["properties"]) == {"rule", "source", "regime", "rtol", "atol", "bias", "teeth"}


def test_records_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Fixed(source="op", regime="normal", rtol=0.0, atol=0.0).atol = 1.0  # type: ignore[misc]


def test_several_outputs_come_back_and_a_document_without_them_reads(tmp_path: Path) -> None:
    each = OneOutput(passed=False, metrics=FAILED.metrics, tolerance=FAILED.tolerance)
    result = msgspec.structs.replace(FAILED, output="lse", outputs={"out": OneOutput(passed=True), "lse": each})
    path = tmp_path / "two.json"
    path.write_text(document.dumps({}, [result, FAILED]))
    two, one = document.read(str(path)).results
    assert isinstance(two, Result) and isinstance(one, Result) and two.to_dict() == result.to_dict()
    assert (one.output, one.outputs) == ("", {}) and not {"output", "outputs"} & FAILED.to_dict().keys()
