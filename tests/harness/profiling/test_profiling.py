"""The files of a profile: what Perfetto reads, what the page's script draws, and the shapes that ops declare."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from triptych import simulator
from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.profiling.lanes import interval, lanes
from triptych.harness.profiling.numbers import numbers
from triptych.harness.profiling.perfetto import QUEUED, document
from triptych.harness.reports.profile.page import page as profile_page
from triptych.harness.results.profile import Profile
from triptych.harness.results.status import Status
from triptych.simulator import Prediction
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def overlapping(x):
    """Loads of a row, each on a ring of its own, while other engines work."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for row in range(x.shape[0]):
        at = 32 * (row % 4)
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)[at : at + 1, :]
        nisa.dma_copy(dst=t, src=x[row : row + 1, :])
        nisa.activation(dst=t, op=nl.exp, data=t)
        nisa.tensor_copy(dst=t, src=t)
        nisa.dma_copy(dst=out[row : row + 1, :], src=t)
    return out


def on_two_cores(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    half = x.shape[0] // 2
    rows = slice(nl.program_id(0) * half, (nl.program_id(0) + 1) * half)
    t = nl.ndarray((half, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x[rows, :])
    nisa.dma_copy(dst=out[rows, :], src=t)
    nisa.core_barrier(data=out, cores=(0, 1))
    return out


def predictions() -> dict[str, Prediction]:
    matmul = simulator.load(Path(__file__).parents[3] / "kernels" / "nki" / "matmul.py").matmul
    square = np.ones((256, 256), np.float32)
    return {
        "overlapped": simulator.predict(
            overlapping, np.ones((8, 512), np.float32), settings={"dma_software_issue_ns": 0}
        ),
        "program": simulator.predict(overlapping, np.ones((8, 512), np.float32), order="program"),
        "matmul": simulator.predict(matmul, square, square, target="trn3"),
        "two cores": simulator.predict(simulator.jit(on_two_cores)[2], square),
        "nothing": simulator.predict(lambda x: x, np.ones((1, 1), np.float32)),
    }


@pytest.fixture(scope="module", params=list(predictions()))
def prediction(request: pytest.FixtureRequest) -> Prediction:
    return predictions()[request.param]


def test_lanes_hold_every_span_once_and_never_overlap(prediction: Prediction) -> None:
    rows = lanes(prediction.timeline)
    assert Counter(span.index for row in rows for span in row.spans) == Counter(range(len(prediction.events)))
    for row in rows:
        for before, after in zip(row.spans, row.spans[1:], strict=False):
            assert interval(before)[1] <= interval(after)[0]
        assert row.number == 0 or row.track == "dma"


def imported(text: str) -> dict[str, Any]:
    """What Perfetto makes of a trace: slices on threads, arrows fastened to the slice that is open, counters.

    The rules are those of its importer of JSON: https://perfetto.dev/docs/faq on slices that overlap, and the stacks
    and flows of src/trace_processor/importers/common.
    """
    body = json.loads(text)
    assert list(body) == ["traceEvents", "otherData"]
    names: dict[tuple[str, int], str] = {}
    slices: list[dict[str, Any]] = []
    starts: dict[int, dict[str, Any]] = {}
    arrows: list[tuple[dict[str, Any], dict[str, Any]]] = []
    counters: dict[tuple[int, str], list[tuple[float, float]]] = {}
    is_open: dict[tuple[int, int], dict[str, Any]] = {}
    last = 0.0
    for event in body["traceEvents"]:
        assert {"ph", "pid", "tid", "name"} <= set(event) and event["pid"] > 0 and event["tid"] > 0
        thread = event["pid"], event["tid"]
        if event["ph"] == "M":
            key = (event["name"], event["tid"] if event["name"] == "thread_name" else event["pid"])
            assert key not in names
            names[key] = event["args"]["name"]
            continue
        assert event["ts"] >= last, "not sorted by time"
        last = event["ts"]
        if event["ph"] == "X":
            before = is_open.get(thread)
            assert before is None or before["ts"] + before["dur"] <= event["ts"] + 1e-9, "slices of a thread overlap"
            is_open[thread] = event
            slices.append(event)
        elif event["ph"] == "C":
            (value,) = event["args"].values()
            counters.setdefault((event["pid"], event["name"]), []).append((event["ts"], value))
        else:
            inside = is_open[thread]
            assert inside["ts"] <= event["ts"] < inside["ts"] + inside["dur"], "an arrow is fastened to no slice"
            if event["ph"] == "s":
                assert event["id"] not in starts
                starts[event["id"]] = inside
            else:
                assert (event["ph"], event["bp"]) == ("f", "e")
                arrows.append((starts.pop(event["id"]), inside))
    assert not starts, "an arrow leads nowhere"
    return {"names": names, "slices": slices, "arrows": arrows, "counters": counters, "other": body["otherData"]}


def test_perfetto_reads_the_trace(prediction: Prediction) -> None:
    timeline = prediction.timeline
    seen = imported(document({"trn2": timeline}, {"op": "any"}))
    assert seen["other"] == {"op": "any"}
    assert sorted(event["args"]["number"] for event in seen["slices"]) == list(range(len(prediction.events)))
    for event in seen["slices"]:
        span, source = timeline.spans[event["args"]["number"]], prediction.events[event["args"]["number"]]
        assert event["name"] == source.op and event["cat"] == span.track
        assert event["ts"] == pytest.approx(span.start_ns / 1e3, abs=6e-4)
        assert event["dur"] == pytest.approx(span.busy_ns / 1e3, abs=1.1e-3)
        assert event["args"]["line"].endswith(f":{source.line[1]}") and event["args"]["waited for"]
        assert ("reads" in event["args"]) == bool(source.reads)
    for first, second in seen["arrows"]:
        assert timeline.spans[second["args"]["number"]].after == first["args"]["number"]
    decided = [s for s in timeline.spans if s.after is not None and s.why not in QUEUED and s.busy_ns >= 1]
    assert len(seen["arrows"]) == len([s for s in decided if timeline.spans[s.after].busy_ns >= 1])
    for (_, name), values in seen["counters"].items():
        assert max(value for _, value in values) * 1024 >= prediction.peaks[name.lower()][0] > 0
        assert values[-1][1] == 0


def test_several_timelines_have_processes_of_their_own() -> None:
    made = predictions()
    seen = imported(document({name: p.timeline for name, p in made.items()}, {}))
    processes = [name for (kind, _), name in seen["names"].items() if kind == "process_name"]
    assert processes == [
        "overlapped core 0", "program core 0", "matmul core 0", "two cores core 0", "two cores core 1"
    ]  # fmt: skip
    assert len(seen["slices"]) == sum(len(p.events) for p in made.values())
    threads = [name for (kind, _), name in seen["names"].items() if kind == "thread_name"]
    assert {"tensor", "vector", "scalar", "dma 1", "dma 2"} <= set(threads)


KERNEL = """import nki, nki.isa as nisa, nki.language as nl
@nki.jit
def copy(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for row in range(0, x.shape[0], 128):
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)  # </script> & "quotes"
        nisa.dma_copy(dst=t, src=x[row : row + 128, :], name="</script><b>")
        nisa.dma_copy(dst=out[row : row + 128, :], src=t)
    return out
"""
PROFILE = ["profile", "--kernel", "copy.py", "--arg", "512x64:bfloat16"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copy.py").write_text(KERNEL)
    return tmp_path


def test_a_name_that_ends_in_gz_is_compressed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*PROFILE, "--trace", "t.json", "--target", "trn2,trn3"]) == ExitCode.OK
    assert cli.main([*PROFILE, "--trace", "t.json.gz", "--target", "trn2,trn3"]) == ExitCode.OK
    plain = (folder / "t.json").read_text()
    assert gzip.decompress((folder / "t.json.gz").read_bytes()).decode() == plain
    assert len(imported(plain)["slices"]) == 16
    capsys.readouterr()
    assert cli.main([*PROFILE, "--trace", "-"]) == ExitCode.OK
    assert len(imported(capsys.readouterr().out)["slices"]) == 8


class Page(HTMLParser):
    """The tags, checked to be closed, and the data for the script."""

    VOID = {"meta"}

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.outward: list[str] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.outward += [value or "" for name, value in attributes if name in ("src", "href", "action")]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.stack:
            self.texts[self.stack[-1]] = self.texts.get(self.stack[-1], "") + text


def page(folder: Path, *words: str) -> tuple[Page, dict[str, Any], str]:
    assert cli.main([*PROFILE, "--html", "p.html", *words]) == ExitCode.OK
    text = (folder / "p.html").read_text()
    parsed = Page()
    parsed.feed(text)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return parsed, json.loads(found.group(1)), text


def test_the_page_is_one_closed_file_that_asks_for_nothing(folder: Path) -> None:
    parsed, _, text = page(folder)
    assert parsed.stack == [] and parsed.outward == []
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp|import\(", text)
    assert "predicted, not measured" in text and "copy.py:7" in text


def test_names_are_text_in_the_page() -> None:
    hostile = "<script>alert('1')</script> | & \"q\""
    prediction = predictions()["overlapped"]
    timing = structs.replace(numbers(prediction, {}), advice=[hostile])
    profile = Profile(
        op=hostile, case=hostile, dtype="float32", target="trn2", label="trn2", status=Status.PASSED, timing=timing
    )
    text = profile_page([profile], [prediction])
    parsed = Page()
    parsed.feed(text)
    assert text.count("<script") == 2 and parsed.texts["h1"] == f"{hostile} {hostile} float32"
    assert f"{hostile}." in parsed.texts["li"]


def test_the_page_holds_every_event(folder: Path) -> None:
    _, data, _ = page(folder)
    (run,) = data["runs"]
    columns = ("op", "line", "names", "reads", "writes", "start", "end", "done", "after", "why", "critical")
    assert [len(run[column]) for column in columns] == [8] * len(columns)
    assert sorted(i for lane in run["lanes"] for i in lane["events"]) == list(range(8))
    assert [data["ops"][op] for op in run["op"]] == ["dma_copy"] * 8
    assert {tuple(line) for line in data["lines"]} == {
        ("copy.py:7", KERNEL.splitlines()[6].strip()),
        ("copy.py:8", KERNEL.splitlines()[7].strip()),
    }
    assert run["names"][0] == "</script><b>" and data["details"][run["writes"][0]].endswith("bfloat16[128, 64] in sbuf")
    assert all(run["start"][i] <= run["end"][i] <= run["done"][i] for i in range(8))
    assert run["after"][0] == -1 and all(after < 8 for after in run["after"])
    assert 0 < sum(run["critical"]) <= 8 and run["critical"][run["done"].index(max(run["done"]))]
    assert [(memory["name"], memory["capacity"]) for memory in run["memory"]] == [
        ("SBUF", 224 * 1024)
    ]  # PSUM is unused
    start, end = data["view"]
    median = sorted(run["end"][i] - run["start"][i] for i in range(8))[4]
    assert 0 <= start < end <= run["total"] and end - start <= 1100 / 8 * (median + 1)


def test_the_page_of_several_has_one_axis(folder: Path) -> None:
    _, data, text = page(folder, "--order", "both", "--set", "dma_issue_ns=0")
    assert [run["label"] for run in data["runs"]] == [
        "trn2 overlapped", "trn2 overlapped what-if", "trn2 program", "trn2 program what-if"
    ]  # fmt: skip
    assert data["view"] == [0, max(run["total"] for run in data["runs"])]
    assert "what-if: dma_issue_ns = 0" in text and "against trn2 overlapped" in text


@pytest.mark.parametrize("name", [name for name, op in builtin().items() if op.shapes is not None])
def test_the_shapes_that_an_op_declares_are_those_of_its_inputs(name: str) -> None:
    op = builtin()[name]
    assert op.shapes is not None
    for case in cases_of(op, ["smoke", "edge"], [op.dtypes[-1]], {}, 0):
        drawn = {key: (x.shape, x.dtype.name) for key, x in make_inputs(op, case).items()}
        assert drawn == {
            key: (
                tuple(case.axes[axis] if isinstance(axis, str) else axis for axis in shape),
                str(op.dtype_of_input(key, case)),
            )
            for key, shape in op.shapes.items()
            if key in drawn  # an option may leave it out
        }
