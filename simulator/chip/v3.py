"""NeuronCore-v3, of trn2."""

from __future__ import annotations

from triptych.simulator.chip.common import common
from triptych.simulator.chip.record import Chip, Fact
from triptych.simulator.chip.sources import (
    COURSE,
    DECODE,
    DMA,
    DMA_TRACES,
    FUSION,
    HARDWARE,
    ISA,
    LADDER_V3,
    PROBES,
    THROTTLE,
    V3,
)

NC_V3 = Chip(
    name="NeuronCore-v3",
    generation=3,
    targets=("trn2", "gen3"),
    sbuf_partition_bytes=Fact(224 * 1024, "bytes", f"{V3}: 28 MiB over 128 partitions"),
    moving_fmax=Fact(512, "elements", f"{ISA}, nc_matmul, Tile size"),
    tensor_ghz=Fact(2.4, "GHz", V3),
    launch_ns=Fact(
        13_440,
        "ns",
        f"{FUSION}: Sync triggers the first, 13.24 to 13.99 us. Pictures of older profiles have 22 to 33 us "
        f"({DMA_TRACES}; nki/library/specs/design-rmsnorm-quant.rst), and {COURSE} leave 16 to 18 for launch and "
        "teardown",
        "measured",
    ),
    gpsimd_launch_ns=Fact(1_290, "ns", f"{FUSION}: GpSimd triggers its first after 14.56 to 15.30 us", "measured"),
    teardown_ns=Fact(1_700, "ns", f"{FUSION}: 2.07 to 2.22 us from the last byte to the end", "measured"),
    vector_ghz=Fact(0.96, "GHz", V3),
    scalar_ghz=Fact(1.2, "GHz", V3),
    gpsimd_ghz=Fact(1.2, "GHz", V3),
    access_cycles=Fact(
        64,
        "engine cycles",
        f"{FUSION}: 512 elements every 597 to 603 ns on Vector, copied from PSUM or reduced, and 128 every 156 and "
        f"512 every 476 to 483 on Scalar, copied; {LADDER_V3}: Vector is active for 2.99 ms in 5,120 instructions of "
        "512 elements, 50 cycles",
        "measured",
    ),
    operand_cycles=Fact(
        60,
        "engine cycles",
        f"{FUSION}: tensor_scalar by a column of 512 float32 in SBUF every 396 ns, at twice the speed; taken for "
        "every instruction of Vector",
        "measured",
    ),
    scalar_operand_cycles=Fact(
        110,
        "engine cycles",
        f"{FUSION}: exp of 512 elements in PSUM every 569 ns, 107 cycles more than a copy; {PROBES}: 78 to 100 ns "
        "for each bias or scale",
        "measured",
    ),
    scalar_sbuf_cycles=Fact(
        45,
        "engine cycles",
        f"{FUSION}: exp of 512 elements in SBUF every 612 ns, 51 cycles more than in PSUM; {PROBES}: copies 36 to 48 "
        f"cycles, exp 51; {DMA_TRACES}: 400 ns for exp of 128 elements, 3709 of 4096, all in all",
        "measured",
    ),
    reciprocal_cycles=Fact(
        6, "engine cycles", f"{PROBES}: 6.246 ns an element; nki/api/nki.api.shared.rst says 8", "measured"
    ),
    barrier_ns=Fact(598, "ns", f"{DECODE}: the mean of 978 on GpSimd; taken for every engine", "measured"),
    tensor_latency_ns=Fact(
        198,
        "ns",
        f"{FUSION}: a matmul of 512 columns takes 160 ns longer than to the next, and 38 to who waits for it; "
        f"{LADDER_V3}: 0.60 us of which 0.43 are its rows",
        "measured",
    ),
    vector_latency_ns=Fact(
        124,
        "ns",
        f"{FUSION}: 76 to 90 ns longer than to the next, and 34 to who waits for it; {LADDER_V3}: 0.69 us for a copy "
        "of 512 elements",
        "measured",
    ),
    scalar_latency_ns=Fact(
        139, "ns", f"{FUSION}: 93 to 109 ns longer than to the next, and 33 to who waits for it", "measured"
    ),
    gpsimd_latency_ns=Fact(139, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(
        3413.3,
        "ns",
        f"{FUSION}: every change of its clock is a multiple of 4096 cycles of 1.2 GHz after another; {THROTTLE}, "
        "says the last three microseconds",
        "measured",
    ),
    warm_up_use=Fact(
        0.755,
        "share",
        f"{FUSION}: 19 windows used for 0.76 and more raised it, 21 for up to 0.75 did not; {THROTTLE}, says half",
        "measured",
    ),
    cool_down_use=Fact(
        0.365,
        "share",
        f"{FUSION}: windows used for up to 0.34 lowered it, 44 for 0.39 and more did not; {THROTTLE}, says half",
        "measured",
    ),
    warm_up_slowdown=Fact(2, "times", THROTTLE),
    sustained_slowdown=Fact(1, "times", f"{FUSION}: 213 ns for 512 columns", "measured"),
    dma_gb_per_s=Fact(
        390,
        "GB/s",
        f"16 rings of 24.4 B/ns: least squares of the logarithms of a row's time by all rings' sums in five kernels, "
        f"two of {LADDER_V3}, and {COURSE}; rows of 2 KiB and more within 4 %. {DMA} says 23 an engine, and "
        "nki-dma-overview.rst 27.2 as a theoretical peak, which single packets reach: 5.0 ns and 27.1 B/ns for 256 to "
        f"4096 bytes in {FUSION}",
        "measured",
    ),
    dma_descriptor_ns=Fact(
        5.9, "ns", "see dma_gb_per_s; rows of 512 bytes from 12 % too long to 10 % too short", "measured"
    ),
    dma_issue_ns=Fact(600, "ns", f"nki/deep-dives/nki-dge.rst; 517 to 621 in {FUSION}, where nothing is in the way"),
    dma_hardware_start_ns=Fact(
        1330,
        "ns",
        f"{FUSION}: by Sync, 1326 to 1349; {DMA_TRACES}: 1000 by the sync queue; {DMA} says 1300 to the consumer",
        "measured",
    ),
    hbm_gb_per_s=Fact(716, "GB/s", f"{LADDER_V3}: the profiler's denominator; four stacks, 2.9 TB/s a chip"),
    hbm_cores=Fact(2, "cores", f"{HARDWARE}/trainium2.rst"),
    cores_per_device=Fact(8, "cores", f"{HARDWARE}/trainium2.rst"),
    neuronlink_gb_per_s=Fact(1280, "GB/s", f"{HARDWARE}/trainium2.rst; trn2-arch.rst says 1024 within an instance"),
    peak_bf16_tflops=Fact(78.64, "TFLOP/s", f"2.4 GHz x 128 x 128 x 2, {V3} (which rounds to 79)"),
    **common(),
)
