"""The table of docs/speed.md: it has the rows of the code, and the code still predicts what it says."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from triptych.harness.measured.sources import AUTOTUNE, LIBRARY, Public
from triptych.harness.upkeep.figures import side_by_side
from triptych.harness.upkeep.figures.side_by_side_works import WORKS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "speed.md"


def printed() -> dict[str, list[str]]:
    """The cells of the page's rows by their first."""
    (block,) = (match[0] for match in side_by_side.BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if not line.startswith("| ---")]
    assert rows[0] == list(side_by_side.HEADER)
    return {row[0]: row for row in rows[1:]}


def test_the_page_has_the_rows_of_the_code_and_a_time_for_each_public_kernel() -> None:
    rows = printed()
    assert list(rows) == [work.name for work in WORKS]
    for work in WORKS:
        _, ours, _, goal, name, its, ratio, measured = rows[work.name]
        assert (goal, measured) == (work.goal, work.measured)
        assert bool(its) == bool(ratio) == bool(name) == (work.public is not None)
        if its:
            us, theirs = (float(x.replace(",", "")) for x in (ours, its))
            assert float(ratio) == pytest.approx(theirs / us, abs=0.011)


@pytest.mark.parametrize("name", ["RMSNorm and projection 2048^3", "RMSNorm 4096 x 4096"])
def test_our_half_of_a_row_is_what_the_code_predicts(name: str) -> None:
    (work,) = (work for work in WORKS if work.name == name)
    made = side_by_side.row(work, Public())
    assert list(made.cells)[:5] == printed()[name][:5]


def test_a_row_without_a_checkout_says_which_it_needs() -> None:
    (work,) = (work for work in WORKS if work.name.startswith("RoPE"))
    made = side_by_side.row(work, Public())
    assert made.cells[5:7] == ("", "")
    text = side_by_side.block([made], Public(), datetime.date(2026, 11, 30))
    assert f"{work.name}: needs a checkout of {LIBRARY}" in text and AUTOTUNE not in text
    assert "Predicted on 30 November 2026" in text and side_by_side.COMMAND in text


def test_a_word_that_no_row_has_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        side_by_side.main(["--only", "no such work"])
    assert "no row has 'no such work'" in capsys.readouterr().err
