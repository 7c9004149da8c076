"""What the emulators get right, in one form for `doctor`, for a result's environment and for attribution."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import triptych
from triptych.harness.backends import BACKENDS
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


@cache
def of(backend: str) -> Tested | str | None:
    """The self-test of a backend's emulator; why it cannot run here; None for a backend that emulates nothing."""
    if backend == "nki-sim":
        from triptych.harness.emulators import simulator_selftest

        rows = simulator_selftest.conformance()
        name = f"triptych {triptych.__version__} on {simulator_selftest.TARGET}"
        return Tested(name, {(row["operation"], row["dtype"]): bool(row["ok"]) for row in rows})
    if backend == "triton-cpu":
        from triptych.harness import emulators

        reason = BACKENDS[backend].missing() or emulators.version_support()
        if reason:
            return reason
        try:
            rows = emulators.selftest()
        except Exception as error:
            return f"the self-test of Triton {version('triton')} cannot run: {type(error).__name__}: {error}"
        cells = {(row["operation"], row["dtype"]): bool(row["corrected_ok"]) for row in rows}
        mended = frozenset((r["operation"], r["dtype"]) for r in rows if r["corrected_ok"] and not r["uncorrected_ok"])
        return Tested(f"triton {version('triton')}", cells, mended)
    return None


def record(backends: Iterable[str]) -> dict[str, Any]:
    """The `conformance` of an environment: of each emulator among `backends`, how many operations it gets right."""
    here = {name: of(name) for name in dict.fromkeys(backends) if not BACKENDS[name].missing()}
    return {
        name: found.to_dict() if isinstance(found, Tested) else {"passed": 0, "failed": [], "reason": found}
        for name, found in here.items()
        if found is not None
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
