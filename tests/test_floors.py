"""Rooms and floors: no import from above, no circle of files, and every room says what it is for."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from triptych.harness.upkeep.pages import floors
from triptych.harness.upkeep.pages.floors import FLOORS, GROUND, ROOT, House

MOST_FILES = 14  # in a room; one that outgrows it has a seam


def wrong_imports(built: House) -> Iterator[str]:
    """A sentence for each import from above and each circle: the files, and what to do."""
    for low, high in built.upward():
        yield (
            f"{built.place(low)} (room {built.room(low)}) imports {built.place(high)} (room {built.room(high)}), which "
            "stands above it: move what it needs into its own room or below, or have the caller hand it in"
        )
    for circle in built.circles():
        names = ", ".join(str(built.place(module)) for module in circle)
        yield f"{names} import each other in a circle: move what they share into a file below them"


@pytest.fixture(scope="module", params=FLOORS)
def built(request: pytest.FixtureRequest) -> House:
    return floors.house(request.param)


def test_no_import_goes_upwards_or_in_a_circle(built: House) -> None:
    assert not list(wrong_imports(built))


def test_every_folder_is_a_room_with_a_floor(built: House) -> None:
    rooms = {built.room(module) for module in built.files}
    assert rooms == set(FLOORS[built.name])


def test_no_room_is_crowded(built: House) -> None:
    assert {folder: n for folder, n in floors.sizes(built).items() if n > MOST_FILES} == {}


def test_every_room_says_in_two_sentences_what_it_is_for(built: House) -> None:
    for room in FLOORS[built.name]:
        if room != GROUND:
            text = ast.get_docstring(ast.parse((ROOT / built.name / room / "__init__.py").read_text())) or ""
            assert len(re.findall(r"[.:](?=\s|$)", text)) >= 2, f"{built.name}/{room}/__init__.py: {text!r}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in FLOORS:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(
    "statement",
    [
        "from triptych.harness.commands import cli",
        "def late():\n    import triptych.harness.commands.cli",
        "if TYPE_CHECKING:\n    from triptych.harness.commands.cli import main",
        "import importlib\nimportlib.import_module('triptych.harness.commands.cli')",
    ],
)
def test_a_planted_import_from_above_is_told_with_both_files(copy: Path, statement: str) -> None:
    planted = copy / "harness" / "judge" / "planted.py"
    planted.write_text(f"from typing import TYPE_CHECKING\n{statement}\n")
    (told,) = wrong_imports(floors.house("harness", copy))
    assert "harness/judge/planted.py (room judge) imports harness/commands/cli.py (room commands)" in told


def test_a_planted_circle_is_told_with_its_files(copy: Path) -> None:
    room = copy / "simulator" / "lint"
    (room / "one.py").write_text("from triptych.simulator.lint import two\n")
    (room / "two.py").write_text("def late():\n    from triptych.simulator.lint.one import x\n")
    (told,) = wrong_imports(floors.house("simulator", copy))
    assert told.startswith("simulator/lint/one.py, simulator/lint/two.py import each other")
