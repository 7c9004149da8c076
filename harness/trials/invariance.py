"""Invariance: does a kernel give the same bits again, and a part of its batch the bits that it has within the batch?

A kernel that passed runs three more times:

1. on other inputs of the same shapes, which lie in the memory of the first ones. Nobody knows their reference before
   the kernel ran. This shows what is kept from the first run: a result cached by shape or by address, a buffer that is
   handed out twice, an intermediate that is not computed anew. The result is judged coarsely (`coarsely_wrong`); of
   large inputs it is enough that it is another.
2. on the first inputs again: it must repeat the first run bit for bit, unless the op says that it need not. What ran in
   between makes this the harder test.
3. on a part of the batch, which checks the op's promise about it (`BatchInvariance`).

A kernel that takes long is repeated in one case alone, and from its second run on only if that was quick: a first call
may have compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from msgspec import structs

from triptych.harness.arrays import Array
from triptych.harness.backends.base import Backend
from triptych.harness.bits import first_difference
from triptych.harness.judge.comparison import compare
from triptych.harness.judge.kept import preparing as kept
from triptych.harness.judge.local_units import LOCAL_LIMIT
from triptych.harness.judge.prepared import Prepared, PreparedCase
from triptych.harness.judge.problem import Problem
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.op import BatchInvariance
from triptych.harness.ops.outputs.kinds import MalformedOutput
from triptych.harness.ops.outputs.naming import Outputs, in_words
from triptych.harness.results.findings import Alone, Invariance, Runs
from triptych.harness.results.measures import Derived
from triptych.harness.trials.other_inputs import moved, refilled

LONGEST_S = 2.0  # kernels that ran longer are repeated in one case, and then on other inputs alone
# The second run has no tolerance of its own: baselines on its inputs would cost as much as the case itself, and what a
# kernel keeps is wrong by far more than rounding. It is wrong if its relative L2 error is beyond all of
COARSE = 0.01  # which no dtype of 16 bits or more rounds by,
COARSE_SHARE = 64.0  # times the bound of the first inputs, for narrower dtypes and ops that cancel, and
MUCH_MORE = 8.0  # times the first run's error, which a loose tolerance may have let pass;
# or one element alone is off by more than
ONE_COARSE = 0.05  # of itself, and
ONE_SHARE = 8.0  # times its own bound, scaled by how much larger the second reference is.

Run = Callable[[Problem], Outputs]


@dataclass
class Repeats:
    """What the further runs showed."""

    found: Invariance = Invariance()
    fault: str | None = None  # the kernel keeps state: an error, in a sentence
    broken: str | None = None  # a promise of bits is broken: a failure, in a sentence

    def note(self, **found: Any) -> None:
        """Add to what was found."""
        self.found = structs.replace(self.found, **found)


@dataclass
class Repeater:
    """Repeats the kernels of one problem, all of them on the same other inputs.

    keep: whether the reference of these may be kept in a file
    """

    prepared: PreparedCase
    keep: bool = False

    @property
    def problem(self) -> Problem:
        return self.prepared.problem

    @cached_property
    def second(self) -> Problem:
        """The problem on other inputs of the same shapes and regime."""
        return Problem.of(self.problem.op, self.problem.case, draw=1)

    @cached_property
    def expected_of_second(self) -> PreparedCase:
        """What is expected there, in the tolerances of the first inputs."""
        anew, second = {}, kept.evaluated(self.second, self.keep)
        for name, prepared in self.prepared.outputs.items():
            one = second.outputs[name]
            anew[name] = Prepared(one, prepared.expected.with_leeway(one))
        return PreparedCase(second, anew)

    def repeat(
        self, backend: Backend, outputs: Outputs, run: Run, run_again: Run, seconds: float, though_slow: bool = True
    ) -> Repeats:
        """Run a kernel again that took `seconds` for `outputs`.

        run, run_again: the kernel on a problem; the second in another order, where the backend has one.
        though_slow: run it again even if it took long.
        """
        repeats = Repeats()
        first = {name: outputs[name].copy() for name in self.prepared.outputs}
        slow = f"the first run took {seconds:.1f} s; what takes over {LONGEST_S:g} s runs"
        if seconds > LONGEST_S and not though_slow:
            repeats.note(skipped=f"{slow} once, except in one case")
            return repeats
        started = perf_counter()
        repeats.fault, repeats.broken = self.on_other_inputs(run, first, outputs)
        if repeats.fault or repeats.broken:
            return repeats
        repeats.note(other_inputs=True)
        if seconds > LONGEST_S and perf_counter() - started > LONGEST_S:
            repeats.note(skipped=f"{slow} again on other inputs alone")
            return repeats
        again = run_again(self.problem)
        promised = self.problem.op.repeatable and backend.promises_bits
        apart = {name: first_difference(x, again[name]) for name, x in first.items()}
        name, differing = next(((name, found) for name, found in apart.items() if found), ("", None))
        repeats.note(runs=Runs(identical=differing is None, promised=promised))
        if differing is not None and promised:
            count, at = differing
            repeats.broken = (
                f"two runs on the same inputs differ in {count} of {first[name].size} elements{of(name)}, the first "
                f"at {at}: {value(first[name], at)} then {value(again[name], at)}{backend.again_in_words}; look for a "
                "race, an uninitialised read or atomic adds, or declare the op with repeatable=False if it need not "
                "repeat its bits"
            )
        elif self.problem.op.alone is not None:
            self.check_part_alone(self.problem.op.alone, backend, first, run, repeats)
        return repeats

    def on_other_inputs(self, run: Run, first: Outputs, outputs: Outputs) -> tuple[str | None, str | None]:
        """Run on other inputs: (what is kept from the first run, else what is wrong of the second), in sentences."""
        large = sum(x.size for x in self.problem.inputs.values()) > LOCAL_LIMIT
        if large:  # another result is not worth its reference, so that nearly any numbers do
            with suppress(Exception):  # unless the kernel does not take them
                fault, result, same = self.on_inputs_of(moved(self.problem), run, first, outputs)
                if fault or same != set(first):
                    return fault, None
        fault, result, same = self.on_inputs_of(self.second, run, first, outputs)
        if fault or (large and same != set(first)):
            return fault, None
        return self.kept(first, result, same)

    def on_inputs_of(
        self, other: Problem, run: Run, first: Outputs, outputs: Outputs
    ) -> tuple[str | None, Outputs, set[str]]:
        """What a run in the memory of the first one spoils, what it gives, and which outputs have the first bits."""
        with refilled(self.problem, other) as filled:
            result = run(filled)
        for name, x in first.items():
            if first_difference(x, outputs[name]) is not None or np.may_share_memory(result[name], outputs[name]):
                return (
                    (
                        f"the kernel returns a buffer{of(name)} that its next call overwrites: whoever holds the first "
                        "result finds the second in it; allocate the output in each call"
                    ),
                    result,
                    set(),
                )
            if type(result[name]) is not np.ndarray or (result[name].shape, result[name].dtype) != (x.shape, x.dtype):
                got = f"{getattr(result[name], 'dtype', None)}{list(np.shape(result[name]))}"
                return f"a second call returns {got}{of(name)} for inputs of the same shapes", result, set()
        return None, result, {name for name, x in first.items() if first_difference(result[name], x) is None}

    def kept(self, first: Outputs, result: Outputs, same: set[str]) -> tuple[str | None, str | None]:
        """The same of what a run gave for them; `same` are the outputs that have the bits of the first."""
        now = self.expected_of_second
        for name, prepared in self.prepared.outputs.items():
            before, expected = prepared.expected, now.outputs[name].expected
            if first_difference(expected.rounded, before.rounded) is None:
                continue  # the other inputs lead to the same result
            if name in same:
                return (
                    f"the kernel returned the result{of(name)} of its first call for other inputs of the same shapes: "
                    "it keeps a result by shape or address, or never writes its output; compute from the arguments of "
                    "each call"
                ), None
            then = self.prepared.compared(name, first[name])
            try:
                wrong = coarsely_wrong(then, before, now.compared(name, result[name]), expected)
            except MalformedOutput as error:
                wrong = str(error)
            if wrong:
                return None, (
                    f"right on its first inputs, wrong on others of the same shapes and regime ({wrong}{of(name)}): "
                    "it keeps something of its first call, as a converted or transposed input, or is right for some "
                    "numbers alone"
                )
        return None, None

    def check_part_alone(
        self, promise: BatchInvariance, backend: Backend, first: Outputs, run: Run, repeats: Repeats
    ) -> None:
        """Run a part of the batch by itself and compare its bits with those within the batch."""
        case = self.problem.case
        together = promise.promised.get(backend.name, 1)
        size = case.axes[promise.axis]
        if size <= together:
            return
        start = size // together // 2 * together
        part = slice(start, start + together)

        def cut(x: Array, axis: int) -> Array:
            return np.ascontiguousarray(x[(slice(None),) * axis + (part,)])

        inputs = {
            name: cut(x, promise.inputs[name]) if name in promise.inputs else x
            for name, x in self.problem.inputs.items()
        }
        smaller = replace(case, axes={**case.axes, promise.axis: together})
        of_each = promise.out if isinstance(promise.out, Mapping) else dict.fromkeys(first, promise.out)
        along = {name: axis for name, axis in of_each.items() if name in first}  # and not left out
        known = {
            name: cut(np.asarray(x), along[name]) if name in along else x for name, x in self.problem.evaluated.items()
        }
        result = run(replace(self.problem, case=smaller, inputs=inputs, known=known))
        promised = backend.name in promise.promised
        what = f"{promise.axis} = {part.start}" + (f"-{part.stop - 1}" if together > 1 else "")
        for name, axis in along.items():
            within, apart = cut(first[name], axis), result[name]
            wrong = first_difference(within, apart)
            repeats.note(alone=Alone(axis=promise.axis, part=what, identical=wrong is None, promised=promised))
            if wrong is None:
                continue
            if promised:
                repeats.broken = (
                    f"{what}{of(name)} computed alone differs from the same within a batch of {size}, in {wrong[0]} of "
                    f"{within.size} elements, the first at {wrong[1]}: {value(within, wrong[1])} within, "
                    f"{value(apart, wrong[1])} alone; the op promises the same bits ({promise.why}); look for tiles, "
                    f"splits or sums that depend on {promise.axis}, or promise it of whole tiles, or not at all"
                )
            return


def coarsely_wrong(first: Array, before: Expected, result: Array, expected: Expected) -> str | None:
    """How far off a result on other inputs is, in words, if it is by more than rounding explains.

    first, before: the result on the first inputs, and what was expected of it.
    """
    allowed = before.tolerance.rel_l2 if isinstance(before.tolerance, Derived) else 0.0
    off, usual_off = coarse_error(result, expected), coarse_error(first, before)
    if off > max(COARSE, COARSE_SHARE * allowed, MUCH_MORE * usual_off):
        return f"relative L2 error {off:.2g}" if np.isfinite(off) else "not finite where the reference is"
    now = compare(result, replace(expected, unit=None))
    usual = max(1.0, larger(expected.reference, before.reference))
    one = (now.share > ONE_SHARE * usual) & (now.error > ONE_COARSE * now.magnitude)
    if not one.any():
        return None
    at = [int(i) for i in np.unravel_index(int(np.argmax(one)), one.shape)]
    return (
        f"{int(one.sum())} of {one.size} elements, the first at {at}: expected {value(expected.rounded, at)}, got "
        f"{value(result, at)}"
    )


def of(name: str) -> str:
    """ " of output lse", where an op has several."""
    return f" of {in_words(name)}" if name else ""


def larger(a: Array, b: Array) -> float:
    """How much larger the largest finite element of `a` is than that of `b`."""
    sizes = [float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x in (a, b)]
    return sizes[0] / sizes[1] if sizes[1] else 1.0


def coarse_error(result: Array, expected: Expected) -> float:
    """The relative L2 error where the reference is finite; infinite if the result is not finite there."""
    finite = np.isfinite(expected.rounded.astype(np.float64))
    if expected.may_be_nan is not None:
        finite &= ~(expected.may_be_nan & np.isnan(result.astype(np.float64)))
    wide, reference = result.astype(np.float64)[finite], expected.reference[finite]
    if not np.isfinite(wide).all():
        return float("inf")
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(wide - reference)) / norm if norm else 0.0


def value(x: Array, at: list[int]) -> str:
    return f"{float(x[tuple(at)]):.9g}"
