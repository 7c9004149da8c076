"""What matmuls compute, and how fast each could."""

from __future__ import annotations

from triptych.simulator.chip.record import Chip
from triptych.simulator.trace import Event


def flops_of(event: Event) -> int:
    """2 K M N of a matmul; 0 of anything else."""
    if event.op not in ("nc_matmul", "nc_matmul_mx") or event.attributes.get("transpose"):
        return 0
    stationary, moving = event.reads[0], event.reads[1]
    rows: int = event.attributes["rows"]
    packed = 4 if stationary.dtype.endswith("_x4") else 1
    depth = stationary.shape[0] * rows * packed
    return 2 * depth * (stationary.free_size // rows) * (moving.free_size // rows)


def speed_of(event: Event, chip: Chip) -> float:
    """Peak of a matmul's dtype over that of bfloat16."""
    if is_float32_matmul(event):
        return 1 / chip.fp32_matmul_passes.value
    packed = 4 if event.reads and event.reads[0].dtype.endswith("_x4") else 1
    return float(event.attributes.get("rows", 1)) * packed


def is_float32_matmul(event: Event) -> bool:
    """A matmul that takes several passes."""
    return event.op == "nc_matmul" and event.reads[0].dtype == "float32"
