"""The pages in docs/ agree with the code, and the links between them lead somewhere."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.results.timing_accuracy import INTERVALS, LAST_VALIDATION, REGIMES
from triptych.harness.upkeep.pages import api_tables, compiled_tables, doc_tables, nki_names
from triptych.harness.upkeep.pages.pictures import PICTURES
from triptych.simulator import lint
from triptych.simulator.launch.import_hook import simulated_nki

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "tests" / "README.md"])


LENGTHY = ("attention.md",)  # predictions of sequences of 16384, and of kernels whose control flow depends on data
FRESH = [
    pytest.param(page, marks=[pytest.mark.slow] * (page.name in LENGTHY), id=page.name)
    for page in PAGES
    if page.name != "compile.md"  # whose tables take minutes: a sample of them, below
]


@pytest.mark.parametrize("page", FRESH)
def test_the_tables_are_fresh(page: Path) -> None:
    text = page.read_text()
    assert doc_tables.refreshed(text) == text, "stale: run `make pages`"


def compiled_rows() -> list[list[str]]:
    """The cells of the table of compiled kernels, as the page has them."""
    table = (ROOT / "docs" / "compile.md").read_text().partition("<!-- table: compiled -->")[2].partition("<!-- end")[0]
    lines = [line.removeprefix("| ").removesuffix(" |") for line in table.splitlines() if line.startswith("| `")]
    return [line.split(" | ") for line in lines]


def test_the_table_of_compiled_kernels_has_every_op() -> None:
    assert {row[0].strip("`") for row in compiled_rows()} == {op.name for op in compiled_tables.with_triton()}


@pytest.mark.slow
def test_a_sample_of_the_compiled_kernels_is_fresh() -> None:
    """All of them would take minutes."""
    if f"\nTriton {version('triton')}, " not in (ROOT / "docs" / "compile.md").read_text():
        pytest.skip("the page was made with another version of Triton, whose compiler spends registers otherwise")
    sample = [builtin()[name] for name in ("matmul", "linear", "matmul_fp8")]
    names = {op.name for op in sample}
    on_page = [row for row in compiled_rows() if row[0].strip("`") in names]
    assert on_page == list(compiled_tables.rows(sample)), "run `make pages`"


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_are_what_the_code_draws(name: str) -> None:
    assert (ROOT / name).read_text() == PICTURES[name](), "stale: run `make pages`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


PLACE = re.compile(r"`((?:harness|simulator|kernels|reference)/[\w/]+\.py)(?::([A-Za-z_][\w.]*))?`")


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "results"], ids=lambda p: p.name)
def test_places_in_the_code_exist(page: Path) -> None:
    """What a page calls `path/to/file.py:Class.method` is defined there; recipes name files that they add."""
    for file, names in PLACE.findall(page.read_text().partition("\n## Where do I add")[0]):
        body: list[Any] = ast.parse((ROOT / file).read_text()).body
        for name in filter(None, names.split(".")):
            found = next((node for node in body if getattr(node, "name", None) == name), None)
            assert found is not None, f"{page.name} names {file}:{names}"
            body = getattr(found, "body", [])


def test_every_table_stands_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for name in doc_tables.TABLES:
        assert f"<!-- table: {name} -->" in text


def test_the_example_of_ranks_runs() -> None:
    section = (ROOT / "docs" / "simulator.md").read_text().partition("\n## Ranks\n")[2]
    found: dict[str, Any] = {}
    with simulated_nki():
        exec(section.partition("```python\n")[2].partition("```")[0], found)
    for run in found["runs"]:
        np.testing.assert_allclose(run.outputs, found["shards"].sum(axis=0), rtol=1e-5, atol=1e-5)


def test_the_page_on_the_linter_names_rules_that_exist() -> None:
    rows = re.findall(r"^\| (\d+)\. [^|]*\|([^|]*)\|", (ROOT / "docs" / "lint.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 27))
    assert {name for _, cell in rows for name in re.findall(r"`([a-z-]+)`", cell)} <= set(lint.RULES)


@pytest.mark.parametrize("module", nki_names.MODULES)
def test_every_documented_name_of_nki_has_a_row_and_a_test(module: str) -> None:
    rows = (ROOT / "docs" / "nki-api.md").read_text().splitlines()
    for name in nki_names.read():
        if name.module != module:
            continue
        source = name.source.removeprefix("nki/api/nki/")
        owner, _, member = name.name.rpartition(".")
        if name.kind == "member":
            assert [r for r in rows if r.startswith(f"| `{owner}` | enumeration: ") and member in r], name.qualified
        else:
            assert [r for r in rows if r.endswith(f" {source} |") and name.name in r], name.qualified
        assert api_tables.tested_by(name), f"{name.qualified} has no test: see harness/upkeep/pages/named_tests.py"


def test_the_error_shown_with_predictions_is_that_of_the_validation() -> None:
    lines = [line for page in PAGES for line in page.read_text().splitlines()]
    (row,) = [line for line in lines if line.startswith("| all for validation |")]
    last = LAST_VALIDATION
    cells = [cell.strip() for cell in row.split("|")]
    assert [str(last.points), f"{last.median:.1%}"] == cells[2:4]
    assert f"{last.worst:.1%}" == cells[6] and f"{last.rank_correlation:.3f}" == cells[8]
    for regime, (low, high) in INTERVALS.items():
        (row,) = [line for line in lines if line.startswith(f"| {REGIMES[regime]} |")]
        assert f"| {low:.2f} to {high:.2f} |" in row
