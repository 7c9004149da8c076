"""NeuronCore-v4, of trn3."""

from __future__ import annotations

from triptych.simulator.chip.common import common
from triptych.simulator.chip.record import Chip, Fact
from triptych.simulator.chip.sources import DMA, HARDWARE, ISA, THROTTLE, V4

NC_V4 = Chip(
    name="NeuronCore-v4",
    generation=4,
    targets=("trn3", "gen4"),
    sbuf_partition_bytes=Fact(256 * 1024, "bytes", f"{V4}: 32 MiB over 128 partitions"),
    moving_fmax=Fact(4096, "elements of a float32 dst", f"{ISA}, nc_matmul, Tile size: the whole PSUM"),
    tensor_ghz=Fact(2.4, "GHz", V4),
    launch_ns=Fact(13_440, "ns", "that of NeuronCore-v3", "assumed"),
    gpsimd_launch_ns=Fact(1_290, "ns", "that of NeuronCore-v3", "assumed"),
    teardown_ns=Fact(1_700, "ns", "that of NeuronCore-v3", "assumed"),
    vector_ghz=Fact(1.2, "GHz", V4),
    scalar_ghz=Fact(1.2, "GHz", V4),
    gpsimd_ghz=Fact(1.2, "GHz", V4),
    access_cycles=Fact(64, "engine cycles", "that of NeuronCore-v3", "assumed"),
    operand_cycles=Fact(60, "engine cycles", "that of NeuronCore-v3", "assumed"),
    scalar_operand_cycles=Fact(110, "engine cycles", "that of NeuronCore-v3", "assumed"),
    scalar_sbuf_cycles=Fact(45, "engine cycles", "that of NeuronCore-v3", "assumed"),
    reciprocal_cycles=Fact(6, "engine cycles", "that of NeuronCore-v3", "assumed"),
    barrier_ns=Fact(598, "ns", "that of NeuronCore-v3", "assumed"),
    tensor_latency_ns=Fact(198, "ns", "that of NeuronCore-v3", "assumed"),
    vector_latency_ns=Fact(99, "ns", "the cycles of NeuronCore-v3", "assumed"),
    scalar_latency_ns=Fact(139, "ns", "that of NeuronCore-v3", "assumed"),
    gpsimd_latency_ns=Fact(139, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(3413.3, "ns", "that of NeuronCore-v3", "assumed"),
    warm_up_use=Fact(0.755, "share", "that of NeuronCore-v3", "assumed"),
    cool_down_use=Fact(0.365, "share", "that of NeuronCore-v3", "assumed"),
    warm_up_slowdown=Fact(2, "times", THROTTLE),
    sustained_slowdown=Fact(1, "times", "that of NeuronCore-v3", "assumed"),
    dma_gb_per_s=Fact(528, "GB/s", f"{DMA}: 16 engines of 33 B/ns; dma-overview gives 38.4 as a theoretical peak"),
    dma_descriptor_ns=Fact(5.9, "ns", "that of NeuronCore-v3", "assumed"),
    dma_issue_ns=Fact(600, "ns", "nki/deep-dives/nki-dge.rst"),
    dma_hardware_start_ns=Fact(1330, "ns", "that of NeuronCore-v3", "assumed"),
    hbm_gb_per_s=Fact(1178, "GB/s", f"{V4}: four stacks, 4.7 TB/s; {HARDWARE}/trainium3.rst says 4.9"),
    hbm_cores=Fact(2, "cores", f"{HARDWARE}/trainium3.rst"),
    cores_per_device=Fact(8, "cores", f"{HARDWARE}/trainium3.rst"),
    neuronlink_gb_per_s=Fact(2560, "GB/s", f"{HARDWARE}/trainium3.rst; trn3-arch.rst says 2048 GiB/s"),
    peak_bf16_tflops=Fact(78.64, "TFLOP/s", f"2.4 GHz x 128 x 128 x 2, {V4} (which rounds to 79)"),
    **common(),
)
