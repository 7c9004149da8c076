"""The pytest plugin as a user's repository meets it: three lines, options, skips with a reason, messages, xdist."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

# A session inside this one forgets what it imported, which NumPy does not survive: all of it is imported here before.
import triptych.harness.collection
import triptych.harness.reports.tables
import triptych.harness.testing.kernel_tests
import triptych.simulator  # noqa: F401

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
# Where triptych is not installed but on the path, pytest has no entry point to find the plugin by.
LOADED = [] if entry_points(group="pytest11", name="triptych") else ["-p", "triptych.harness.testing.plugin"]

KERNEL = '''
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op


def reference(x):
    """out[R, C] = 2 x[R, C]."""
    return 2 * x


@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=FACTOR)
    nisa.dma_copy(dst=out, src=tile)
    return out


op = Op(
    "double",
    {"x": ("R", "C")},
    reference,
    {"smoke": [{"R": 4, "C": 8}], "edge": [{"R": 128, "C": 1}], "model": [{"R": 128, "C": 1024}]},
    dtypes=("float32",),
    nki=kernel,
    unsupported=lambda case, backend, target: "one column is too few" if case.axes["C"] == 1 else None,
)
'''
THREE_LINES = 'import triptych\n\ntest_kernels = triptych.kernel_tests("../kernels/double.py")\n'


@pytest.fixture
def repository(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's repository: kernels/double.py, which is right, and tests/test_kernels.py."""
    for variable in ("CI", "BUILD_NUMBER"):  # where they are set, pytest's summary repeats whole messages
        monkeypatch.delenv(variable, raising=False)
    for folder in ("kernels", "tests"):
        (pytester.path / folder).mkdir()
    write_kernel(pytester, "2.0")
    (pytester.path / "tests" / "test_kernels.py").write_text(THREE_LINES)
    return pytester


def write_kernel(pytester: pytest.Pytester, factor: str) -> None:
    (pytester.path / "kernels" / "double.py").write_text(KERNEL.replace("FACTOR", factor))


def run(pytester: pytest.Pytester, *arguments: str) -> Any:
    return pytester.runpytest_inprocess(*LOADED, "-p", "no:benchmark", *arguments)


def test_three_lines_make_a_test_of_each_case_and_backend(repository: pytest.Pytester) -> None:
    result = run(repository, "-v", "-rs", "--triptych-backend", "nki-sim,nki")
    result.assert_outcomes(passed=1, skipped=3)
    text = result.stdout.str()
    assert "tests/test_kernels.py::test_kernels[double-4x8-float32-nki-sim-trn2] PASSED" in text
    assert re.search(r"SKIPPED \[2\] tests/test_kernels.py:3: nki: there is no Neuron device here", text)
    assert "nki-sim: one column is too few" in text


def test_backends_without_a_panel_and_the_reference_make_no_test(repository: pytest.Pytester) -> None:
    listed = run(repository, "--collect-only", "-q").stdout.str()
    assert "nki-sim-trn2" in listed and "nki]" in listed
    assert "triton" not in listed and "numpy" not in listed and "1024" not in listed
    assert "float32-numpy" in run(repository, "--collect-only", "-q", "--triptych-backend", "numpy").stdout.str()


def test_cases_and_targets_are_chosen_in_the_file(repository: pytest.Pytester) -> None:
    chosen = THREE_LINES.replace('py")', 'py", cases=["model"], targets=["trn1", "trn3"])')
    (repository.path / "tests" / "test_kernels.py").write_text(chosen)
    listed = run(repository, "--collect-only", "-q", "--triptych-backend", "nki-sim").stdout.str()
    names = re.findall(r"test_kernels\[(.*)\]", listed)
    assert names == [f"double-128x1024-float32-nki-sim-{chip}" for chip in ("trn1", "trn3")]


def test_a_wrong_kernel_fails_with_the_judges_sentence(repository: pytest.Pytester) -> None:
    write_kernel(repository, "2.01")
    result = run(repository, "--triptych-backend", "nki-sim", "-k", "4x8")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert re.search(r"^\d+ of 32 elements", text, re.M), "pytest's summary shows the first line"
    assert re.search(r"of 32 elements .* at \[\d, \d\]: expected", text)
    assert "repeat it alone: triptych check double --kernel kernels/double.py --cases smoke -k 4x8" in text
    assert "def test" not in text and "Traceback" not in text


def test_a_kernel_that_raises_fails_with_its_line(repository: pytest.Pytester) -> None:
    write_kernel(repository, "1 / 0")
    result = run(repository, "--triptych-backend", "nki-sim", "-k", "4x8")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: division by zero (double.py:18)*"])


def test_a_kernel_that_kills_its_process_costs_one_test(repository: pytest.Pytester) -> None:
    write_kernel(repository, "2.0 if x.shape[1] == 8 else __import__('os')._exit(3)")
    path = repository.path / "kernels" / "double.py"
    path.write_text(path.read_text().replace("== 1 else", "== 0 else"))
    result = run(repository, "--triptych-backend", "nki-sim")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the worker process died while running the kernel: it exited with code 3*"])


def test_require_fails_where_the_backend_is_missing(repository: pytest.Pytester) -> None:
    result = run(repository, "--triptych-require", "nki", "-k", "4x8")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the required backend nki is missing: there is no Neuron device*"])


@pytest.mark.parametrize("selected", [("-k", "nothing"), ("-k", "128x1")])
def test_require_fails_where_nothing_ran(repository: pytest.Pytester, selected: tuple[str, ...]) -> None:
    result = run(repository, "--triptych-require", "nki-sim", "--triptych-backend", "nki-sim", *selected)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no kernel test ran on nki-sim, which --triptych-require asks for"])


def test_require_is_content_with_a_failure_counted_once(repository: pytest.Pytester) -> None:
    result = run(repository, "--triptych-require", "nki-sim", "--triptych-backend", "nki-sim")
    assert result.ret == 0 and "--triptych-require asks" not in result.stdout.str()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--triptych-backend", "nki_sim"], "*unknown backend 'nki_sim'; did you mean 'nki-sim'? There is: numpy, *"),
        (["--triptych-backend", "torch", "--triptych-require", "nki-sim"], "*--triptych-backend leaves it out*"),
    ],
)
def test_a_backend_that_makes_no_sense_stops_the_session(
    repository: pytest.Pytester, arguments: list[str], sentence: str
) -> None:
    result = run(repository, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])


@pytest.mark.parametrize(
    "call, sentence",
    [
        ('"missing.py"', "*missing.py is not a file*"),
        ('"../kernels/double.py", cases=["large"]', "*unknown case set 'large'*There is: smoke, edge, model*"),
        ('"../kernels/double.py", targets=["trn9"]', "*unknown target 'trn9'*There is: trn1, inf2, trn2, trn3*"),
        ("", "*kernel_tests takes the files of your kernels*"),
        ('["../kernels/double.py"]', "*takes the files of your kernels one after the other*"),
        ('"../kernels/double.py", cases="smoke"', "*a list of cases, as cases=?\"smoke\"?, got 'smoke'*"),
        ('"../kernels/double.py", seed=-1', "*a whole number of 0 or more as its seed, got -1*"),
    ],
)
def test_a_mistake_in_the_three_lines_is_said_at_collection(
    repository: pytest.Pytester, call: str, sentence: str
) -> None:
    (repository.path / "tests" / "test_kernels.py").write_text(
        f"import triptych\n\ntest_kernels = triptych.kernel_tests({call})\n"
    )
    result = run(repository)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([sentence])


def test_a_kernel_file_that_does_not_load_is_said_once(repository: pytest.Pytester) -> None:
    (repository.path / "kernels" / "double.py").write_text("import nothing_of_that_name\n")
    result = run(repository)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = result.stdout.str()
    assert text.count("No module named 'nothing_of_that_name' (double.py:1)") == 1 and "During handling" not in text


def test_a_file_of_which_nothing_can_be_tested_is_no_success(repository: pytest.Pytester) -> None:
    path = repository.path / "kernels" / "double.py"
    path.write_text(path.read_text().replace("nki=kernel,", ""))
    result = run(repository)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*double.py makes no test: double without a kernel or without cases of*"])
    assert run(repository, "--triptych-backend", "triton-cpu").ret == pytest.ExitCode.OK, "this may leave a file out"


def test_a_class_is_no_place_for_kernel_tests(repository: pytest.Pytester) -> None:
    inside = THREE_LINES.replace("test_kernels =", "class TestK:\n    test_kernels =")
    (repository.path / "tests" / "test_kernels.py").write_text(inside)
    run(repository).stdout.fnmatch_lines(["*stands in a class: write test_kernels = kernel_tests(*"])


def test_without_the_plugin_the_three_lines_say_so(repository: pytest.Pytester) -> None:
    result = repository.runpytest_subprocess("-p", "no:triptych", "-p", "no:benchmark", "-W", "error")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*which has not loaded triptych's plugin*-p no:triptych*"])


def test_ops_of_one_name_in_two_files_are_told_apart(repository: pytest.Pytester) -> None:
    (repository.path / "more").mkdir()
    (repository.path / "more" / "double.py").write_text((repository.path / "kernels" / "double.py").read_text())
    both = THREE_LINES.replace('py")', 'py", "../more/double.py", cases=["smoke"])')
    (repository.path / "tests" / "test_kernels.py").write_text(both)
    listed = run(repository, "--collect-only", "-q", "--triptych-backend", "nki-sim").stdout.str()
    names = re.findall(r"test_kernels\[(.*)\]", listed)
    assert names == [f"{folder}/double.py:double-4x8-float32-nki-sim-trn2" for folder in ("kernels", "more")]


@pytest.mark.parametrize("marker", ["triptych", "kernel"])
def test_kernel_tests_carry_a_marker_and_stand_beside_others(repository: pytest.Pytester, marker: str) -> None:
    (repository.path / "tests" / "test_other.py").write_text("def test_other():\n    pass\n")
    run(repository, "-m", f"not {marker}", "--strict-markers").assert_outcomes(passed=1, deselected=4)


def test_the_older_names_of_the_options_are_the_same(repository: pytest.Pytester) -> None:
    result = run(repository, "--kernel-backend", "nki-sim", "--kernel-require", "nki-sim,nki-sim")
    result.assert_outcomes(passed=1, skipped=1)
    result = run(repository, "--kernel-backend", "nki-sim", "--triptych-backend=nki", "--kernel-require", "nki")
    result.assert_outcomes(passed=1, skipped=1, failed=2)


DECORATED = """
import triptych

@triptych.parametrize("../kernels/double.py", cases=["smoke"], targets=["trn1"])
def test_double(triptych_case):
    result = triptych_case.check()
    assert result.backend == triptych_case.task.backend == "nki-sim"

class TestInAClass:
    @triptych.parametrize("../kernels/double.py", cases=["smoke"])
    def test_double(self, triptych_case, tmp_path):
        triptych_case.check()
"""


def test_a_function_of_ones_own_gets_each_case(repository: pytest.Pytester) -> None:
    (repository.path / "tests" / "test_kernels.py").write_text(DECORATED)
    result = run(repository, "-v", "-rs", "--triptych-backend", "nki-sim,nki")
    result.assert_outcomes(passed=2, skipped=2)
    text = result.stdout.str()
    assert "tests/test_kernels.py::test_double[double-4x8-float32-nki-sim-trn1] PASSED" in text
    assert "tests/test_kernels.py::TestInAClass::test_double[double-4x8-float32-nki-sim-trn2] PASSED" in text
    assert "tests/test_kernels.py:6: nki: there is no Neuron device here" in text


def test_a_function_that_takes_no_case_is_an_error(repository: pytest.Pytester) -> None:
    (repository.path / "tests" / "test_kernels.py").write_text(DECORATED.replace("triptych_case):", "tmp_path):"))
    run(repository).stdout.fnmatch_lines(["*test_double does not take triptych_case, whose check() is the test*"])


def test_the_fixture_alone_is_an_error(repository: pytest.Pytester) -> None:
    (repository.path / "tests" / "test_kernels.py").write_text("def test_it(triptych_case):\n    pass\n")
    result = run(repository)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*triptych_case is for tests under @triptych.parametrize*"])


def test_junit_says_with_which_evidence(repository: pytest.Pytester) -> None:
    run(repository, "--triptych-backend", "nki-sim", "--junitxml=out.xml")
    assert '<property name="evidence" value="simulated"' in (repository.path / "out.xml").read_text()


def test_xdist_collects_the_same_tests_in_every_process(repository: pytest.Pytester) -> None:
    arguments = ["-n", "2", "--triptych-backend", "nki-sim", "--triptych-require", "nki-sim"]
    result = repository.runpytest_subprocess(*LOADED, "-p", "no:benchmark", *arguments)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0, result.stdout.str()


def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    code = "import sys, pytest; before = set(sys.modules); import triptych.harness.testing.plugin; "
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {code} print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        "triptych",
        "triptych.harness",
        "triptych.harness.comma_lists",
        "triptych.harness.testing",
        "triptych.harness.testing.plugin",
    }
