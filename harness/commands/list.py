"""`triptych list`: the ops in a table; with OP, its equation and every case."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.collection import load_ops
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import pick_ops


def run(arguments: Namespace) -> int:
    ops = list(pick_ops(arguments.ops, load_ops(arguments.sources)).values())
    if arguments.json:
        import json

        from triptych.harness.results.document import SCHEMA_VERSION

        body = {"schema_version": SCHEMA_VERSION, "ops": [record(op) for op in ops]}
        files.write(arguments.json, json.dumps(body, indent=1) + "\n")
        if arguments.json == "-":
            return ExitCode.OK
    if arguments.ops:
        print("\n".join(line for op in ops for line in cases(op)))
        return ExitCode.OK
    print(table(ops))
    print(f"\nbackends: {', '.join(BACKENDS)} (`triptych doctor` says which are here)")
    return ExitCode.OK


def cases(op: Op) -> Iterable[str]:
    """An op's lines: what it means, what it has, and its cases by set."""
    yield f"{op.name}: {op.summary}"
    yield f"  axes {', '.join(op.axes)} · {', '.join(op.dtypes)} · {', '.join(panels(op))}"
    for name, some in op.case_sets.items():
        yield f"  {name} ({len(some)})"
        yield from (f"    {case.name}" for case in some)


def table(ops: Iterable[Op]) -> str:
    head = ["op", "axes", "cases", "meaning"]
    rows = [
        [op.name, " ".join(op.axes), " ".join(f"{name} {len(some)}" for name, some in op.case_sets.items()), op.summary]
        for op in ops
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in [head, *rows]
    )


def panels(op: Op) -> list[str]:
    """The panels this op has, its reference among them."""
    panels = dict.fromkeys(backend.panel for backend in BACKENDS.values())
    return [panel for panel in panels if getattr(op, panel) is not None]


def record(op: Op) -> dict[str, Any]:
    """An op in the JSON document."""
    return {
        "op": op.name,
        "summary": op.summary,
        "axes": list(op.axes),
        "dtypes": list(op.dtypes),
        "panels": panels(op),
        "cases": {name: [case.name for case in some] for name, some in op.case_sets.items()},
    }
