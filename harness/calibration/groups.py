"""Which constants of a chip the probes decide, and of which probes every bit is claimed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Constants of a chip's record, and the probes that decide them.

    probes: as "OP" or "OP NAME"; what differs between a pair of them is compared with what the model says of it
    whole: whether the time of the smaller of each pair is compared instead
    at_random: whether it matters that windows of the Tensor Engine's clock begin at random
    """

    fields: tuple[str, ...]
    probes: tuple[str, ...]
    whole: bool = False
    at_random: bool = False


GROUPS = (  # in the order of fitting: what an earlier group decides is known in a later one
    Group(
        ("tensor_ghz", "matmul_extra_cycles", "fp32_matmul_passes", "warm_up_slowdown"),
        ("probe_matmul", "probe_clock cold"),
    ),
    Group(
        ("warm_up_ns",),
        ("probe_clock 96 columns", "probe_clock 112 columns", "probe_clock 128 columns"),
        at_random=True,
    ),
    Group(
        (
            "vector_ghz",
            "scalar_ghz",
            "access_cycles",
            "operand_cycles",
            "scalar_operand_cycles",
            "scalar_sbuf_cycles",
            "min_cycles",
            "vector_latency_ns",
            "scalar_latency_ns",
        ),
        ("probe_vector", "probe_scalar"),
    ),
    Group(("reciprocal_cycles",), ("probe_reciprocal",)),
    Group(("gpsimd_ghz", "gpsimd_start_cycles", "gpsimd_latency_ns"), ("probe_gpsimd",)),
    Group(("tensor_latency_ns",), ("probe_permute",)),
    Group(("table_load_ns",), ("probe_table",)),
    Group(("dma_static_issue_ns",), ("probe_dma static",)),
    Group(("dma_software_issue_ns",), ("probe_dma gpsimd",)),
    Group(("dma_issue_ns",), ("probe_dma sync",)),
    Group(
        ("dma_gb_per_s", "dma_descriptor_ns", "dma_start_ns", "dma_skew_ns", "dma_hardware_start_ns"),
        ("probe_dma rows", "probe_pieces", "probe_bounce"),
    ),
    Group(("hbm_gb_per_s",), ("probe_two_cores",)),
    Group(("barrier_ns",), ("probe_barrier",)),
    Group(("launch_ns",), ("probe_launch one tile",), whole=True),
    Group(("gpsimd_launch_ns",), ("probe_launch by GpSimd",), whole=True),
)
EXACT = {  # probes whose bits we claim, and why
    "probe_vector": "halving is exact",
    "probe_scalar": "halving is exact",
    "probe_gpsimd": "halving is exact",
    "probe_permute": "a permutation is exact",
    "probe_dma": "a copy is exact",
    "probe_pieces": "a copy is exact",
    "probe_bounce": "halving is exact",
    "probe_two_cores": "a copy is exact",
    "probe_barrier": "a copy is exact",
    "probe_launch": "a copy is exact",
    "probe_sum": "a sum along the free dimension adds strictly in order",
}
