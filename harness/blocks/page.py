"""What `triptych run llama-block` prints: agreement, predicted times, and what was assumed."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.harness.blocks.study import BUDGET, Phase
from triptych.harness.collection.llama import Llama
from triptych.harness.results.timing_accuracy import LAST_VALIDATION

ASSUMED = (
    "Nothing was measured: times are predicted by the timing model.",
    "The kernels run one after the other as parts of one program, whose launch and teardown are charged once;"
    " none starts before the one before it has ended.",
    "Parts of an array (queries, keys and values of a projection) are read where they lie, and joined where they are"
    " written, at no cost.",
    "On a chip every core works on sequences of its own, with weights of its own; where all cores together need more"
    " than HBM's rate, they wait for it.",
    "One block alone: no embedding, no head, no optimizer, nothing between chips.",
)


def text(model: Llama, target: str, phases: Sequence[Phase]) -> str:
    """The whole page, ending in a newline."""
    chip = phases[0].chip
    lines = [
        f"llama-block on {target} ({chip.name}), bfloat16: {model.name}, hidden {model.hidden}, {model.heads} heads of "
        f"{model.head_dim} on {model.kv_heads}, MLP {model.ffn}",
        "",
        "agrees with the definition in float64? (relative L2; allowed is "
        f"{BUDGET:g} x the error of NumPy that rounds after each operation)",
        *table(("", "result", "error", "allowed", ""), agreement_rows(phases), left=2),
        "",
        "predicted",
        *table(
            (
                "",
                "us a core",
                "tokens/s a core",
                f"tokens/s a chip of {chip.cores_per_device.value:.0f}",
                "of the peak",
                "GB/s",
            ),
            [
                (
                    phase.name,
                    f"{phase.core_us:,.0f}",
                    f"{phase.core_rate:,.0f}",
                    f"{phase.chip_rate:,.0f}",
                    f"{phase.mfu:.0%}",
                    f"{phase.gb_per_s:.0f}",
                )
                for phase in phases
            ],
        ),
        *(f"{phase.name}: {phase.what}" for phase in phases),
    ]
    for phase in phases:
        lines += [
            "",
            f"{phase.name}, by kernel",
            *table(("", "calls", "us", "share", "of the peak", "GB/s"), kernel_rows(phase)),
        ]
    lines += ["", "assumed", *(f"  {sentence}" for sentence in ASSUMED), f"  {LAST_VALIDATION.sentence()}."]
    return "\n".join(lines) + "\n"


def agreement_rows(phases: Sequence[Phase]) -> list[tuple[str, ...]]:
    return [
        (phase.name, one.name, f"{one.error:.2e}", f"{one.allowed:.2e}", "agrees" if one.holds else "DIFFERS")
        for phase in phases
        for one in phase.agreements
    ]


def kernel_rows(phase: Phase) -> list[tuple[str, ...]]:
    """The kernels of a phase, the longest first."""
    rows = []
    for name in {call.name for call in phase.calls}:
        calls = [call for call in phase.calls if call.name == name]
        us, flops, nbytes = (sum(getattr(call, part) for call in calls) for part in ("us", "flops", "hbm_bytes"))
        peak = flops / us / 1e6 / phase.chip.peak_bf16_tflops.value
        rows.append(
            (
                us,
                (
                    name,
                    str(len(calls)),
                    f"{us:,.1f}",
                    f"{us / phase.core_us:.0%}",
                    f"{peak:.0%}",
                    f"{nbytes / us / 1e3:.0f}",
                ),
            )
        )
    return [row for _, row in sorted(rows, reverse=True)]


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: int = 1) -> list[str]:
    """Columns under each other, the first `left` to the left."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  "
        + "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
