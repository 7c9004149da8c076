"""The tables of docs/attention.md: what each step of the forward kernel gains, its options, decode and backward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np

from triptych import simulator
from triptych.harness.reports.markdown import markdown_table

KERNELS = Path(__file__).resolve().parents[3] / "kernels" / "nki"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ENGINES = ("tensor", "scalar", "vector", "dma")
PEAK = 78.64e6  # FLOP a microsecond of the Tensor Engine of trn2, in bfloat16

# The steps of the page: what each is called, and what of the kernel it takes back.
PLAN = "return 2, 3, 0 if alone else 4"
STEPS = (
    ("transposed scores, certified", "return 1, 4, 0"),
    ("an exponential of two banks", "return 2, 3, 0"),
    ("every fourth on Vector (attention)", PLAN),
)


def ladder() -> str:
    """What each step of the attention page gains: a head of 4096 x 128 in bfloat16 on trn2, with and without a mask."""
    rng = np.random.default_rng(0)
    qkv = [rng.standard_normal((1, 1, 4096, 128), np.float32).astype(BFLOAT16) for _ in range(3)]
    text = (KERNELS / "attention.py").read_text(encoding="utf-8")
    assert text.count(PLAN) == 1, "the steps of the page take back a line that attention.py no longer has"
    online = simulator.load(KERNELS / "attention_online.py").attention_online
    kernels = [("a running maximum (attention_online)", online)]
    with TemporaryDirectory() as scratch:
        for n, (step, plan) in enumerate(STEPS):
            path = Path(scratch) / f"step{n}.py"
            path.write_text(text.replace(PLAN, plan), encoding="utf-8")
            kernels.append((step, simulator.load(path).attention))
        rows = []
        for step, kernel in kernels:
            for causal in (False, True):
                predicted = simulator.on("trn2").predict(kernel, *qkv, causal=causal)
                useful = 4 * 128 * (4096 * 4097 // 2 if causal else 4096 * 4096)
                share = predicted.mfu * useful / predicted.flops
                busy = (f"{predicted.busy[track]:.0%}" for track in ENGINES)
                rows.append((step, "causal" if causal else "full", f"{predicted.total_us:.0f}", f"{share:.0%}", *busy))
    header = ("step", "mask", "us", "of the peak", "Tensor busy", "Scalar busy", "Vector busy", "DMA busy")
    return markdown_table(header, rows)


def options() -> str:
    """What each option of the forward kernel costs: a head of 2048 x 128 in bfloat16 on trn2."""
    kernel, s = simulator.load(KERNELS / "attention.py").attention, 2048
    qkv = [np.zeros((1, 1, s, 128), BFLOAT16) for _ in range(3)]
    full, half = s * s, s * (s + 1) // 2
    every: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("none", full, {}),
        ("causal", half, {"causal": True}),
        ("causal, with_lse", half, {"causal": True, "with_lse": True}),
        ("causal, window 512", s * 512 - 512 * 511 // 2, {"causal": True, "window": 512}),
        ("softcap", full, {"softcap": 30.0}),
        ("sinks", full, {"sinks": np.zeros(1, np.float32)}),
        ("mask", full, {"mask": np.zeros((1, 1, s, s), BFLOAT16)}),
        ("segments (of one)", full, {"segments": np.zeros((1, s), np.int32)}),
    )
    rows = []
    for name, pairs, given in every:
        predicted = simulator.on("trn2").predict(kernel, *qkv, **given)
        share = 4 * 128 * pairs / PEAK / predicted.total_us
        busy = (f"{predicted.busy[track]:.0%}" for track in ENGINES)
        rows.append((name, f"{predicted.total_us:.0f}", f"{share:.0%}", *busy))
    return markdown_table(("options", "us", "of the peak", *(f"{track.title()} busy" for track in ENGINES)), rows)


def decode() -> str:
    """What decode takes, beside the time in which DMA can read the cache: 4 sequences of 8192, 32 heads on 8."""
    kernel = simulator.load(KERNELS / "attention_decode.py").attention_decode
    rows = []
    for page, tokens, d, is_float8 in (
        (0, 1, 128, False),
        (16, 1, 128, False),
        (16, 4, 128, False),
        (0, 1, 64, False),
        (0, 1, 128, True),
        (16, 1, 128, True),
    ):
        new = np.zeros((4, 8, tokens, d), BFLOAT16)
        shape = (4 * 8192 // page, 8, page, d) if page else (4, 8, 8192, d)
        caches = [np.zeros(shape, ml_dtypes.float8_e4m3 if is_float8 else BFLOAT16) for _ in range(2)]
        scales = [np.ones(8, np.float32)] * 2 if is_float8 else []
        lengths = np.full(4, 8192 - tokens, np.int32)
        table = np.arange(shape[0], dtype=np.int32).reshape(4, -1) if page else None
        q = np.zeros((4, 32, tokens, d), BFLOAT16)
        predicted = simulator.on("trn2").predict(kernel, q, new, new, *caches, lengths, table, *scales)
        bound = 2 * caches[0].nbytes / simulator.TARGETS["trn2"].dma_gb_per_s.value / 1e3
        cache = (f"pages of {page}" if page else "contiguous") + ", float8" * is_float8
        share = f"{predicted.total_us / bound:.2f}"
        busy = (f"{predicted.busy[track]:.0%}" for track in ENGINES)
        rows.append((cache, str(tokens), str(d), f"{predicted.total_us:.0f}", f"{bound:.0f}", share, *busy))
    header = ("cache", "new tokens", "D", "us", "bound, us", "over the bound")
    return markdown_table((*header, *(f"{track.title()} busy" for track in ENGINES)), rows)


def prefill() -> str:
    """What a chunk of new tokens takes behind a full cache, beside as many keys without one: 4 heads on 1, D = 128."""
    kernels = simulator.load(KERNELS / "attention.py")
    rows = []
    for tokens, cached in ((128, 4096), (512, 4096)):
        q, new = (np.zeros((1, heads, tokens, 128), BFLOAT16) for heads in (4, 1))
        cache, whole = (np.zeros((1, 1, cached + tokens, 128), BFLOAT16) for _ in range(2))
        lengths = np.full(1, cached, np.int32)
        predicted = simulator.on("trn2").predict(kernels.attention_prefill, q, new, new, cache, cache.copy(), lengths)
        plain = simulator.on("trn2").predict(kernels.attention, q, whole, whole, causal=True)
        pairs = tokens * cached + tokens * (tokens + 1) // 2
        share = 4 * 128 * 4 * pairs / PEAK / predicted.total_us
        busy = (f"{predicted.busy[track]:.0%}" for track in ENGINES)
        times = (f"{predicted.total_us:.0f}", f"{plain.total_us:.0f}")
        rows.append((str(tokens), str(cached), *times, f"{share:.0%}", *busy))
    header = ("new tokens", "cached", "us", "us of `attention`", "of the peak")
    return markdown_table((*header, *(f"{track.title()} busy" for track in ENGINES)), rows)


def backward() -> str:
    """What backward takes, five products of 2 D for each visible pair: a head in bfloat16 on trn2."""
    kernel = simulator.load(KERNELS / "attention_backward.py").attention_backward
    rows = []
    every = (
        (4096, 128, True, None),
        (8192, 128, True, None),
        (4096, 128, False, None),
        (4096, 64, True, None),
        (8192, 128, True, 1024),
    )
    for s, d, causal, window in every:
        x, lse = simulator.ShapeDtype((1, 1, s, d), "bfloat16"), simulator.ShapeDtype((1, 1, s), "float32")
        predicted = simulator.on("trn2").predict(kernel, x, x, x, x, x, lse, causal=causal, window=window)
        pairs = s * s if not causal else s * (s + 1) // 2 if window is None else s * window - window * (window - 1) // 2
        share = 10 * d * pairs / PEAK / predicted.total_us
        busy = (f"{predicted.busy[track]:.0%}" for track in ENGINES)
        mask = "full" if not causal else "causal" if window is None else f"window {window}"
        rows.append((f"{s} x {d}", mask, f"{predicted.total_us:.0f}", f"{share:.0%}", *busy))
    return markdown_table(("head", "mask", "us", "of the peak", *(f"{track.title()} busy" for track in ENGINES)), rows)


TABLES: dict[str, Callable[[], str]] = {
    "attention-ladder": ladder,
    "attention-options": options,
    "attention-decode": decode,
    "attention-prefill": prefill,
    "attention-backward": backward,
}
