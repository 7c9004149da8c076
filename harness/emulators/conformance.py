"""What the emulators get right, in one form for `doctor`, for a result's environment and for attribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import triptych
from triptych.harness.results.environment import version


@dataclass(frozen=True)
class Tested:
    """The self-test of one emulator: (operation, dtype) -> whether it computes it as NumPy does."""

    emulator: str
    cells: dict[tuple[str, str], bool]
    corrected: frozenset[tuple[str, str]] = frozenset()  # right here, and wrong in Triton's own interpreter

    @property
    def wrong(self) -> list[str]:
        return [f"{operation} {dtype}" for (operation, dtype), right in self.cells.items() if not right]

    def to_dict(self) -> dict[str, Any]:
        return {"emulator": self.emulator, "passed": len(self.cells) - len(self.wrong), "failed": self.wrong}

    def word(self, cell: tuple[str, str]) -> str:
        if cell not in self.cells:
            return "-"
        return "WRONG" if not self.cells[cell] else "corrected" if cell in self.corrected else "right"


known: dict[str, Any] = {}  # the self-tests that have run, by the emulator; a process may take over another's


def of_simulator() -> Tested:
    """The self-test of the NKI simulator."""
    if "simulator" not in known:
        known["simulator"] = _of_simulator()
    found: Tested = known["simulator"]
    return found


def of_interpreter() -> Tested | str:
    """The self-test of Triton's interpreter with our corrections, or why it cannot run here."""
    if "interpreter" not in known:
        known["interpreter"] = _of_interpreter()
    found: Tested | str = known["interpreter"]
    return found


def _of_simulator() -> Tested:
    from triptych.harness.emulators import simulator_selftest

    name = f"triptych {triptych.__version__} on {simulator_selftest.TARGET}"
    return Tested(name, simulator_selftest.cells())


def _of_interpreter() -> Tested | str:
    from triptych.harness import emulators

    reason = emulators.version_support()
    if reason:
        return reason
    try:
        rows = emulators.selftest()
    except Exception as error:
        return f"the self-test of Triton {version('triton')} cannot run: {type(error).__name__}: {error}"
    corrected = frozenset((row.operation, row.dtype) for row in rows if row.right and not row.right_uncorrected)
    cells = {(row.operation, row.dtype): row.right for row in rows}
    return Tested(f"triton {version('triton')}", cells, corrected)


def record(tested: Mapping[str, Tested | str]) -> dict[str, Any]:
    """The `conformance` of an environment: by backend, how many operations its emulator gets right."""
    return {
        name: found.to_dict() if isinstance(found, Tested) else {"passed": 0, "failed": [], "reason": found}
        for name, found in tested.items()
    }


def warning(recorded: Mapping[str, Any]) -> str:
    """A line for each emulator of such a `conformance` that is not what it should be; empty if all are."""
    lines = []
    for name, found in recorded.items():
        if found["failed"]:
            wrong = ", ".join(found["failed"])
            lines.append(f"{name} computes {wrong} wrongly, and verdicts on kernels that use these say little\n")
        elif "reason" in found:
            lines.append(f"{name} is not tested: {found['reason']}\n")
    return "".join(lines)
