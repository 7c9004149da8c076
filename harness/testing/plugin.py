"""The pytest plugin: one test for each op, case, dtype and backend of what `triptych.parametrize` names.

pytest loads it in every session of an environment that has triptych, so that it imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from triptych.harness.comma_lists import comma_list

if TYPE_CHECKING:
    from triptych.harness.running.process import WorkerProcess
    from triptych.harness.testing.baseline import Baseline
    from triptych.harness.testing.kernel_case import KernelCase

BACKENDS_OPTION, REQUIRED_OPTION = "--triptych-backend", "--triptych-require"
BASELINE_OPTION, LIMITS_OPTION = "--triptych-baseline", "--triptych-fail-on"
BASELINE: pytest.StashKey[Baseline] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triptych", "kernels (triptych)")
    group.addoption(
        BACKENDS_OPTION,
        "--kernel-backend",  # its older name, as is the next option's
        action="extend",
        type=comma_list,
        default=[],
        metavar="B,...",
        help="run kernel tests on these backends (default: all)",
    )
    group.addoption(
        REQUIRED_OPTION,
        "--kernel-require",
        action="extend",
        type=comma_list,
        default=[],
        metavar="B,...",
        help="fail, instead of skipping, where these backends are missing or ran no test",
    )
    group.addoption(
        BASELINE_OPTION,
        metavar="JSON",
        help="a document of `triptych bench`: time what has a time in it, and report both in the properties of a test",
    )
    group.addoption(
        LIMITS_OPTION,
        metavar="LIMITS",
        help="fail what is slower than the baseline by more, as predicted:2%%,median:5%%",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "triptych: a test that runs a kernel on a backend, of triptych.parametrize")
    config.addinivalue_line("markers", "kernel: the older name of the marker triptych")
    if config.getoption(LIMITS_OPTION) and not config.getoption(BASELINE_OPTION):
        raise pytest.UsageError(f"{LIMITS_OPTION} needs a document to compare with: {BASELINE_OPTION} names it")
    if config.getoption(BASELINE_OPTION):
        from triptych.harness.errors import UsageError as Wrong
        from triptych.harness.testing.baseline import Baseline

        try:
            config.stash[BASELINE] = Baseline.read(config.getoption(BASELINE_OPTION), config.getoption(LIMITS_OPTION))
        except Wrong as error:
            raise pytest.UsageError(str(error)) from None
        if config.getoption(LIMITS_OPTION) and not hasattr(config, "workerinput"):
            config.pluginmanager.register(Compared(config.getoption(LIMITS_OPTION)), "triptych-compared")
    backends, required = config.getoption(BACKENDS_OPTION), config.getoption(REQUIRED_OPTION)
    if not backends and not required:
        return
    from triptych.harness.backends import BACKENDS
    from triptych.harness.errors import UsageError
    from triptych.harness.ops.selection import pick

    try:
        pick("backend", [*backends, *required], list(BACKENDS))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    left_out = [name for name in required if backends and name not in backends]
    if left_out:
        raise pytest.UsageError(f"{REQUIRED_OPTION} {','.join(left_out)}: {BACKENDS_OPTION} leaves it out")
    if required and not hasattr(config, "workerinput"):  # with xdist, its workers report to the one that counts
        config.pluginmanager.register(Required(required), "triptych-required")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = [tests for marker in metafunc.definition.iter_markers("triptych") for tests in marker.args]
    if not marked:
        return
    from triptych.harness.errors import UsageError
    from triptych.harness.ops.loading import OpFileError
    from triptych.harness.testing.kernel_tests import SHORTEST, test_ids

    name = metafunc.function.__name__
    wrong = ""
    if "triptych_case" not in metafunc.fixturenames:
        wrong = f"{name} does not take triptych_case, whose check() is the test"
        if metafunc.cls is not None:
            wrong = f"{name} stands in a class: write {SHORTEST} at the top of the module"
    try:
        backends = metafunc.config.getoption(BACKENDS_OPTION)
        tasks = [] if wrong else [task for tests in marked for task in tests.tasks(backends)]
    except (OpFileError, UsageError, ValueError) as error:
        wrong = str(error)
    if wrong:  # said out here, where pytest does not print the exception that led to it as well
        pytest.fail(wrong, pytrace=False)
    metafunc.parametrize("triptych_case", tasks, ids=test_ids(tasks), indirect=True)


@pytest.fixture
def triptych_case(request: pytest.FixtureRequest, triptych_worker: WorkerProcess) -> KernelCase:
    """The case and the backend of this test; its `check()` runs it."""
    from triptych.harness.testing.kernel_case import KernelCase

    if not hasattr(request, "param"):
        pytest.fail("triptych_case is for tests under @triptych.parametrize", pytrace=False)
    required = request.param.backend in request.config.getoption(REQUIRED_OPTION)
    baseline = request.config.stash.get(BASELINE, None)
    return KernelCase(request.param, triptych_worker, request.node.user_properties, required, baseline)


@pytest.fixture(scope="session")
def triptych_worker() -> Iterator[WorkerProcess]:
    """The process that runs kernels, so that one that hangs or crashes costs its own test alone."""
    from triptych.harness.running.process import WorkerProcess

    with WorkerProcess() as worker:
        yield worker


class Compared:
    """Counts the tests that were held against the baseline: a gate that compares nothing must not pass."""

    def __init__(self, limits: str) -> None:
        self.limits = limits
        self.count = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        from triptych.harness.testing.baseline import RATIO

        self.count += report.when == "call" and any(name == RATIO for name, _ in report.user_properties)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.count and not session.config.option.collectonly:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if terminalreporter.config.option.collectonly:
            return
        if self.count:
            terminalreporter.line(f"triptych: {self.count} times held against the baseline under {self.limits}")
        else:
            terminalreporter.line(
                f"triptych: no test has a time in the baseline, so that {LIMITS_OPTION} held nothing", red=True
            )


class Required:
    """Counts the tests that ran on the backends of --triptych-require."""

    def __init__(self, backends: list[str]) -> None:
        self.absent = dict.fromkeys(backends)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        from triptych.harness.testing.kernel_case import RAN

        for name, value in report.user_properties:
            if name == RAN:
                self.absent.pop(str(value), None)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.absent and not session.config.option.collectonly:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.absent and not terminalreporter.config.option.collectonly:
            names = ", ".join(self.absent)
            terminalreporter.line(
                f"triptych: no kernel test ran on {names}, which {REQUIRED_OPTION} asks for", red=True
            )
