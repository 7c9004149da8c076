"""The result of one case on one backend, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from triptych.harness.results.findings import Attribution, Failure, Invariance
from triptych.harness.results.measures import Metrics, OneOutput, Parity, Tolerance
from triptych.harness.results.record import to_plain
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Timing, kind_of

PARTS = ("metrics", "tolerance", "timing", "failure", "attribution")  # None here is {} in a document


class Result(msgspec.Struct, kw_only=True, tag_field="kind", tag="verdict"):
    """What came of one case on one backend, and with which evidence."""

    op: str
    case: str
    dtype: str
    regime: str = "normal"  # how the inputs were drawn
    backend: str
    target: str | None
    evidence: Evidence
    status: Status
    reason: str | None = None  # a sentence on what went wrong, or on what to know of a pass
    cause: Cause | None = None  # the same for programs; None of what passed
    metrics: Metrics | None = None
    tolerance: Tolerance | None = None
    timing: Timing | None = None
    repro: str = ""
    fingerprint: str = ""  # of what decided it (`resume`); empty unless the run can be resumed
    notes: list[str] = msgspec.field(default_factory=list)  # what the kernel's run was warned of
    launched: list[str] = msgspec.field(default_factory=list)  # by a launcher: each kernel with its configuration
    failure: Failure | None = None  # where and by how much it disagrees
    invariance: Invariance = Invariance()
    parity: dict[str, Parity] = msgspec.field(default_factory=dict)  # by the label of each backend that ran before
    attribution: Attribution | None = None  # of a failure
    output: str = ""  # of several, the worst, which metrics, tolerance and failure are of
    outputs: dict[str, OneOutput] = msgspec.field(default_factory=dict)  # each of several
    node: str = ""  # of a cluster, on which it ran
    device: str = ""  # of that node: the accelerator that its evidence is of, else the processor
    unknown: dict[str, Any] = {}  # what a document said of it that this version does not know

    @property
    def backend_label(self) -> str:
        """`nki-sim[trn2]`, or the backend alone where it has no targets."""
        return f"{self.backend}[{self.target}]" if self.target else self.backend

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        plain: dict[str, Any] = to_plain(self)
        del plain["unknown"]
        for part in PARTS:
            plain[part] = plain[part] or {}
        for part in ("fingerprint", "output", "outputs", "launched", "node", "device"):
            if not plain[part]:
                del plain[part]
        return plain

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Result:
        """The result of a document; msgspec.ValidationError says what is not as it must be."""
        return msgspec.convert(complete(row), cls, strict=False)


def complete(row: Any) -> Any:
    """A row of a document as `Result` or `Profile` has it: no part is {}, and the row and its timing say their kind."""
    if not isinstance(row, Mapping):
        return row
    known = {name: value for name, value in row.items() if name != "unknown"}
    known.setdefault("kind", "profile" if known.get("evidence") == Evidence.PREDICTED else "verdict")
    for part in PARTS:
        if known.get(part) == {}:
            known[part] = None
    timing = known.get("timing")
    if isinstance(timing, Mapping) and "kind" not in timing:
        known["timing"] = {**timing, "kind": kind_of(dict(timing))}
    return known
