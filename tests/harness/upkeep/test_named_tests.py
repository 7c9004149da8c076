"""Which names a test reaches, read off its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.harness.upkeep.pages.named_tests import exercised

HELPER = """
TABLE = {"tanh": 1}
"""
SOURCE = """
from beside import TABLE

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

cmd = nisa.reduce_cmd
PARAMETERS = {"exp": 1, "log": 2}
DRAWN = {"sin": lambda: nl.cos}
CASES = [lambda c: nl.tan(c)]

def helper():
    return nl.zeros

def test_body(core):
    helper()
    nl.tile_size.pmax + cmd.reset

@pytest.mark.parametrize("name", PARAMETERS)
def test_looked_up(name):
    getattr(nl, name)

@pytest.mark.parametrize("name", PARAMETERS)
def test_strings_alone(name):
    pass

@pytest.mark.parametrize("name", TABLE)
def test_imported(name):
    getattr(nl, name)

@given(st.sampled_from(DRAWN))
def test_drawn(name):
    getattr(nl, name)(DRAWN)

@pytest.mark.parametrize("call", CASES)
def test_cases(call):
    call(1).permute((0, 2, 1)).reshape(3)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    folder = tmp_path_factory.mktemp("tests")
    (folder / "test_some.py").write_text(SOURCE)
    (folder / "beside.py").write_text(HELPER)
    return exercised(Path(folder))


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("nki.language.zeros", ["test_body"]),
        ("nki.language.tile_size", ["test_body"]),
        ("nki.language.tile_size.pmax", ["test_body"]),
        ("nki.isa.reduce_cmd.reset", ["test_body"]),
        ("nki.language.exp", ["test_looked_up"]),
        ("nki.language.log", ["test_looked_up"]),
        ("nki.language.tan", ["test_cases"]),
        ("nki.language.tanh", ["test_imported"]),
        ("nki.language.NkiTensor.permute", ["test_cases"]),
        ("nki.language.NkiTensor.reshape", []),  # an array of NumPy has a method of that name
        ("nki.language.sin", []),  # need not be drawn
        ("nki.language.cos", []),  # only picked from
        ("nki.language.ones", []),
    ],
)
def test_what_a_test_reaches(found: dict[str, tuple[str, ...]], name: str, tests: list[str]) -> None:
    assert list(found.get(name, ())) == [f"test_some.{test}" for test in tests]
