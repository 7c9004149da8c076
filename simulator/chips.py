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
    dma_gb_per_s: Fact
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
    tensor_ghz=Fact(2.8, "GHz", _V2),
    vector_ghz=Fact(1.12, "GHz", _V2),
    scalar_ghz=Fact(1.4, "GHz", _V2),
    gpsimd_ghz=Fact(1.4, "GHz", _V2),
    dma_gb_per_s=Fact(272, "GB/s", f"{_DMA}: 16 engines of 17 B/ns; {_V2} says 27 GiB/s an engine, a peak not a rate"),
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
    vector_ghz=Fact(0.96, "GHz", _V3),
    scalar_ghz=Fact(1.2, "GHz", _V3),
    gpsimd_ghz=Fact(1.2, "GHz", _V3),
    dma_gb_per_s=Fact(368, "GB/s", f"{_DMA}: 16 engines of 23 B/ns, as one engine measures in nki-dma-overview.rst"),
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
    vector_ghz=Fact(1.2, "GHz", _V4),
    scalar_ghz=Fact(1.2, "GHz", _V4),
    gpsimd_ghz=Fact(1.2, "GHz", _V4),
    dma_gb_per_s=Fact(528, "GB/s", f"{_DMA}: 16 engines of 33 B/ns; dma-overview gives 38.4 as a theoretical peak"),
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
    return os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") or "trn3"
