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

from triptych.harness.backends.base import kernel_of
from triptych.harness.errors import describe
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import sizes_of
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.tuning.rulers import Reading, Refused

if TYPE_CHECKING:
    from triptych.harness.emulators.compilation import CompiledKernel

# Of a multiprocessor: registers of 32 bits and warps (CUDA C Programming Guide, "Technical Specifications per Compute
# Capability", 8.0, 9.0 and 10.0 alike). Of a compute unit of CDNA 3: 4 SIMDs, each with 512 vector registers a lane and
# room for 8 waves (AMD CDNA 3 ISA, "Wavefront State").
REGISTERS, WARPS, THREADS = 65536, 64, 32
SIMDS, VECTOR_REGISTERS, WAVES = 4, 512, 8


@dataclass(frozen=True)
class Compiling:
    """What Triton's compiler says of a launcher's kernels, for GPUs that are not here."""

    op: Op
    function: str
    cases: Sequence[Case]
    targets: Sequence[str]
    evidence: Evidence | None = None

    def read(self, variant: Path) -> Sequence[Reading]:
        from triptych.harness.emulators.compilation import compile_launcher

        op = replace(self.op, triton=f"{variant}:{self.function}")
        found = []
        for case in self.cases:
            for target in self.targets:
                try:
                    launcher, _ = kernel_of(op.triton, loading.load)
                    with loading.at_home(variant):
                        some = compile_launcher(launcher, shapes(op, case), case.dtype, target, **case.params)
                except (Exception, SystemExit) as error:
                    raise Refused(f"{target}: {describe(error)}") from error
                for kernel in some:
                    check_shared(kernel)
                found.append(Reading(f"{case.name} {case.dtype} {target}", compiled=some))
        return found


def shapes(op: Op, case: Case) -> dict[str, Sequence[int]]:
    """The shapes of a launcher's tensors, `out` among them; the reference tells where the op does not declare them."""
    if op.shapes is not None and op.out and all(axis in case.axes for axis in op.out):
        return {**sizes_of(op.shapes, case), "out": [case.axes[axis] for axis in op.out]}
    problem = Problem.of(op, case)
    return {**{name: x.shape for name, x in problem.inputs.items()}, "out": problem.reference.shape}


def check_shared(kernel: CompiledKernel) -> None:
    """Refused where a program asks for more shared memory than the GPU has: Triton says so at the launch alone."""
    from triptych.harness.emulators.devices import DEVICES

    most = DEVICES[kernel.target].shared_bytes
    if kernel.shared_bytes > most:
        raise Refused(
            f"{kernel.kernel} needs {kernel.shared_bytes:,} bytes of shared memory, and {kernel.target} has {most:,}"
        )


def resident_warps(kernel: CompiledKernel) -> int:
    """How many warps of a kernel a multiprocessor holds at once, by registers, shared memory and room for warps."""
    from triptych.harness.emulators.devices import DEVICES

    device = DEVICES[kernel.target]
    if device.backend == "cuda":
        granted = -(-max(kernel.registers, 1) // 8) * 8  # registers are granted by eight
        most = min(WARPS, REGISTERS // (granted * THREADS))
    else:
        most = SIMDS * min(WAVES, VECTOR_REGISTERS // max(kernel.registers, 1))
    programs = most // kernel.num_warps
    if kernel.shared_bytes:
        programs = min(programs, device.shared_bytes // kernel.shared_bytes)
    return programs * kernel.num_warps


def facts(kernels: Sequence[CompiledKernel]) -> Mapping[str, int]:
    """What is ranked and shown of all launches of a case: the worst of each."""
    return {
        "spills": max((k.spills_bytes for k in kernels), default=0),
        "without matrix instruction": sum(not k.matrix_instructions for k in kernels),
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
