"""The pytest plugin: runs what `triptych.kernel_tests` stands for, one test for each op, case, dtype and backend.

pytest loads it in every session of an environment that has triptych, so that it imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from triptych.harness.results.result import Result
    from triptych.harness.running.runner import Task, Worker

TIMEOUT_S = 120.0  # of each phase of a test, as under `triptych check`
RAN = "triptych_backend"  # the property of a test that ran, by which --kernel-require counts


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("triptych", "kernels (triptych)")
    group.addoption(
        "--kernel-backend", action="append", metavar="B,...", help="run kernel tests on these backends (default: all)"
    )
    group.addoption(
        "--kernel-require",
        action="append",
        metavar="B,...",
        help="fail, instead of skipping, where these backends are missing or ran no test",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel: a test of triptych.kernel_tests, which runs a kernel on a backend")
    backends, required = asked(config, "--kernel-backend"), asked(config, "--kernel-require")
    if not backends and not required:
        return
    from triptych.harness.backends import BACKENDS
    from triptych.harness.ops.selection import UsageError, pick

    try:
        pick("backend", [*backends, *required], list(BACKENDS))
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    left_out = [name for name in required if backends and name not in backends]
    if left_out:
        raise pytest.UsageError(f"--kernel-require {','.join(left_out)}: --kernel-backend leaves it out")
    if required and not hasattr(config, "workerinput"):  # with xdist, its workers report to the one that counts
        config.pluginmanager.register(Required(required), "triptych-required")


def asked(config: pytest.Config, option: str) -> list[str]:
    """The backends that an option names, in comma lists and repeated."""
    return [word.strip() for text in config.getoption(option) or () for word in text.split(",") if word.strip()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    tests = getattr(metafunc.function, "triptych", None)
    if tests is None:
        return
    from triptych.harness.ops.loading import OpFileError
    from triptych.harness.ops.selection import UsageError
    from triptych.harness.testing.kernel_tests import SHORTEST, test_ids

    wrong = ""
    if "kernel_case" not in metafunc.fixturenames:
        wrong = f"{metafunc.function.__name__} stands in a class: write {SHORTEST} at the top of the module"
    try:
        tasks = [] if wrong else list(tests.tasks(asked(metafunc.config, "--kernel-backend")))
    except (OpFileError, UsageError, ValueError) as error:
        wrong = str(error)
    if wrong:  # said out here, where pytest does not print the exception that led to it as well
        pytest.fail(wrong, pytrace=False)
    metafunc.parametrize("kernel_case", tasks, ids=test_ids(tasks), indirect=True)


@pytest.fixture
def kernel_case(request: pytest.FixtureRequest, kernel_worker: Worker) -> Callable[[], None]:
    """Runs the test's case in the session's worker process, and fails or skips as it ended."""
    if not hasattr(request, "param"):
        pytest.fail("kernel_case belongs to the tests that triptych.kernel_tests makes", pytrace=False)
    task: Task = request.param
    required = task.backend in asked(request.config, "--kernel-require")

    def run() -> None:
        __tracebackhide__ = True
        from triptych.harness.backends import BACKENDS
        from triptych.harness.results.status import Status
        from triptych.harness.running.runner import Settings

        missing = BACKENDS[task.backend].missing()
        if missing and required:
            pytest.fail(f"the required backend {task.backend} is missing: {missing}", pytrace=False)
        if missing:
            pytest.skip(f"{task.backend}: {missing}")
        result = kernel_worker.perform(task, Settings(), TIMEOUT_S)
        if result.status is Status.UNSUPPORTED:
            pytest.skip(f"{task.backend}: {result.reason}")
        request.node.user_properties += [(RAN, task.backend), *properties(result)]
        if result.status is not Status.PASSED:
            pytest.fail(message(result), pytrace=False)

    return run


@pytest.fixture(scope="session")
def kernel_worker() -> Iterator[Worker]:
    """The process that runs kernels, so that one that hangs or crashes costs its own test alone."""
    from triptych.harness.running.runner import Worker

    with Worker() as worker:
        yield worker


def properties(result: Result) -> list[tuple[str, Any]]:
    """What goes into a JUnit report beside the outcome."""
    metrics = result.metrics
    numbers = [("max_abs_ulp", metrics.max_abs_ulp), ("rel_l2", metrics.rel_l2)] if metrics else []
    return [("evidence", str(result.evidence)), *numbers]


def message(result: Result) -> str:
    """What a failed test says: how it disagrees, where, why, and the command that repeats it.

    The reason comes first: of the whole message pytest's summary shows the first line, beside the name of the test.
    """
    from triptych.harness.reports import failures, figures

    paragraphs = [
        str(result.reason),
        "\n".join(failures.lines(result.failure)),
        figures.blame(result),
        f"repeat it alone: {result.repro}",
    ]
    return "\n\n".join(filter(None, paragraphs))


class Required:
    """Counts the tests that ran on the backends of --kernel-require."""

    def __init__(self, backends: list[str]) -> None:
        self.absent = dict.fromkeys(backends)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == RAN:
                self.absent.pop(str(value), None)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.absent and not session.config.option.collectonly:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.absent and not terminalreporter.config.option.collectonly:
            names = ", ".join(self.absent)
            terminalreporter.line(f"triptych: no kernel test ran on {names}, which --kernel-require asks for", red=True)
