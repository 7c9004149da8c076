"""A file of measured constants is taken for the record that they were fitted beside, and for no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in import StandIn, document

from triptych.harness.backends.neuron import parts
from triptych.harness.calibration import overlay
from triptych.harness.calibration.calibrate import Constant, calibrate
from triptych.harness.commands import cli
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode

CONSTANTS = [Constant("tensor_ghz", "GHz", 2.8, 2.7, 0.01), Constant("launch_ns", "ns", 12_500, None, None, "why not")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "chip.txt"


def test_what_is_written_is_read_again(file: Path) -> None:
    found = calibrate(document(StandIn(), only="probe_table"))
    file.write_text(overlay.text(found.target, found.constants))
    (word,) = overlay.words(str(file), ["trn2"])
    assert word.startswith("table_load_ns=") and parts.target() is None


@pytest.mark.parametrize(
    ("source", "takes"),
    [("trn1", ["trn1", "gen2"]), ("gen2", ["trn1", "gen2"]), ("inf2", ["inf2"]), ("trn2", ["trn2", "gen3"])],
)
def test_the_targets_of_one_record_share_what_was_measured_on_one(file: Path, source: str, takes: list[str]) -> None:
    file.write_text(overlay.text(source, CONSTANTS))
    assert overlay.words(str(file), takes) == ["tensor_ghz=2.7"]


@pytest.mark.parametrize(
    ("source", "target", "parts"),
    [
        ("trn1", "inf2", ["was measured on trn1", "inf2 is NeuronCore-v2 too", "`--target trn1`", "measure on inf2"]),
        ("inf2", "trn1", ["was measured on inf2", "trn1 is NeuronCore-v2 too", "`--target inf2`", "measure on trn1"]),
        ("inf2", "gen2", ["was measured on inf2", "gen2 is NeuronCore-v2 too"]),
        ("trn2", "trn1", ["was measured on NeuronCore-v3, and trn1 is NeuronCore-v2", "`--target trn2`"]),
    ],
)
def test_another_record_is_refused_and_the_error_says_how_to_go_on(
    file: Path, source: str, target: str, parts: list[str]
) -> None:
    file.write_text(overlay.text(source, CONSTANTS))
    with pytest.raises(UsageError) as found:
        overlay.words(str(file), [source, target])
    assert all(part in str(found.value) for part in parts)
    if "too" in str(found.value):
        assert "their records differ in sustained_slowdown, beside which" in str(found.value)


def test_a_file_of_old_names_no_target_and_is_taken_where_there_is_no_doubt(file: Path) -> None:
    file.write_text("# NeuronCore-v3\ntensor_ghz=2.3\n")
    assert overlay.words(str(file), ["trn2", "gen3"]) == ["tensor_ghz=2.3"]
    file.write_text("# NeuronCore-v2\ntensor_ghz=2.3\n")
    for target in ("trn1", "inf2"):
        with pytest.raises(UsageError, match=r"trn1 and inf2 are, .* differ in sustained_slowdown; say on which"):
            overlay.words(str(file), [target])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no overlay of a chip"),
        ("tensor_ghz=2\n", "its first line must name one"),
        ("# NeuronCore-v9\ntensor_ghz=2\n", "names no chip that is known: '# NeuronCore-v9'; expected one of"),
        ("# NeuronCore-v3, measured on trn1\n", "`# NeuronCore-v2, measured on trn1`"),
        ("# NeuronCore-v3\ntensor_hz=2\n", "unknown field 'tensor_hz'"),
        (None, "cannot read"),
    ],
)
def test_a_file_that_is_no_overlay_is_an_error_that_says_why(
    file: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    if content is not None:
        file.write_text(content)
    assert cli.main(["profile", "rmsnorm", "--target", "trn2", "--set", f"@{file}"]) == ExitCode.USAGE
    assert words in capsys.readouterr().err
