"""Knobs are read from a file that is not run, and a setting changes nothing but their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.harness.errors import UsageError
from triptych.harness.tuning.knobs import Knobs, knob, knobs_of
from triptych.harness.tuning.variants import beside_links

FILE = """# première ligne
BLOCK = 128  # columns
FAST: bool = False
ORDER = "rows"
KNOBS = {"BLOCK": (64, 256), "FAST": (False, True), "ORDER": ("rows", "columns")}
raise RuntimeError("not to be run")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def read(path: Path) -> Knobs:
    found = knobs_of(path)
    assert found is not None
    return found


def test_the_files_own_setting_comes_first_and_every_other_once(file: Path) -> None:
    found = list(read(file).settings())
    assert found[0] == {"BLOCK": 128, "FAST": False, "ORDER": "rows"}
    assert len(found) == read(file).count == 3 * 2 * 2
    assert len({tuple(setting.items()) for setting in found}) == len(found)


def test_a_setting_replaces_literals_and_nothing_else(file: Path) -> None:
    found = read(file)
    assert found.written(found.own) == file.read_bytes()
    changed = found.written({"BLOCK": 4096, "FAST": True, "ORDER": "columns"}).decode()
    assert changed == FILE.replace("BLOCK = 128", "BLOCK = 4096").replace("bool = False", "bool = True").replace(
        'ORDER = "rows"', "ORDER = 'columns'"
    )


def test_true_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("N = 1\nKNOBS = {'N': (1, True, 1.0)}\n")
    found = read(path)
    assert found.count == 3
    assert [found.written(setting).splitlines()[0] for setting in found.settings()] == [
        b"N = 1",
        b"N = True",
        b"N = 1.0",
    ]


def test_values_can_be_given_in_place_of_the_files(file: Path) -> None:
    found = read(file).only(dict([knob("BLOCK=32,512")]))
    assert [dict(setting) for setting in found.settings()] == [
        {"BLOCK": block, "FAST": False, "ORDER": "rows"} for block in (128, 32, 512)
    ]
    with pytest.raises(UsageError, match="unknown knob 'BLOK'; did you mean 'BLOCK'"):
        read(file).only(dict([knob("BLOK=3")]))
    with pytest.raises(UsageError, match="--knob takes NAME=value"):
        knob("BLOCK")


def test_a_file_without_knobs_has_none(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("BLOCK = 128\n")
    assert knobs_of(path) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("KNOBS = make()", "must be a dictionary of literals"),
        ("KNOBS = {}", "must be a dictionary of literals"),
        ("KNOBS = {'A': (1, 2)}", "the knob 'A' must be a constant that the file assigns once"),
        ("A = 1\nA = 2\nKNOBS = {'A': (1, 2)}", "the knob 'A' must be a constant that the file assigns once"),
        ("A = f()\nKNOBS = {'A': (1, 2)}", "a plain number or string"),
        ("A = 1\nKNOBS = {'A': 3}", "takes names and the values to try of each"),
        ("A = 1\nKNOBS = {'A': ()}", "takes names and the values to try of each"),
        ("A = 1\nKNOBS = {'A': ((1, 2),)}", "the knob 'A' takes plain numbers or strings"),
        ("A = ", "is not Python"),
    ],
)
def test_a_declaration_that_says_nothing_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=told):
        knobs_of(path)


def test_a_variant_imports_what_its_file_imports(tmp_path: Path) -> None:
    package = tmp_path / "home" / "package"
    (package / "inner").mkdir(parents=True)
    for folder in (package, package / "inner"):
        (folder / "__init__.py").write_text("")
    (package / "shared.py").write_text("X = 3\n")
    (package / "inner" / "kernel.py").write_text("N = 1\n")
    made = beside_links(package / "inner" / "kernel.py", b"N = 2\n", tmp_path / "variant")
    assert made.read_text() == "N = 2\n"
    assert (package / "inner" / "kernel.py").read_text() == "N = 1\n"
    assert (made.parent.parent / "shared.py").read_text() == "X = 3\n"
    assert not made.is_symlink() and made.name == "kernel.py"


def test_the_page_on_tuning_declares_knobs_as_they_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "tune.md").read_text()
    path = tmp_path / "mine.py"
    path.write_text(page.partition("```python\n")[2].partition("```")[0])
    assert read(path).own == {"CHUNK": 512} and read(path).count == 4


def test_our_matmul_declares_knobs() -> None:
    assert read(Path(__file__).parents[3] / "kernels" / "nki" / "matmul.py").count > 20
