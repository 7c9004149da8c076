"""The chips as data: one frozen record per NeuronCore generation, each number with unit, source and how it is known.

`documented` is said by AWS's documentation (aws-neuron/aws-neuron-sdk at 81ce03ae, paths relative to it), `measured` is
read off a device by the cited source, `assumed` is our reading where both are silent. Where documents conflict, the
source says which was taken and why.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from triptych.simulator.errors import KernelError

Known = Literal["documented", "measured", "assumed"]

_V2 = "nki/guides/architecture/trainium_inferentia2_arch.rst"
_V3 = "nki/guides/architecture/trainium2_arch.rst"
_V4 = "nki/guides/architecture/trainium3_arch.rst"
_TILING = "nki/get-started/about/tiling-overview.rst"
_ISA = "nki/api/nki/isa/__init__.py"
_COST = "nki/api/nki/isa/__init__.py at v2.26.1, 'Estimated instruction cost'"
_NODE = "neuron-runtime/explore/intranode-collective-comm.rst"
_HARDWARE = "about-neuron/arch/neuron-hardware"
_DMA = "nki/deep-dives/nki-dma-bandwidth-guide.rst"
_DMA_TRACES = "nki/get-started/about/nki-dma-overview.rst, the traces of its two examples on Trn2"
_LADDER_V2 = "matrix_multiplication.rst of SDK 2.26.1 (Trn1, bfloat16)"
_LADDER_V3 = "nki/guides/tutorials/kernel-optimization.rst and its profiles (Trn2, float32)"
_THROTTLE = "tools/neuron-explorer/overview-summary-page.rst, dI/dt throttling"
_MAMBA = "nki/guides/tutorials/fused_mamba.rst, profile on Trn1, mamba_v1_profile.png with 8.6 pixels a us"
_COURSE = (
    "summaries of neuron-profile in part1 of rishic3/asst4-trainium2 at ef7e4ef8 and of chenhzhu's at e30a10f5 (Trn2)"
)
_NOT_KNOWN = (
    "22 us with the teardown, amid what is on record for Trn2 and does not agree: 22 to 33 us until the first "
    f"DMA is triggered ({_DMA_TRACES}; nki/library/specs/design-rmsnorm-quant.rst), 16 to 18 us of both ({_COURSE})"
)


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
    tensor_latency_ns: Fact  # from an instruction's last element to the use of its result by another
    vector_latency_ns: Fact
    scalar_latency_ns: Fact
    gpsimd_latency_ns: Fact
    table_load_ns: Fact  # the first use of an activation function
    warm_up_ns: Fact  # window in which the Tensor Engine's use decides on its clock
    warm_up_use: Fact  # below this use of the window it is throttled
    warm_up_slowdown: Fact
    dma_gb_per_s: Fact
    dma_rings: Fact
    dma_descriptor_ns: Fact  # of one descriptor on its ring, beyond its bytes
    dma_issue_ns: Fact  # of one transfer on the queue that issues it, where hardware makes its descriptors
    dma_software_issue_ns: Fact  # the same where GpSimd makes them
    dma_static_issue_ns: Fact  # the same where they lie in HBM before the kernel starts
    dma_start_ns: Fact  # from the issue to the first byte
    dma_end_ns: Fact  # from the last byte to the use by an engine
    hbm_gb_per_s: Fact  # of the stack that a core reads
    hbm_cores: Fact  # cores that share it
    launch_ns: Fact
    teardown_ns: Fact
    cores_per_device: Fact
    neuronlink_gb_per_s: Fact  # of a device
    collective_step_ns: Fact
    mesh_bytes: Fact  # below it a collective takes the mesh algorithm
    halving_bytes: Fact  # below it recursive doubling and halving
    peak_bf16_tflops: Fact

    @property
    def psum_banks(self) -> int:
        return int(self.psum_partition_bytes.value // self.psum_bank_bytes.value)


def _common() -> dict[str, Fact]:
    return {
        "partitions": Fact(128, "partitions", _TILING),
        "psum_partition_bytes": Fact(16 * 1024, "bytes", _V2),
        "psum_bank_bytes": Fact(2 * 1024, "bytes", _V2),
        "stationary_fmax": Fact(128, "elements", _TILING),
        "bn_stats_fmax": Fact(512, "elements", f"{_ISA}, bn_stats"),
        "min_cycles": Fact(64, "engine cycles", "nki/api/nki.api.shared.rst, MIN_II"),
        "gpsimd_start_cycles": Fact(150, "engine cycles", _COST),
        "fp32_matmul_passes": Fact(4, "passes", _COST),
        "matmul_extra_cycles": Fact(
            7,
            "engine cycles",
            f"{_LADDER_V3}: 429.7 ns between passes of 512 rows, 1024 cycles; two make a float32 matmul",
            "measured",
        ),
        "access_cycles": Fact(
            50,
            "engine cycles",
            f"{_LADDER_V3}: Vector is active for 2.99 ms in 5,120 instructions of 512 elements; {_V2}: about 60 for "
            "an access, and 100 in all for short instructions",
            "measured",
        ),
        "table_load_ns": Fact(1300, "ns", f"{_DMA_TRACES}: the first exp", "measured"),
        "dma_rings": Fact(16, "rings", "nki/get-started/about/nki-dma-overview.rst"),
        "dma_start_ns": Fact(
            740,
            "ns",
            f"{_DMA_TRACES}: by swdge, and 1000 by the sync queue; {_DMA} says 1300 to the consumer",
            "measured",
        ),
        "dma_software_issue_ns": Fact(
            603,
            "ns",
            f"{_LADDER_V3}: GpSimd triggers a load every 603 ns, give or take 10, in the window of v2-zoom.png, with "
            "ticks of 20 ns; 604 ns a transfer in that step's total. Taken for every generation",
            "measured",
        ),
        "dma_static_issue_ns": Fact(
            184,
            "ns",
            f"{_DMA_TRACES}: Sync's two instructions for the load of the first, from the start of one to the end of "
            "the other, 80 pixels of 2.3 ns; taken for every generation",
            "measured",
        ),
        "dma_end_ns": Fact(300, "ns", f"{_DMA_TRACES}: last byte to the start of ScalarE", "measured"),
        "collective_step_ns": Fact(
            1500, "ns", f"{_NODE}: 1-2 us a hop of a ring; the middle, for every algorithm", "assumed"
        ),
        "mesh_bytes": Fact(1e6, "bytes", f"{_NODE}, Algorithm Summary"),
        "halving_bytes": Fact(56e6, "bytes", f"{_NODE}, Algorithm Summary"),
    }


NC_V2 = Chip(
    name="NeuronCore-v2",
    generation=2,
    targets=("trn1", "inf2", "gen2"),
    sbuf_partition_bytes=Fact(192 * 1024, "bytes", _V2),
    moving_fmax=Fact(512, "elements", f"{_ISA}, nc_matmul, Tile size"),
    launch_ns=Fact(12_500, "ns", f"{_MAMBA}: Sync triggers the first load", "measured"),
    teardown_ns=Fact(4_100, "ns", f"{_MAMBA}: from dma_end_ns after the last byte of the store to the end", "measured"),
    tensor_ghz=Fact(2.8, "GHz", _V2),
    vector_ghz=Fact(1.12, "GHz", _V2),
    scalar_ghz=Fact(1.4, "GHz", _V2),
    gpsimd_ghz=Fact(1.4, "GHz", _V2),
    tensor_latency_ns=Fact(170, "ns", "that of NeuronCore-v3", "assumed"),
    vector_latency_ns=Fact(92, "ns", "the cycles of NeuronCore-v3", "assumed"),
    scalar_latency_ns=Fact(
        108, "ns", "nki/deep-dives/nki_perf_guide.rst: dependent one-element chain, 189 ns", "measured"
    ),
    gpsimd_latency_ns=Fact(108, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(0, "ns", f"no throttling is documented for it; {_THROTTLE}"),
    warm_up_use=Fact(0, "share", _THROTTLE),
    warm_up_slowdown=Fact(1, "times", _THROTTLE),
    dma_gb_per_s=Fact(
        272,
        "GB/s",
        f"{_DMA}: 16 engines of 17 B/ns. Five public kernels reached 250 to 294, the tiled matmul of the ladder among "
        f"them at 259 with a later compiler; three of {_LADDER_V2}, which wait for DMA, came to 103 to 105 and are now "
        f"predicted too short; {_V2} says 27 GiB/s an engine",
    ),
    dma_descriptor_ns=Fact(5.9, "ns", "that of NeuronCore-v3", "assumed"),
    dma_issue_ns=Fact(600, "ns", "not used: it has no hardware DGE", "assumed"),
    hbm_gb_per_s=Fact(410, "GB/s", f"{_HARDWARE}/trainium.rst: 820 of a chip of two cores"),
    hbm_cores=Fact(1, "cores", f"{_HARDWARE}/trainium.rst"),
    cores_per_device=Fact(2, "cores", f"{_HARDWARE}/trainium.rst"),
    neuronlink_gb_per_s=Fact(384, "GB/s", f"{_HARDWARE}/trainium2.rst, comparison table"),
    peak_bf16_tflops=Fact(91.75, "TFLOP/s", f"2.8 GHz x 128 x 128 x 2, {_V2} (which rounds to 92)"),
    **_common(),
)
NC_V3 = Chip(
    name="NeuronCore-v3",
    generation=3,
    targets=("trn2", "gen3"),
    sbuf_partition_bytes=Fact(224 * 1024, "bytes", f"{_V3}: 28 MiB over 128 partitions"),
    moving_fmax=Fact(512, "elements", f"{_ISA}, nc_matmul, Tile size"),
    tensor_ghz=Fact(2.4, "GHz", _V3),
    launch_ns=Fact(17_000, "ns", _NOT_KNOWN, "assumed"),
    teardown_ns=Fact(5_000, "ns", "see launch_ns", "assumed"),
    vector_ghz=Fact(0.96, "GHz", _V3),
    scalar_ghz=Fact(1.2, "GHz", _V3),
    gpsimd_ghz=Fact(1.2, "GHz", _V3),
    tensor_latency_ns=Fact(170, "ns", f"{_LADDER_V3}: a pass takes 0.60 us of which 0.43 are its rows", "measured"),
    vector_latency_ns=Fact(108, "ns", f"{_LADDER_V3}: 0.69 us for a copy of 512 elements", "measured"),
    scalar_latency_ns=Fact(251, "ns", f"{_DMA_TRACES}: 400 ns for exp of 128 elements, 3709 of 4096", "measured"),
    gpsimd_latency_ns=Fact(251, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(3000, "ns", _THROTTLE),
    warm_up_use=Fact(0.5, "share", _THROTTLE),
    warm_up_slowdown=Fact(2, "times", _THROTTLE),
    dma_gb_per_s=Fact(
        390,
        "GB/s",
        f"16 rings of 24.4 B/ns: least squares of the logarithms of a row's time by all rings' sums in five kernels, "
        f"two of {_LADDER_V3}, and {_COURSE}; rows of 2 KiB and more within 4 %. {_DMA} says 23 an engine, and "
        "nki-dma-overview.rst 27.2 as a theoretical peak",
        "measured",
    ),
    dma_descriptor_ns=Fact(
        5.9, "ns", "see dma_gb_per_s; rows of 512 bytes from 12 % too long to 10 % too short", "measured"
    ),
    dma_issue_ns=Fact(600, "ns", "nki/deep-dives/nki-dge.rst"),
    hbm_gb_per_s=Fact(716, "GB/s", f"{_LADDER_V3}: the profiler's denominator; four stacks, 2.9 TB/s a chip"),
    hbm_cores=Fact(2, "cores", f"{_HARDWARE}/trainium2.rst"),
    cores_per_device=Fact(8, "cores", f"{_HARDWARE}/trainium2.rst"),
    neuronlink_gb_per_s=Fact(1280, "GB/s", f"{_HARDWARE}/trainium2.rst; trn2-arch.rst says 1024 within an instance"),
    peak_bf16_tflops=Fact(78.64, "TFLOP/s", f"2.4 GHz x 128 x 128 x 2, {_V3} (which rounds to 79)"),
    **_common(),
)
NC_V4 = Chip(
    name="NeuronCore-v4",
    generation=4,
    targets=("trn3", "gen4"),
    sbuf_partition_bytes=Fact(256 * 1024, "bytes", f"{_V4}: 32 MiB over 128 partitions"),
    moving_fmax=Fact(4096, "elements of a float32 dst", f"{_ISA}, nc_matmul, Tile size: the whole PSUM"),
    tensor_ghz=Fact(2.4, "GHz", _V4),
    launch_ns=Fact(17_000, "ns", _NOT_KNOWN, "assumed"),
    teardown_ns=Fact(5_000, "ns", "see launch_ns", "assumed"),
    vector_ghz=Fact(1.2, "GHz", _V4),
    scalar_ghz=Fact(1.2, "GHz", _V4),
    gpsimd_ghz=Fact(1.2, "GHz", _V4),
    tensor_latency_ns=Fact(170, "ns", "that of NeuronCore-v3", "assumed"),
    vector_latency_ns=Fact(86, "ns", "the cycles of NeuronCore-v3", "assumed"),
    scalar_latency_ns=Fact(251, "ns", "that of NeuronCore-v3", "assumed"),
    gpsimd_latency_ns=Fact(251, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(3000, "ns", _THROTTLE),
    warm_up_use=Fact(0.5, "share", _THROTTLE),
    warm_up_slowdown=Fact(2, "times", _THROTTLE),
    dma_gb_per_s=Fact(528, "GB/s", f"{_DMA}: 16 engines of 33 B/ns; dma-overview gives 38.4 as a theoretical peak"),
    dma_descriptor_ns=Fact(5.9, "ns", "that of NeuronCore-v3", "assumed"),
    dma_issue_ns=Fact(600, "ns", "nki/deep-dives/nki-dge.rst"),
    hbm_gb_per_s=Fact(1178, "GB/s", f"{_V4}: four stacks, 4.7 TB/s; {_HARDWARE}/trainium3.rst says 4.9"),
    hbm_cores=Fact(2, "cores", f"{_HARDWARE}/trainium3.rst"),
    cores_per_device=Fact(8, "cores", f"{_HARDWARE}/trainium3.rst"),
    neuronlink_gb_per_s=Fact(2560, "GB/s", f"{_HARDWARE}/trainium3.rst; trn3-arch.rst says 2048 GiB/s"),
    peak_bf16_tflops=Fact(78.64, "TFLOP/s", f"2.4 GHz x 128 x 128 x 2, {_V4} (which rounds to 79)"),
    **_common(),
)

CHIPS = (NC_V2, NC_V3, NC_V4)
TARGETS = {target: chip for chip in CHIPS for target in chip.targets}


def chip_of(target: str) -> Chip:
    """The record of `target`: trn1, inf2, trn2, trn3, or gen2, gen3, gen4."""
    if target not in TARGETS:
        raise KernelError(f"target {target!r} is unknown; expected one of {', '.join(TARGETS)}")
    return TARGETS[target]


def default_target() -> str:
    """The target of NEURON_PLATFORM_TARGET_OVERRIDE, or trn3 as AWS's simulator takes without a chip."""
    target = os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") or "trn3"
    if target not in TARGETS:
        raise KernelError(f"NEURON_PLATFORM_TARGET_OVERRIDE is {target!r}; expected one of {', '.join(TARGETS)}")
    return target
