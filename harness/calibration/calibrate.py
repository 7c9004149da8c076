"""From a document of `verify-device` to constants of the chip, with how far off the model is before and after."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from triptych import simulator
from triptych.harness.calibration.fitting import fit
from triptych.harness.calibration.groups import GROUPS
from triptych.harness.calibration.observations import (
    Observation,
    measured_on_device,
    observed,
    pairs,
    subject_of,
    target_of,
)
from triptych.harness.calibration.probes import OPS
from triptych.harness.collection import builtin
from triptych.harness.errors import UsageError
from triptych.harness.profiling.tracing import traced, why_failed
from triptych.harness.results.document import Document

AT_ZERO = "it stands at 0, and a fit moves by factors"


@dataclass(frozen=True)
class Constant:
    """A field of a chip's record: what stands there, and what was found; None where the probes do not decide it."""

    field: str
    unit: str
    before: float
    after: float | None
    error: float | None  # relative standard error
    why_not: str = ""


@dataclass(frozen=True)
class Check:
    """A measured time and the model's, with the old and with the new constants. Microseconds.

    fitted: whether the constants were fitted to it; whole kernels of the collection were not.
    """

    label: str
    measured: float
    before: float
    after: float
    fitted: bool


@dataclass(frozen=True)
class Calibration:
    """Constants of the chip behind a target, and what they do to the errors."""

    target: str
    chip: str
    constants: Sequence[Constant]
    checks: Sequence[Check]
    unpredicted: Sequence[str]  # whole kernels that were measured and cannot be predicted, with why

    def errors(self, fitted: bool) -> tuple[float, float] | None:
        """The median of the absolute relative errors before and after; None where nothing was measured."""
        some = [check for check in self.checks if check.fitted is fitted]
        if not some:
            return None
        before, after = ([abs(getattr(c, when) / c.measured - 1) for c in some] for when in ("before", "after"))
        return statistics.median(before), statistics.median(after)


def calibrate(document: Document, say: Callable[[str], None] = lambda what: None) -> Calibration:
    """Fit the groups one after the other, then predict everything that was measured anew.

    say: hears what is done now
    UsageError if the document holds no probe that a device timed.
    """
    target = target_of(document)
    there = pairs(document)
    if not there:
        raise UsageError(
            "the document holds no probe that a device timed and that is right; `triptych verify-device` runs them."
        )
    chip = simulator.TARGETS[target]
    found: dict[str, float] = {}
    constants: list[Constant] = []
    observations: list[Observation] = []
    for group in GROUPS:
        say(f"fitting {', '.join(group.fields)}")
        some = observed(there, group, target)
        start = {name: getattr(chip, name).value for name in group.fields}
        fitted = fit(some, group.fields, start, found)
        why = "its probes do not decide it" if some else "none of its probes was timed"
        for name in group.fields:
            fact = getattr(chip, name)
            constants.append(
                Constant(
                    name,
                    fact.unit,
                    fact.value,
                    fitted.values.get(name),
                    fitted.errors.get(name),
                    "" if name in fitted.values else why if fact.value else AT_ZERO,
                )
            )
        found |= fitted.values
        observations += some
    checks = [
        Check(one.label, one.measured / 1e3, one.predicted({}) / 1e3, one.predicted(found) / 1e3, True)
        for one in observations
    ]
    whole, unpredicted = whole_kernels(document, target, found, say)
    return Calibration(target, chip.name, constants, [*checks, *whole], unpredicted)


def whole_kernels(
    document: Document, target: str, found: dict[str, float], say: Callable[[str], None]
) -> tuple[list[Check], list[str]]:
    """What the constants were not fitted to: every kernel that the device timed; and what fails, with why."""
    probes, ops = {op.name for op in OPS}, builtin()
    checks, unpredicted = [], []
    for result, timing in measured_on_device(document):
        if result.op in probes:
            continue
        label = f"{result.op} {result.case} {result.dtype}"
        say(f"predicting {label}")
        if result.op not in ops:
            unpredicted.append(f"{label}: the collection has no such op")
            continue
        try:
            subject = subject_of(ops[result.op], result.case, result.dtype)
        except UsageError as error:
            unpredicted.append(f"{label}: {error}")
            continue
        try:
            trace = traced(subject, target)
            before, after = (simulator.predict_trace(trace, settings=new).total_us for new in ({}, found))
        except Exception as error:  # the device runs what the simulator refuses: to be known, not to end it all
            unpredicted.append(f"{label}: {why_failed(error, subject)}")
            continue
        checks.append(Check(label, timing.median_us, before, after, False))
    return checks, unpredicted
