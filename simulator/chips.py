"""The chips as data: one frozen record per NeuronCore generation, each number with unit, source and how it is known.

`documented` is said by AWS's documentation (aws-neuron/aws-neuron-sdk at 81ce03ae, paths relative to it), `measured` is
read off a device by the cited source, `assumed` is our reading where both are silent. Where documents conflict, the
source says which was taken and why.
"""

from __future__ import annotations

import os

from triptych.simulator.chip import Chip, Fact
from triptych.simulator.errors import KernelError

_V2 = "nki/guides/architecture/trainium_inferentia2_arch.rst"
_V3 = "nki/guides/architecture/trainium2_arch.rst"
_V4 = "nki/guides/architecture/trainium3_arch.rst"
_TILING = "nki/get-started/about/tiling-overview.rst"
_ISA = "nki/api/nki/isa/__init__.py"
_COST = "nki/api/nki/isa/__init__.py at v2.26.1, 'Estimated instruction cost'"
_PROBES = (
    "93 probes of Joejoedesu/voyager-compiler at 9bdf4ee9 and 9de0f533 (Trn2, one core, compiler 2.22), "
    "operand_characterization.json, isa_characterization.json, timing_trainium2.json"
)
_DECODE = "KevGomes1403/nki-moe-megakernel at 6b40bb2d, round_megakernel_perf.md (Trn2, two cores)"
_LIMITS = "pantheongpu/pantheonneuron at 594adea6, docs/inf2_sustains_less_than_trn1.md (compiler 2.23)"
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
_FUSION = (
    "ten whole profiles of neuron-profile in allenkchau/trainium-kernel-fusion at d709ddf1 (Trn2, one of two cores, "
    "compiler 2.23)"
)


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
        "table_load_ns": Fact(
            1283,
            "ns",
            f"{_FUSION}, {_PROBES} and {_DECODE}, all alike; {_DMA_TRACES}: 1300 at the first exp",
            "measured",
        ),
        "dma_skew_ns": Fact(
            210,
            "ns",
            f"{_FUSION}: 128 rows of 512 bytes take 423 ns and of 256 bytes 346, where a ring has 8 of 24 and 14; "
            f"{_PROBES}: 310 by the same account for rows of 512 bytes",
            "measured",
        ),
        "dma_rings": Fact(16, "rings", "nki/get-started/about/nki-dma-overview.rst"),
        "dma_start_ns": Fact(
            740,
            "ns",
            f"{_DMA_TRACES}: by swdge; 763 and 768 by GpSimd in {_FUSION}",
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
        "dma_end_ns": Fact(
            380,
            "ns",
            f"{_FUSION}: from the last byte of the last store to the instruction that waits for it, 368 to 444; to the "
            f"Tensor Engine 335 to 459 in six loads; {_DMA_TRACES}: 300 to the start of ScalarE",
            "measured",
        ),
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
    gpsimd_launch_ns=Fact(0, "ns", "not used: descriptors lie in HBM", "assumed"),
    teardown_ns=Fact(4_020, "ns", f"{_MAMBA}: the last store ends 4.4 us before the end", "measured"),
    tensor_ghz=Fact(2.8, "GHz", _V2),
    vector_ghz=Fact(1.12, "GHz", _V2),
    scalar_ghz=Fact(1.4, "GHz", _V2),
    gpsimd_ghz=Fact(1.4, "GHz", _V2),
    access_cycles=Fact(
        50,
        "engine cycles",
        f"{_V2}: about 60 for an access, and 100 in all for short instructions; 24 to 66 in the rates of "
        "foxl-ai/kiln at a04d1fab (Trn1)",
        "assumed",
    ),
    operand_cycles=Fact(0, "engine cycles", "none to be seen in foxl-ai/kiln's rates at a04d1fab (Trn1)", "measured"),
    scalar_operand_cycles=Fact(0, "engine cycles", "see operand_cycles", "measured"),
    scalar_sbuf_cycles=Fact(0, "engine cycles", "see operand_cycles", "measured"),
    reciprocal_cycles=Fact(8, "engine cycles", "nki/api/nki.api.shared.rst"),
    barrier_ns=Fact(0, "ns", "not used: its cores share nothing", "assumed"),
    tensor_latency_ns=Fact(198, "ns", "that of NeuronCore-v3", "assumed"),
    vector_latency_ns=Fact(106, "ns", "the cycles of NeuronCore-v3", "assumed"),
    scalar_latency_ns=Fact(
        108, "ns", "nki/deep-dives/nki_perf_guide.rst: dependent one-element chain, 189 ns", "measured"
    ),
    gpsimd_latency_ns=Fact(108, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(3413.3, "ns", "that of NeuronCore-v3", "assumed"),
    warm_up_use=Fact(0.755, "share", "that of NeuronCore-v3", "assumed"),
    cool_down_use=Fact(0.365, "share", "that of NeuronCore-v3", "assumed"),
    warm_up_slowdown=Fact(1, "times", _THROTTLE),
    sustained_slowdown=Fact(
        1 / 0.875,
        "times",
        f"{_LIMITS}: dense products run at a limit of 0.875 on Trn1, 78.6 TFLOP/s of 91.75 in the end; on Inf2 at "
        "about 0.63, which this record, of both, does not have. "
        f"The last step of {_LADDER_V2} took 1.14 times its products",
        "measured",
    ),
    dma_gb_per_s=Fact(
        272,
        "GB/s",
        f"{_DMA}: 16 engines of 17 B/ns. Five public kernels reached 250 to 294, the tiled matmul of the ladder among "
        f"them at 259 with a later compiler; three of {_LADDER_V2}, which wait for DMA, came to 103 to 105 and are now "
        f"predicted too short; {_V2} says 27 GiB/s an engine",
    ),
    dma_descriptor_ns=Fact(5.9, "ns", "that of NeuronCore-v3", "assumed"),
    dma_issue_ns=Fact(600, "ns", "not used: it has no hardware DGE", "assumed"),
    dma_hardware_start_ns=Fact(1330, "ns", "not used: it has no hardware DGE", "assumed"),
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
    launch_ns=Fact(
        13_440,
        "ns",
        f"{_FUSION}: Sync triggers the first, 13.24 to 13.99 us. Pictures of older profiles have 22 to 33 us "
        f"({_DMA_TRACES}; nki/library/specs/design-rmsnorm-quant.rst), and {_COURSE} leave 16 to 18 for launch and "
        "teardown",
        "measured",
    ),
    gpsimd_launch_ns=Fact(1_290, "ns", f"{_FUSION}: GpSimd triggers its first after 14.56 to 15.30 us", "measured"),
    teardown_ns=Fact(1_700, "ns", f"{_FUSION}: 2.07 to 2.22 us from the last byte to the end", "measured"),
    vector_ghz=Fact(0.96, "GHz", _V3),
    scalar_ghz=Fact(1.2, "GHz", _V3),
    gpsimd_ghz=Fact(1.2, "GHz", _V3),
    access_cycles=Fact(
        64,
        "engine cycles",
        f"{_FUSION}: 512 elements every 597 to 603 ns on Vector, copied from PSUM or reduced, and 128 every 156 and "
        f"512 every 476 to 483 on Scalar, copied; {_LADDER_V3}: Vector is active for 2.99 ms in 5,120 instructions of "
        "512 elements, 50 cycles",
        "measured",
    ),
    operand_cycles=Fact(
        60,
        "engine cycles",
        f"{_FUSION}: tensor_scalar by a column of 512 float32 in SBUF every 396 ns, at twice the speed; taken for "
        "every instruction of Vector",
        "measured",
    ),
    scalar_operand_cycles=Fact(
        110,
        "engine cycles",
        f"{_FUSION}: exp of 512 elements in PSUM every 569 ns, 107 cycles more than a copy; {_PROBES}: 78 to 100 ns "
        "for each bias or scale",
        "measured",
    ),
    scalar_sbuf_cycles=Fact(
        45,
        "engine cycles",
        f"{_FUSION}: exp of 512 elements in SBUF every 612 ns, 51 cycles more than in PSUM; {_PROBES}: copies 36 to 48 "
        f"cycles, exp 51; {_DMA_TRACES}: 400 ns for exp of 128 elements, 3709 of 4096, all in all",
        "measured",
    ),
    reciprocal_cycles=Fact(
        6, "engine cycles", f"{_PROBES}: 6.246 ns an element; nki/api/nki.api.shared.rst says 8", "measured"
    ),
    barrier_ns=Fact(598, "ns", f"{_DECODE}: the mean of 978 on GpSimd; taken for every engine", "measured"),
    tensor_latency_ns=Fact(
        198,
        "ns",
        f"{_FUSION}: a matmul of 512 columns takes 160 ns longer than to the next, and 38 to who waits for it; "
        f"{_LADDER_V3}: 0.60 us of which 0.43 are its rows",
        "measured",
    ),
    vector_latency_ns=Fact(
        124,
        "ns",
        f"{_FUSION}: 76 to 90 ns longer than to the next, and 34 to who waits for it; {_LADDER_V3}: 0.69 us for a copy "
        "of 512 elements",
        "measured",
    ),
    scalar_latency_ns=Fact(
        139, "ns", f"{_FUSION}: 93 to 109 ns longer than to the next, and 33 to who waits for it", "measured"
    ),
    gpsimd_latency_ns=Fact(139, "ns", "that of the Scalar Engine", "assumed"),
    warm_up_ns=Fact(
        3413.3,
        "ns",
        f"{_FUSION}: every change of its clock is a multiple of 4096 cycles of 1.2 GHz after another; {_THROTTLE}, "
        "says the last three microseconds",
        "measured",
    ),
    warm_up_use=Fact(
        0.755,
        "share",
        f"{_FUSION}: 19 windows used for 0.76 and more raised it, 21 for up to 0.75 did not; {_THROTTLE}, says half",
        "measured",
    ),
    cool_down_use=Fact(
        0.365,
        "share",
        f"{_FUSION}: windows used for up to 0.34 lowered it, 44 for 0.39 and more did not; {_THROTTLE}, says half",
        "measured",
    ),
    warm_up_slowdown=Fact(2, "times", _THROTTLE),
    sustained_slowdown=Fact(1, "times", f"{_FUSION}: 213 ns for 512 columns", "measured"),
    dma_gb_per_s=Fact(
        390,
        "GB/s",
        f"16 rings of 24.4 B/ns: least squares of the logarithms of a row's time by all rings' sums in five kernels, "
        f"two of {_LADDER_V3}, and {_COURSE}; rows of 2 KiB and more within 4 %. {_DMA} says 23 an engine, and "
        "nki-dma-overview.rst 27.2 as a theoretical peak, which single packets reach: 5.0 ns and 27.1 B/ns for 256 to "
        f"4096 bytes in {_FUSION}",
        "measured",
    ),
    dma_descriptor_ns=Fact(
        5.9, "ns", "see dma_gb_per_s; rows of 512 bytes from 12 % too long to 10 % too short", "measured"
    ),
    dma_issue_ns=Fact(600, "ns", f"nki/deep-dives/nki-dge.rst; 517 to 621 in {_FUSION}, where nothing is in the way"),
    dma_hardware_start_ns=Fact(
        1330,
        "ns",
        f"{_FUSION}: by Sync, 1326 to 1349; {_DMA_TRACES}: 1000 by the sync queue; {_DMA} says 1300 to the consumer",
        "measured",
    ),
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
    launch_ns=Fact(13_440, "ns", "that of NeuronCore-v3", "assumed"),
    gpsimd_launch_ns=Fact(1_290, "ns", "that of NeuronCore-v3", "assumed"),
    teardown_ns=Fact(1_700, "ns", "that of NeuronCore-v3", "assumed"),
    vector_ghz=Fact(1.2, "GHz", _V4),
    scalar_ghz=Fact(1.2, "GHz", _V4),
    gpsimd_ghz=Fact(1.2, "GHz", _V4),
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
    warm_up_slowdown=Fact(2, "times", _THROTTLE),
    sustained_slowdown=Fact(1, "times", "that of NeuronCore-v3", "assumed"),
    dma_gb_per_s=Fact(528, "GB/s", f"{_DMA}: 16 engines of 33 B/ns; dma-overview gives 38.4 as a theoretical peak"),
    dma_descriptor_ns=Fact(5.9, "ns", "that of NeuronCore-v3", "assumed"),
    dma_issue_ns=Fact(600, "ns", "nki/deep-dives/nki-dge.rst"),
    dma_hardware_start_ns=Fact(1330, "ns", "that of NeuronCore-v3", "assumed"),
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
