"""The drawings of docs/architecture.md: each house as its floors, with what a room is for and whom it calls."""

from __future__ import annotations

import ast
import textwrap

from triptych.harness.upkeep.pages.floors import FLOORS, GROUND, House, house

NAME, PURPOSE, CALLS = 11, 62, 40  # columns of the three cells of a floor
GROUND_PURPOSE = {
    "harness": "what everyone uses: arrays and dtypes, errors and exit codes, files that are whole or not there",
    "simulator": "what everyone uses: chips, dtypes, enums, errors, the trace, and the protocol of the running machine",
}


def drawing(name: str) -> str:
    """The house as a drawing of its floors, the top floor first, in a fenced block."""
    built = house(name)
    edges = [edge * (width + 2) for edge, width in zip("───", (NAME, PURPOSE, CALLS), strict=True)]
    lines = [
        f"┌{'┬'.join(edges)}┐",
        *floor(("room", "what a reader finds there", "calls")),
        f"╞{'╪'.join(edges).replace('─', '═')}╡",
    ]
    for room in reversed(FLOORS[name]):
        lines += [*floor((room, purpose(built, room), ", ".join(calls(built, room)))), f"├{'┼'.join(edges)}┤"]
    lines[-1] = f"└{'┴'.join(edges)}┘"
    return "```\n" + "\n".join(lines) + "\n```\n"


def floor(cells: tuple[str, str, str]) -> list[str]:
    """One floor, its cells wrapped to their columns."""
    columns = [textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, (NAME, PURPOSE, CALLS), strict=True)]
    height = max(map(len, columns))
    filled = [[*column, *[""] * (height - len(column))] for column in columns]
    return [f"│ {a:<{NAME}} │ {b:<{PURPOSE}} │ {c:<{CALLS}} │" for a, b, c in zip(*filled, strict=True)]


def purpose(built: House, room: str) -> str:
    """The first sentence of a room's docstring, without its full stop."""
    if room == GROUND:
        return GROUND_PURPOSE[built.name]
    text = ast.get_docstring(ast.parse((built.root / built.name / room / "__init__.py").read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def calls(built: House, room: str) -> list[str]:
    """The rooms that the files of `room` import from, the ground left out; the highest first."""
    own = [module for module in built.imports if built.room(module) == room and module != f"triptych.{built.name}"]
    called = {built.room(other) for module in own for other in built.imports[module]}
    return [other for other in reversed(FLOORS[built.name]) if other in called - {room, GROUND}]


TABLES = {"harness": lambda: drawing("harness"), "simulator": lambda: drawing("simulator")}
