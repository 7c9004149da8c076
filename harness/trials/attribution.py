"""Whom a wrong result is to be blamed on: the kernel's logic, low-precision rounding, or the emulator that ran it.

The same kernel runs on the same inputs once more without low-precision rounding (`Backend.replay`), and what comes out
is rounded and judged as before. If it agrees now, rounding was the cause; if it does not, the logic is. On the
simulator the two runs are compared instruction by instruction. An emulator whose self-test fails for an operation of
the kernel is named first. Before all that, a kernel that is wrong on inputs with gaps between their elements runs on
copies without: if it agrees there, it takes its inputs for contiguous.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends.base import Backend, CannotReplay, Replay
from triptych.harness.dtypes import finfo, is_float
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.verdict import Verdict
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.results.findings import Attribution, Instruction
from triptych.harness.results.measures import Derived
from triptych.harness.results.status import Status

Blame = Literal["logic", "rounding", "emulator", "unknown"]
TAKEN_FOR_CONTIGUOUS = (
    "on copies of the inputs without gaps in memory the same kernel agrees with the reference: it takes {} for "
    "contiguous. Hand it their strides (`x.stride(0)`), or let the launcher pass `x.contiguous()`."
)
LONGEST_S = 20.0  # kernels that ran longer are not run again
MOSTLY = 10.0  # times the error of the run in float32: rounding explains most of an error


def attribute(
    backend: Backend, prepared: PreparedCase, target: str | None, outputs: Outputs, name: str = ""
) -> Attribution:
    """The cause of a disagreement of the output `name`, and why it is held to be that."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gaps = [name for name, x in prepared.problem.inputs.items() if not x.flags.c_contiguous]
            if gaps and agrees_without_gaps(backend, prepared, target, name):
                return Attribution(cause="logic", text=TAKEN_FOR_CONTIGUOUS.format(" and ".join(gaps)))
            replay = backend.replay(prepared.problem, target, outputs)
            out = prepared.compared(name, outputs[name])
            again = None if replay.out is None else prepared.compared(name, replay.out[name])
            return explain(prepared.outputs[name], out, replay, again)
    except CannotReplay as why:
        return Attribution(cause="unknown", text=str(why))
    except BaseException as error:  # a kernel may exit, too
        text = f"the kernel could not be run without low-precision rounding: {error}"
        return Attribution(cause="unknown", text=text)


def agrees_without_gaps(backend: Backend, prepared: PreparedCase, target: str | None, name: str) -> bool:
    """Whether the output `name` is right on the same numbers, contiguous in memory."""
    problem = prepared.problem
    close = {name: np.array(x, order="C") for name, x in problem.inputs.items()}
    dense = replace(problem, inputs=close, known=problem.evaluated)
    out = dense.named(backend.run(dense, target))
    return prepared.judge_one(name, out.get(name)).status is Status.PASSED


def explain(prepared: Prepared, out: Array, replay: Replay, again: Array | None) -> Attribution:
    """What a replay, which gave `again`, says of the run that gave `out`."""
    if again is None:
        return Attribution(cause="emulator", text=replay.emulator_fault)
    verdict = prepared.judge(again)
    if replay.narrow is None:
        if verdict.status is Status.PASSED:
            text = "the same kernel agrees with the reference on the same inputs widened to float32."
            return Attribution(cause="rounding", text=text)
        text = f"on the same inputs widened to float32 it disagrees as well{extent(verdict)}."
        return Attribution(cause="logic", text=text)
    cause: Blame = "emulator"
    text = replay.emulator_fault
    if not text:
        cause, text = conclude(prepared, verdict, prepared.judge(out), replay.narrow)
    if replay.play is None:
        return Attribution(cause=cause, text=text)
    return locate(prepared, out, again, replay.play, cause, text)


def conclude(prepared: Prepared, verdict: Verdict, before: Verdict, narrow: str) -> tuple[Blame, str]:
    """Cause and text.

    verdict: on the run in float32.
    before: on the run as it is.
    narrow: the dtypes of the kernel that were kept in float32, in words.
    """
    if verdict.status is Status.PASSED:
        return "rounding", "the same kernel agrees with the reference when it keeps every value in float32."
    # the order of a sum explains no more than that
    close = prepared.problem.case.dtype == "float32" and near(verdict, prepared.expected)
    if not narrow and close:
        return "unknown", (
            "every value of the kernel is float32, so that no low-precision rounding could be switched off, and the "
            "result is near its tolerance: it may be the order of a sum or a small error in the logic."
        )
    if not narrow:
        return "logic", (
            "between its loads and stores the kernel holds float32 alone, so that low-precision rounding has no part "
            "in it."
        )
    size, rest = (v.metrics.rel_l2 if v.metrics else np.inf for v in (before, verdict))
    if close and size > MOSTLY * rest:
        return "rounding", (
            f"without low-precision rounding ({narrow} kept in float32) the error falls from {size:.2g} to {rest:.2g}, "
            "relative L2; what is left may be the order of a sum or a small error in the logic."
        )
    return "logic", (
        f"without low-precision rounding ({narrow} kept in float32) it disagrees as well{extent(verdict)}. A logic "
        "error does the same in both runs: comparing them cannot show where it is."
    )


def locate(
    prepared: Prepared, out: Array, again: Array, play: Callable[[Any], Any], cause: Blame, text: str
) -> Attribution:
    """Cause and text with the first instructions that differ, or that make a NaN or an infinity."""
    from triptych.harness.trials import divergence

    bound = bound_of(prepared)
    found = divergence.bisect(play, bound)
    first: dict[str, Instruction] = {}
    off = divergence.distance(out.astype(np.float32), again.astype(np.float32)) > bound
    lost = cause == "rounding" or (cause == "logic" and off)
    if lost and found.first is not None:
        first["first_beyond_rounding"] = found.first.record(found.first.difference)
        how = f"by {found.first.difference:.2g}, relative L2, where the output may be off by {bound:.2g}"
        if not np.isfinite(found.first.difference):
            how = "in where it is NaN or infinite"
        besides = " Rounding costs more than is allowed besides." if cause == "logic" else ""
        text += f"{besides} First result to differ from that run {how}: {found.first}."
    elif cause == "rounding":
        text += (
            f" No single instruction stands out: all {found.instructions} stay within {bound:.2g}, relative L2, of "
            f"that run (the largest difference is {found.largest:.2g}), and their roundings add up."
        )
        text += f" {found.stopped}." if found.stopped else ""
    if has_misplaced(out, prepared.expected):
        for key, word, origin in (("first_infinity", "infinity", found.infinity), ("first_nan", "NaN", found.nan)):
            if origin is not None:
                first[key] = origin.record()
                text += f" First {word}: {origin}."
    return Attribution(cause=cause, text=text, **first)


def extent(verdict: Verdict) -> str:
    """How much of the output still disagrees."""
    metrics = verdict.metrics
    if metrics is None or not metrics.mismatches or metrics.nonfinite.misplaced:
        return f": {verdict.reason}"
    return f", in {metrics.mismatches} element{'s' * (metrics.mismatches > 1)} by up to {metrics.max_abs:.3g}"


def bound_of(prepared: Prepared) -> float:
    """The relative L2 difference that a result may have: the output's, or two units of the dtype if that is fixed."""
    tolerance = prepared.expected.tolerance
    derived = tolerance.rel_l2 if isinstance(tolerance, Derived) else 0.0
    dtype = prepared.problem.dtype
    return float(derived or 2 * finfo(dtype if is_float(dtype) else np.dtype(np.float32)).eps)


def near(verdict: Verdict, expected: Expected, times: float = 8.0) -> bool:
    """Whether the error is a few times what is allowed."""
    tolerance, metrics = expected.tolerance, verdict.metrics
    return bool(
        isinstance(tolerance, Derived)
        and metrics is not None
        and not metrics.nonfinite.misplaced
        and metrics.rel_l2 <= times * tolerance.rel_l2
        and metrics.max_abs <= times * tolerance.max_abs
    )


def has_misplaced(out: Array, expected: Expected) -> bool:
    """Whether the output is NaN or infinite where the reference is finite."""
    return bool((~np.isfinite(out.astype(np.float64)) & np.isfinite(expected.rounded.astype(np.float64))).any())
