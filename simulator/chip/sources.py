"""Whence the facts of the chips are: pages of AWS's documentation, and profiles and notes that others publish."""

V2 = "nki/guides/architecture/trainium_inferentia2_arch.rst"
V3 = "nki/guides/architecture/trainium2_arch.rst"
V4 = "nki/guides/architecture/trainium3_arch.rst"
TILING = "nki/get-started/about/tiling-overview.rst"
ISA = "nki/api/nki/isa/__init__.py"
COST = "nki/api/nki/isa/__init__.py at v2.26.1, 'Estimated instruction cost'"
PROBES = (
    "93 probes of Joejoedesu/voyager-compiler at 9bdf4ee9 and 9de0f533 (Trn2, one core, compiler 2.22), "
    "operand_characterization.json, isa_characterization.json, timing_trainium2.json"
)
DECODE = "KevGomes1403/nki-moe-megakernel at 6b40bb2d, round_megakernel_perf.md (Trn2, two cores)"
LIMITS = "pantheongpu/pantheonneuron at 594adea6, docs/inf2_sustains_less_than_trn1.md (compiler 2.23)"
LIMITS_LOG = "data/validation-2026-09-21/inf2-a-throttle-probe.log"
NODE = "neuron-runtime/explore/intranode-collective-comm.rst"
HARDWARE = "about-neuron/arch/neuron-hardware"
DMA = "nki/deep-dives/nki-dma-bandwidth-guide.rst"
DMA_TRACES = "nki/get-started/about/nki-dma-overview.rst, the traces of its two examples on Trn2"
LADDER_V2 = "matrix_multiplication.rst of SDK 2.26.1 (Trn1, bfloat16)"
LADDER_V3 = "nki/guides/tutorials/kernel-optimization.rst and its profiles (Trn2, float32)"
THROTTLE = "tools/neuron-explorer/overview-summary-page.rst, dI/dt throttling"
MAMBA = "nki/guides/tutorials/fused_mamba.rst, profile on Trn1, mamba_v1_profile.png with 8.6 pixels a us"
COURSE = (
    "summaries of neuron-profile in part1 of rishic3/asst4-trainium2 at ef7e4ef8 and of chenhzhu's at e30a10f5 (Trn2)"
)
FUSION = (
    "ten whole profiles of neuron-profile in allenkchau/trainium-kernel-fusion at d709ddf1 (Trn2, one of two cores, "
    "compiler 2.23)"
)
