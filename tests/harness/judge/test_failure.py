"""A failure says where it is: the pattern by its name, the worst element, a histogram and a map."""

from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.judge import tolerance
from triptych.harness.judge.failure import maps, patterns
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.verdict import judge
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs
from triptych.harness.ops.op import Op
from triptych.harness.reports import failures
from triptych.harness.results.status import Status

OPS = builtin()
CASES = {
    "matmul": Case("matmul", "m", {"M": 300, "K": 64, "N": 600}, "float32"),
    "square": Case("matmul", "s", {"M": 70, "K": 64, "N": 70}, "float32"),
    "attention": Case("attention", "a", {"B": 2, "H": 4, "Hkv": 2, "Sq": 40, "Sk": 90, "D": 24}, "bfloat16"),
}


@pytest.fixture(scope="module")
def right():
    found = {}
    for name, case in CASES.items():
        op = OPS[case.op]
        inputs = make_inputs(op, case)
        found[name] = op, case, inputs, tolerance.expect(Problem(op, case, inputs)), op.honest[0](**inputs)
    return found


def failed(right, name, change):
    op, case, inputs, expected, out = right[name]
    out = out.copy()
    changed = change(out)
    verdict = judge(Problem(op, case, inputs), out if changed is None else changed, expected=expected)
    assert verdict.status is Status.FAILED
    return verdict


def zeroed(*index):
    def change(out):
        out[index] = 0

    return change


DIAGNOSES = [
    ("matmul", zeroed(slice(None), slice(512, None)), "in columns 512-599 of N, the last tile of 512: every element"),
    ("matmul", zeroed(slice(256, None), slice(512, None)),
     "in rows 256-299 of M, the last tile of 128; columns 512-599 of N, the last tile of 512: every element there"),
    ("matmul", zeroed(slice(127, None, 128)), "in every 128th row of M (127, 255): every"),
    ("matmul", zeroed(slice(2, None, 3)), "in every 3rd row of M (2, 5, ...): all but"),
    ("matmul", lambda o: o * ((np.arange(300) % 128) < 96)[:, None], "in rows 96-127 of every tile of 128 of M"),
    ("matmul", zeroed(slice(128, 256)), "in rows 128-255 of M, a whole tile of 128"),
    ("matmul", zeroed(299), "in row 299 of M, the last: every element there"),
    ("matmul", zeroed(slice(1, None)), "in rows 1-299 of M, all but the first"),
    ("matmul", zeroed(slice(290, None)), "in rows 290-299 of M, up to the end"),
    ("matmul", zeroed(3, 5), "one element alone is wrong"),
    ("matmul", zeroed(...), "the output is zero everywhere: was it written at all?"),
    ("matmul", lambda o: np.full_like(o, 2.5), "every element is 2.5"),
    ("matmul", lambda o: np.full_like(o, np.nan), "every element is NaN"),
    ("matmul", lambda o: o * 8, "every element is 8 times what it should be"),
    ("matmul", lambda o: -o, "every element is -1 times what it should be"),
    ("matmul", lambda o: o + 1, "every element is off by the same 1"),
    ("matmul", lambda o: np.roll(o, 1, 0), "shifted along M: index i holds what belongs at i - 1"),
    ("matmul", lambda o: np.roll(o, -1, 1), "shifted along N: index i holds what belongs at i + 1"),
    ("matmul", lambda o: o[::-1].copy(), "the reference reversed along M"),
    ("matmul", np.tril, "all failures are above the diagonal (N >= M + 1)"),
    ("square", np.triu, "all failures are below the diagonal (N <= M - 1)"),
    ("square", lambda o: o * (1 - np.eye(70, dtype=np.float32)), "on the diagonal N = M"),
    ("square", lambda o: o.T.copy(), "the output is the reference transposed"),
    ("matmul", lambda o: o[np.random.default_rng(0).permutation(300)], "no simple change of the reference"),
    ("matmul", lambda o: np.where(np.random.default_rng(0).random(o.shape) < 0.001, 2 * o, o), "scattered (137 of 300"),
    ("attention", zeroed(slice(None), 3), "in H = 3 only (of 4): "),
    ("attention", zeroed(1, 3), "in B = 1 only (of 2); H = 3 only (of 4): "),
    ("attention", lambda o: np.roll(o, 1, 1), "shifted along H: index i holds what belongs at i - 1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "said"), DIAGNOSES, ids=[said for _, _, said in DIAGNOSES])
def test_the_diagnosis_names_the_pattern(right, name, change, said):
    assert said in failed(right, name, change).failure.diagnosis


def test_an_error_in_the_norm_alone_is_no_place(right):
    bound = right["matmul"][3].tolerance.max_abs
    verdict = failed(right, "matmul", lambda o: (o.astype(np.float64) + 0.55 * bound).astype(np.float32))
    assert "relative L2" in verdict.reason and "spread over many" in verdict.failure.diagnosis


def test_worst_and_histogram(right):
    def change(out):
        out[7, 9] += 3
        out[8, 9] = np.nan

    failure = failed(right, "matmul", change).failure
    assert failure.worst.index == [8, 9] and failure.worst.axes == {"M": 8, "N": 9}
    assert np.isnan(failure.worst.got) and failure.worst.allowed > 0
    histogram = failure.histogram
    assert sum(histogram.counts) + histogram.nonfinite == 300 * 600 and histogram.nonfinite == 1
    assert histogram.counts[-1] == 1 and histogram.counts[3:-1] == [0, 0, 0]
    assert failures.histogram_text(histogram).endswith("over 100: 1; NaN or infinite: 1")


def test_what_is_exactly_allowed_counts_as_allowed():
    op = Op("one", lambda case, rng: {"x": np.array([1, 2, 3])}, lambda x: x, {}, tolerance={"atol": 1})
    case, inputs = Case("one", "1", {}, "int64"), {"x": np.array([1, 2, 3])}
    verdict = judge(Problem(op, case, inputs), np.array([2, 2, 5]))
    assert verdict.failure.histogram.counts == [1, 0, 1, 0, 1, 0, 0]


def test_the_map_has_the_grid_of_the_tiles(right):
    drawing = failed(right, "matmul", zeroed(slice(None), slice(512, None))).failure.map
    assert (
        drawing.rows == 32
        and drawing.columns == 16
        and (drawing.row_tile, drawing.column_tile)
        == (
            128,
            256,
        )
    )
    assert drawing.lines[0] == "  0  ................|................|######"
    assert drawing.lines[4] == "     ----------------+----------------+------"
    assert drawing.lines[5].startswith("128  ....")
    assert failures.caption(drawing) == "M down, N across; a mark is 32 x 16 elements, lines are tiles of 128 x 256"


def test_the_map_of_more_axes_shows_the_worst_matrix_and_marks_partial_blocks(right):
    def change(out):
        out[1, 2, 5, 7] = np.inf
        out[1, 2, 8, :12] = 9

    drawing = failed(right, "attention", change).failure.map
    assert drawing.of == "Sq down, D across at B = 1, H = 2" and (drawing.rows, drawing.columns) == (4, 1)
    assert drawing.lines[1] == " 4  .......x........|........" and drawing.lines[2].startswith(" 8  oooooooooooo....|")


@pytest.mark.parametrize("shape", [(), (1,), (500,), (3, 1), (1, 700)])
def test_every_shape_has_a_map_and_a_diagnosis(shape):
    op = Op("any", lambda case, rng: {"x": rng.standard_normal(shape)}, lambda x: 1.5 * x + 1e-3, {})
    case = Case("any", "any", {}, "float32")
    inputs = make_inputs(op, case)
    out = np.asarray(1.5 * inputs["x"] + np.float32(1e-3), np.float32)
    out[(-1,) * len(shape)] += 5
    failure = judge(Problem(op, case, inputs), out).failure
    text = failures.lines(failure)
    assert failure.diagnosis and "error / allowed" in text[1] and len(failure.map.lines) <= 3
    assert max(map(len, text)) < 100


def test_a_picture_of_one_colour_is_not_drawn(right):
    failure = failed(right, "matmul", zeroed(...)).failure
    assert len(failures.lines(failure)) == 2 and len(failures.lines(None)) == 0


def test_a_pattern_needs_all_failures():
    flags = np.zeros(300, bool)
    flags[127::128] = True
    assert patterns.axis_pattern(flags, "row", "M", (128,)) == "every 128th row of M (127, 255)"
    flags[5] = True
    assert patterns.axis_pattern(flags, "row", "M", (128,)) == ""
    assert patterns.axis_pattern(np.ones(3, bool), "row", "M", ()) is None
    assert [patterns.ordinal(n) for n in (2, 3, 11, 21, 112)] == ["2nd", "3rd", "11th", "21st", "112th"]


def test_blocks_are_powers_of_two_and_grids_lie_between_marks():
    assert [maps.block(size, 64) for size in (1, 64, 65, 600, 28672)] == [1, 1, 2, 16, 512]
    assert maps.grid((16, 128, 512), 32, 300) == 128 and maps.grid((100,), 32, 300) == 0


def test_large_outputs_are_described_by_their_axes_alone(right, monkeypatch):
    monkeypatch.setattr("triptych.harness.judge.failure.description.LARGE", 1000)
    assert "every element is wrong" in failed(right, "matmul", lambda o: 3 * o).failure.diagnosis
    last = failed(right, "matmul", zeroed(slice(None), slice(512, None))).failure
    assert "last tile of 512" in last.diagnosis


def test_user_ops_without_names_get_numbers(right):
    op, case, inputs, expected, out = right["matmul"]
    out = out.copy()
    out[:, 5] = 0
    verdict = judge(Problem(replace(op, out=()), case, inputs), out, expected=expected)
    assert verdict.failure.diagnosis == "all failures are in column 5: every element there"
    assert verdict.failure.worst.axes.keys() == {"axis 0", "axis 1"}


def test_an_infinity_where_one_belongs_is_no_warning():
    got = np.array([[np.inf, 1.0], [2.0, 3.0]])
    assert patterns.whole_pattern(got, got.T.copy(), np.full((2, 2), 1e-9), ("r", "c")) == (
        "the output is the reference transposed"
    )
