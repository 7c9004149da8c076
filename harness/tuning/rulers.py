"""What a setting is measured with: a chip's predicted time, a device's measured one, or facts of a compiled kernel.

A ruler reads every case of one variant. `Refused` says in a sentence why the variant cannot be had: the linter's rule,
a capacity, a compiler's error, a wrong result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from triptych import simulator
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.subjects import of_ops
from triptych.harness.profiling.tracing import traced, why_failed
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence, Status
from triptych.harness.results.timing import Predicted, Timing
from triptych.harness.results.timing_accuracy import LAST_VALIDATION
from triptych.simulator import lint

if TYPE_CHECKING:
    from triptych.harness.emulators.compilation import CompiledKernel


class Refused(Exception):
    """Why a variant cannot be had; its text is one sentence."""


@dataclass(frozen=True)
class Reading:
    """What one case says of a variant."""

    case: str  # with dtype and target
    timing: Timing | None = None
    compiled: Sequence[CompiledKernel] = ()  # where no device is, what the compiler says of each launch


class Ruler(Protocol):
    """Reads the cases of a variant, given as the file of its kernel."""

    @property
    def evidence(self) -> Evidence | None:
        """Of its times; None if it takes none."""

    def read(self, variant: Path) -> Sequence[Reading]:
        """A reading for each case, always in one order; Refused if one of them cannot be had."""


@dataclass(frozen=True)
class Predicting:
    """The time that the timing model predicts for an NKI kernel, from shapes where they suffice."""

    op: Op
    function: str
    selection: Selection
    targets: Sequence[str]
    evidence: Evidence | None = Evidence.PREDICTED

    def read(self, variant: Path) -> Sequence[Reading]:
        self.lint(variant)
        op = replace(self.op, nki=f"{variant}:{self.function}")
        found = []
        for subject in of_ops([op], self.selection, {}):
            for target in self.targets:
                if subject.unsupported(target):
                    continue
                try:
                    predicted = simulator.predict_trace(traced(subject, target))
                except (Exception, SystemExit) as error:
                    raise Refused(why_failed(error, subject).partition("\n")[0]) from error
                timing = Predicted(
                    timer="timing model",
                    evidence=Evidence.PREDICTED,
                    predicted_us=predicted.total_us,
                    accuracy=LAST_VALIDATION,
                    mfu=predicted.mfu,
                    busy_share=predicted.busy,
                )
                found.append(Reading(f"{subject.case} {subject.dtype} {target}", timing))
        return found

    def lint(self, variant: Path) -> None:
        """Refused for what the compiler would reject on the oldest of the chips: what it has, the others have too."""
        oldest = min(self.targets, key=lambda target: simulator.TARGETS[target].generation)
        try:
            found = lint.lint_file(str(variant), self.function, oldest)
        except lint.LintError as error:
            raise Refused(f"lint: {error}") from error
        for finding in found:
            if finding.severity == lint.ERROR:
                raise Refused(f"lint: line {finding.line}: {finding.message}")


@dataclass(frozen=True)
class Measuring:
    """The time of a kernel on a device, checked first; `bench` runs the cases of a variant."""

    bench: Callable[[Path], Sequence[Result]]
    evidence: Evidence | None = Evidence.DEVICE

    def read(self, variant: Path) -> Sequence[Reading]:
        found = []
        for result in self.bench(variant):
            if result.status in (Status.SKIPPED, Status.UNSUPPORTED):
                continue
            if result.status is not Status.PASSED or result.timing is None:
                raise Refused(f"{result.case} {result.dtype}: {result.status}: {result.reason}")
            found.append(Reading(f"{result.case} {result.dtype} {result.backend_label}", result.timing))
        return found
