"""Sensitivity: a tolerance that accepts a wrong output proves nothing, so wrong outputs are tried on it first.

The reference is mutated in ways in which kernels go wrong, those that suit every op and those that the op adds
(`corruptions=`), and each mutated output is judged by the case's own tolerance. One that is accepted although it
changes the result is an error of the op's definition. Where the judge derived the tolerance from the reference alone,
and the inputs are not normal ones, the op is not at fault: such inputs do not suit it, and judge nothing.

A mutation changes the result if some element moves by more than

    max(UNITS, SHARE / u) unit

with u the dtype's roundoff and `unit` the element's local unit (`local_units`; for cases too large to have them, u
times the largest element): by UNITS units at least, and by a thousandth of the element's natural size, unit / u. A swap
of equal rows, a mask that hides a key of no weight, or a change below what the dtype resolves is no mutation. The rule
knows nothing of the baselines, or it would agree with whatever they allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array
from triptych.harness.judge import mutations
from triptych.harness.judge.comparison import compare
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected, expect
from triptych.harness.judge.yardstick.baselines import baselines_of
from triptych.harness.ops.errors import InvalidOp, UninformativeCase
from triptych.harness.precision import round_to, roundoff
from triptych.harness.results.measures import Fixed, SensitivityReport, Tolerance

UNITS = 24.0
SHARE = 2.0**-10
CHUNK = 2**20  # elements of a large output that are looked at in one go
OWN = ("op", "dtype", "default")  # sources of a tolerance for which the op's definition answers
Patch = tuple[Any, Any]  # (index, values there)


def check(problem: Problem, expected: Expected) -> Expected:
    """What is expected, with what came of every mutation in its tolerance; InvalidOp if the op's own one accepts one.

    Of the baselines that are made from the reference the last is the coarsest: where the tolerance that it makes
    accepts a mutation, another is derived without it, and returned.
    """
    op, case = problem.op, problem.case
    report = try_mutations(problem, expected)
    baselines = baselines_of(op)
    by_default = expected.tolerance.source == "default" and baselines.from_reference
    if report.accepted and by_default:
        expected = expect(problem, baselines=baselines.finer())
        report = try_mutations(problem, expected)
    tolerance = structs.replace(expected.tolerance, sensitivity=report)
    if report.accepted and by_default and case.regime != "normal":
        raise UninformativeCase(
            case,
            f"one more rounding of the inputs moves the result of {op.name} by so much that "
            f"{list_words(report.accepted)} would pass within {bounds_in_words(tolerance)}",
        )
    if report.accepted and tolerance.source in OWN:
        raise InvalidOp(
            f"the tolerance of {op.name} accepts a wrong output in {case.dtype} ({case.regime} inputs): "
            f"{list_words(report.accepted)} would pass within {bounds_in_words(tolerance)}; "
            + (
                "tighten the op's `tolerance`"
                if isinstance(tolerance, Fixed) or tolerance.source == "op"
                else "give the op an honest baseline that is nearer to its reference"
            )
        )
    return replace(expected, tolerance=tolerance)


def remark(tolerance: Tolerance) -> str | None:
    """What to say of a pass under a tolerance that somebody asked for and that accepts wrong outputs."""
    report = tolerance.sensitivity
    if report is None or not report.accepted:
        return None
    return f"{bounds_in_words(tolerance)} of the {tolerance.source} would also pass {list_words(report.accepted)}"


def list_words(names: list[str]) -> str:
    """ "zeros, the mean everywhere and two rows swapped"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[2:] else names)


def bounds_in_words(tolerance: Tolerance) -> str:
    """The bounds in words."""
    if isinstance(tolerance, Fixed):
        return f"atol {tolerance.atol:.3g} + rtol {tolerance.rtol:.3g} x |reference|"
    return f"{tolerance.factor:g} x the error of '{tolerance.baseline}' (max_abs {tolerance.max_abs:.3g})"


def try_mutations(problem: Problem, expected: Expected) -> SensitivityReport:
    """Every mutation of the problem's reference, judged."""
    report = SensitivityReport(caught=[], without_effect=[], accepted=[])
    for name, patches in mutations_of(problem, expected.reference):
        parts = [part for patch in patches for part in chunks(patch, expected.reference.shape)]
        if not accepts(expected, parts):
            report.caught.append(name)
        elif any(changes(expected, *part) for part in parts):
            report.accepted.append(name)
        else:
            report.without_effect.append(name)
    return report


def mutations_of(problem: Problem, reference: Array) -> Iterator[tuple[str, list[Patch]]]:
    """Wrong outputs as patches of the right one: those of every op, then the op's own."""
    op = problem.op
    finite = np.isfinite(reference)
    yield "zeros", [(..., 0.0)]
    yield "the mean everywhere", [(..., reference[finite].mean() if finite.any() else 0.0)]
    *leading, rows, columns = [1] * (2 - reference.ndim) + list(reference.shape)
    if reference.ndim == 1:
        rows, columns = columns, rows  # a vector is as many rows
    last: tuple[Any, ...] = tuple(n - 1 for n in leading)

    def at(row: Any, column: Any) -> tuple[Any, ...]:
        return (*last, row, column)[: reference.ndim]

    if rows > 1:
        yield "the last row missing", [(at(rows - 1, slice(None)), 0.0)]
        first_row, last_row = at(0, slice(None)), at(rows - 1, slice(None))
        yield "two rows swapped", [(first_row, reference[last_row]), (last_row, reference[first_row])]
    if columns > 1:
        yield "the last columns missing", [(at(slice(None), slice(columns - max(1, columns // 8), None)), 0.0)]
    typical = np.argsort(np.abs(np.where(finite, reference, 0.0)), axis=None)[3 * reference.size // 4]
    place = np.unravel_index(int(typical), reference.shape)
    yield "one element doubled", [(place, 2 * reference[place])]
    if leading and leading[-1] > 1:
        head = (*last[:-1], 0)
        name = op.out[-3] if len(op.out) == reference.ndim else "slice"
        yield f"{name} 0 taken from {name} 1", [(head, reference[(*last[:-1], 1)])]
    if not op.honest or not op.corruptions:
        for name, wrong in mutations.of_any_op(problem, reference):
            yield name, [(..., wrong)]
    for name, corrupt in op.corruptions.items():
        try:
            with np.errstate(all="ignore"):
                patch = corrupt(problem.case, problem.inputs, reference)
                if patch is not None:
                    np.broadcast_to(np.asarray(patch[1], np.float64), reference[patch[0]].shape)
        except Exception as error:
            raise InvalidOp(f"the corruption {name!r} of {op.name} fails: {type(error).__name__}: {error}") from error
        if patch is not None:
            yield name, [patch]


def chunks(patch: Patch, shape: tuple[int, ...]) -> Iterator[Patch]:
    """A patch of a whole large output in pieces, since the first piece mostly decides."""
    where, values = patch
    step = max(1, CHUNK // max(1, int(np.prod(shape[1:]))))
    if where is not ... or not shape or shape[0] <= step:
        yield patch
        return
    for start in range(0, shape[0], step):
        yield (slice(start, start + step),), values[start : start + step] if np.ndim(values) else values


def accepts(expected: Expected, parts: list[Patch]) -> bool:
    """Whether the tolerance lets the patched reference pass."""
    tolerance, squares = expected.tolerance, 0.0
    for where, values in parts:
        comparison = compare(mutate(expected, where, values), expected, where)
        if comparison.beyond.any():
            return False
        squares += float(np.vdot(comparison.error, comparison.error))
    if isinstance(tolerance, Fixed):
        return True
    norm = float(np.linalg.norm(expected.reference[np.isfinite(expected.rounded)]))
    return bool(squares**0.5 <= tolerance.rel_l2 * norm)


def changes(expected: Expected, where: Any, values: Any) -> bool:
    """Whether the patch moves some element beyond rounding: the rule above."""
    dtype = expected.rounded.dtype
    before = expected.rounded[where].astype(np.float64)
    after = mutate(expected, where, values).astype(np.float64)
    both = np.isfinite(before) & np.isfinite(after)
    moved = np.abs(np.where(both, after, 0) - np.where(both, before, 0))
    u = roundoff(dtype)
    if u == 0:
        return bool((moved > 0).any())
    if expected.unit is None:
        unit = np.float64(u * np.abs(expected.rounded[np.isfinite(expected.rounded)].astype(np.float64)).max(initial=0))
    else:
        unit = expected.unit[where]
    return bool((moved > np.maximum(UNITS, SHARE / u) * unit).any())


def mutate(expected: Expected, where: Any, values: Any) -> Array:
    """The values of a patch, in the shape and dtype of the output there."""
    return round_to(
        np.broadcast_to(np.asarray(values, np.float64), expected.reference[where].shape), expected.rounded.dtype
    )
