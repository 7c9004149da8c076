"""Configurations of a Triton kernel in the order that follows from what the compiler says of each.

Registers that do not fit are spilled to memory, a product without a matrix instruction runs on ordinary units (no
better are wgmma that wait for each other), and a multiprocessor hides latency with the warps that are resident on it.
These, in this order, are all that can be ranked without a device. They are no time: they tell configurations that
cannot be good from those worth measuring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.harness.emulators.compilation import CompiledKernel


def resident_warps(kernel: CompiledKernel) -> int:
    """How many warps of a kernel a multiprocessor or compute unit holds at once."""
    return kernel.occupancy.programs * kernel.num_warps


def facts(kernels: Sequence[CompiledKernel]) -> Mapping[str, int]:
    """What is ranked and shown of all launches of a case: the worst of each."""
    return {
        "spills": max((k.spills_bytes for k in kernels), default=0),
        "without matrix instruction": sum(k.misses_matrix_unit or k.one_by_one for k in kernels),
        "resident warps": min((resident_warps(k) for k in kernels), default=0),
        "registers": max((k.registers for k in kernels), default=0),
        "shared bytes": max((k.shared_bytes for k in kernels), default=0),
    }


def order(cases: Sequence[Sequence[CompiledKernel]]) -> tuple[int, int, int]:
    """What configurations are sorted by, the best first, of the launches of each case."""
    found = [facts(kernels) for kernels in cases]
    return (
        sum(f["spills"] for f in found),
        sum(f["without matrix instruction"] for f in found),
        -sum(f["resident warps"] for f in found),
    )
