"""`triptych compare BASE NEW`: what became faster and slower, how surely, and for NKI kernels why."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from msgspec import structs

from triptych import simulator
from triptych.harness import files
from triptych.harness.backends.clocks import summary
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.commands.runs.carry_out import say
from triptych.harness.commands.runs.sides import Side, sides
from triptych.harness.comparing.causes import Causes, causes, causes_of_timings
from triptych.harness.comparing.changes import Change, Comparison, compared, timing_of
from triptych.harness.comparing.gate import Gate, gate, limits
from triptych.harness.exit_codes import ExitCode
from triptych.harness.profiling.subjects import of_ops
from triptych.harness.profiling.tracing import traced
from triptych.harness.reports import overview
from triptych.harness.reports.comparison import text
from triptych.harness.reports.comparison.cells import by_size, row
from triptych.harness.reports.comparison.page import Drawn, page
from triptych.harness.reports.progress import Progress
from triptych.harness.results.document import SCHEMA_VERSION, Document, read
from triptych.harness.results.record import name_nonfinite
from triptych.harness.results.timing import Measured, Predicted
from triptych.harness.running.plan import plan
from triptych.harness.running.provenance import Recorder
from triptych.harness.running.request import Request
from triptych.harness.running.session import Observer, Session, StopAtFirst
from triptych.simulator.timing import Prediction

ROUNDS = 3  # in which measured sides take turns, so that a machine that slows down meets both
EXPLAINED = 3  # cases whose difference is taken apart


def run(arguments: Namespace) -> int:
    """Compare, publish, and say in the exit code what the gate says."""
    outputs = Outputs.from_arguments(arguments)
    outputs.check()
    allowed = limits(arguments.fail_on) if arguments.fail_on else {}
    request = Request.from_arguments(arguments)
    with sides((arguments.base, arguments.new), request) as both:
        documents = made(arguments, both, outputs)
        comparison = compared(
            *documents, (both[0].name, both[1].name), across_backends=both[0].backend and both[1].backend
        )
        verdict = gate(comparison, allowed)
        explained, drawn = explanations(comparison, both)
        publish(arguments, outputs, comparison, verdict, explained, drawn, documents[1])
    if not any(change.ratio for change in comparison.changes) and not verdict.broken:
        return ExitCode.NOTHING_RAN
    return verdict.exit_code(arguments.strict)


def made(arguments: Namespace, both: Sequence[Side], outputs: Outputs) -> tuple[Document, Document]:
    """The documents of both sides; measured ones take turns."""
    found = [[read(side.path)] if side.path else [carry_out(arguments, side, outputs)] for side in both]
    measured = [any(isinstance(r.timing, Measured) for r in some[0].results) for some in found]
    runnable = [side.request is not None for side in both]
    if all(measured) and all(runnable):
        for turn in range(1, ROUNDS):
            for at in (1, 0) if turn % 2 else (0, 1):
                found[at].append(carry_out(arguments, both[at], outputs))
    return pooled(found[0]), pooled(found[1])


def carry_out(arguments: Namespace, side: Side, outputs: Outputs) -> Document:
    """Check and time what a side asks for."""
    assert side.request is not None
    session: Session = arguments.session or Session()
    observers: list[Observer] = [
        Progress(quiet=outputs.quiet, lines=True),
        Recorder(shlex.join(["triptych", *arguments.argv])),
        *([StopAtFirst()] if arguments.stop else []),
    ]
    run = session.run(side.request, observers)
    if run.interrupted:
        raise KeyboardInterrupt
    return overview.document(run)


def pooled(documents: Sequence[Document]) -> Document:
    """The first document with the samples of all; a case that failed in any round failed."""
    first, *others = documents
    for other in others:
        for i, (one, two) in enumerate(zip(first.results, other.results, strict=False)):
            a, b = one.timing, two.timing
            if isinstance(a, Measured) and isinstance(b, Measured):
                samples = [*a.samples_us, *b.samples_us]
                together = structs.replace(
                    summary(samples, a.warmups + b.warmups, a.evidence, timer=a.timer, cache=a.cache),
                    flops=a.flops,
                    bytes=a.bytes,
                    alone=True if a.alone and b.alone else None,
                    rounds=[*(a.rounds or [len(a.samples_us)]), len(b.samples_us)],
                )
                first.results[i].timing = together  # type: ignore[misc]
            elif isinstance(a, Measured):
                first.results[i] = two
    return first


def explanations(comparison: Comparison, both: Sequence[Side]) -> tuple[text.Explained, Drawn | None]:
    """Where the largest differences of NKI kernels come from, and the timelines of the largest."""
    changed = [c for c in by_size(comparison.changes) if c.metric == "predicted" and c.ratio and c.verdict != "same"]
    found: list[tuple[Change, Causes]] = []
    drawn: Drawn | None = None
    seen: set[tuple[float, float]] = set()  # cases of one size differ in their inputs alone
    for change in changed:
        a, b = timing_of(change.base), timing_of(change.new)
        if a is None or b is None or (a.us, b.us) in seen or len(found) == EXPLAINED:
            continue
        seen.add((a.us, b.us))
        predictions = [p for side, c in zip(both, (change.base, change.new), strict=True) if (p := predict(side, c))]
        if len(predictions) == 2:
            found.append((change, causes(*predictions)))
            drawn = drawn or Drawn(change, predictions)
            continue
        if isinstance(a, Predicted) and isinstance(b, Predicted):
            found.append((change, causes_of_timings(a, b)))
    return found, drawn


def predict(side: Side, result: Any) -> Prediction | None:
    """The whole prediction of a case of a side that was run here; None where the side is a document."""
    if side.request is None or result is None:
        return None
    chosen = plan(replace(side.request, timed=False))
    selection = replace(chosen.selection, names=result.case, dtypes=[result.dtype])
    wanted = [s for s in of_ops(chosen.ops.values(), selection, chosen.sources) if s.op == result.op]
    return simulator.predict_trace(traced(wanted[0], result.target or "trn2")) if wanted else None


def publish(
    arguments: Namespace,
    outputs: Outputs,
    comparison: Comparison,
    verdict: Gate,
    explained: text.Explained,
    drawn: Drawn | None,
    new: Document,
) -> None:
    """The files first, then the text, and the annotations where they are asked for."""
    if outputs.json:
        files.write(outputs.json, document(comparison, verdict))
    if outputs.md:
        files.write(outputs.md, text.comment(comparison, verdict, explained))
    if outputs.html:
        files.write(outputs.html, page(comparison, verdict, explained, drawn))
    said = text.text(comparison, verdict, explained, quiet=outputs.quiet)
    print(said, end="", file=outputs.stream)
    if arguments.github:
        where = {kernel.op: kernel.file for kernel in new.origin.kernels}
        for line in text.github(verdict, where):
            print(line, file=outputs.stream)
    if not outputs.quiet and drawn is None and outputs.html and explained:
        say("triptych: the page has no timelines, which need the kernels of both sides and not documents alone")


def document(comparison: Comparison, verdict: Gate) -> str:
    """Every change, with its ratio and interval, for programs."""
    rows = [
        {
            "op": change.any.op,
            "case": change.any.case,
            "dtype": change.any.dtype,
            "backend": [side.backend_label if side else None for side in (change.base, change.new)],
            "metric": change.metric,
            "us": [t.us if t else None for t in (timing_of(change.base), timing_of(change.new))],
            "ratio": change.ratio.value if change.ratio else None,
            "interval": [change.ratio.low, change.ratio.high] if change.ratio else None,
            "trusted": change.trusted,
            "verdict": row(change)[-1],
            "regressed": change in verdict.regressed,
        }
        for change in comparison.changes
    ]
    body = {
        "schema_version": SCHEMA_VERSION,
        "base": comparison.base_name,
        "new": comparison.new_name,
        "limits": dict(verdict.limits),
        "notes": list(comparison.notes),
        "changes": rows,
    }
    return json.dumps(name_nonfinite(body), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
