"""Commands on a cluster whose seats are in this process: what each command sends is enough for another machine."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.cluster import fleet, seat, travel
from triptych.harness.cluster.hands import Load
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.running.tasks import Settings, Task

KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl
from sizes import FIRST

CHUNK = 64
KNOBS = {"CHUNK": (32, 64, 256)}


@nki.jit
def kernel(x):
    rows, columns = x.shape
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for start in range(FIRST, columns, CHUNK):
        n = min(CHUNK, columns - start)
        tile = nl.ndarray((rows, CHUNK), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[:, 0:n], src=x[:, start : start + n])
        nisa.dma_copy(dst=out[:, start : start + n], src=tile[:, 0:n])
    return out
"""
OP = """
from triptych import Op
from reference import copy

op = Op(
    "copy",
    {"x": ("M", "N")},
    copy,
    {"smoke": [{"M": 2, "N": 200}, {"M": 3, "N": 200}], "model-long": [{"M": 128, "N": 512}]},
    dtypes=("float32",),
    nki="../kernels/k.py:kernel",
)
"""


ONE_AT_A_TIME = threading.Lock()  # loads files: Python's path and modules are the process's


class InThisProcess:
    """A `Seat` behind the same pickles as an actor's, which finds files where it unpacked them alone."""

    luggage: travel.Luggage | None = None
    is_there, was_lost = True, False

    def __init__(self, node: str) -> None:
        self.node, self.seat = node, seat.Seat(node, seat.CPU, {})
        self.about = self.seat.about()
        self.loaded: Load | None = None
        self.performed = self.called = 0

    def perform(self, task: Task, settings: Settings, timeout_s: float) -> Any:
        self.performed += 1
        digest = self._send(self.luggage) if task.source else ""
        return self.seat.perform(*pickle.loads(pickle.dumps((task, digest, settings, timeout_s))))

    def call(self, load: Load, number: int) -> Any:
        self.called += 1
        with ONE_AT_A_TIME:
            if self.loaded is not load:
                sent = (load.make, load.sources, load.arguments, self._send(load.luggage))
                self.seat.learn(*pickle.loads(pickle.dumps(sent)))
                self.loaded = load
            return pickle.loads(pickle.dumps(self.seat.call(number)))

    def _send(self, luggage: travel.Luggage | None) -> str:
        if luggage is None:
            return ""
        self.seat.unpack(luggage)
        return luggage.digest

    def come_back(self) -> bool:
        return False

    def kill(self) -> None:
        self.is_there = False

    def stop(self) -> None:
        self.seat.stop()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[InThisProcess]]:
    """Two seats, which every command that names a cluster gets; the test runs in a folder with the user's files."""
    for name in seat.HIDDEN:
        monkeypatch.setenv(name, "")
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(travel, "private_folder", lambda: tmp_path / "node")
    for name, text in {
        "ops/mine.py": OP,
        "ops/reference.py": "def copy(x):\n    return x\n",
        "kernels/k.py": KERNEL,
        "kernels/sizes.py": "FIRST = 0\n",
    }.items():
        file = tmp_path / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path / "home" / "ops")
    seats = [InThisProcess("one"), InThisProcess("two")]

    class Connected:
        def __init__(self, address: str, jobs: int | None) -> None:
            assert address == "auto"

        def seats(self) -> list[InThisProcess]:
            return seats

        def close(self) -> None:
            for one in seats:
                one.stop()

    monkeypatch.setattr(fleet, "Cluster", Connected)
    yield seats
    assert sum(one.performed + one.called for one in seats), "the cluster did it"


def document(*words: str) -> Any:
    """What a command writes, here and on the cluster: the same but for where it was."""
    found = []
    for place in (("--jobs", "1"), ("--cluster", "auto")):
        assert cli.main([*words, "--json", "out.json", *place]) == ExitCode.OK
        found.append(json.loads(Path("out.json").read_text()))
    here, there = found
    nodes = {row.pop("node", None) for row in there.get("results", ())}
    assert nodes <= {"one", "two"} and all(row.pop("device") for row in there.get("results", ()))
    for name in ("results", "tunings", "points", "summary"):
        assert here.get(name) == there.get(name), name
    return there


def test_check_sends_a_file_with_its_kernel_and_all_that_they_import(cluster: list[InThisProcess]) -> None:
    found = document("check", "mine.py", "--backend", "numpy,nki-sim", "--cases", "smoke")
    assert [row["status"] for row in found["results"]] == ["passed"] * 4
    assert [(node["node"], node["workers"]) for node in found["env"]["nodes"]] == [("one", 1), ("two", 1)]


def test_report_predicts_full_sizes_there(cluster: list[InThisProcess]) -> None:
    found = document("report", "mine.py", "--backend", "nki-sim", "--html", "report.html")
    profiles = [row for row in found["results"] if row["kind"] == "profile"]
    assert [(row["case"], row["status"]) for row in profiles] == [("128x512", "passed")]
    assert "--kernel" in profiles[0]["repro"] and "node" not in profiles[0]["repro"]
    assert sum(one.called for one in cluster) == 1


def test_tune_tries_settings_there_and_judges_the_choice_there(cluster: list[InThisProcess]) -> None:
    found = document("tune", "mine.py", "--cases", "smoke")
    (tuning,) = found["tunings"]
    assert len(tuning["trials"]) == 3 and tuning["choice"] == {"CHUNK": 256}
    assert sum(one.called for one in cluster) == 3 and sum(one.performed for one in cluster) >= 4


def test_a_required_backend_is_asked_of_the_nodes(
    cluster: list[InThisProcess], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "mine.py", "--cases", "smoke", "--cluster", "auto"]
    assert cli.main([*words, "--require", "nki"]) == ExitCode.REQUIRED_MISSING
    assert "the required backend nki is missing" in capsys.readouterr().err
    assert cli.main([*words, "--backend", "numpy", "--require", "nki-sim"]) == ExitCode.OK


def test_the_files_at_home_are_not_read_by_a_node(cluster: list[InThisProcess], tmp_path: Path) -> None:
    words = ["check", "mine.py", "--backend", "nki-sim", "--cases", "smoke", "--cluster", "auto"]
    unpack = seat.Seat.unpack

    def unpacked(self: seat.Seat, luggage: travel.Luggage) -> None:
        unpack(self, luggage)
        shutil.rmtree(tmp_path / "home" / "kernels", ignore_errors=True)

    seat.Seat.unpack = unpacked  # type: ignore[method-assign]
    try:
        assert cli.main(words) == ExitCode.OK
    finally:
        seat.Seat.unpack = unpack  # type: ignore[method-assign]
