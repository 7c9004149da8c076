"""What is the same on every generation, or taken to be."""

from __future__ import annotations

from triptych.simulator.chip.record import Fact
from triptych.simulator.chip.sources import COST, DECODE, DMA_TRACES, FUSION, ISA, LADDER_V3, NODE, PROBES, TILING, V2


def common() -> dict[str, Fact]:
    return {
        "partitions": Fact(128, "partitions", TILING),
        "psum_partition_bytes": Fact(16 * 1024, "bytes", V2),
        "psum_bank_bytes": Fact(2 * 1024, "bytes", V2),
        "stationary_fmax": Fact(128, "elements", TILING),
        "bn_stats_fmax": Fact(512, "elements", f"{ISA}, bn_stats"),
        "min_cycles": Fact(64, "engine cycles", "nki/api/nki.api.shared.rst, MIN_II"),
        "gpsimd_start_cycles": Fact(150, "engine cycles", COST),
        "fp32_matmul_passes": Fact(4, "passes", COST),
        "matmul_extra_cycles": Fact(
            7,
            "engine cycles",
            f"{LADDER_V3}: 429.7 ns between passes of 512 rows, 1024 cycles; two make a float32 matmul",
            "measured",
        ),
        "table_load_ns": Fact(
            1283, "ns", f"{FUSION}, {PROBES} and {DECODE}, all alike; {DMA_TRACES}: 1300 at the first exp", "measured"
        ),
        "dma_skew_ns": Fact(
            210,
            "ns",
            f"{FUSION}: 128 rows of 512 bytes take 423 ns and of 256 bytes 346, where a ring has 8 of 24 and 14; "
            f"{PROBES}: 310 by the same account for rows of 512 bytes",
            "measured",
        ),
        "dma_rings": Fact(16, "rings", "nki/get-started/about/nki-dma-overview.rst"),
        "dma_start_ns": Fact(740, "ns", f"{DMA_TRACES}: by swdge; 763 and 768 by GpSimd in {FUSION}", "measured"),
        "dma_software_issue_ns": Fact(
            603,
            "ns",
            f"{LADDER_V3}: GpSimd triggers a load every 603 ns, give or take 10, in the window of v2-zoom.png, with "
            "ticks of 20 ns; 604 ns a transfer in that step's total. Taken for every generation",
            "measured",
        ),
        "dma_static_issue_ns": Fact(
            184,
            "ns",
            f"{DMA_TRACES}: Sync's two instructions for the load of the first, from the start of one to the end of "
            "the other, 80 pixels of 2.3 ns; taken for every generation",
            "measured",
        ),
        "dma_end_ns": Fact(
            380,
            "ns",
            f"{FUSION}: from the last byte of the last store to the instruction that waits for it, 368 to 444; to the "
            f"Tensor Engine 335 to 459 in six loads; {DMA_TRACES}: 300 to the start of ScalarE",
            "measured",
        ),
        "collective_step_ns": Fact(
            1500, "ns", f"{NODE}: 1-2 us a hop of a ring; the middle, for every algorithm", "assumed"
        ),
        "mesh_bytes": Fact(1e6, "bytes", f"{NODE}, Algorithm Summary"),
        "halving_bytes": Fact(56e6, "bytes", f"{NODE}, Algorithm Summary"),
    }
