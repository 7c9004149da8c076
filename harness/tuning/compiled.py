"""Settings of a Triton kernel where no GPU is: what the compiler says of each (`profiling.ranking`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.tuning.rulers import Reading, Refused


@dataclass(frozen=True)
class Compiling:
    """What Triton's compiler says of a launcher's kernels, for GPUs that are not here."""

    op: Op
    function: str
    cases: Sequence[Case]
    targets: Sequence[str]
    evidence: Evidence | None = None

    def read(self, variant: Path) -> Sequence[Reading]:
        from triptych.harness.profiling.ahead_of_time import misfit, of_case

        op = replace(self.op, triton=f"{variant}:{self.function}")
        found = []
        for case in self.cases:
            for target in self.targets:
                kernels = []
                for one in of_case(op, case, target):
                    if one.kernel is None or misfit(one.kernel):
                        raise Refused(f"{target}: {one.fault}")
                    kernels.append(one.kernel)
                found.append(Reading(f"{case.name} {case.dtype} {target}", compiled=kernels))
        return found
