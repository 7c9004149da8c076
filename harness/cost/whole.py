"""Whole blocks on NeuronCores, attention and norms among them: what is predicted of a prompt and of a decode step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from triptych import simulator
from triptych.harness.accelerators.catalogue import Catalogue, Chip
from triptych.harness.blocks.study import Phase, Sizes, drawn_weights, predict
from triptych.harness.collection.llama import Llama

PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Whole:
    """One phase of a model's block on one chip, every core of which runs blocks of its own."""

    chip: Chip
    phase: Phase
    layers: int

    def usd_per_million(self, usd_per_hour: float) -> float:
        """Of a million tokens through all blocks of the model."""
        return usd_per_hour / 3600 / self.phase.chip_rate * 1e6 * self.layers


def of_blocks(
    model: Llama,
    layers: int,
    known: Catalogue,
    targets: Sequence[str],
    on_phase: Callable[[str], None],
    sizes: Sizes | None = None,
) -> Iterator[Whole]:
    """Each phase on each chip; attention runs with drawn inputs, on which its control flow depends, for minutes."""
    weights = drawn_weights(model, 0)
    for target in targets:
        chip = known.of_target(target)
        if chip is None:
            continue
        for name in PHASES:
            on_phase(f"{target} a block of {model.name}, {name}")
            calls, tokens, what = predict(name, model, weights, target, sizes or Sizes())
            yield Whole(chip, Phase(name, what, tokens, (), calls, simulator.TARGETS[target]), layers)
