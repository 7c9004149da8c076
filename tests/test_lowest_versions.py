"""The lowest versions that are declared are versions, one command tries them, and no test has a deadline."""

from __future__ import annotations

import ast
import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
SEARCHES = ("settings", "hypothesis.settings", "settings.register_profile")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lowest", ROOT / ".ci" / "lowest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in re.findall(r"\d+", text)[:2])


def test_every_dependency_has_a_lowest_version_that_what_is_here_fulfils() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = dict(line.split("==") for line in script().lowest(text, linux=True))
    declared = text.partition("\ndependencies = [\n")[2].partition("\n]")[0]
    assert len(found) == len(re.findall(r'^ +"', declared, re.MULTILINE)) and found["numpy"] == "2.1.*"
    for name, lowest in found.items():
        if name not in ("triton", "tomli"):  # no wheels for every system; part of Python since 3.11
            assert numbers(version(name)) >= numbers(lowest), name
    assert "triton" not in dict(line.split("==") for line in script().lowest(text, linux=False))


def test_a_command_tries_them() -> None:
    target = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlowest:")[2].partition("\n\n")[0]
    assert ".ci/lowest.py" in target and 'pytest $(SPREAD) -m "not slow"' in target
    assert re.search(r"^make \S+ lowest ", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)


def test_no_search_of_hypothesis_has_a_deadline() -> None:
    """Machines are busy: tests have that of the profile in conftest.py, which has none."""
    wrong = []
    for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "harness").rglob("*.py")]:
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "settings" in source else ():  # to parse every file takes seconds
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in SEARCHES:
                continue
            deadlines = [keyword.value for keyword in node.keywords if keyword.arg == "deadline"]
            none = all(isinstance(value, ast.Constant) and value.value is None for value in deadlines)
            if path.is_relative_to(ROOT / "harness") and ast.unparse(node.func) == "settings":
                continue  # a function of ours
            needed = path.is_relative_to(ROOT / "harness") or path.name == "conftest.py"
            if not none or (needed and not deadlines):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
