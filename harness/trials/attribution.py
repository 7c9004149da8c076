"""Whom a wrong result is to be blamed on: the kernel's logic, low-precision rounding, or the emulator that ran it.

The same kernel runs on the same inputs once more without low-precision rounding, and what comes out is rounded and
judged as before. If it agrees now, rounding was the cause; if it does not, the logic is. `nki-sim` and `triton-cpu`
switch rounding off in the emulator, and `nki-sim` looks for the first instruction that suffers from it; other backends
run the kernel on the inputs widened to float32. An emulator whose self-test fails for an operation of the kernel is
named first.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends.base import Backend, located
from triptych.harness.backends.nki_sim import Simulator
from triptych.harness.backends.triton_interpreter import Interpreter
from triptych.harness.dtypes import dtype_of, finfo
from triptych.harness.emulators import conformance
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.verdict import Verdict, judge
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.precision import round_to
from triptych.harness.results.findings import Attribution, Instruction
from triptych.harness.results.measures import Derived
from triptych.harness.results.status import Status
from triptych.harness.trials.invariance import differing
from triptych.simulator import Event

LONGEST_S = 20.0  # kernels that ran longer are not run again
Blame = Literal["logic", "rounding", "emulator", "unknown"]
MOSTLY = 10.0  # times the error of the run in float32: rounding explains most of an error


def attribute(
    backend: Backend, op: Op, case: Case, inputs: Arrays, target: str | None, out: Array, expected: Expected
) -> Attribution:
    """The cause of a disagreement, and why it is held to be that."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(backend, Simulator):
                return _simulated(backend, op, case, inputs, target, out, expected)
            if isinstance(backend, Interpreter):
                return _interpreted(backend, op, case, inputs, out, expected)
            return _other(backend, op, case, inputs, target, expected)
    except BaseException as error:  # a kernel may exit, too
        why = f"the kernel could not be run without low-precision rounding: {error}"
        return Attribution(cause="unknown", text=why)


def _simulated(
    backend: Simulator, op: Op, case: Case, inputs: Arrays, target: str | None, out: Array, expected: Expected
) -> Attribution:
    from triptych.harness.trials import divergence
    from triptych.simulator import Options

    def play(options: Options) -> Any:
        own = {name: x.copy() for name, x in inputs.items()}  # a kernel may write to them
        return backend.simulate(op, case, own, target, options)

    run = play(Options(round_low_precision=False, lint=False))
    verdict = judge(op, case, inputs, run.outputs, expected=expected)
    before = judge(op, case, inputs, out, expected=expected)
    narrow = sorted({str(a.dtype) for a in run.trace.allocations if a.dtype.is_float and a.dtype.itemsize < 4})
    bound = bound_of(case, expected)
    found = divergence.bisect(play, bound)
    about: dict[str, Instruction] = {}
    cause: Blame
    wrong = wrong_instructions(issued(run.trace.events))
    if wrong:
        cause = "emulator"
        text = f"the simulator's self-test fails for {', '.join(wrong)} (see `triptych doctor`), which the kernel uses."
    else:
        cause, text = concluded(case, verdict, before, ", ".join(narrow), expected)
    lost = cause == "rounding" or (cause == "logic" and divergence.apart(wide(out), wide(run.outputs)) > bound)
    if lost and found.first is not None:
        about["first_beyond_rounding"] = found.first.record(found.first.difference)
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
    if misplaced(out, expected):
        for key, word, origin in (("first_infinity", "infinity", found.infinity), ("first_nan", "NaN", found.nan)):
            if origin is not None:
                about[key] = origin.record()
                text += f" First {word}: {origin}."
    return Attribution(cause=cause, text=text, **about)


def _interpreted(
    backend: Interpreter, op: Op, case: Case, inputs: Arrays, out: Array, expected: Expected
) -> Attribution:
    wrong = [operation for operation in wrong_operations(case.dtype) if used(op, operation)]
    if wrong:
        text = f"Triton's interpreter computes {', '.join(wrong)} wrongly in {case.dtype} (see `triptych doctor`)"
        return Attribution(cause="emulator", text=f"{text}, and the kernel may use it. Try float32, or a GPU.")
    again = backend.replay(op, case, inputs)
    verdict = judge(op, case, inputs, again, expected=expected)
    before = judge(op, case, inputs, out, expected=expected)
    narrow = "" if differing(out, again) is None else "float16, bfloat16, float8 and TF32"
    cause, text = concluded(case, verdict, before, narrow, expected)
    return Attribution(cause=cause, text=text)


def concluded(case: Case, verdict: Verdict, before: Verdict, narrow: str, expected: Expected) -> tuple[Blame, str]:
    """Cause and text, from the verdict on the run in float32, that `before` it, and what the kernel holds `narrow`."""
    if verdict.status is Status.PASSED:
        return "rounding", "the same kernel agrees with the reference when it keeps every value in float32."
    close = case.dtype == "float32" and near(verdict, expected)  # the order of a sum explains no more than that
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


def extent(verdict: Verdict) -> str:
    """How much of the output still disagrees."""
    metrics = verdict.metrics
    if metrics is None or not metrics.mismatches or metrics.nonfinite.misplaced:
        return f": {verdict.reason}"
    return f", in {metrics.mismatches} element{'s' * (metrics.mismatches > 1)} by up to {metrics.max_abs:.3g}"


def bound_of(case: Case, expected: Expected) -> float:
    """The relative L2 difference that a result may have: the output's, or two units of the dtype if that is fixed."""
    derived = expected.tolerance.rel_l2 if isinstance(expected.tolerance, Derived) else 0.0
    return float(derived or 2 * finfo(dtype_of(case.dtype)).eps)


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


def wide(out: Array) -> Array:
    return out.astype(np.float32)


def misplaced(out: Array, expected: Expected) -> bool:
    """Whether the output is NaN or infinite where the reference is finite."""
    return bool((~np.isfinite(out.astype(np.float64)) & np.isfinite(expected.rounded.astype(np.float64))).any())


def _other(backend: Backend, op: Op, case: Case, inputs: Arrays, target: str | None, expected: Expected) -> Attribution:
    if dtype_of(case.dtype) == np.float32:
        text = "the inputs are float32 already, so that the kernel cannot be run with less rounding"
        return Attribution(cause="unknown", text=f"{text}; an emulator can: see nki-sim or triton-cpu.")
    wide = {name: x.astype(np.float32) if x.dtype == dtype_of(case.dtype) else x for name, x in inputs.items()}
    again = backend.run(op, replace(case, dtype="float32"), wide, target)
    verdict = judge(op, case, inputs, round_to(again, dtype_of(case.dtype)), expected=expected)
    if verdict.status is Status.PASSED:
        text = "the same kernel agrees with the reference on the same inputs widened to float32."
        return Attribution(cause="rounding", text=text)
    text = f"on the same inputs widened to float32 it disagrees as well{extent(verdict)}."
    return Attribution(cause="logic", text=text)


def issued(events: Iterable[Event]) -> set[tuple[str, str]]:
    """What a kernel did, as the self-test calls it: ("tensor_reduce add", "bfloat16"), by the first operand's dtype."""
    found = set()
    for event in events:
        of = event.attributes.get("op", ())
        names = [event.op, *(f"{event.op} {word}" for word in ((of,) if isinstance(of, str) else of))]
        found |= {
            (name, str(region.allocation.dtype)) for name in names for region in (event.reads or event.writes)[:1]
        }
    return found


def wrong_instructions(done: set[tuple[str, str]]) -> list[str]:
    """Of what a kernel did, what the simulator gets wrong."""
    tested = conformance.of("nki-sim")
    cells = tested.cells if isinstance(tested, conformance.Tested) else {}
    return [" ".join(cell) for cell, right in cells.items() if not right and cell in done]


def wrong_operations(dtype: str) -> list[str]:
    """What the corrected interpreter gets wrong in a dtype."""
    tested = conformance.of("triton-cpu")
    cells = tested.cells if isinstance(tested, conformance.Tested) else {}
    return [operation for (operation, tried), right in cells.items() if tried == dtype and not right]


SPELLED: dict[str, tuple[str, ...]] = {
    "dot": ("tl.dot(",),
    "sum": ("tl.sum(",),
    "max": ("tl.max(",),
    "min": ("tl.min(",),
    "argmax": ("tl.argmax(",),
    "exp": ("tl.exp(", "tl.math.exp("),
    "exp2": ("tl.exp2(", "tl.math.exp2("),
    "sqrt": ("tl.sqrt(", "tl.math.sqrt("),
    "where": ("tl.where(",),
    "minimum": ("tl.minimum(",),
    "maximum": ("tl.maximum(",),
    "absolute": ("tl.abs(",),
    "transpose": ("tl.trans(",),
    "reshape": ("tl.reshape(", ".reshape("),
    "broadcast": ("tl.broadcast_to(",),
}


def used(op: Op, operation: str) -> bool:
    """Whether the kernel's file calls an operation; one without a name of its own, as +, is taken to be used."""
    if operation not in SPELLED:
        return True
    text = located(op.triton)[0].read_text(encoding="utf-8", errors="replace")
    return any(word in text for word in SPELLED[operation])
