"""The tables in docs/ that come from the code, so that a page and the code cannot part.

    python -m triptych.harness.upkeep.pages.doc_tables

rewrites every block between `<!-- table: NAME -->` and `<!-- end -->` in docs/*.md. A test fails while one is stale.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np

from triptych import simulator
from triptych.harness.reports.markdown import code, markdown_table
from triptych.harness.upkeep.pages import (
    api_tables,
    architecture,
    attention_tables,
    compiled_tables,
    kernel_tables,
    lint_tables,
    own_kernels,
)
from triptych.harness.upkeep.pages.pictures import PICTURES
from triptych.simulator.chip.record import Fact

ROOT = Path(__file__).resolve().parents[3]
_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def chips() -> str:
    """One row a fact of a chip record, a column a generation; one more where a target differs from its generation."""
    fields = [f.name for f in dataclasses.fields(simulator.Chip) if f.type == "Fact"]
    rows = []
    for name in fields:
        facts: list[Fact] = [getattr(chip, name) for chip in simulator.CHIPS]
        sources = "; ".join(dict.fromkeys(f"{f.source} ({f.known})" for f in facts))
        rows.append((code(name), *(f"{f.value:g}" for f in facts), facts[0].unit, sources))
        for target, chip in simulator.TARGETS.items():
            fact: Fact = getattr(chip, name)
            if fact not in facts:
                values = [f"{fact.value:g}" if one.generation == chip.generation else "" for one in simulator.CHIPS]
                rows.append((f"{code(name)} of {target}", *values, fact.unit, f"{fact.source} ({fact.known})"))
    names = [f"{chip.name} ({', '.join(chip.targets[:-1])})" for chip in simulator.CHIPS]
    return markdown_table(("fact", *names, "unit", "source"), rows)


def matmul_ladder() -> str:
    """What each step of the matmul page changes, in the simulator's own counts: 2048 x 2048 x 2048 in bfloat16."""
    kernels = simulator.load(ROOT / "kernels" / "nki" / "matmul.py")
    a = np.ones((2048, 2048), ml_dtypes.bfloat16)
    rows = []
    for name in ("matmul_tiled", "matmul"):
        recorded = simulator.on("trn2").run(getattr(kernels, name), a, a).trace
        for target in ("trn1", "trn2", "trn3"):
            trace = dataclasses.replace(recorded, chip=simulator.TARGETS[target])  # the same program on each chip
            loads = [e for e in trace.events if e.op == "dma_copy" and e.writes[0].allocation.buffer == "sbuf"]
            predicted = simulator.predict_trace(trace)
            rows.append(
                (
                    code(name),
                    target,
                    str(len(loads)),
                    f"{sum(e.reads[0].nbytes for e in loads) / 1e6:.1f}",
                    f"{np.mean([e.writes[0].nbytes / e.writes[0].shape[0] for e in loads]):,.0f}",
                    f"{predicted.total_us:.0f}",
                    f"{predicted.mfu:.0%}",
                    *(f"{predicted.busy[track]:.0%}" for track in ("dma", "tensor", "vector")),
                )
            )
    header = ("kernel", "target", "loads", "MB loaded", "bytes a partition a load", "us", "MFU")
    return markdown_table((*header, "DMA busy", "Tensor busy", "Vector busy"), rows)


TABLES: dict[str, Callable[[], str]] = {
    **api_tables.TABLES,
    **attention_tables.TABLES,
    **lint_tables.TABLES,
    **architecture.TABLES,
    **compiled_tables.TABLES,
    **kernel_tables.TABLES,
    **own_kernels.TABLES,
    "chips": chips,
    "matmul-ladder": matmul_ladder,
}


def refreshed(text: str) -> str:
    """`text` with every table block made anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}{m[3]}", text)


def main() -> int:
    """Rewrite the pages and the pictures that are stale, and name them."""
    for name, draw in PICTURES.items():
        drawn = draw()
        if not (ROOT / name).is_file() or (ROOT / name).read_text() != drawn:
            (ROOT / name).write_text(drawn)
            print(f"{name} drawn anew")
    for page in sorted((ROOT / "docs").glob("*.md")):
        old = page.read_text()
        new = refreshed(old)
        if new != old:
            page.write_text(new)
            print(f"docs/{page.name} rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main())
