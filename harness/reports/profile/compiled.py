"""What compiled kernels cost, as the one table that terminal and pages share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triptych.harness.reports.text_table import text_table

if TYPE_CHECKING:
    from triptych.harness.profiling.ahead_of_time import Compilation

HEADER = (
    "op",
    "dtype",
    "case",
    "target",
    "kernel",
    "row",
    "warps",
    "stages",
    "registers",
    "spilled B",
    "shared KiB",
    "programs",
    "occupancy",
    "limit",
    "products of",
    "matrix unit",
)
NUMBERS = range(HEADER.index("row"), HEADER.index("limit"))


def table(found: Sequence[Compilation]) -> list[str]:
    """The lines of the table, a row each kernel, configuration and target."""
    return text_table([HEADER, *map(row, found)], right=NUMBERS, rule=True)


def row(one: Compilation) -> list[str]:
    others = f" and {len(one.cases) - 1} more" if len(one.cases) > 1 else ""
    cells = [one.op, one.dtype, f"{one.cases[0]}{others}", one.target]
    kernel = one.kernel
    if kernel is None:
        return [*cells, "does not compile"]
    return [
        *cells,
        kernel.kernel,
        str(one.row or ""),
        str(kernel.num_warps),
        str(kernel.num_stages),
        str(kernel.registers),
        str(kernel.spills_bytes),
        f"{kernel.shared_bytes / 1024:.1f}",
        str(kernel.occupancy.programs),
        f"{kernel.occupancy.share:.0%}",
        kernel.occupancy.limit,
        ", ".join(kernel.dots) or "none",
        ", ".join(kernel.matrix_instructions) or "none",
    ]
