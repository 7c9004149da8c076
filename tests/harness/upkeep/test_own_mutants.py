"""Faults are small and other programs, the map finds the tests of a line, and a copy tells which faults tests see."""

import ast
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from triptych.harness.upkeep.own_mutants import faults, planting, processes, reach, runs, score, warm
from triptych.simulator.compiled.in_place import IS_COMPILED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:os.fork:RuntimeWarning", "ignore:This process .* is multi-threaded:DeprecationWarning"
    ),
]

TRIALS = score.folder_of("trials")
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


LEFT_OUT = """
@dataclass(frozen=True)
class One:
    size = 3


def apart(a, b):
    pairs = zip(a, b, strict=True)
    return abs(a - b), norm(a - b), np.square(a - b), (a - b) ** 2, a.reshape(-1, 3), (a - b) ** 3, abs(-a) - b, pairs
"""


def test_what_decides_nothing_is_no_fault(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(LEFT_OUT)
    changed = [fault.diff().splitlines()[-1].strip("+ ") for fault in faults.faults(path) if faults.is_fault(fault)]
    assert not [line for line in changed if "False" in line or "reshape(-2" in line]
    whole = "abs(a - b), norm(a - b), np.square(a - b), (a - b) ** 2, a.reshape(-1, 3), (a - b) ** 3, abs(-a) - b"
    swapped = [
        (whole.replace("(a - b) ** 3", "(((b) - (a))) ** 3")),
        (whole.replace("abs(-a) - b", "((b) - (abs(-a)))")),
    ]
    assert [line for line in changed if "(b) - (" in line] == [f"return {line}, pairs" for line in swapped]
    assert {"size = 4"} <= set(changed)
    others = (
        "abs(((a) + (b)))",
        "norm(((a) + (b)))",
        "np.square(((a) + (b)))",
        "(((a) + (b))) ** 2",
        "reshape((1), 3)",
        "abs((a)) - b",
    )
    assert all(any(other in line for line in changed) for other in others)


def test_the_quickest_tests_that_reach_a_line_come_first():
    seconds = {"a": 3.0, "b": 1.0, "c": 2.0, "slow": 119.0}
    found = reach.Reach(seconds, {("one.py", 4): {"a", "b"}, ("one.py", 9): {"c", "slow"}})
    assert found.of("one.py", 4) == ["b", "a", "c"], "they are few, so those of the file follow"
    assert found.of("one.py", 9) == ["c"], "those that take two minutes together"
    found.tests["two.py", 1] = {"a"}
    assert found.of("two.py", 7) == ["a", "b", "c"], "executed on import alone: who imports it may be another"
    assert found.of("other.py", 1) == ["b", "c", "a"], "in a subprocess, perhaps"
    found.apart.add("c")
    assert found.of("other.py", 1) == ["c", "b", "a"], "first those that start one"
    found.on_import.add(("other.py", 1))
    assert found.of("other.py", 1) == ["b", "c", "a"], "in any process"
    many = [str(i) for i in range(reach.FEW)]
    found = reach.Reach(dict.fromkeys([*many, "other"], 1.0), {("one.py", 4): {*many}, ("one.py", 9): {"other"}})
    assert sorted(found.of("one.py", 4)) == many


def test_a_file_of_tests_with_the_name_of_what_it_tests_is_another():
    names = ["/a/src/simulator/language/sums.py", "/b/simulator/language/sums.py", "/a/tests/simulator/calls/sums.py"]
    assert [reach.called(name) for name in names] == ["language/sums.py", "language/sums.py", "calls/sums.py"]


PROJECT = {
    "src/thing.py": """
        LIMIT = 7

        def double(x):
            if x > 1000:
                return 0
            return 2 * x

        def limited(x):
            return min(x, LIMIT)

        TABLE = [double(1)]
    """,
    "tests/test_thing.py": """
        from thing import TABLE, double, limited

        def test_double():
            assert double(3) == 6

        def test_table():
            assert TABLE

        def test_limited():
            assert limited(3) == 3 and limited(9) < 9
    """,
    "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow: a sweep"]\npythonpath = ["src"]\n',
}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the project is not triptych
    return runs.Copy(project(tmp_path, PROJECT), tmp_path / "copy")


def project(tmp_path, files):
    root = tmp_path / "project"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text))
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def test_what_tests_see_of_a_fault(copy):
    every = list(faults.faults(copy.root / "src" / "thing.py"))
    by_text = {fault.diff().splitlines()[-1].strip("+ "): fault for fault in every}
    chosen = [
        by_text[text] for text in ("return 3 * x", "if x > 1001:", "LIMIT = 8", "if True:", "return max(x, LIMIT)")
    ]
    told = []
    ended = warm.try_all(copy, [], ["tests"], chosen, told.append)
    assert [one.how for one in ended] == ["failed", None, None, "failed", "failed"]
    assert [one.fault for one in ended] == chosen and all(one.cpu_s > 0 for one in ended)
    assert (copy.folder / "src" / "thing.py").read_text() == (copy.root / "src" / "thing.py").read_text(), "as it was"


def test_a_fault_of_what_a_subprocess_executes_is_seen_by_the_test_that_starts_it(copy):
    (copy.folder / "tests" / "test_thing.py").write_text(
        "import subprocess, sys, time\n\n"
        "def test_here():\n    from thing import limited\n    assert limited(3) == 3\n\n"
        "def test_there():\n"
        "    work = 'import time, thing\\nwhile time.process_time() < 0.4: pass\\nassert thing.double(3) == 6'\n"
        "    subprocess.run([sys.executable, '-c', work], check=True)\n"
    )
    (fault,) = [f for f in faults.faults(copy.root / "src" / "thing.py") if f.diff().endswith("+ return 3 * x")]
    (one,) = warm.try_all(copy, [], ["tests"], [fault])
    assert one.how == "failed" and one.tests[0].endswith("::test_there")


def test_a_fault_of_what_an_import_executes_is_tried_with_all_imported_anew(copy):
    (copy.folder / "tests" / "test_thing.py").write_text(
        "import thing\n\ndef test_it():\n    assert thing.LIMIT == 7\n"
    )
    (fault,) = [f for f in faults.faults(copy.root / "src" / "thing.py") if f.diff().endswith("+ LIMIT = 8")]
    assert [one.how for one in warm.try_all(copy, [], ["tests"], [fault])] == ["failed"]


def test_tests_that_fail_without_a_fault_are_no_judge(copy):
    (copy.folder / "tests" / "test_thing.py").write_text("def test_nothing():\n    assert 0\n")
    with pytest.raises(
        RuntimeError, match=r"(?s)do not pass without a fault: tests/test_thing.py::test_nothing.*assert 0"
    ):
        warm.try_all(copy, [], ["tests"], [])


FOR_C = """
    # for simulator/compiled/quick.c
    import os

    def double(x):
        return quick(x) if os.environ["TRIPTYCH_COMPILED"] == "1" else x + x

    def quick(x):
        return 2 * x
"""


TESTED = """
    from prepared import double
    from unseen import nothing

    def test_it():
        assert double(3) == 6 and nothing(3) is not None
"""


def test_a_fault_of_what_only_c_reads_is_seen_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    root = project(
        tmp_path,
        {
            "simulator/prepared.py": FOR_C,
            "simulator/unseen.py": "def nothing(x):\n    return 0\n",
            "tests/test_prepared.py": TESTED,
            "pyproject.toml": PROJECT["pyproject.toml"].replace('"src"', '"simulator"'),
        },
    )
    by_text = {f.diff().splitlines()[-1].strip("+ "): f for f in faults.faults(root / "simulator" / "prepared.py")}
    chosen = [by_text["return 3 * x"], next(f for text, f in by_text.items() if text.endswith("else ((x) - (x))"))]
    chosen += faults.faults(root / "simulator" / "unseen.py")
    in_python = warm.try_all(runs.Copy(root, tmp_path / "copy"), [], ["tests"], chosen)
    assert [one.how for one in in_python] == [None, "failed", None]
    ended = warm.try_either_way(root, tmp_path / "copies", [], ["tests"], chosen)
    assert [one.fault for one in ended] == chosen and [one.how for one in ended] == ["failed", "failed", None]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_process_of_a_copy_has_what_is_compiled_if_it_is_to(tmp_path, compiled):
    def clock():
        from triptych.simulator.timing import arrays

        found = "nothing" if arrays.CLOCK is None else arrays.CLOCK.__file__
        print(found)
        return 0

    if compiled and not IS_COMPILED:
        pytest.skip("nothing is compiled: no C compiler was there, or TRIPTYCH_COMPILED=0")
    copy = runs.Copy(score.ROOT, tmp_path / "copy", compiled)
    assert copy.forked(clock, 60).code == 0
    assert copy.said().startswith(str(copy.folder) if compiled else "nothing"), copy.said()


def test_whoever_imports_them_keeps_what_is_compiled():
    code = (
        "import os; before = dict(os.environ); from triptych.harness.upkeep.own_mutants import score; "
        "assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


FUNCTIONS = {
    "plain": ("def f(x):\n    return x + 1\n", "def f(x):\n    return x - 1\n"),
    "of a class": ("class C:\n    def f(self):\n        return 1\n", "class C:\n    def f(self):\n        return 2\n"),
    "with one within": (
        "def f():\n    def g():\n        return 1\n    return g\n",
        "def f():\n    def g():\n        return 2\n    return g\n",
    ),
}
ON_IMPORT = {
    "a constant": ("A = 1\n", "A = 2\n"),
    "a default": ("def f(x=1):\n    return x\n", "def f(x=2):\n    return x\n"),
    "a field": ("class C:\n    x = 1\n", "class C:\n    x = 2\n"),
}


@pytest.mark.parametrize("before, after", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_that_is_imported_gets_the_fault(tmp_path, before, after):
    path = tmp_path / "one.py"
    path.write_text(before)
    names = {}
    exec(compile(before, str(path), "exec"), names)
    fault = planting.Mutant(path, 2, "f", "", after)
    assert planting.plant(fault, path)
    value = names["f"](1) if "x" in before else names["C"]().f() if "C" in names else names["f"]()()
    assert value == (0 if "x" in before else 2)


MAKER = """
def declared(name):
    def issue(x, by=lambda v: v + 1):
        return by(x)
    return issue
"""


@pytest.mark.parametrize("old, new, value", [("by(x)", "by(-x)", -4), ("v + 1", "v - 1", 4)])
def test_functions_that_a_function_has_made_get_the_fault(tmp_path, old, new, value):
    path, names = tmp_path / "one.py", {}
    path.write_text(MAKER)
    exec(compile(MAKER, str(path), "exec"), names)
    made = names["declared"]("one")
    assert made(5) == 6
    assert planting.plant(planting.Mutant(path, 2, "declared", "", MAKER.replace(old, new)), path)
    assert made(5) == names["declared"]("another")(5) == value


@pytest.mark.parametrize("before, after", ON_IMPORT.values(), ids=ON_IMPORT)
def test_what_an_import_executes_cannot_be_changed_later(tmp_path, before, after):
    path = tmp_path / "one.py"
    path.write_text(before)
    exec(compile(before, str(path), "exec"), {})
    assert not planting.plant(planting.Mutant(path, 1, "", "", after), path)


FOR_EVER = {
    "in Python": lambda: signal.pause() or 0,
    "in C, where no handler in Python runs": lambda: sum(iter(int, 1)),
}


@pytest.mark.parametrize("work", FOR_EVER.values(), ids=FOR_EVER)
def test_what_does_not_end_is_seen_too(work):
    ended = processes.forked(work, 0.3)
    assert ended.code is None and runs.how(ended) == "timeout"


def test_a_fault_that_never_ends_in_c_is_seen_once_its_test_has_had_time(copy, monkeypatch):
    monkeypatch.setattr(warm, "PATIENCE_S", 0.5)
    (copy.root / "src" / "thing.py").write_text(
        "from itertools import islice, repeat\n\ndef first(n):\n    return sum(islice(repeat(1), n if n else None))\n"
    )
    (copy.folder / "src" / "thing.py").write_text((copy.root / "src" / "thing.py").read_text())
    (copy.folder / "tests" / "test_thing.py").write_text(
        "from thing import first\n\ndef test_it():\n    assert first(3) == 3\n"
    )
    (fault,) = [f for f in faults.faults(copy.root / "src" / "thing.py") if "repeat(1), (None)" in f.source]
    assert [one.how for one in warm.try_all(copy, [], ["tests"], [fault])] == ["timeout"]


def test_a_process_says_how_it_ended_and_where_it_was_told_to(tmp_path):
    said = tmp_path / "said.txt"

    def work():
        print("words")
        os.system("echo of another")
        return 3

    ended = processes.forked(work, 60, said)
    assert (ended.code, runs.how(ended), said.read_text().split("\n")) == (3, "failed", ["of another", "words", ""])
    assert runs.how(processes.forked(lambda: 0, 60)) is None
    assert runs.how(processes.forked(lambda: 1 // 0, 60, said)) == "failed" and "ZeroDivisionError" in said.read_text()


def test_a_room_is_found_in_either_house():
    names = ("trials", "timing", "simulator")
    assert [str(score.folder_of(name)) for name in names] == ["harness/trials", "simulator/timing", "simulator"]
    with pytest.raises(ValueError, match=r"no room is called 'cellar'; there are harness, simulator, .*, timing"):
        score.folder_of("cellar")


def test_a_sample_is_of_all_rooms_that_are_named():
    folders = [score.folder_of(name) for name in ("timing", "trials")]
    some = score.sample(folders, 40, 0)
    found = {fault.path.relative_to(score.ROOT).as_posix() for fault in some}
    assert all(any(file.startswith(f"{folder}/") for file in found) for folder in folders), found


def test_a_sample_is_the_same_for_a_seed_and_stands_in_order():
    one, again, other = (score.sample([TRIALS], 12, seed) for seed in (0, 0, 1))
    assert [fault.source for fault in one] == [fault.source for fault in again] != [fault.source for fault in other]
    assert [(str(fault.path), fault.line) for fault in one] == sorted((str(fault.path), fault.line) for fault in one)


def test_the_table_has_a_row_a_file():
    some = score.sample([TRIALS], 12, 0)
    text = score.table([(fault, None if i == 0 else "failed") for i, fault in enumerate(some)])
    assert text.splitlines()[-1] == "| all | 12 | 11 | 92 % |"
    assert "harness/trials/" in text and len(text.splitlines()) == 3 + len({fault.path for fault in some})
