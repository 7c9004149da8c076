"""What the page on speed compares: works of our kernels, and the best public kernel that does the same.

A public kernel gets its favourite layout, and what it leaves out or needs is said beside it. `measured` is what
somebody published of a run on the chip; the page resolves the numbers in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from triptych.harness.measured.records import Call, InFile, InLibrary, Named, Ours, Tensor
from triptych.harness.measured.sources import AUTOTUNE

BF16, FLOAT8 = "bfloat16", "float8_e4m3"
ONLINE = "da0a8f6d"  # of nki-autotune: the commit whose learnings name what this kernel reaches


@dataclass(frozen=True)
class Work:
    """One row: a case of an op, what limits it, and who else does it."""

    name: str
    op: str
    axes: Mapping[str, int]
    params: Mapping[str, Any] = field(default_factory=dict)
    limit: str = "tensor"  # "dma": the share is bytes a second
    peak: int = 1  # of these operands, over that of bfloat16
    target: str = "trn2"
    goal: str = ""
    public: Call | None = None
    differs: str = ""  # in what the public kernel's work is another
    measured: str = ""


def _matmul(file: str, function: str, commit: str) -> Call:
    return Call(InFile(AUTOTUNE, file, function, commit), "trn2", (Tensor(BF16, (2048, 2048)),) * 2)


def _cte(heads: int, kv_heads: int, queries: int, keys: int, d: int, causal: bool, prior: int = 0) -> Call:
    """Queries as [heads, queries, d], keys as [heads, d, keys]; with `prior`, a cache of that length before them."""
    keywords: dict[str, Any] = {"causal_mask": causal, "tp_q": True}
    if prior:
        keywords |= {
            "k_prior": Tensor(BF16, (kv_heads, d, prior)),
            "v_prior": Tensor(BF16, (kv_heads, prior, d)),
            "prior_used_len": Tensor("int32", (1,)),
        }
    shapes = ((heads, queries, d), (kv_heads, d, keys), (kv_heads, keys, d))
    return Call(
        InLibrary("nkilib.core.attention.attention_cte", "attention_cte"),
        "trn2",
        tuple(Tensor(BF16, shape) for shape in shapes),
        keywords,
    )


def _tkg(sequences: int, heads: int, keys: int, d: int, cached: str) -> Call:
    """`heads` queries each of so many sequences, of a key head each: k as [d, keys], a mask made from positions."""
    of_attention = "nkilib.core.attention.attention_tkg"
    sizes = {"bs": sequences, "q_head": heads, "s_active": 1, "curr_sprior": keys, "full_sprior": keys, "d_head": d}
    config = Named(of_attention, "AttnTKGConfig", tuple({**sizes, "use_pos_id": True, "qk_in_sb": True}.items()))
    tensors = (
        Tensor(cached, (d, sequences * heads)),
        Tensor(cached, (d, sequences)),
        Tensor(cached, (sequences, 1, 1, d)),
        Tensor(cached, (sequences, 1, d, keys)),
        Tensor(cached, (sequences, 1, keys, d)),
        Tensor("uint8", (1, sequences, heads, 1)),
        Tensor("float32", (sequences, 1)),
    )
    parts = (
        Named(of_attention, "attention_tkg"),
        Named("nkilib.core.utils.allocator", "SbufManager"),
        Named("nkilib.core.utils.logging", "Logger"),
        config,
    )
    return Call(Ours("attention_tkg_entry", "attention_tkg_entry.py"), "trn2", tensors + parts)


def _mlp(tokens: int, hidden: int, wide: int) -> Call:
    shapes = ((1, tokens, hidden), (hidden, wide), (hidden, wide), (wide, hidden))
    return Call(InLibrary("nkilib.core.mlp.mlp", "mlp"), "trn2", tuple(Tensor(BF16, shape) for shape in shapes))


def _backward(keys: int, d: int) -> Call:
    """Everything as [1, 1, d, keys], lse in tiles of 128."""
    tensors = (*(Tensor(BF16, (1, 1, d, keys)),) * 5, Tensor("float32", (1, 1, 128, keys // 128)))
    kernel = InLibrary("nkilib.core.attention.attention_bwd", "attention_bwd")
    return Call(kernel, "trn2", tensors, {"use_causal_mask": True})


def _rmsnorm_quant(rows: int, columns: int) -> Call:
    norm = Named("nkilib.core.utils.common_types", "NormType.RMS_NORM")
    module = "nkilib.core.rmsnorm.rmsnorm_quant"
    settings = Named(module, "RmsNormQuantKernelArgs", (("lower_bound", 0.0), ("norm_type", norm)))
    arguments = (Tensor(BF16, (1, rows, columns)), Tensor(BF16, (1, columns)), settings)
    return Call(InLibrary(module, "rmsnorm_quant_kernel"), "trn2", arguments)


def _cross_entropy(rows: int, vocabulary: int) -> Call:
    kernel = InLibrary("nkilib.experimental.loss.cross_entropy", "cross_entropy_forward")
    tensors = (Tensor(BF16, (rows, vocabulary)), Tensor("int32", (rows,)))
    return Call(kernel, "trn2", tensors, {"positions_per_batch": min(rows, 128)})


def _rope(tokens: int, heads: int, d: int) -> Call:
    shapes = ((d, 1, heads, tokens), (d // 2, 1, tokens), (d // 2, 1, tokens))
    return Call(InLibrary("nkilib.core.embeddings.rope", "RoPE"), "trn2", tuple(Tensor(BF16, s) for s in shapes))


def _cube(n: int) -> dict[str, int]:
    return {"M": n, "K": n, "N": n}


def _heads(h: int, hkv: int, queries: int, keys: int, d: int) -> dict[str, int]:
    return {"B": 1, "H": h, "Hkv": hkv, "Sq": queries, "Sk": keys, "D": d}


DECODE = {"B": 4, "H": 32, "Hkv": 8, "T": 1, "S": 8192, "D": 128}
LLAMA_1B, LLAMA_8B = {"K": 2048, "F": 8192, "N": 2048}, {"K": 4096, "F": 14336, "N": 4096}
K_FIRST = "its cache holds k as [D, S]; ours appends"
WORKS = (
    Work("matmul 4096^3, left operand as [K, M]", "matmul", _cube(4096), goal="97 %", measured="95.8 %, 1,823 us [1]"),
    Work(
        "matmul 4096^3, left operand as [M, K]", "matmul_mk", _cube(4096), goal="93 %", measured="92.7 %, 1,886 us [1]"
    ),
    Work(
        "matmul 2048^3, left operand as [K, M]",
        "matmul",
        _cube(2048),
        goal="91 %",
        public=_matmul("kernel_library/matmul/lhsT_rhs/kernel_hand_90.92mfu.py", "matmul_lhsT_rhs_nkigym", "dcc23bb"),
        measured="90.9 %, 240 us [2]",
    ),
    Work(
        "matmul 2048^3, left operand as [M, K]",
        "matmul_mk",
        _cube(2048),
        public=_matmul(
            "kernel_library/matmul/lhs_rhs/kernel_handtuned_89.26mfu.py", "matmul_lhs_rhs_nkigym", "0b6f309"
        ),
        measured="89.3 %, 245 us [2]",
    ),
    Work("matmul 4096^3 on two cores", "matmul_two_cores", _cube(4096), goal="89 %", measured="89 %, 980 us [4]"),
    Work("matmul_fp8 4096^3, double rows", "matmul_fp8", _cube(4096), peak=2, goal="90 %"),
    Work(
        "matmul_mx 4096^3 on trn3, operands rounded on the way in",
        "matmul_mx",
        _cube(4096),
        peak=4,
        target="trn3",
        measured="83.9 % on two cores, rounded before [5]",
    ),
    Work(
        "RMSNorm and projection 2048^3",
        "rmsnorm_linear",
        _cube(2048),
        public=Call(
            InFile(AUTOTUNE, "kernel_library/rmsnorm_matmul/kernel_hand_online.py", "rmsnorm_matmul_online", ONLINE),
            "trn2",
            (Tensor(BF16, (2048, 2048)),) * 2,
        ),
        differs="it has no gains",
        measured="86.8 % [2]",
    ),
    Work(
        "attention 16384 x 128, one head",
        "attention",
        _heads(1, 1, 16384, 16384, 128),
        {"causal": False},
        goal="94 %",
        public=_cte(1, 1, 16384, 16384, 128, False),
        measured="51 % [2]",
    ),
    Work(
        "attention 16384 x 128, one head, causal",
        "attention",
        _heads(1, 1, 16384, 16384, 128),
        {"causal": True},
        goal="92 %",
        public=_cte(1, 1, 16384, 16384, 128, True),
        measured="2,030 us, float16 [3]",
    ),
    Work(
        "attention 4096 x 128, 8 heads on 2",
        "attention",
        _heads(8, 2, 4096, 4096, 128),
        {"causal": False},
        goal="93 %",
        public=_cte(8, 2, 4096, 4096, 128, False),
    ),
    Work(
        "attention 4096 x 128, 8 heads on 2, causal",
        "attention",
        _heads(8, 2, 4096, 4096, 128),
        {"causal": True},
        goal="85 %",
        public=_cte(8, 2, 4096, 4096, 128, True),
    ),
    Work(
        "attention 16384 x 64, one head, causal",
        "attention",
        _heads(1, 1, 16384, 16384, 64),
        {"causal": True},
        goal="61 %",
        public=_cte(1, 1, 16384, 16384, 64, True),
        measured="1,960 us, float16 [3]",
    ),
    Work(
        "attention, 512 new tokens on 4096 cached, 4 heads on 1, D 128",
        "attention_prefill",
        {"B": 1, "H": 4, "Hkv": 1, "T": 512, "S": 4608, "D": 128},
        public=_cte(4, 1, 512, 512, 128, True, prior=4096),
        differs="it appends nothing",
    ),
    Work(
        "attention backward 4096 x 128, one head, causal",
        "attention_backward",
        _heads(1, 1, 4096, 4096, 128),
        {"causal": True},
        goal="50 %",
        public=_backward(4096, 128),
    ),
    Work(
        "decode attention, 4 x 8192 tokens, 32 heads on 8, D 128",
        "attention_decode",
        DECODE,
        limit="dma",
        public=_tkg(32, 4, 8192, 128, BF16),
        differs=K_FIRST,
    ),
    Work(
        "the same, float8 cache",
        "attention_decode_fp8",
        DECODE,
        limit="dma",
        public=_tkg(32, 4, 8192, 128, FLOAT8),
        differs=f"{K_FIRST}, and has scales",
    ),
    Work(
        "gated MLP of Llama 3.2 1B, 1 token",
        "gated_mlp",
        {"M": 1, **LLAMA_1B},
        limit="dma",
        goal="85 % of 368 GB/s",
        public=_mlp(1, 2048, 8192),
        measured="327 GB/s at another size [2]",
    ),
    Work(
        "gated MLP of Llama 3.1 8B, 1 token",
        "gated_mlp",
        {"M": 1, **LLAMA_8B},
        limit="dma",
        goal="85 % of 368 GB/s",
    ),
    Work(
        "an eighth of it",
        "gated_mlp",
        {"M": 1, **LLAMA_8B, "F": 1792},
        limit="dma",
        public=_mlp(1, 4096, 1792),
    ),
    Work("gated MLP of Llama 3.2 1B, 2048 tokens", "gated_mlp", {"M": 2048, **LLAMA_1B}),
    Work(
        "a quarter of it",
        "gated_mlp",
        {"M": 2048, **LLAMA_1B, "F": 2048},
        public=_mlp(2048, 2048, 2048),
    ),
    Work("RMSNorm 4096 x 4096", "rmsnorm", {"M": 4096, "N": 4096}, limit="dma"),
    Work(
        "RMSNorm 2048 x 8192",
        "rmsnorm",
        {"M": 2048, "N": 8192},
        limit="dma",
        public=_rmsnorm_quant(2048, 8192),
        differs="it rounds its output to float8",
    ),
    Work(
        "RoPE, 2048 tokens of 8 heads, D 128",
        "rope",
        {"S": 2048, "H": 8, "D": 128},
        limit="dma",
        public=_rope(2048, 8, 128),
        differs="it has D first",
    ),
    Work(
        "cross-entropy, 128 x 128,256",
        "cross_entropy",
        {"M": 128, "V": 128_256},
        limit="dma",
        public=_cross_entropy(128, 128_256),
    ),
)
