"""`triptych cost`: what a block of a model costs on each chip, and at which price the verdict turns."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence

from triptych import simulator
from triptych.harness import files
from triptych.harness.accelerators.catalogue import Catalogue, catalogue, read
from triptych.harness.commands.arguments.outputs import Outputs
from triptych.harness.cost.blocks import Block, block_of, llama_of
from triptych.harness.cost.points import Point, of_publications, of_results
from triptych.harness.cost.predicted import of_model
from triptych.harness.cost.service import prices
from triptych.harness.cost.whole import Whole, of_blocks
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports.cost import text as report
from triptych.harness.reports.cost.figures import Costs
from triptych.harness.reports.terminal import Ticker
from triptych.harness.results import document
from triptych.harness.results.record import name_nonfinite

ROWS = (1, 8, 32, 128, 512, 2048)


def run(arguments: Namespace) -> int:
    """Price what was measured, predicted and published, and print it."""
    outputs = Outputs.from_arguments(arguments)
    outputs.check()
    block = block_of(arguments.model)
    known = read(arguments.data) if arguments.data else catalogue()
    priced = prices(known, arguments.kind, dict(price(word) for word in arguments.prices))
    for target in arguments.targets:
        if target not in simulator.TARGETS:
            raise unknown("target", target, simulator.TARGETS)
    saved = [document.read(path) for path in arguments.documents]
    found = points(block, known, arguments.rows or ROWS, arguments.targets)
    measured = list(of_results([(one.env, one.results) for one in saved], block, known))
    whole = whole_blocks(block, known, arguments.targets) if arguments.whole else []
    costs = Costs.of(block, [*measured, *found], priced, known, whole)
    if outputs.json:
        body = {"schema_version": document.SCHEMA_VERSION, **report.record(costs)}
        files.write(outputs.json, json.dumps(name_nonfinite(body), indent=1, ensure_ascii=False) + "\n")
    if outputs.md:
        files.write(outputs.md, report.markdown(costs))
    if outputs.html:
        files.write(outputs.html, report.page(costs))
    if not outputs.stdout_taken:
        print(report.text(costs), end="")
    return ExitCode.OK


def chips(known: Catalogue, targets: Sequence[str]) -> list[str]:
    """The targets that are predicted: those that are named, else all that have a price."""
    return list(targets) or [target for chip in known.chips for target in chip.targets if known.prices_of(chip)]


def whole_blocks(block: Block, known: Catalogue, targets: Sequence[str]) -> list[Whole]:
    """The predictions of whole blocks, which take minutes."""
    line = Ticker(sys.stderr)
    try:
        model = llama_of(block.model)
        return list(
            of_blocks(model, block.layers, known, chips(known, targets), lambda words: line.say(f"predicting {words}"))
        )
    finally:
        line.clear()


def points(block: Block, known: Catalogue, rows: Sequence[int], targets: Sequence[str]) -> list[Point]:
    """The predictions of our kernels, and what was published of the other vendors' best."""
    names = chips(known, targets)
    line = Ticker(sys.stderr)
    try:
        predicted = list(of_model(block, known, rows, names, lambda words: line.say(f"predicting {words}")))
    finally:
        line.clear()
    return [*predicted, *of_publications(block, known, rows, [chip for chip in known.chips if chip.gpu])]


def price(word: str) -> tuple[str, float]:
    """`H200=2.5` as ("H200", 2.5)."""
    chip, _, usd = word.partition("=")
    try:
        value = float(usd)
    except ValueError:
        value = 0.0
    if not chip or not 0 < value < float("inf"):
        raise UsageError(f"--price takes CHIP=USD an hour, above zero, as in --price H200=2.5; got {word!r}.")
    return chip.strip(), value
