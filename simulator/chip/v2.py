"""NeuronCore-v2, of trn1 and inf2, which differ in how fast the Tensor Engine may go on."""

from __future__ import annotations

from dataclasses import replace

from triptych.simulator.chip.common import common
from triptych.simulator.chip.record import Chip, Fact, like
from triptych.simulator.chip.sources import DMA, HARDWARE, ISA, LADDER_V2, LIMITS, LIMITS_LOG, MAMBA, THROTTLE, V2
from triptych.simulator.chip.v3 import NC_V3

NC_V2 = Chip(
    name="NeuronCore-v2",
    generation=2,
    targets=("trn1", "inf2", "gen2"),
    sbuf_partition_bytes=Fact(192 * 1024, "bytes", V2),
    moving_fmax=Fact(512, "elements", f"{ISA}, nc_matmul, Tile size"),
    launch_ns=Fact(12_500, "ns", f"{MAMBA}: Sync triggers the first load", "measured"),
    gpsimd_launch_ns=Fact(0, "ns", "not used: descriptors lie in HBM", "assumed"),
    teardown_ns=Fact(4_020, "ns", f"{MAMBA}: the last store ends 4.4 us before the end", "measured"),
    tensor_ghz=Fact(2.8, "GHz", V2),
    vector_ghz=Fact(1.12, "GHz", V2),
    scalar_ghz=Fact(1.4, "GHz", V2),
    gpsimd_ghz=Fact(1.4, "GHz", V2),
    access_cycles=Fact(
        50,
        "engine cycles",
        f"{V2}: about 60 for an access, and 100 in all for short instructions; 24 to 66 in the rates of "
        "foxl-ai/kiln at a04d1fab (Trn1)",
        "assumed",
    ),
    operand_cycles=Fact(0, "engine cycles", "none to be seen in foxl-ai/kiln's rates at a04d1fab (Trn1)", "measured"),
    scalar_operand_cycles=Fact(0, "engine cycles", "see operand_cycles", "measured"),
    scalar_sbuf_cycles=Fact(0, "engine cycles", "see operand_cycles", "measured"),
    reciprocal_cycles=Fact(8, "engine cycles", "nki/api/nki.api.shared.rst"),
    barrier_ns=Fact(0, "ns", "not used: its cores share nothing", "assumed"),
    vector_latency_ns=Fact(106, "ns", "the cycles of NeuronCore-v3", "assumed"),
    scalar_latency_ns=Fact(
        108, "ns", "nki/deep-dives/nki_perf_guide.rst: dependent one-element chain, 189 ns", "measured"
    ),
    gpsimd_latency_ns=Fact(108, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_slowdown=Fact(1, "times", THROTTLE),
    sustained_slowdown=Fact(
        1 / 0.875,
        "times",
        f"{LIMITS}: dense products run at a limit of 0.875 on Trn1, 78.6 TFLOP/s of 91.75 in the end. The last step of "
        f"{LADDER_V2} took 1.14 times its products",
        "measured",
    ),
    dma_gb_per_s=Fact(
        272,
        "GB/s",
        f"{DMA}: 16 engines of 17 B/ns. Five public kernels reached 250 to 294, the tiled matmul of the ladder among "
        f"them at 259 with a later compiler; three of {LADDER_V2}, which wait for DMA, came to 103 to 105 and are now "
        f"predicted too short; {V2} says 27 GiB/s an engine",
    ),
    dma_issue_ns=Fact(600, "ns", "not used: it has no hardware DGE", "assumed"),
    dma_hardware_start_ns=Fact(1330, "ns", "not used: it has no hardware DGE", "assumed"),
    hbm_gb_per_s=Fact(410, "GB/s", f"{HARDWARE}/trainium.rst: 820 of a chip of two cores"),
    hbm_cores=Fact(1, "cores", f"{HARDWARE}/trainium.rst"),
    cores_per_device=Fact(2, "cores", f"{HARDWARE}/trainium.rst"),
    neuronlink_gb_per_s=Fact(384, "GB/s", f"{HARDWARE}/trainium2.rst, comparison table"),
    peak_bf16_tflops=Fact(91.75, "TFLOP/s", f"2.8 GHz x 128 x 128 x 2, {V2} (which rounds to 92)"),
    **like(NC_V3, "tensor_latency_ns", "warm_up_ns", "warm_up_use", "cool_down_use", "dma_descriptor_ns"),
    **common(),
)

INF2 = replace(
    NC_V2,
    sustained_slowdown=Fact(
        1 / 0.625,
        "times",
        f"{LIMITS}, and {LIMITS_LOG}: a product of 8192 x 8192 x 8192 runs at a limit of 0.625 for all the time that "
        "the engine is active, 19.17 ms for 11.98 of products; others at 0.626 to 0.633. 56.9 TFLOP/s of 91.75 in the "
        "end",
        "measured",
    ),
)
