"""All of nki-library's tests that are marked `fast`, each as a case of the table.

They run on one target, and on another those that exclude it.

pytest collects them as AWS's conftest does, with its default coverage, which needs the package allpairspy. Each case
runs in a process of its own, under a limit of processor time and of memory, and is a line of a file of results, so that
a run goes on where the last one ended. The tests take turns, each with its smallest case first and then with those that
show an option, or a kind of size, which none before did; of one of which two (LATE) took too long no others are tried.
"""

from __future__ import annotations

import collections
import importlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import Enum
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
TARGETS = ("trn2", "trn3")
_SKIPS, _LATE, _NOT_TRIED, _REFUSED, _RACES = "skips", "took more than", "not tried", "refused", "races"


class Collected:
    """A plugin of pytest that makes the parameters which AWS's conftest makes, and keeps the tests marked `fast`."""

    def __init__(self, target: str) -> None:
        self.target = target
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
        self.items += [item for item in items if item.get_closest_marker("fast") and platform_of(item, self.target)]


class Asked(Judge):
    """A judge that knows whether a test came as far as to run a kernel, which may have raised."""

    asked = False

    def execute(self, test: Any) -> None:
        self.asked = True
        super().execute(test)


def platform_of(item: Any, target: str) -> str:
    """Where a test runs: on `target`, on another if it excludes that, nowhere if it excludes all."""
    mark = item.get_closest_marker("platforms")
    excluded = {p.value for p in (mark.kwargs.get("exclude") or ())} if mark else set()
    return next((p for p in (target, *TARGETS) if p not in excluded), "")


def collected(path: Path, target: str) -> list[Any]:
    """The `fast` tests: one case of each, then the next (`by_options`)."""
    if importlib.util.find_spec("allpairspy") is None:
        raise SystemExit("nki-library's tests choose their parameters with allpairspy; pip install allpairspy")
    needed(path)
    plugin = Collected(target)
    where = str(path / "test/integration/nkilib")
    options = ["--collect-only", "-qq", "--noconftest", "-c", os.devnull, "--rootdir", str(path)]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", "--import-mode=importlib"]
    with silence():
        status = pytest.main([*options, where], plugins=[plugin])
    if status != pytest.ExitCode.OK:
        raise SystemExit(f"pytest could not collect all tests of {where} ({status!r}); run it there to see why")
    cases: dict[str, list[Any]] = collections.defaultdict(list)
    for item in sorted(plugin.items, key=lambda item: size(parameters(item))):
        cases[test_of(item)].append(item)
    turns = itertools.zip_longest(*(by_options(of_one) for of_one in cases.values()))
    return [item for turn in turns for item in turn if item is not None]


def by_options(cases: Iterable[Any]) -> list[Any]:
    """The cases of one test, those first that show what none before them showed."""
    shown: set[tuple[str, str]] = set()
    first, others = [], []
    for item in cases:
        new = set(options_of(parameters(item))) - shown
        shown |= new
        (first if new or not first else others).append(item)
    return first + others


def options_of(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """What a case shows: the options in its parameters, as deep as they are, and of each size what kind it is."""
    value = getattr(value, "tensors", value)
    if type(value) is int:
        kinds = {"0 or 1": value < 2, "tiles": value % 128 == 0, "a power of 2": value & (value - 1) == 0}
        yield name, next((kind for kind, is_it in kinds.items() if is_it), "odd" if value % 2 else "even")
    elif isinstance(value, (dict, list, tuple)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from options_of(part, f"{name}.{key}")
    elif hasattr(value, "__dict__") and not isinstance(value, (type, Enum)) and not callable(value):
        yield from options_of(vars(value), name)
    else:
        yield name, getattr(value, "__name__", repr(value))


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


def case_of(item: Any, platform: str) -> Case:
    """A test as a case. A negative test holds if an assertion of the kernel refuses its arguments."""
    harness = importlib.import_module("test.utils.ranged_test_harness")
    common = importlib.import_module("test.utils.common_dataclasses")

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

    api = "0.3" if platform_of(item, "trn2") == "trn3" else APIS[0]  # whose scales the references in MX have
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


def rows(path: Path, results: Path, target: str) -> Iterator[dict[str, Any]]:
    """A row for each case of which `results` has none; each is appended there."""
    before = read(results)
    done = {row["id"] for row in before}
    late = collections.Counter(row["id"].partition("[")[0] for row in before if _LATE in row["failure"])
    forks = multiprocessing.get_context("fork")
    for item in collected(path, target):
        test, platform = test_of(item), platform_of(item, target)
        if item.nodeid in done:
            continue
        began = time.perf_counter()
        if late[test] >= LATE:
            row: dict[str, Any] = {"failure": f"{_NOT_TRIED}: {late[test]} smaller ones took too long"}
        else:
            receive, send = forks.Pipe(duplex=False)
            child = forks.Process(target=limited, args=(case_of(item, platform), send))
            child.start()
            send.close()
            try:
                row = receive.recv()
            except EOFError:
                row = {"failure": f"{_LATE} {SECONDS} s or {BYTES >> 30} GiB"}
                late[test] += 1
            child.join()
        row = {"id": item.nodeid, "platform": platform, **row, "wall": time.perf_counter() - began}
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
    if row.get("ran") and any(" race on " in sentence for sentence in row["reported"]):
        return _RACES  # whatever comes of one core after the other is no result
    return told or ("disagree" if row.get("ran") else "did not run")


def show(path: Path, results: Path, target: str) -> int:
    """Run what `results` lacks, print what does not agree by default, and count all; 1 if something disagrees."""
    for row in rows(path, results, target):
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
