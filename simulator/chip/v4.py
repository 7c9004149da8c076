"""NeuronCore-v4, of trn3."""

from __future__ import annotations

from triptych.simulator.chip.common import common
from triptych.simulator.chip.record import Chip, Fact, like
from triptych.simulator.chip.sources import DMA, HARDWARE, ISA, THROTTLE, V4
from triptych.simulator.chip.v3 import NC_V3

NC_V4 = Chip(
    name="NeuronCore-v4",
    generation=4,
    targets=("trn3", "gen4"),
    sbuf_partition_bytes=Fact(256 * 1024, "bytes", f"{V4}: 32 MiB over 128 partitions"),
    moving_fmax=Fact(4096, "elements of a float32 dst", f"{ISA}, nc_matmul, Tile size: the whole PSUM"),
    tensor_ghz=Fact(2.4, "GHz", V4),
    vector_ghz=Fact(1.2, "GHz", V4),
    scalar_ghz=Fact(1.2, "GHz", V4),
    gpsimd_ghz=Fact(1.2, "GHz", V4),
    vector_latency_ns=Fact(99, "ns", "the cycles of NeuronCore-v3", "assumed"),
    gpsimd_latency_ns=Fact(139, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_slowdown=Fact(2, "times", THROTTLE),
    dma_gb_per_s=Fact(528, "GB/s", f"{DMA}: 16 engines of 33 B/ns; dma-overview gives 38.4 as a theoretical peak"),
    dma_issue_ns=Fact(600, "ns", "nki/deep-dives/nki-dge.rst"),
    hbm_gb_per_s=Fact(1178, "GB/s", f"{V4}: four stacks, 4.7 TB/s; {HARDWARE}/trainium3.rst says 4.9"),
    hbm_cores=Fact(2, "cores", f"{HARDWARE}/trainium3.rst"),
    cores_per_device=Fact(8, "cores", f"{HARDWARE}/trainium3.rst"),
    neuronlink_gb_per_s=Fact(2560, "GB/s", f"{HARDWARE}/trainium3.rst; trn3-arch.rst says 2048 GiB/s"),
    peak_bf16_tflops=Fact(78.64, "TFLOP/s", f"2.4 GHz x 128 x 128 x 2, {V4} (which rounds to 79)"),
    **like(
        NC_V3,
        "launch_ns",
        "gpsimd_launch_ns",
        "teardown_ns",
        "access_cycles",
        "operand_cycles",
        "scalar_operand_cycles",
        "scalar_sbuf_cycles",
        "reciprocal_cycles",
        "barrier_ns",
        "tensor_latency_ns",
        "scalar_latency_ns",
        "warm_up_ns",
        "warm_up_use",
        "cool_down_use",
        "sustained_slowdown",
        "dma_descriptor_ns",
        "dma_hardware_start_ns",
    ),
    **common(),
)
