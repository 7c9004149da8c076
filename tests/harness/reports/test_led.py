"""What the page of a profile says led to an event is what the timing model says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych import simulator
from triptych.harness.reports.html import source
from triptych.harness.reports.profile.drawing import drawing
from triptych.simulator import Prediction
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing.reading.critical_path import critical_path

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

WALK = """
const data = DATA;
LED
const run = data.runs[0], last = run.done.indexOf(Math.max(...run.done));
console.log(JSON.stringify([...led(run, last, MOST, data.issue)]));
"""


def scalar_triggers_loads(x: Any) -> Any:
    """Three loads, of which two wait long for rings; Scalar copies when it has triggered the last."""
    out = nl.ndarray((128, 8), dtype=x.dtype, buffer=nl.shared_hbm)
    tiles = [nl.ndarray(x.shape, x.dtype, nl.sbuf) for _ in range(3)]
    for t in tiles:
        nisa.dma_copy(t, x, dge_mode=nisa.dge_mode.hwdge, engine=nisa.engine.scalar)
    a = nl.ndarray((128, 8), x.dtype, nl.sbuf)
    nisa.memset(a, 1.0, engine=nisa.engine.vector)
    for _ in range(200):
        nisa.activation(a, nl.copy, a)
    for t in tiles:
        nisa.tensor_tensor(a, a, t[:, 0:8], nl.add, engine=nisa.engine.vector)
    nisa.dma_copy(out, a)
    return out


def loads_alone(x: Any) -> Any:
    t = nl.ndarray(x.shape, x.dtype, nl.sbuf)
    for _ in range(3):
        nisa.dma_copy(t, x)
        nisa.dma_copy(x, t)
    return x


@pytest.fixture(params=[scalar_triggers_loads, loads_alone])
def prediction(request: pytest.FixtureRequest) -> Prediction:
    return simulator.predict(request.param, np.ones((128, 4096), np.float32), target="trn2")


def led(prediction: Prediction, folder: Path, most: int = 1000) -> list[list[float]]:
    """[what decided it, what it decided, when in ns], by the page's script, from the event that ends last."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js, which runs JavaScript, is not here")
    script = folder / "run.js"
    data = json.dumps(drawing(["one"], [prediction]))
    script.write_text(WALK.replace("DATA", data).replace("LED", source("led.js")).replace("MOST", str(most)))
    done = subprocess.run([node, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[list[float]] = json.loads(done.stdout)
    return found


def test_the_arrows_lead_along_the_critical_path(prediction: Prediction, tmp_path: Path) -> None:
    path = [span.index for span in critical_path(prediction.timeline)]
    found = led(prediction, tmp_path)
    assert [(after, event) for after, event, _ in found] == list(zip(path[1:], path, strict=False))
    assert led(prediction, tmp_path, most=2) == found[:2]


def test_what_an_engine_waited_to_issue_is_followed_to_its_own_issue(tmp_path: Path) -> None:
    prediction = simulator.predict(scalar_triggers_loads, np.ones((128, 4096), np.float32), target="trn2")
    spans, launch = prediction.timeline.spans, prediction.chip.launch_ns.value
    assert [spans[i].why for i in (1, 2)] == ["rings", "rings"]
    *_, by_scalar, second, first = led(prediction, tmp_path)
    assert spans[int(by_scalar[1])].why == "issue" and by_scalar[0] == 2
    assert second == [1, 2, round(launch + 2 * 600)]
    assert first == [0, 1, round(launch + 600)]


def test_the_page_says_of_each_transfer_when_it_was_issued_and_why(prediction: Prediction) -> None:
    data = drawing(["one"], [prediction])
    (run,) = data["runs"]
    spans = prediction.timeline.spans
    assert sorted(run["issues"]) == [span.index for span in spans if span.track == "dma"]
    for index, (at, after, why) in run["issues"].items():
        issue = spans[index].issue
        assert issue is not None and at == round(issue.at_ns) <= run["start"][index]
        assert after == (-1 if issue.after is None else issue.after)
        assert (data["waits"][why] == "the issue of {}") == (issue.why == "issue") == (why == data["issue"])
