"""Kernels of nki-library on Trn2, by the times that AWS's own tests of them keep as quality of results.

The tests (release 2.29, test/integration/nkilib/core) call them TpbSgCyclesSum. They are picoseconds: attention over
16384 positions with 64 wide heads keeps 196e7 where nki-autotune measured 1.947 ms on one core (at 0a0ab6d,
.claude/rules/learnings.md), and RMSNorm-quant of 160 rows 106.5e6 where its design's profile ends at 114.5 us. That
attention's are of one core is inferred from the same agreement. Whether the numbers leave a margin is not said, nor of
which version of a kernel they are: the tests name them and compare nothing with them, the one of prefill MLPs says that
it ignores them and the cores beside them, and what it has of prefill without a gate, the releases before refuse.
RMSNorm-quant uses the compiler's stack allocator (aws-neuron-sdk@81ce03ae nki/library/api/rmsnorm-quant.rst,
Implementation Details 3).
"""

from __future__ import annotations

from dataclasses import replace

from triptych.harness.measured.records import Call, InLibrary, Named, Point, Tensor

_TESTS = "nki-library 2.29 test/integration/nkilib/core"
_NORMS = "nkilib.core.utils.common_types"


def _attention(
    batch: int, kv: int, q: int, d: int, dtype: str, causal: bool, tp_q: bool, tp_out: bool, ps: float
) -> Point:
    shapes = ((batch, q, d) if tp_q else (batch, d, q), (batch, d, kv), (batch, kv, d))
    layout = {"causal_mask": causal, "tp_q": tp_q, "tp_out": tp_out}
    return Point(
        Call(
            InLibrary("nkilib.core.attention.attention_cte", "attention_cte"),
            "trn2",
            tuple(Tensor(dtype, shape) for shape in shapes),
            layout,
        ),
        f"{batch} x {q} on {kv}, d {d} {dtype}{', causal' if causal else ''}",
        ps / 1e6,
        f"{ps:.6g} TpbSgCyclesSum",
        f"{_TESTS}/attention/test_attention_cte.py, attention_cte_no_cp_unit_perms",
        "B",
        "validation",
        note="picoseconds, one core and the version of the kernel are inferred",
    )


def _rmsnorm_quant(rows: int, normalize: bool, ps: float) -> Point:
    hidden = 16384
    norm = Named(_NORMS, "NormType.RMS_NORM" if normalize else "NormType.NO_NORM")
    settings = Named(
        "nkilib.core.rmsnorm.rmsnorm_quant", "RmsNormQuantKernelArgs", (("lower_bound", 0.0), ("norm_type", norm))
    )
    return Point(
        Call(
            InLibrary("nkilib.core.rmsnorm.rmsnorm_quant", "rmsnorm_quant_kernel"),
            "trn2",
            (Tensor("bfloat16", (1, rows, hidden)), Tensor("bfloat16", (1, hidden)), settings),
            cores=2,
            stacked=True,
        ),
        f"1x{rows}x{hidden} bfloat16{'' if normalize else ', no norm'}, 2 cores",
        ps / 1e6,
        f"{ps:,} TpbSgCyclesSum",
        f"{_TESTS}/rmsnorm/test_rmsnorm_quant.py, rmsnorm_quant_lnc_perms",
        "B",
        "validation",
        note="picoseconds and the version of the kernel are inferred",
    )


def _mlp(
    cores: int,
    batch: int,
    rows: int,
    hidden: int,
    intermediate: int,
    ps: float,
    norm: str = "NO_NORM",
    added: bool = False,
    stored: bool = False,
    gate: bool = True,
    file: str = "test_mlp_cte.py",
) -> Point:
    bf16, weights = "bfloat16", (hidden, intermediate)
    keywords = {
        "normalization_type": Named(_NORMS, f"NormType.{norm}"),
        "store_fused_add_result": stored,
        "skip_gate_proj": not gate,
    }
    if norm in ("RMS_NORM", "LAYER_NORM"):
        keywords["normalization_weights_tensor"] = Tensor(bf16, (1, hidden))
    if added:
        keywords["fused_add_tensor"] = Tensor(bf16, (batch, rows, hidden))
    extras = [norm.lower().replace("_", " ")] + ["add"] * added + ["store"] * stored + ["no gate"] * (not gate)
    return Point(
        Call(
            InLibrary("nkilib.core.mlp.mlp", "mlp"),
            "trn2",
            tuple(Tensor(bf16, shape) for shape in ((batch, rows, hidden), weights, weights, (intermediate, hidden))),
            keywords,
            cores,
        ),
        f"{batch}x{rows}x{hidden}, {intermediate} wide, {', '.join(extras)}, {cores} core{'s' * (cores > 1)}",
        ps / 1e6,
        f"{ps:,} TpbSgCyclesSum",
        f"{_TESTS}/mlp/{file}",
        "B",
        "validation",
        note="picoseconds and the version of the kernel are inferred",
    )


def _token(
    cores: int, batch: int, rows: int, hidden: int, intermediate: int, ps: float, norm: str = "NO_NORM"
) -> Point:
    return _mlp(cores, batch, rows, hidden, intermediate, ps, norm, file="test_mlp_tkg.py")


ATTENTION_POINTS = (
    _attention(1, 9216, 4096, 64, "float32", False, True, False, 580e6),
    _attention(1, 4096, 9216, 64, "float32", False, True, False, 567e6),
    _attention(1, 9216, 9216, 64, "float32", False, True, False, 125e7),
    _attention(1, 9216, 9216, 64, "bfloat16", False, True, False, 125e7),
    _attention(1, 16384, 16384, 64, "float16", True, True, False, 196e7),
    _attention(1, 9216, 9216, 64, "bfloat16", True, True, False, 694e6),
    _attention(1, 16384, 16384, 128, "float16", True, False, True, 203e7),
    _attention(1, 16384, 2048, 128, "float32", False, True, False, 520e6),
    _attention(1, 16384, 4096, 128, "bfloat16", False, True, False, 981e6),
    _attention(1, 16384, 8192, 128, "float32", False, True, False, 196e7),
    _attention(1, 32768, 4096, 128, "bfloat16", False, True, False, 188e7),
    _attention(3, 2048, 2048, 128, "float16", True, True, False, 209e6),
)
_PROFILED = _rmsnorm_quant(160, True, 106_546_750)
RMSNORM_POINTS = (
    _rmsnorm_quant(2, False, 51_564_336),
    _rmsnorm_quant(2, True, 89_102_777),
    _rmsnorm_quant(160, False, 68_355_309),
    _PROFILED,
    replace(
        _PROFILED,
        measured_us=114.5,
        printed="114.5 us, where the axis of the picture ends",
        source="aws-neuron-sdk@81ce03ae nki/library/specs/design-rmsnorm-quant.rst, profile_overall.png",
        use="calibration",
        what="total, another run",
        note="",
    ),
    _rmsnorm_quant(2048, True, 683_281_265),
)
MLP_POINTS = (
    _mlp(1, 1, 512, 1024, 448, 80_453_957, "RMS_NORM"),
    _mlp(1, 1, 768, 1024, 896, 140_496_530, "RMS_NORM", added=True),
    _mlp(2, 1, 768, 1024, 896, 107_670_831, "RMS_NORM", added=True),
    _mlp(2, 1, 1024, 1024, 448, 90_017_692),
    _mlp(2, 1, 1024, 16384, 832, 756_458_068),
    _mlp(1, 1, 1024, 16384, 416, 882_105_371),
    _mlp(2, 1, 1024, 8192, 448, 278_000_000),
    _mlp(2, 1, 2048, 8448, 1408, 1_437_844_003),
    _mlp(2, 1, 4096, 8192, 448, 941_321_030),
    _mlp(2, 1, 4096, 8192, 448, 1_176_746_495, "RMS_NORM"),
    _mlp(1, 1, 578, 1408, 352, 66_365_979, gate=False),
    _mlp(2, 1, 578, 1408, 352, 65_561_487, gate=False),
    _mlp(1, 1, 8192, 8192, 448, 3_784_829_419, added=True, stored=True),
    _token(1, 1, 1, 16384, 416, 118_365_648),
    _token(1, 1, 1, 16384, 832, 224_507_149),
    _token(1, 4, 2, 16384, 832, 229_137_142, "RMS_NORM"),
    _token(2, 1, 1, 8448, 1408, 135_269_789),
    _token(2, 1, 1, 8192, 448, 62_157_403, "RMS_NORM"),
    _token(2, 1, 5, 16384, 832, 153_948_092),
    _token(2, 1, 1, 7168, 364, 50_260_755),
    _token(2, 4, 1, 5120, 128, 34_008_280),
)
