"""docs/jax.md: its examples run, and its table is what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jax")

import triptych.jax
from triptych.harness.functions.rows import rows

TEXT = (Path(__file__).parents[3] / "docs" / "jax.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_run_one_after_the_other() -> None:
    assert len(EXAMPLES) == 4
    found: dict[str, Any] = {}
    for example in EXAMPLES:
        exec(example, found)
    assert found["dq"].shape == found["q"].shape


def test_the_table_has_every_function_and_names_rows_that_exist() -> None:
    table = TEXT.partition("| function |")[2].partition("\n\n")[0]
    names = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert set(names) == set(triptych.jax.__all__) - {"Call", "Calls", "NoKernel", "Place", "calls", "on_cpu"}
    for row in table.splitlines():
        assert set(re.findall(r"`(\w+)`", row.rpartition("|")[0].rpartition("|")[2])) <= set(rows())
