"""The recipes of docs/architecture.md, followed to the letter in a copy of the project: what they add works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
STEP = re.compile(
    r"^`(?P<file>[\w/.]+)`, new.*?```\w+\n(?P<text>.*?)^```$"  # a file and all that is in it
    r"|^The rows?, in `(?P<row>[\w/.]+)`.*?```diff\n(?P<diff>.*?)^```$"
    r"|^Seen with:\n\n(?:```\n(?P<commands>.*?)^```\n*)?(?:```python\n(?P<python>.*?)^```)?$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Recipe:
    """What a section of the page says: files to write, lines to change, and what to run then."""

    files: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, str]] = field(default_factory=list)  # a file and a diff
    commands: list[list[str]] = field(default_factory=list)


def recipes() -> dict[str, Recipe]:
    found: dict[str, Recipe] = {}
    for section in PAGE.read_text().partition("\n## Where do I add")[2].split("\n### ")[1:]:
        recipe = found.setdefault(section.partition("\n")[0], Recipe())
        for step in STEP.finditer(section):
            if step["file"]:
                recipe.files[step["file"]] = step["text"]
            elif step["row"]:
                recipe.rows.append((step["row"], step["diff"]))
            lines = [shlex.split(line) for line in (step["commands"] or "").splitlines()]
            recipe.commands += [[sys.executable, "-m", *words] for words in lines]
            if step["python"]:
                recipe.commands.append([sys.executable, "-c", step["python"]])
    return found


RECIPES = recipes()
KINDS = (
    "an op",
    "an instruction",
    "a chip",
    "a backend",
    "a command",
    "a knob",
    "a lint rule",
    "a chapter of the report",
)


def changed(text: str, diff: str) -> str:
    """`text` with each run of removed lines of a diff replaced by the added ones; context lines say where."""
    old = "".join(line[1:] + "\n" for line in diff.splitlines() if line[:1] in "- ")
    new = "".join(line[1:] + "\n" for line in diff.splitlines() if line[:1] in "+ ")
    assert text.count(old) == 1, f"the page changes lines that are not there once:\n{old}"
    return text.replace(old, new)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    copy = tmp_path / "project"
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=leave)
    return copy


def test_the_page_has_a_recipe_for_every_kind() -> None:
    assert tuple(RECIPES) == KINDS
    assert all(recipe.rows and recipe.commands for recipe in RECIPES.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECIPES)
def test_what_a_recipe_adds_works(kind: str, project: Path) -> None:
    recipe = RECIPES[kind]
    for name, text in recipe.files.items():
        assert not (project / name).exists(), f"{name} is there already"
        (project / name).write_text(text)
    for name, diff in recipe.rows:
        (project / name).write_text(changed((project / name).read_text(), diff))
    for command in recipe.commands:
        env = {**os.environ, "PYTHONPATH": str(project / "src")}
        done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
