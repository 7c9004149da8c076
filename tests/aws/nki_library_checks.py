"""Which tests of nki-library are run, with which of their parameters: the smallest, or others where they say more.

Where even the smallest asks for a server's memory, dimensions are replaced by ours; NKI 0.3's numerics are asked for
where a reference quantizes to MX as NKI did then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from triptych.simulator.options import APIS


@dataclass(frozen=True)
class Check:
    """Some parameter sets of one test: `which` counts from the smallest, and `change` replaces parameters."""

    module: str  # below test/integration/nkilib
    test: str
    which: tuple[int, ...] = (0,)
    target: str = "trn2"
    api: str = APIS[0]
    change: dict[str, Any] = field(default_factory=dict)
    fails: str = ""
    zeros: bool = False  # its reference has zeros where the kernel writes nothing


def mx(
    module: str, test: str, which: tuple[int, ...] = (0,), fails: str = "", zeros: bool = False, **change: Any
) -> Check:
    return Check(module, test, which, "trn3", "0.3", change, fails, zeros)


def smaller(module: str, test: str, which: tuple[int, ...] = (0,), **change: Any) -> Check:
    return Check(module, test, which, change=change)


EXPERTS = {"hidden": 512, "intermediate": 512, "tokens": 512, "expert": 2, "block_size": 256, "top_k": 1}
FEW_EXPERTS = {"num_global_experts": 8, "num_local_experts": 8, "hidden": 1024}
DROPPING = {"hidden": 512, "intermediate": 512, "tokens": 2048, "block_size": 1024}
MX_EXPERTS = {**EXPERTS, "intermediate": 1024, "top_k": 2}
UNIFIED = {"hid": 512, "int": 512, "tok": 512, "exp": 2, "bs": 256, "k": 1}
LOSS = {"B": 2, "T": 64, "V": 2048, "CS": 1024}
TOKENS = {"B": 1, "T": 128}
DECODER = {"tp": 4, "q_heads": 8, "H": 2048, "I": 4096, "S_ctx": 512, "batch": 2}

CHECKS = (
    Check("core.utils.test_tensor_view", "test_chain", (0, 1)),
    Check("core.utils.test_tensor_view", "test_chain_hbm", (0, 1)),
    Check("core.utils.test_tensor_view", "test_chain_reinterpret_cast", (0, 1)),
    Check("core.utils.test_tensor_view", "test_dynamic_select", (0, 1, 2, 3)),
    Check("core.utils.test_cross_partition_copy", "test_cross_partition_copy", (0, 1, 2)),
    Check("core.utils.test_tp_broadcast", "test_tp_broadcast", (0, 1, 2, 3)),
    Check("core.cumsum.test_cumsum", "test_cumsum_fast", (0, 1, 2)),
    Check("core.embeddings.test_rope", "test_rope_fast", (0, 1, 95)),
    Check("core.embeddings.test_rope", "test_rope_manual", (0, 1, 9, 17)),
    Check("core.embeddings.test_rope", "test_rope_sweep", (100, 199)),
    Check("core.embeddings.test_rope_hf", "test_rope_hf_lnc", (0, 1, 7, 13)),
    Check("core.embeddings.test_rope_hf", "test_rope_hf_cache", (3, 6)),
    Check("core.max.test_cascaded_max", "test_cascaded_max_unit", (0, 1, 2, 27)),
    Check("core.max.test_cascaded_max", "test_cascaded_max_sweep", (64, 96)),
    Check("core.max.test_cascaded_max_utils", "test_folded_load_oversized_sb", (1, 5)),
    Check("core.max.test_cascaded_max_utils", "test_folded_load_store_dst_batch", (0, 5)),
    Check("core.max.test_cascaded_max_utils", "test_folded_load_store_full_batch", (10, 13)),
    Check("core.max.test_cascaded_max_utils", "test_folded_load_store_partial_batch", (9, 12)),
    Check("core.subkernels.test_find_nonzero_indices", "test_find_nonzero_indices_fast", (0, 1, 3)),
    Check("core.subkernels.test_find_nonzero_indices", "test_find_nonzero_indices_with_col_start_fast", (0, 2, 3, 6)),
    Check("core.subkernels.test_indexed_flatten", "test_indexed_flatten_fast", (0, 1, 10)),
    Check("core.subkernels.test_indexed_flatten", "test_indexed_flatten_row_offsets_start"),
    Check("core.subkernels.test_rmsnorm_tkg", "test_rmsnorm_tkg_unit", (0, 1, 2, 3, 13, 26)),
    Check("core.subkernels.test_layernorm_tkg", "test_layernorm_tkg_unit", (0, 1, 2, 14)),
    Check("core.subkernels.test_layernorm_tkg", "test_layernorm_tkg_sweep_shard_on_h", (0, 1, 139)),
    Check("core.subkernels.test_layernorm_tkg", "test_layernorm_tkg_sweep", (50, 199)),
    Check("core.subkernels.test_layernorm_tkg", "test_layernorm_tkg_sweep_large_batch", (19,)),
    Check("core.rmsnorm.test_rmsnorm_quant", "test_rmsnorm_quant_lnc_unit", (0, 1, 8, 15)),
    Check("core.rmsnorm.test_rmsnorm_quant", "test_rmsnorm_quant_vnc_unit", (0, 1, 6)),
    Check("core.rmsnorm.test_rmsnorm_quant", "test_rmsnorm_row_quant_sweep", (0, 1, 100, 150)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_accuracy_unit", (0, 1, 3, 14, 28)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_performance_bsd_unit", (0, 1, 2, 17, 34)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_sb2sb_accuracy_unit", (0, 1, 3, 12, 18)),
    Check("core.qkv.test_qkv_tkg", "test_qkv_tkg_sweep", (1, 3, 150)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_accuracy_unit", (0, 1, 2, 3)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_fused_rope_unit", (0, 1, 2, 7, 13)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_fp8_kv_cache_quantization", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_block_kv_cache", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_no_dma_transpose_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_performance_bsd_unit", (0, 1, 2)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_static_quantization", (0, 2)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_fp8_extreme_values_clamping", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_model_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_non_quantized"),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_performance_nbsd_unit", (0, 1)),
    Check("core.qkv.test_qkv_cte", "test_qkv_cte_sweep", (0, 1)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_fp8_sweep", (0, 199)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_sweep_manual"),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_unit", (0, 1, 12, 25, 50)),
    Check("core.output_projection.test_output_proj_tkg", "test_output_proj_tkg_sweep", (0, 199)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_bf16_unit", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_static_fp8_unit", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_bf16_sweep", (0, 1)),
    Check("core.output_projection.test_output_proj_cte", "test_output_proj_cte_static_fp8_sweep", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_unit", (0, 1, 2, 50, 100, 150)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_separation_pass", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_feature_test", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_I_non_multiple_of_128", (0, 1, 7)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_I_non_multiple_of_128_fp8_row_quant", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_I_non_multiple_of_128_fp8_static_quant", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_store_add_false", (0, 1)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep", (6, 11, 22, 33)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_fp8_row_quant", (9, 18)),
    Check("core.mlp.test_mlp_tkg", "test_mlp_tkg_kernel_sweep_fp8_static_quant", (18,)),
    Check("core.mlp.test_mlp_cte", "test_mlp_cte_sweep", (0, 1, 45)),
    Check("core.mlp.test_mlp_cte", "test_mlp_cte_unit", (0, 1, 27)),
    Check("core.attention.test_attention_cte", "test_attention_cte_no_cp_unit", (0, 1, 4)),
    Check("core.attention.test_attention_cte", "test_attention_cte_cp_bk_klr_unit", (0, 1, 10, 31)),
    Check("core.attention.test_attention_cte", "test_attention_cte_no_cp_vnc_unit", (0, 1, 11)),
    Check("core.attention.test_attention_cte", "test_attention_cte_seq_pack_unit", (0, 1)),
    Check("core.attention.test_attention_cte", "test_attention_cte_cp_apc_klr_unit", (6, 13)),
    Check("core.attention.test_attention_cte", "test_attention_cte_cp_barometer_klr_unit", (0, 5)),
    Check("core.attention.test_attention_cte", "test_attention_cte_cp_gqa_klr_unit", (8,)),
    Check("core.attention.test_attention_cte", "test_attention_cte_no_cp_vnc_apc_klr_unit", (10,)),
    Check("core.attention.test_attention_tkg", "test_attn_tkg_fast", (0, 1, 20, 60, 107, 213)),
    Check("core.attention.test_attention_tkg", "test_attn_tkg_slow", (0, 1)),
    Check("core.attention.test_attention_tkg", "test_attn_tkg_sweep", (0, 1, 100, 199)),
    Check("core.attention.test_attention_bwd", "test_attention_bwd_fast", (0, 1, 27)),
    Check("core.attention.test_attention_bwd", "test_attention_bwd_sequence_packing", (0, 1, 12, 23)),
    Check("core.attention.test_attention_bwd", "test_attention_bwd"),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv_with_active_mask", (0, 1, 33)),
    Check("core.attention.test_gen_mask_tkg", "test_block_kv_with_active_mask", (0, 1, 16)),
    Check("core.attention.test_gen_mask_tkg", "test_swa_mask_generation", (0, 1, 12)),
    Check("core.attention.test_gen_mask_tkg", "test_fa_tiling_with_active_mask", (0, 1, 6)),
    Check("core.attention.test_gen_mask_tkg", "test_swa_with_active_mask", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_block_kv_mask_generation", (0, 1, 5)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv_nonstrided_mask_generation", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv_strided_mask_generation", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_active_mask", (0, 1, 13)),
    Check("core.attention.test_gen_mask_tkg", "test_block_kv", (0, 1, 10)),
    Check("core.attention.test_gen_mask_tkg", "test_fa_tiling", (0, 1, 8)),
    Check("core.attention.test_gen_mask_tkg", "test_flat_kv", (0, 1, 11)),
    Check("core.attention.test_gen_mask_tkg", "test_gen_mask_hbm_lnc_sweep", (0, 1)),
    Check("core.attention.test_gen_mask_tkg", "test_swa", (0, 1, 11)),
    Check("core.router_topk.test_router_topk", "test_router_topk", (0, 1, 40, 100, 200, 300)),
    Check("core.router_topk.test_router_topk", "test_router_topk_sweep", (0, 1, 50, 199)),
    Check("core.topk.test_topk", "test_topk_unit", (0, 1, 20)),
    Check("core.topk.test_topk", "test_topk_unsorted", (0, 1, 2)),
    Check("core.topk.test_topk", "test_topk_sweep", (0, 1, 50, 150)),
    Check("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_bfloat16", (0, 12, 24)),
    Check("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_sbuf_io", (0, 2, 5)),
    Check("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_sweep", (0, 1, 76)),
    smaller("core.moe.moe_cte.test_moe_cte", "test_moe_blockwise_mm_kernel_lnc2", (0, 1, 2), **EXPERTS),
    smaller("core.moe.moe_cte.test_moe_cte", "test_moe_blockwise_mm_kernel_lnc2", (3, 4), **DROPPING),
    Check("core.moe.moe_cte.test_moe_cte", "test_moe_blockwise_mm_kernel_lnc2", (1,)),
    smaller("core.moe.moe_cte.test_moe_cte_unified", "test_moe_cte_unified", (0, 1, 2), **UNIFIED),
    Check("core.moe_block.test_moe_block_tkg", "test_moe_block_kernel_unit", (0, 1)),
    Check("core.moe_block.test_moe_block_tkg", "test_moe_block_kernel_model", (0, 1)),
    Check(
        "experimental.benchmark.test_find_nonzero_indices_with_count", "test_find_nonzero_indices_unit", (0, 1, 20, 27)
    ),
    Check("experimental.conv.test_conv1d", "test_conv1d_basic", (0, 1)),
    Check("experimental.conv.test_conv1d", "test_conv1d_whisper", (0, 1, 2, 3)),
    Check("experimental.conv.test_conv1d", "test_conv1d_all", (0, 1, 33)),
    Check("experimental.conv.test_depthwise_conv1d", "test_depthwise_conv1d_fast", (0, 1)),
    Check("experimental.conv.test_depthwise_conv1d", "test_depthwise_conv1d_all", (0, 1, 18, 35)),
    Check("experimental.dynamic_shapes.test_dynamic_elementwise_add", "test_dynamic_elementwise_add_fast", (0, 1, 8)),
    Check(
        "experimental.dynamic_shapes.test_dynamic_elementwise_add", "test_dynamic_elementwise_add_commutativity", (0, 1)
    ),
    Check("experimental.subkernels.test_topk_reduce", "test_topk_reduce", (0, 1, 4, 8)),
    smaller("experimental.loss.test_cross_entropy_forward", "test_deepseek_v3_fast", **LOSS),
    smaller("experimental.loss.test_cross_entropy_forward", "test_switch_transformers_full", **LOSS),
    smaller("experimental.loss.test_cross_entropy_forward", "test_qwen3_8b_fast", **TOKENS),
    smaller("experimental.loss.test_cross_entropy_forward", "test_gpt_oss_20b_fast", **TOKENS),
    smaller("experimental.loss.test_cross_entropy_backward", "test_deepseek_v3_fast", **LOSS),
    smaller("experimental.loss.test_cross_entropy_backward", "test_switch_transformers_full", **LOSS),
    smaller("experimental.loss.test_cross_entropy_backward", "test_qwen3_8b_fast", **TOKENS),
    smaller(
        "experimental.moe.test_bwmm_bwd",
        "test_moe_blockwise_mm_bwd_shardH_affinityH_dropless_lnc2",
        hidden=1024,
        tokens=1024,
    ),
    smaller(
        "experimental.moe.test_bwmm_shard_on_H",
        "test_moe_blockwise_mm_shard_h_lnc2",
        (0, 1),
        **{**UNIFIED, "int": 256},
    ),
    Check("experimental.transformer.test_attention_block_tkg", "test_attn_blk_megakernel", (0, 1, 2)),
    Check("experimental.transformer.test_attention_block_tkg", "test_attn_blk_model", (1, 3, 5)),
    smaller("experimental.transformer.test_transformer_tkg", "test_transformer_tkg", **DECODER),
    Check("experimental.collectives.test_collectives", "test_all_gather", (0, 1)),
    Check("experimental.collectives.test_collectives", "test_all_reduce", (0, 1)),
    Check("experimental.collectives.test_collectives", "test_all_to_all", (0, 1)),
    Check("experimental.collectives.test_collectives", "test_batch_shard_input", (0, 1, 2, 3)),
    Check("experimental.collectives.test_collectives", "test_dma_copy_rank_id", (0, 1)),
    Check("experimental.collectives.test_collectives", "test_rank_id", (0, 1)),
    Check("experimental.collectives.test_collectives", "test_reduce_scatter", (0, 1)),
    Check("experimental.collectives.test_fg_allgather", "test_fine_grained_allgather"),
    Check("experimental.collectives.test_fgcc", "test_allgather_compute_matmul"),
    Check("experimental.collectives.test_sb2sb_allgather", "test_allgather_sb2sb", (0, 4)),
    Check("experimental.collectives.test_sb2sb_allgather", "test_allgather_sb2sb_tiled", (0, 4, 8)),
    mx("core.qkv.test_qkv_tkg", "test_qkv_tkg_mxfp_unit", (1, 2)),
    mx("core.qkv.test_qkv_cte", "test_qkv_cte_mxfp8_unit", (0, 1)),
    mx("core.qkv.test_qkv_cte", "test_qkv_cte_mxfp8_neutral_mx_scales", (0, 1, 16, 24)),
    mx(
        "core.qkv.test_qkv_cte",
        "test_qkv_cte_mxfp8_static_dequant",
        fails="the kernel calls a module: its import names the file and not the function in it",
    ),
    mx(
        "core.qkv.test_qkv_cte",
        "test_qkv_cte_mx_bf16_static_dequant",
        fails="the test passes an argument that the kernel does not have",
    ),
    mx("core.output_projection.test_output_proj_cte", "test_output_proj_cte_mxfp4_prequantized_unit"),
    mx("core.output_projection.test_output_proj_cte", "test_output_proj_cte_mxfp4_unit"),
    mx("core.output_projection.test_output_proj_cte", "test_output_proj_cte_static_mxfp8_unit", (1, 2)),
    mx("core.mlp.test_mlp_proj_mxfp4", "test_mxfp4_gate_up_proj_unit", (0, 3, 5)),
    mx("core.mlp.test_mlp_proj_mxfp4", "test_mxfp4_down_proj_unit", (0, 1, 7, 10)),
    mx("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_mx", expert=8),
    mx("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_mx", (1, 3, 5)),
    mx("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_mx_io_dtype", hidden=512, intermediate=1024),
    mx("core.moe.moe_tkg.test_moe_tkg", "test_moe_tkg_dynamic", (0, 1, 3, 7), hidden=512, intermediate=1024),
    mx("core.moe_block.test_moe_block_tkg", "test_moe_block_kernel_unit", (2, 3)),
    mx("core.moe_block.test_moe_block_tkg", "test_moe_block_kernel_unit", (7,), **FEW_EXPERTS),
    mx("core.moe.moe_cte.test_moe_bwmm_mx_cte", "test_moe_bwmm_mx_cte_unit", **MX_EXPERTS),
    mx("core.moe.moe_cte.test_moe_bwmm_mx_cte", "test_moe_bwmm_mx_shard_I_unit", (0, 1), **MX_EXPERTS),
    mx("core.utils.test_quantize_to_mx", "test_quantize_mx_hw", (0, 1, 5, 10, 19)),
    mx("core.subkernels.test_rmsnorm_mx_quantize_tkg", "test_rmsnorm_mx_quantize_tkg", (0, 1, 3, 12), zeros=True),
    mx("core.subkernels.test_rmsnorm_mx_quantize_tkg", "test_rmsnorm_mx_quantize_tkg_residual", (1, 2), zeros=True),
    mx("experimental.mxfp_subkernels.test_mxfp_load", "test_mxfp_load_performance", (0, 3, 6)),
)
