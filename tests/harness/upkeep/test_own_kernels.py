"""The tables of docs/timing.md on our own kernels: every kernel is there, and each fault is that of a row."""

from __future__ import annotations

import ast
from pathlib import Path

from triptych.harness.upkeep.pages.own_kernels import FAULTS, ROWS

KERNELS = Path(__file__).resolve().parents[3] / "kernels" / "nki"


def public(path: Path) -> set[str]:
    """The names of a file that are kernels, also of one on two cores."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    decorated = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    on_cores = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return decorated | on_cores


def test_every_kernel_has_a_row() -> None:
    every = {f"{path.stem}:{name}" for path in KERNELS.glob("*.py") for name in public(path)}
    assert {row.kernel for row in ROWS} == every and "matmul:matmul_two_cores" in every


def test_a_row_is_of_one_kernel_at_one_shape_on_one_chip() -> None:
    assert len({(row.kernel, row.what, row.target) for row in ROWS}) == len(ROWS)


def test_a_setting_that_rested_on_a_fault_gained_less_then_than_now() -> None:
    for fault in FAULTS:
        then, cells = min(fault.changes[:2]), fault.cells()
        assert then > float(cells[-1].removesuffix("%")) + 1 and len(cells) == 3 + len(fault.changes) + 1
