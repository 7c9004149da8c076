"""A timeline as a picture: what is busy is dark, it stays small, and notebooks show it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from triptych.nki import isa as nisa
from triptych.nki import language as nl

from triptych import nki, simulator
from triptych.simulator.timing.reading.picture import (
    BOTTOM,
    COLUMNS,
    GAP,
    LEFT,
    LEVELS,
    ROW,
    TOP,
    axis,
    boxes,
    busy,
    table,
)
from triptych.simulator.timing.timeline import Span


def kernel(x: Any, repeats: int) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    for _ in range(repeats):
        nisa.tensor_copy(dst=tile, src=tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


def span(start: float, length: float, track: str = "vector", rings: int = 0) -> Span:
    return Span(0, 0, track, start, length, start + length, None, "start", rings)


def levels(*spans: Span) -> list[int]:
    chip = SimpleNamespace(dma_rings=SimpleNamespace(value=16))
    timeline: Any = SimpleNamespace(total_ns=float(COLUMNS), trace=SimpleNamespace(chip=chip))
    return list(busy(spans, timeline))


def test_a_column_is_as_dark_as_its_track_is_busy() -> None:
    found = levels(span(10, 5), span(20, 0.5), span(100, 0.25))
    assert found[10:15] == [LEVELS] * 5 and found[9] == found[15] == 0
    assert found[20] == LEVELS // 2 and found[100] == 1
    assert sum(map(bool, found)) == 7
    assert levels(span(0, 10), span(5, 10))[:16] == [LEVELS] * 15 + [0]  # and no darker


def test_a_transfer_is_as_dark_as_its_share_of_the_rings() -> None:
    assert levels(span(0, 10, "dma", rings=8))[5] == LEVELS // 2
    assert levels(span(0, 10, "dma", rings=8), span(0, 10, "dma", rings=8))[5] == LEVELS
    for within in ((2, 3), (0, 5), (5, 5)):
        found = levels(span(0, 10, "dma", rings=8), span(*within, "dma", rings=4))
        assert found[:11] == [3 if within[0] <= i < sum(within) else 2 for i in range(10)] + [0]


def test_equal_columns_are_one_box() -> None:
    assert len(list(boxes([0, 4, 4, 4, 0, 2], 0, "#000"))) == 2


def test_a_box_lies_where_it_is_busy() -> None:
    first, last = boxes([0, 4, 4, 1], 50, "#123")
    for text, x, width, opacity in ((first, 1, 2, "1"), (last, 3, 1, "0.25")):
        box = ElementTree.fromstring(text)
        assert box.attrib == {
            "x": str(LEFT + x),
            "y": "50",
            "width": str(width),
            "height": str(ROW),
            "fill": "#123",
            "fill-opacity": opacity,
        }
    assert not list(boxes([0, 0], 50, "#123"))


def test_tracks_are_rows_from_the_tensor_engine_down_to_dma() -> None:
    x = np.ones((128, 64), np.float32)
    root = ElementTree.fromstring(simulator.on("trn2").predict(kernel, x, repeats=3).svg())
    rects = [node.attrib for node in root.iter() if node.tag.endswith("rect")]
    whole = [int(rect["y"]) for rect in rects if rect["width"] == str(COLUMNS) and rect["x"] == str(LEFT)]
    assert whole == [TOP, TOP + ROW + GAP]
    names = [node for node in root.iter() if node.attrib.get("text-anchor") == "end"]
    assert [node.text for node in names] == ["vector", "dma"]
    assert all(LEFT > float(node.attrib["x"]) > 0 for node in names)
    assert [float(node.attrib["y"]) for node in names] == [y + 15 for y in whole]
    assert {int(rect["y"]) for rect in rects[1:]} == set(whole)  # and the ground
    shaded = {rect["y"] for rect in rects if "fill-opacity" in rect}
    assert shaded == {str(y) for y in whole}
    assert root.attrib["viewBox"] == f"0 0 {LEFT + COLUMNS + 16} {TOP + 2 * (ROW + GAP) + BOTTOM}"


def test_the_rows_of_two_cores_have_their_numbers() -> None:
    x = np.ones((128, 64), np.float32)
    root = ElementTree.fromstring(simulator.on("trn2").predict(nki.jit(kernel)[2], x, repeats=3).svg())
    names = [node.text for node in root.iter() if node.attrib.get("text-anchor") == "end"]
    assert names == ["vector 0", "dma 0", "vector 1", "dma 1"]


@pytest.mark.parametrize(
    ("total_us", "times"),
    [
        (22, ["0 µs", "5", "10", "15", "20"]),
        (32, ["0 µs", "5", "10", "15", "20", "25", "30"]),
        (8, ["0 µs", "1", "2", "3", "4", "5", "6", "7", "8"]),
        (4, ["0 µs", "1", "2", "3", "4"]),
        (399, ["0 µs", "50", "100", "150", "200", "250", "300", "350"]),
        (1700, ["0 µs", "500", "1000", "1500"]),
    ],
)
def test_the_axis_has_round_times(total_us: float, times: list[str]) -> None:
    found = [ElementTree.fromstring(text) for text in axis(total_us * 1e3, 100)]
    ticks, texts = found[::2], found[1::2]
    assert [text.text for text in texts] == times
    for tick, text in zip(ticks, texts, strict=True):
        x = LEFT + COLUMNS * float(str(text.text).split()[0]) / total_us
        assert text.attrib["x"] == f"{x:.1f}" and text.attrib["y"] == "114"
        assert tick.attrib["d"] == f"M{x:.1f} 96v5"


def test_a_long_kernel_is_no_larger_than_its_columns() -> None:
    x = np.ones((128, 64), np.float32)
    few, many = (simulator.on("trn2").predict(kernel, x, repeats=n) for n in (3, 3000))
    assert len(many.svg()) < 60_000
    for prediction in (few, many):
        root = ElementTree.fromstring(prediction.svg())
        words = [node.text for node in root.iter() if node.tag.endswith("text")]
        assert {"vector", "dma"} <= set(words) and f"{prediction.total_us:,.1f} µs, predicted" in str(words[0])


def test_notebooks_show_runs_and_predictions() -> None:
    x = np.ones((128, 64), np.float32)
    run = simulator.on("trn2").run(kernel, x, repeats=2)
    assert "(128, 64) float32" in run._repr_html_() and "<svg" in run._repr_html_()
    prediction = simulator.predict_trace(run.trace)
    assert "predicted, not measured" in prediction._repr_html_() and "x the roofline" in prediction._repr_html_()
    prediction.critical = [dataclasses.replace(prediction.critical[0], op=f"op{i}") for i in range(7)]
    shown = [i for i in range(7) if f"op{i}" in prediction._repr_html_()]
    assert shown == [0, 1, 2, 3, 4]  # where most of the time goes
    assert table([("<b>", "&")]) == "<table><tr><td>&lt;b&gt;</td><td>&amp;</td></tr></table>"
