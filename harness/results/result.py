"""What came of one case on one backend, and with which evidence.

The JSON document of the command line is a list of `Result.to_dict()`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


class Status(str, enum.Enum):
    """How one case on one backend ended."""

    PASSED = "passed"
    FAILED = "failed"  # ran, and disagrees with the reference
    ERROR = "error"  # raised, crashed, wrote out of bounds, left output unwritten, returned a wrong shape
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"  # documented not to be done by the kernel or the hardware, or inputs that judge nothing
    SKIPPED = "skipped"  # the backend is not here; the reason says why

    def __str__(self) -> str:
        return self.value


class Evidence(str, enum.Enum):
    """What kind of machine a number comes from. Speeds are ranked only within one kind."""

    REFERENCE = "reference"
    SIMULATED = "simulated"  # numbers computed by the NKI simulator
    PREDICTED = "predicted"  # a time computed by a model of the chip
    INTERPRETED = "interpreted"  # Triton's interpreter on a CPU
    DEVICE = "device"  # measured on an accelerator
    HOST = "host"  # measured on this CPU

    def __str__(self) -> str:
        return self.value


@dataclass
class Result:
    """What came of one case on one backend."""

    op: str
    case: str
    dtype: str
    backend: str
    target: str | None
    evidence: Evidence
    status: Status
    reason: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    tolerance: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    repro: str = ""
    regime: str = "normal"  # how the inputs were drawn
    fingerprint: str = ""  # of what decided it (`resume`); empty unless the run can be resumed
    notes: list[str] = field(default_factory=list)  # what the kernel's run was warned of
    failure: dict[str, Any] = field(default_factory=dict)  # where and by how much it disagrees; empty if it does not
    invariance: dict[str, Any] = field(default_factory=dict)  # whether other runs and parts of a batch have these bits
    parity: dict[str, Any] = field(default_factory=dict)  # the difference from every backend that ran the case before
    attribution: dict[str, Any] = field(default_factory=dict)  # of a failure: {"cause", "text", ..}

    @property
    def place(self) -> str:
        """`nki-sim[trn2]`, or the backend alone where it has no targets; with a profile's changes to chip and order."""
        changes = [f"{field}={value:g}" for field, value in self.timing.get("settings", {}).items()]
        order = ["program order"] if self.timing.get("order") == "program" else []
        inside = ", ".join([*([self.target] if self.target else []), *changes, *order])
        return f"{self.backend}[{inside}]" if inside else self.backend

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; numbers that JSON has no name for (nan, inf) become strings."""
        return {
            "op": self.op,
            "case": self.case,
            "dtype": self.dtype,
            "regime": self.regime,
            "backend": self.backend,
            "target": self.target,
            "evidence": str(self.evidence),
            "status": str(self.status),
            "reason": self.reason,
            "metrics": plain(self.metrics),
            "tolerance": plain(self.tolerance),
            "timing": plain(self.timing),
            "repro": self.repro,
            **({"fingerprint": self.fingerprint} if self.fingerprint else {}),
            "notes": list(self.notes),
            "failure": plain(self.failure),
            "invariance": plain(self.invariance),
            "parity": plain(self.parity),
            "attribution": plain(self.attribution),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Result:
        return cls(**{**d, "evidence": Evidence(d["evidence"]), "status": Status(d["status"])})


def plain(value: Any) -> Any:
    """`value` with NumPy scalars and non-finite floats replaced by what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
