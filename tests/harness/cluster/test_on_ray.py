"""A Ray cluster of several nodes on this machine, of which one is killed while it runs a case."""

from __future__ import annotations

import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.cluster import connection
from triptych.harness.errors import UsageError

pytest.importorskip("ray", reason="Ray is not installed: pip install 'triptych[cluster]'")
# Ray forks to start its processes, and another test may have imported JAX, which warns of that in a callback.
pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning",
    "ignore:Exception ignored in. <function _at_fork:pytest.PytestUnraisableExceptionWarning",
)

FILE = """
import os, pathlib, time
import nki
import nki.isa as nisa
import nki.language as nl
from triptych import Op
from beside import factor

HERE = pathlib.Path({folder!r})


@nki.jit
def twice(x):
    n = x.shape[1]
    with (HERE / f"at-{{n}}").open("a") as file:
        file.write(f"{{os.getppid()}}\\n")
    if n == 5:
        os.kill(os.getpid(), 9)
    while (HERE / f"hangs-{{n}}").exists():
        time.sleep(0.02)
    tile = nl.ndarray(x.shape, x.dtype, nl.sbuf)
    nisa.dma_copy(tile, x)
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
    nisa.activation(tile, nl.copy, tile, scale=factor())
    nisa.dma_copy(out, tile)
    return out


op = Op(
    "twice",
    {{"x": ("M", "N")}},
    lambda x: 2.0 * x,
    {{"smoke": [{{"M": 2, "N": n}} for n in (3, 4, 5, 6)]}},
    dtypes=("float32",),
    nki=twice,
)
"""
NODES = ("one", "two")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(FILE.format(folder=str(tmp_path)))
    (tmp_path / "beside.py").write_text("def factor():\n    return 2.0\n")
    return tmp_path


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs nothing, and two nodes of a core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for name in NODES:
            cluster.add_node(wait=False, num_cpus=1, node_name=name, **small)
        cluster.wait_for_nodes(timeout=120)
        yield cluster
    finally:
        cluster.shutdown()


def line(*words: str) -> list[str]:
    return [sys.executable, "-m", "triptych", *words]


def bench(folder: Path, *words: str, during: Callable[[], None] = lambda: None) -> Any:
    """The document of a run, and its exit code."""
    job = subprocess.Popen(
        line("bench", "mine.py", "--backend", "numpy,nki-sim", "--cases", "smoke", "--json", "-", *words),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    during()
    out, _ = job.communicate(timeout=200)
    return json.loads(out), job.returncode


def comparable(document: Any) -> list[Any]:
    """The rows without what differs between two runs of any kind, and without where they ran."""
    rows = []
    for row in document["results"]:
        timing = {name: x for name, x in row["timing"].items() if row["timing"]["kind"] == "predicted"}
        alone = row["timing"].get("alone")
        rows.append({**row, "timing": {**timing, "alone": alone}, "node": "", "device": ""})
    return rows


def waited_for(path: Path) -> None:
    end = time.monotonic() + 150
    while not path.exists():
        assert time.monotonic() < end, f"there is no {path}"
        time.sleep(0.05)


def gone(process: int) -> None:
    end = time.monotonic() + 60
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < end, f"process {process} lives on"
        time.sleep(0.05)


def test_a_server_of_something_else_is_no_ray() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UsageError, match="does not speak gRPC"):
            connection.check_reachable(f"127.0.0.1:{server.server_address[1]}")
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="tells the processes of nodes apart as Linux shows them")
def test_a_node_that_is_killed_costs_a_retry_and_an_interrupt_nothing_that_is_done(folder: Path, nodes: Any) -> None:
    here, code = bench(folder, "--jobs", "1")
    for file in folder.glob("at-*"):
        file.unlink()
    (folder / "hangs-6").touch()
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in nodes.worker_nodes}
    killed: list[str] = []

    def kill() -> None:
        """The node that runs case 2x6."""
        waited_for(folder / "at-6")
        time.sleep(0.1)
        actor = int((folder / "at-6").read_text().split()[0])
        raylet = int(Path(f"/proc/{actor}/stat").read_text().rpartition(")")[2].split()[1])
        node = raylets[raylet]
        killed.append(node._ray_params.node_name)
        nodes.remove_node(node, allow_graceful=False)
        gone(actor)
        (folder / "hangs-6").unlink()

    there, code_there = bench(folder, "--cluster", nodes.address, during=kill)
    assert (code, code_there) == (1, 1) and there["complete"]
    assert comparable(there) == comparable(here)
    status = {(row["case"], row["backend"]): (row["status"], row["cause"]) for row in there["results"]}
    assert status.pop(("2x5", "nki-sim")) == ("error", "worker-died") and set(status.values()) == {("passed", None)}
    assert len((folder / "at-5").read_text().split()) == 2, "what kills its worker is tried once more"
    assert len((folder / "at-6").read_text().split()) >= 2
    (lost,) = killed
    (left,) = set(NODES) - {lost}
    nodes_of = {row["case"]: row["node"] for row in there["results"] if row["backend"] == "nki-sim"}
    assert (
        nodes_of["2x6"] == left and set(nodes_of.values()) <= set(NODES) and all(r["device"] for r in there["results"])
    )
    assert {node["node"]: node.get("lost", False) for node in there["env"]["nodes"]} == {lost: True, left: False}

    (folder / "hangs-4").touch()
    (folder / "at-4").unlink()
    words = ("check", "mine.py", "--backend", "nki-sim", "--cases", "smoke", "-k", "2x[346]", "--resume", "run.json")
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a job in the background does not
    command = line(*words, "--cluster", nodes.address)
    job = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, preexec_fn=listens)
    waited_for(folder / "at-4")
    actor = int((folder / "at-4").read_text().split()[0])
    time.sleep(1.2)  # in which what is done is written
    job.send_signal(signal.SIGINT)
    assert job.wait(timeout=60) == 130
    body = json.loads((folder / "run.json").read_text())
    assert [row["case"] for row in body["results"]] == ["2x3"] and not body["complete"] and body["planned"] == 3
    gone(actor)
