"""Faults are small and other programs, the map finds the tests of a line, and a copy tells which faults tests see."""

import ast
import signal
import subprocess
import textwrap
from collections import Counter

import pytest

from triptych.harness.upkeep.own_mutants import faults, reach, runs, score

pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning", "ignore:This process .* is multi-threaded:DeprecationWarning"
)

TEXT = '''
"""A docstring of 3 words."""

LIMIT: int = 4


def first(x, most=2.5, strict=True):
    """Nothing here is a fault: 1 < 2."""
    if x is None or len(x) > most:
        raise ValueError(f"{len(x) + 1} is too many")
    total = 0
    for value in x:
        if value < 0:
            continue
        total += -value / 2
    print(total)
    return min(x) if strict and not total else total
'''


@pytest.fixture
def found(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(TEXT)
    return [fault for fault in faults.faults(path) if faults.is_fault(fault)]


def test_every_fault_is_another_program(found):
    assert len({fault.source for fault in found}) == len(found)
    for fault in found:
        assert ast.dump(ast.parse(fault.source)) != ast.dump(ast.parse(TEXT))
        assert "docstring of 3" in fault.source and "1 < 2" in fault.source
        assert "{len(x) + 1} is too many" in fault.source or "raise" not in fault.source


def test_there_is_every_kind_of_fault(found):
    kinds = Counter(fault.operator for fault in found)
    assert kinds == {
        "constant": 6,  # 4, 2.5, True, and 0, 0, 2 within
        "comparison": 5,
        "and, or": 2,
        "operand dropped": 4,
        "arithmetic": 1,
        "operands swapped": 1,
        "sign dropped": 2,
        "condition": 6,
        "statement dropped": 4,
        "swapped": 1,
    }
    changed = {fault.diff().splitlines()[-1].strip("+ ") for fault in found}
    assert {"LIMIT: int = 5", "def first(x, most=3.125, strict=True):", "total += ((2) / (-value))", "pass"} <= changed
    assert "return max(x) if strict and not total else total" in changed


def test_the_quickest_tests_that_reach_a_line_come_first():
    seconds = {"a": 3.0, "b": 1.0, "c": 2.0, "slow": 100.0}
    found = reach.Reach(seconds, {("one.py", 4): {"a", "b"}, ("one.py", 9): {"c", "slow"}})
    assert found.of("one.py", 4) == ["b", "a"]
    assert found.of("one.py", 9) == ["c"], "those that take a minute and a half together"
    assert found.of("one.py", 1) == ["b", "c", "a"], "executed on import alone"
    assert found.of("other.py", 1) == ["b", "c", "a"], "in a subprocess, perhaps"


PROJECT = {
    "src/thing.py": "def double(x):\n    if x > 1000:\n        return 0\n    return 2 * x\n",
    "tests/test_thing.py": """
        import thing

        def test_double():
            assert thing.double(3) == 6
    """,
    "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow: a sweep"]\n',
}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the project is not triptych
    root = tmp_path / "project"
    for name, text in PROJECT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return runs.Copy(root, tmp_path / "copy")


def test_what_tests_see_of_a_fault(copy):
    found = copy.reach("room", ["tests"])
    (test,) = found.seconds
    by_text = {fault.diff().splitlines()[-1]: fault for fault in faults.faults(copy.root / "src" / "thing.py")}
    assert copy.detects(by_text["+ return 3 * x"], [test], 60) == "failed"
    assert copy.detects(by_text["+ if x > 1001:"], [test], 60) is None
    assert (copy.folder / "src" / "thing.py").read_text() == PROJECT["src/thing.py"], "as it was"


def test_what_does_not_end_is_seen_too(copy):
    assert copy.forked(signal.pause, 0.3) is None


def test_tests_that_fail_without_a_fault_are_no_judge(copy):
    (copy.folder / "tests" / "test_thing.py").write_text("def test_nothing():\n    assert 0\n")
    with pytest.raises(RuntimeError, match=r"(?s)the tests of room do not pass without a fault: .*assert 0"):
        copy.reach("room", ["tests"])


def test_a_sample_is_the_same_for_a_seed_and_stands_in_order():
    one, again, other = (score.sample("trials", 12, seed) for seed in (0, 0, 1))
    assert [fault.source for fault in one] == [fault.source for fault in again] != [fault.source for fault in other]
    assert [(str(fault.path), fault.line) for fault in one] == sorted((str(fault.path), fault.line) for fault in one)


def test_the_table_has_a_row_a_file():
    some = score.sample("trials", 12, 0)
    text = score.table([(fault, None if i == 0 else "failed") for i, fault in enumerate(some)])
    assert text.splitlines()[-1] == "| all | 12 | 11 | 92 % |"
    assert "harness/trials/" in text and len(text.splitlines()) == 3 + len({fault.path for fault in some})
