"""What a formula leaves open where NaN and infinities are planted, and what it does not."""

from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.judge.nonfinite import changed, leeway
from triptych.harness.judge.prepared import prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Status
from triptych.harness.trials import invariance

FLOAT = np.float32
S, D, BLOCK = 50, 16, 16


def masked(q, k, v):
    """Causal attention by a mask: a hidden key has a weight of 0, and what is not finite times 0 is a NaN."""
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    return weights @ v / weights.sum(axis=1, keepdims=True)


def row_by_row(q, k, v):
    """Causal attention that does not look at hidden keys."""
    return np.array([last(q[: i + 1], k, v) for i in range(len(q))])


def last(q, k, v):
    seen = len(q)
    scores = q[-1] @ k[:seen].T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max())
    return weights @ v[:seen] / weights.sum()


def flash(skip):
    """The textbook's: blocks of keys with a running maximum; `skip` leaves out blocks that are hidden whole."""

    def kernel(q, k, v):
        out = np.zeros(q.shape, FLOAT)
        for i in range(0, len(q), BLOCK):
            rows = np.arange(i, min(i + BLOCK, len(q)))
            top, total = np.full((len(rows), 1), -np.inf, FLOAT), np.zeros((len(rows), 1), FLOAT)
            sums = np.zeros((len(rows), q.shape[1]), FLOAT)
            for j in range(0, i + BLOCK if skip else len(k), BLOCK):
                keys = np.arange(j, min(j + BLOCK, len(k)))
                s = np.where(rows[:, None] >= keys, q[rows] @ k[keys].T / FLOAT(np.sqrt(q.shape[1])), FLOAT(-np.inf))
                new = np.maximum(top, s.max(axis=1, keepdims=True))
                p, fade = np.exp(s - new), np.exp(top - new)
                total, sums = total * fade + p.sum(axis=1, keepdims=True), sums * fade + p @ v[keys]
                top = new
            out[rows] = sums / total
        return out

    return kernel


def problem_of(reference, names, shape, seed=0, **options):
    op = Op("op", {name: ("M", "N")[: len(shape)] for name in names}, reference, [], **options)
    axes = dict(zip("MN", shape, strict=False))
    return Problem.of(op, Case("op", "c", axes, "float32", regime="nonfinite", seed=seed))


def verdict(problem, kernel):
    with np.errstate(all="ignore"):
        return prepare(problem).judge({"": kernel(**problem.arguments)})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("reference", [masked, row_by_row])
def test_textbook_attention_passes_whatever_it_does_with_hidden_keys(reference, skip, seed):
    problem = problem_of(reference, "qkv", (S, D), seed)
    assert verdict(problem, flash(skip)).status is Status.PASSED


@pytest.mark.parametrize("skip", [True, False])
def test_an_op_may_promise_more(skip):
    problem = problem_of(row_by_row, "qkv", (S, D), strict_nonfinite=True)
    assert leeway(problem) is None
    found = verdict(problem, flash(skip))
    assert found.status is Status.FAILED and "NaN or infinite unlike the reference" in found.reason


def test_a_visible_nan_must_be_there_and_a_value_beside_it_right():
    problem = problem_of(masked, "qkv", (S, D))
    with np.errstate(all="ignore"):
        right = flash(True)(**problem.inputs)
    prepared = prepare(problem)
    assert prepared.judge({"": right}).status is Status.PASSED

    def first(where):
        return tuple(np.argwhere(where)[0])

    lost, moved = right.copy(), right.copy()
    lost[first(np.isnan(right) & np.isnan(problem.reference))] = 1.0
    moved[first(np.isfinite(right) & np.isnan(problem.reference))] += 1
    for wrong in (lost, moved):
        assert prepared.judge({"": wrong}).status is Status.FAILED


def row_sum(x):
    return x.sum(axis=1)


def compensated(x):
    total, lost = np.zeros(len(x), FLOAT), np.zeros(len(x), FLOAT)
    for j in range(x.shape[1]):
        y = x[:, j] - lost
        new = total + y
        lost, total = (new - total) - y, new
    return total


def test_compensated_sums_may_make_a_nan_of_an_infinity():
    problem = problem_of(row_sum, "x", (30, 40))
    assert np.isinf(problem.reference).sum() == 2
    assert verdict(problem, compensated).status is Status.PASSED
    assert verdict(problem, row_sum).status is Status.PASSED
    for wrong in (-np.inf, np.inf, 0.0):
        out = row_sum(problem.inputs["x"])
        out[np.isneginf(out) if wrong > 0 else np.isposinf(out)] = wrong
        assert verdict(problem, lambda x, out=out: out).status is Status.FAILED


def scaled_rows(x):
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True))


def test_a_nan_in_another_row_is_wrong():
    problem = problem_of(scaled_rows, "x", (30, 40))
    with np.errstate(all="ignore"):
        right = scaled_rows(problem.inputs["x"]).astype(FLOAT)
    assert verdict(problem, lambda x: right).status is Status.PASSED
    leaked = right.copy()
    leaked[np.isfinite(right).all(axis=1).argmax(), 3] = np.nan
    assert verdict(problem, lambda x: leaked).status is Status.FAILED


def test_a_prefix_sum_by_a_product_with_a_triangle_takes_in_what_comes_later():
    def prefix(x):
        return np.cumsum(x, axis=1)

    def by_product(x):
        return x @ np.tri(x.shape[1], dtype=FLOAT).T

    problem = problem_of(prefix, "x", (30, 40))
    assert verdict(problem, by_product).status is Status.PASSED
    assert verdict(replaced := problem_of(prefix, "x", (30, 40), strict_nonfinite=True), prefix).status is Status.PASSED
    assert verdict(replaced, by_product).status is Status.FAILED


def test_other_regimes_leave_nothing_open():
    problem = problem_of(masked, "qkv", (S, D))
    assert leeway(problem) is not None
    assert leeway(replace(problem, case=replace(problem.case, regime="normal"))) is None


def test_a_further_run_has_its_own_places():
    problem = problem_of(row_by_row, "qkv", (S, D))
    prepared = prepare(problem)
    other = Problem.of(problem.op, problem.case, draw=1)
    expected = prepared.first.expected.with_leeway(other)
    assert not np.array_equal(expected.may_be_nan, prepared.first.expected.may_be_nan)
    with np.errstate(all="ignore"):
        out = flash(False)(**other.inputs)
    assert np.isfinite(invariance.coarse_error(out, expected))
    out[np.isfinite(out) & ~expected.may_be_nan] = np.nan
    assert invariance.coarse_error(out, expected) == np.inf


def test_a_value_in_the_place_of_a_nan_has_no_unit_of_its_own():
    prepared = prepare(problem_of(masked, "qkv", (S, D)))
    expected = prepared.first.expected
    taken_in = np.isfinite(expected.reference) & np.isnan(prepared.problem.reference)
    assert taken_in.any() and np.array_equal(np.isinf(expected.unit), taken_in)


def test_a_rounding_of_the_largest_element_is_no_change():
    def shifted(x):
        return np.array([x[0] * 1e-12, 1e6])

    problem = Problem(Op("shift", {"x": ("N",)}, shifted, [{"N": 2}]), Case("shift", "a", {"N": 2}, "float32"), {})
    ordinary = {"x": np.zeros(2)}
    assert not changed(problem, ordinary, np.array([0.0, 1e6]), "x", [(0,)]).any(), "1e-9 beside 1e6"
    assert changed(problem, ordinary, np.array([0.0, 1.0]), "x", [(0,)]).tolist() == [True, True]
