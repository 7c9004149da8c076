"""Costs as text, Markdown, a document and a page."""

from __future__ import annotations

from typing import Any

from triptych.harness.reports.cost.figures import Costs
from triptych.harness.reports.html import render
from triptych.harness.reports.markdown import escape, markdown_table
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.timing_accuracy import LAST_VALIDATION


def text(costs: Costs) -> str:
    """The answers, cost at equal service, cost of large products, prices, and what is left out."""
    lines = [f"{costs.block.model}: cost of the projections of its {costs.block.layers} blocks in bfloat16", ""]
    lines += [*costs.answers, ""]
    for head, rows, numbers in costs.tables:
        if rows:
            lines += [*text_table([list(head), *rows], right=numbers, rule=True), ""]
    lines += [*costs.left_out, "", costs.note, f"{LAST_VALIDATION.sentence()}"]
    return "\n".join(lines) + "\n"


def markdown(costs: Costs) -> str:
    """The same for a pull request."""
    parts = [f"**{escape(costs.block.model)}: cost of the projections of its {costs.block.layers} blocks**\n"]
    parts += ["".join(f"- {escape(line)}\n" for line in (*costs.answers, *costs.left_out))]
    parts += [markdown_table(head, rows, right=numbers) for head, rows, numbers in costs.tables if rows]
    return "\n".join([*parts, f"{escape(costs.note)} {escape(LAST_VALIDATION.sentence())}\n"])


def record(costs: Costs) -> dict[str, Any]:
    """All points and prices, for programs."""
    return {
        "model": costs.block.model,
        "prices": {
            chip: {
                "usd_per_hour": p.usd_per_hour,
                "kind": p.kind,
                "region": p.region,
                "date": p.date,
                "source": p.source,
            }
            for chip, p in costs.priced.items()
        },
        "left_out": list(costs.left_out),
        "points": [
            {
                "chip": point.chip.name,
                "evidence": point.evidence,
                "about": point.about,
                "rows": point.rows,
                "us": point.us,
                "tokens_per_s": point.tokens_per_s,
                "tflop_per_s": point.tflop_per_s,
                "usd_per_million_tokens": point.usd_per_million(costs.priced[point.chip.name].usd_per_hour),
                "usd_per_pflop": point.usd_per_pflop(costs.priced[point.chip.name].usd_per_hour),
            }
            for point in costs.points
            if point.chip.name in costs.priced
        ],
        "whole_blocks": [
            {
                "chip": one.chip.name,
                "phase": one.phase.name,
                "what": one.phase.what,
                "evidence": "predicted",
                "us": one.phase.chip_us,
                "tokens_per_s": one.phase.chip_rate,
                "usd_per_million_tokens": one.usd_per_million(costs.priced[one.chip.name].usd_per_hour),
            }
            for one in costs.whole
            if one.chip.name in costs.priced
        ],
        "verdicts": [
            {
                "within_us": one.us,
                "cheapest": one.offers[0].point.chip.name,
                "evidence": one.offers[0].evidence,
                "usd_per_million_tokens": one.offers[0].usd,
                "holds_to_usd_per_hour": one.holds,
                "as_cheap_below_usd_per_hour": dict(one.turns),
            }
            for one in costs.verdicts
        ],
    }


def page(costs: Costs) -> str:
    """The same with its chart."""
    return render("cost/page.html", found=[costs])
