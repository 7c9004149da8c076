"""The gate in pytest: a kernel that became slower fails its test, one that did not passes, and JUnit has the times."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

# A session inside this one forgets what it imported, which NumPy does not survive: all of it is imported here before.
import triptych.harness.collection
import triptych.harness.reports.tables
import triptych.harness.testing.baseline
import triptych.harness.testing.kernel_tests
import triptych.simulator  # noqa: F401
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

pytest_plugins = ["pytester"]
LOADED = [] if entry_points(group="pytest11", name="triptych") else ["-p", "triptych.harness.testing.plugin"]

KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op


@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    for _ in range(REPEATS):
        nisa.tensor_copy(dst=tile, src=tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


op = Op("copy", {"x": ("M", "N")}, lambda x: x, {"smoke": [{"M": 128, "N": 2048}]}, dtypes=("float32",), nki=kernel)
"""


@pytest.fixture
def repository(pytester: pytest.Pytester) -> pytest.Pytester:
    """A kernel, its test and the document of a run of it."""
    (pytester.path / "k.py").write_text(KERNEL.replace("REPEATS", "20"))
    (pytester.path / "test_k.py").write_text('import triptych\n\ntest_k = triptych.kernel_tests("k.py")\n')
    words = "bench --kernel k.py --cases smoke --backend nki-sim -q --json base.json"
    assert cli.main(words.split()) == ExitCode.OK
    return pytester


def run(repository: pytest.Pytester, *words: str) -> pytest.RunResult:
    return repository.runpytest_subprocess(*LOADED, "--triptych-backend", "nki-sim", "-p", "no:cacheprovider", *words)


GATE = ("--triptych-baseline", "base.json", "--triptych-fail-on", "predicted:2%")


def test_a_kernel_that_became_slower_fails_and_one_unchanged_passes(repository: pytest.Pytester) -> None:
    found = run(repository, *GATE, "--junitxml", "j.xml")
    found.assert_outcomes(passed=1)
    found.stdout.fnmatch_lines(["*1 times held against the baseline under predicted:2%*"])
    properties = (repository.path / "j.xml").read_text()
    for name in ("predicted_us", "baseline_predicted_us", "new_over_base"):
        assert f'<property name="{name}" value="' in properties
    (repository.path / "k.py").write_text(KERNEL.replace("REPEATS", "22"))
    found = run(repository, *GATE)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*slower than the baseline: 49* µs, +*where predicted:2% is allowed*"])


def test_a_gate_that_holds_nothing_does_not_pass(repository: pytest.Pytester) -> None:
    document = json.loads(Path("base.json").read_text())
    document["results"] = []
    Path("base.json").write_text(json.dumps(document))
    found = run(repository, *GATE)
    assert found.ret == pytest.ExitCode.TESTS_FAILED
    found.stdout.fnmatch_lines(["*no test has a time in the baseline, so that --triptych-fail-on held nothing*"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--triptych-fail-on", "predicted:2%"], "*needs a document to compare with*"),
        (["--triptych-baseline", "k.py"], "*k.py is not a document that*"),
        (["--triptych-baseline", "base.json", "--triptych-fail-on", "fast"], "*a limit is METRIC:N%*"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(repository: pytest.Pytester, words: list[str], said: str) -> None:
    found = run(repository, *words)
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines([said])
