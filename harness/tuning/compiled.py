"""Settings of a Triton kernel where no GPU is: what the compiler says of each, and the order that follows from it.

Registers that do not fit are spilled to memory, a product without a matrix instruction runs on ordinary units, and a
multiprocessor hides latency with the warps that are resident on it. These three, in this order, are all that can be
ranked without a device. They are no time: they tell settings that cannot be good from those worth measuring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.tuning.rulers import Reading, Refused

if TYPE_CHECKING:
    from triptych.harness.emulators.compilation import CompiledKernel


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


def resident_warps(kernel: CompiledKernel) -> int:
    """How many warps of a kernel a multiprocessor or compute unit holds at once."""
    return kernel.occupancy.programs * kernel.num_warps


def facts(kernels: Sequence[CompiledKernel]) -> Mapping[str, int]:
    """What is ranked and shown of all launches of a case: the worst of each."""
    return {
        "spills": max((k.spills_bytes for k in kernels), default=0),
        "without matrix instruction": sum(k.misses_matrix_unit for k in kernels),
        "resident warps": min((resident_warps(k) for k in kernels), default=0),
        "registers": max((k.registers for k in kernels), default=0),
        "shared bytes": max((k.shared_bytes for k in kernels), default=0),
    }


def order(readings: Sequence[Reading]) -> tuple[int, int, int]:
    """What settings are sorted by, the best first, over all cases."""
    found = [facts(reading.compiled) for reading in readings]
    return (
        sum(f["spills"] for f in found),
        sum(f["without matrix instruction"] for f in found),
        -sum(f["resident warps"] for f in found),
    )
