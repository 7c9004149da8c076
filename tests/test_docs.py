"""The pages in docs/ agree with the code, and the links between them lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from triptych.harness import doc_tables

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "tests" / "README.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_tables_are_fresh(page: Path) -> None:
    text = page.read_text()
    assert doc_tables.refreshed(text) == text, "stale: run python -m triptych.harness.doc_tables"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_table_stands_on_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for name in doc_tables.TABLES:
        assert f"<!-- table: {name} -->" in text
