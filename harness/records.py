"""What the parts of the harness hand to each other: a case, an op, a result.

Nothing here computes. A `Case` says what to run, an `Op` says what it means, a `Result` says what came of it and with
which evidence. The JSON document of the command line is a list of `Result.to_dict()`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]


class Status(str, enum.Enum):
    """How one case on one backend ended."""

    PASSED = "passed"
    FAILED = "failed"  # ran, and disagrees with the reference
    ERROR = "error"  # raised, crashed, wrote out of bounds, left output unwritten, returned a wrong shape
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"  # the kernel or the hardware documents that it does not do this
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


@dataclass(frozen=True)
class Case:
    """One point at which an op is checked or timed: sizes, options, dtype, input regime and seed."""

    op: str
    name: str  # unique within (op, dtype): "64x128x96", "llama-3.1-8b/q_proj/s128"
    axes: Mapping[str, int]  # {"M": 64, "K": 128, "N": 96}
    dtype: str  # "float32", "bfloat16", "float16"
    params: Mapping[str, Any] = field(default_factory=dict)  # {"causal": True}
    regime: str = "normal"  # how inputs are drawn
    seed: int = 0


@dataclass(frozen=True)
class Op:
    """The meaning of one operation and where its panels are.

    Every callable takes the arrays of `inputs` and the case's params by keyword, so that all panels compute on the same
    bytes.
    """

    name: str
    summary: str  # one line with the equation and shapes
    axes: tuple[str, ...]
    dtypes: tuple[str, ...]
    inputs: Callable[[Case, np.random.Generator], Arrays]
    reference: Callable[..., Array]  # float64 inside and out
    honest: Sequence[Callable[..., Array]]  # same-dtype baselines; the first is the one that is reported
    cases: Mapping[str, Sequence[Case]]  # set name ("smoke", "edge", "adversarial", "model") -> dtype-less templates
    flops: Callable[[Mapping[str, int], Mapping[str, Any]], int]
    bytes: Callable[[Mapping[str, int], Mapping[str, Any], int], int]  # (axes, params, itemsize)
    nki: str | None = None  # "path/to/file.py:function", relative paths from the file that declares the op
    triton: str | None = None  # "path/to/file.py:launcher"; the launcher takes inputs, out= and params by keyword
    torch: Callable[..., Any] | None = None  # takes torch tensors by keyword, returns one
    unsupported: Callable[[Case, str, str], str | None] | None = None  # (case, backend, target) -> why, or None


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

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; numbers that JSON has no name for (nan, inf) become strings."""
        return {
            "op": self.op,
            "case": self.case,
            "dtype": self.dtype,
            "backend": self.backend,
            "target": self.target,
            "evidence": str(self.evidence),
            "status": str(self.status),
            "reason": self.reason,
            "metrics": plain(self.metrics),
            "tolerance": plain(self.tolerance),
            "timing": plain(self.timing),
            "repro": self.repro,
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
