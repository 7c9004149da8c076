"""The profile of a kernel, a predicted time with its reasons, and its JSON form beside the results of a document."""

from __future__ import annotations

from typing import Any

import msgspec

from triptych.harness.results.record import to_plain
from triptych.harness.results.result import Result
from triptych.harness.results.status import Cause, Evidence, Status
from triptych.harness.results.timing import Profiled

# What a program that reads verdicts looks for in every row of a document.
NO_VERDICT: dict[str, Any] = {
    "regime": "normal",
    "metrics": {},
    "tolerance": {},
    "notes": [],
    "failure": {},
    "invariance": {},
    "parity": {},
    "attribution": {},
}


class Profile(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="profile"):
    """How long a kernel takes on a chip, predicted; nothing was compared, so that it judges nothing."""

    op: str
    case: str
    dtype: str
    backend: str = "nki-sim"
    target: str
    evidence: Evidence = Evidence.PREDICTED
    status: Status  # passed, error or unsupported
    reason: str | None = None  # why there is no prediction
    cause: Cause | None = None
    label: str = ""  # what tells it from others of its case: "trn2", "trn2 program", "trn2 what-if"
    against: str | None = None  # the label of the prediction that its time is compared with
    timing: Profiled | None = None
    repro: str = ""
    node: str = ""  # of a cluster, on which it was predicted
    device: str = ""  # of that node: the processor
    unknown: dict[str, Any] = {}  # what a document said of it that this version does not know

    @property
    def predicted(self) -> Profiled:
        """The timing of a kernel that did not fail."""
        assert self.timing is not None
        return self.timing

    @property
    def backend_label(self) -> str:
        """`nki-sim[trn2]`, with what was changed of the chip and of the order."""
        changes = [f"{field}={value:g}" for field, value in self.timing.settings.items()] if self.timing else []
        order = ["program order"] if self.timing and self.timing.order == "program" else []
        return f"{self.backend}[{', '.join([self.target, *changes, *order])}]"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        plain: dict[str, Any] = to_plain(self)
        for part in ("unknown", *(name for name in ("node", "device") if not plain[name])):
            del plain[part]
        return {**plain, "timing": plain["timing"] or {}, **NO_VERDICT}


Outcome = Result | Profile  # a row of a document
