"""All of nki-library's tests that are marked `fast`, each as a case of the table.

They run on trn2, and on trn3 those that exclude it.

pytest collects them as AWS's conftest does, with its default coverage, which needs the package allpairspy. Each case
runs in a process of its own, under a limit of processor time and of memory, and is a line of a file of results, so that
a run goes on where the last one ended. The tests take turns, each with its smallest case first; of one of which two
(LATE) took too long no larger ones are tried.
"""

from __future__ import annotations

import collections
import importlib
import importlib.util
import json
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aws.nki_library import Ignored, needed, size
from aws.nki_library_judge import Judge
from aws.table import Case, Ran, attempt, one_line
from triptych.simulator import Options
from triptych.simulator.options import APIS

SECONDS, BYTES, LATE = 60, 6 << 30, 2
_SKIPS, _LATE, _NOT_TRIED, _REFUSED = "skips", "took more than", "not tried", "refused"


class Collected:
    """A plugin of pytest that makes the parameters which AWS's conftest makes, and keeps the tests marked `fast`."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def pytest_generate_tests(self, metafunc: Any) -> None:
        if metafunc.definition.get_closest_marker("fast") is None:  # the others make thousands, for a minute
            return
        coverage = importlib.import_module("test.utils.coverage_parametrized_tests")
        harness = importlib.import_module("test.utils.ranged_test_harness")
        random.seed(0)
        mark = metafunc.definition.get_closest_marker("coverage_parametrize")
        if harness.RANGE_TEST_FIXTURE_NAME in metafunc.fixturenames:
            limit = harness.RANGE_TEST_LIMIT_NUM_TESTS_ATTR_KEY
            given = {limit: getattr(metafunc.function, limit)} if hasattr(metafunc.function, limit) else {}
            config = getattr(metafunc.function, harness.RANGE_TEST_CONFIG_ATTR_KEY)
            ids, tests = harness.RangeTestHarness(config, **given).get_unique_test_cases()
            metafunc.parametrize(harness.RANGE_TEST_FIXTURE_NAME, tests, ids=ids)
        elif mark is not None:
            how = {"coverage": "singles", "filter_func": mark.kwargs.get("filter")}
            asked = ("coverage", "enable_automatic_boundary_tests", "enable_invalid_combination_tests")
            asked += ("n_tests_per_boundary_value", "max_invalid_tests")
            how |= {name: mark.kwargs[name] for name in asked if name in mark.kwargs}
            params = {name: value for name, value in mark.kwargs.items() if name not in (*asked, "filter")}
            made = coverage.generate_parametrized_test_case(params=params, **how)
            names, values, ids = coverage.extract_parametrize_args(params, made)
            metafunc.parametrize(names, values, ids=ids)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        self.items += [item for item in items if item.get_closest_marker("fast") and platform_of(item)]


class Asked(Judge):
    """A judge that knows whether a test came as far as to run a kernel, which may have raised."""

    asked = False

    def execute(self, test: Any) -> None:
        self.asked = True
        super().execute(test)


def platform_of(item: Any) -> str:
    """Where a test runs: trn2, trn3 if it excludes that, nowhere if it excludes both."""
    mark = item.get_closest_marker("platforms")
    excluded = {p.value for p in (mark.kwargs.get("exclude") or ())} if mark else set()
    return next((p for p in ("trn2", "trn3") if p not in excluded), "")


def collected(path: Path, under: str = "") -> list[Any]:
    """The `fast` tests, or those of one file: the smallest parameters of each, then the next, to the largest."""
    if importlib.util.find_spec("allpairspy") is None:
        raise SystemExit("nki-library's tests choose their parameters with allpairspy; pip install allpairspy")
    needed(path)
    plugin = Collected()
    where = str(path / "test/integration/nkilib" / under)
    options = ["--collect-only", "-qq", "--noconftest", "-c", os.devnull, "--rootdir", str(path)]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", "--import-mode=importlib"]
    with silence():
        status = pytest.main([*options, where], plugins=[plugin])
    if status != pytest.ExitCode.OK:
        raise SystemExit(f"pytest could not collect all tests of {where} ({status!r}); run it there to see why")
    seen: dict[str, int] = collections.Counter()
    turns = []
    for item in sorted(plugin.items, key=lambda item: size(parameters(item))):
        turns.append((seen[test_of(item)], item))
        seen[test_of(item)] += 1
    return [item for _, item in sorted(turns, key=lambda turn: turn[0])]


@contextmanager
def silence() -> Iterator[None]:
    """Nothing reaches the terminal: pytest prints every test that it collects."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def test_of(item: Any) -> str:
    return str(item.nodeid.partition("[")[0])


def parameters(item: Any) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def case_of(item: Any) -> Case:
    """A test as a case. A negative test holds if an assertion of the kernel refuses its arguments."""
    harness = importlib.import_module("test.utils.ranged_test_harness")
    common = importlib.import_module("test.utils.common_dataclasses")
    platform = platform_of(item)

    def without_kernel(why: str, holds: bool) -> Ran:
        return Ran(item.originalname, platform, 0, 0, 0, holds, None, f"{_REFUSED}: {one_line(why)}")

    def run(options: Options) -> list[Ran]:
        if item.get_closest_marker("skip"):  # pytest's, where a test has no parameters
            raise LookupError(_SKIPS)
        judge = Asked(options)
        refused: list[Exception] = []
        harness.assert_kernel_validation_exception = lambda _, error: refused.append(error)
        given = parameters(item) | {
            "test_manager": judge,
            "collector": Ignored(),
            "platform_target": common.Platforms[platform.upper()],
            "request": item._request,
        }
        np.random.seed(0)
        random.seed(0)
        try:
            item.obj(**{name: given[name] for name in item._fixtureinfo.argnames})
        except BaseException as skipped:
            if type(skipped).__name__ not in ("Skipped", "XFailed"):
                raise
            raise LookupError(f"{_SKIPS}: {skipped}") from None
        if refused:
            return [
                without_kernel(f"{type(refused[0]).__name__}: {refused[0]}", isinstance(refused[0], AssertionError))
            ]
        if judge.asked and not judge.ran:
            return [without_kernel("with the error that the test asks for", True)]
        if not judge.ran:
            raise LookupError("ran no kernel")
        return judge.ran

    api = APIS[0] if platform == "trn2" else "0.3"  # whose scales the references in MX have
    return Case(item.module.__name__.rpartition("test_")[2], item.nodeid, run, api)


def limited(case: Case, send: Any) -> None:
    """Send what came of a case, or nothing where it needs more than it is given."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    row = attempt(case)
    if row.ran and row.reported and not row.agrees:  # the reference may have zeros where nothing is written
        again = attempt(replace(case, zeros=True))
        row = again if again.agrees else row
    if "MemoryError" in row.failure or "allocate memory" in row.failure:
        return
    ran = [asdict(r) for r in row.ran]
    send.send({"agrees": row.agrees, "reported": row.reported, "failure": row.failure, "ran": ran})


def rows(path: Path, results: Path) -> Iterator[dict[str, Any]]:
    """A row for each case of which `results` has none; each is appended there."""
    before = read(results)
    done = {row["id"] for row in before}
    late = collections.Counter(row["id"].partition("[")[0] for row in before if _LATE in row["failure"])
    forks = multiprocessing.get_context("fork")
    for item in collected(path):
        test = test_of(item)
        if item.nodeid in done:
            continue
        began = time.perf_counter()
        if late[test] >= LATE:
            row: dict[str, Any] = {"failure": f"{_NOT_TRIED}: {late[test]} smaller ones took too long"}
        else:
            receive, send = forks.Pipe(duplex=False)
            child = forks.Process(target=limited, args=(case_of(item), send))
            child.start()
            send.close()
            try:
                row = receive.recv()
            except EOFError:
                row = {"failure": f"{_LATE} {SECONDS} s or {BYTES >> 30} GiB"}
                late[test] += 1
            child.join()
        row = {"id": item.nodeid, "platform": platform_of(item), **row, "wall": time.perf_counter() - began}
        with results.open("a") as out:
            out.write(json.dumps(row, default=str) + "\n")
        yield row


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def outcome(row: dict[str, Any]) -> str:
    """What came of a case, in a word or two."""
    if row.get("agrees"):
        refused = any(ran["note"].startswith(_REFUSED) for ran in row["ran"])
        return _REFUSED if refused else "with a leniency" if row["reported"] else "by default"
    told = next((words for words in (_SKIPS, _LATE, _NOT_TRIED) if words in row["failure"]), "")
    return told or ("disagree" if row["ran"] else "did not run")


def show(path: Path, results: Path) -> int:
    """Run what `results` lacks, print what does not agree by default, and count all; 1 if something disagrees."""
    for row in rows(path, results):
        if outcome(row) not in ("by default", _REFUSED, _SKIPS, _NOT_TRIED):
            print(
                f"{outcome(row):<16} {row['id']}\n    {one_line('; '.join([row['failure'], *row.get('reported', ())]))}"
            )
    counts = count(read(results))
    for platform, found in counts.items():
        print(
            f"{platform}: {sum(found.values())} tests; " + ", ".join(f"{n} {what}" for what, n in found.most_common())
        )
    return 1 if any(found["disagree"] + found["did not run"] for found in counts.values()) else 0


def count(found: Iterable[dict[str, Any]]) -> dict[str, collections.Counter[str]]:
    """How many of each outcome, by platform."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in found:
        counts[row["platform"]][outcome(row)] += 1
    return counts
