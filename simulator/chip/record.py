"""What is known of a chip: a number with unit, source and how it is known, and the record of a NeuronCore generation.

The records are in triptych.simulator.chips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Known = Literal["documented", "measured", "assumed"]


@dataclass(frozen=True)
class Fact:
    """One number of a chip."""

    value: float
    unit: str
    source: str
    known: Known = "documented"


@dataclass(frozen=True)
class Chip:
    """One NeuronCore generation. Rates and capacities are per core."""

    name: str
    generation: int  # nki.isa.nc_version: 2, 3, 4
    targets: tuple[str, ...]
    partitions: Fact
    sbuf_partition_bytes: Fact
    psum_partition_bytes: Fact
    psum_bank_bytes: Fact
    stationary_fmax: Fact
    moving_fmax: Fact
    bn_stats_fmax: Fact
    tensor_ghz: Fact
    vector_ghz: Fact
    scalar_ghz: Fact
    gpsimd_ghz: Fact
    min_cycles: Fact  # shortest initiation interval of an instruction
    gpsimd_start_cycles: Fact
    fp32_matmul_passes: Fact
    matmul_extra_cycles: Fact  # of one pass through the array, beyond its rows
    access_cycles: Fact  # of an instruction on Vector or Scalar, beyond its elements
    operand_cycles: Fact  # of one on Vector that also reads a column, one element a partition
    scalar_operand_cycles: Fact  # of each column that one on Scalar reads; a function reads a bias if none is given
    scalar_sbuf_cycles: Fact  # of one on Scalar whose tile is in SBUF and not in PSUM
    reciprocal_cycles: Fact  # an element
    barrier_ns: Fact  # of a core_barrier, on the engine that runs it
    tensor_latency_ns: Fact  # from an instruction's last element to the use of its result by another
    vector_latency_ns: Fact
    scalar_latency_ns: Fact
    gpsimd_latency_ns: Fact
    table_load_ns: Fact  # the first use of an activation function
    warm_up_ns: Fact  # windows, one behind the other, whose use of the Tensor Engine decides on its clock in the next
    warm_up_use: Fact  # from this use of a window on it is throttled no longer
    cool_down_use: Fact  # at this use of a window, or less, it is again
    warm_up_slowdown: Fact
    sustained_slowdown: Fact  # of the Tensor Engine while it is not throttled: in use nearly all the time
    dma_gb_per_s: Fact
    dma_rings: Fact
    dma_descriptor_ns: Fact  # of one descriptor on its ring, beyond its bytes
    dma_issue_ns: Fact  # of one transfer on the queue that issues it, where hardware makes its descriptors
    dma_software_issue_ns: Fact  # the same where GpSimd makes them
    dma_static_issue_ns: Fact  # the same where they lie in HBM before the kernel starts
    dma_start_ns: Fact  # from the begin of the issue to the first byte
    dma_hardware_start_ns: Fact  # the same where hardware makes the descriptors
    dma_skew_ns: Fact  # until the last of the rings of a transfer has its first byte
    dma_end_ns: Fact  # from the last byte to the use by an engine
    hbm_gb_per_s: Fact  # of the stack that a core reads
    hbm_cores: Fact  # cores that share it
    launch_ns: Fact  # until the first transfer is triggered
    gpsimd_launch_ns: Fact  # later than that: until GpSimd, which makes descriptors, triggers its first
    teardown_ns: Fact  # from dma_end_ns after the last byte
    cores_per_device: Fact
    neuronlink_gb_per_s: Fact  # of a device
    collective_step_ns: Fact
    mesh_bytes: Fact  # below it a collective takes the mesh algorithm
    halving_bytes: Fact  # below it recursive doubling and halving
    peak_bf16_tflops: Fact

    @property
    def psum_banks(self) -> int:
        return int(self.psum_partition_bytes.value // self.psum_bank_bytes.value)

    @property
    def once_us(self) -> float:
        """What a program is charged once, however many kernels it has: launch, GpSimd's later start and teardown."""
        return (self.launch_ns.value + self.gpsimd_launch_ns.value + self.teardown_ns.value) / 1e3


def like(chip: Chip, *names: str) -> dict[str, Fact]:
    """Numbers that no source gives for a generation, taken to be those of another."""
    return {name: replace(getattr(chip, name), source=f"that of {chip.name}", known="assumed") for name in names}


NOT_ONCE = {"launch_ns": 0.0, "gpsimd_launch_ns": 0.0, "teardown_ns": 0.0}  # settings for a kernel within a program
