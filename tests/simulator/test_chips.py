"""The chip records: every number has a unit, a source and how it is known, and the numbers agree with each other."""

from __future__ import annotations

import dataclasses
import re

import pytest

from triptych import simulator
from triptych.simulator import KernelError
from triptych.simulator.chip.record import Fact
from triptych.simulator.chips import CHIPS, chip_of

FACTS = [
    pytest.param(chip, f.name, id=f"{chip.name}-{f.name}")
    for chip in CHIPS
    for f in dataclasses.fields(chip)
    if isinstance(getattr(chip, f.name), Fact)
]


@pytest.mark.parametrize(("chip", "name"), FACTS)
def test_every_number_has_a_unit_a_source_and_how_it_is_known(chip, name):
    fact = getattr(chip, name)
    assert fact.value >= 0 and fact.unit and fact.known in ("documented", "measured", "assumed")
    if fact.known == "documented":
        assert re.search(r"(nki|neuron-runtime|about-neuron|tools)/[\w./-]+\.(rst|py)", fact.source), fact.source


def test_no_number_of_a_chip_is_bare():
    for chip in CHIPS:
        for f in dataclasses.fields(chip):
            value = getattr(chip, f.name)
            assert isinstance(value, Fact) or f.name in ("name", "generation", "targets"), f.name


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CHIPS[0].generation = 9
    with pytest.raises(dataclasses.FrozenInstanceError):
        CHIPS[0].tensor_ghz.value = 9.0


@pytest.mark.parametrize(
    ("target", "generation"),
    [("trn1", 2), ("inf2", 2), ("gen2", 2), ("trn2", 3), ("gen3", 3), ("trn3", 4), ("gen4", 4)],
)
def test_targets(target, generation):
    assert chip_of(target).generation == generation and chip_of(target) is simulator.TARGETS[target]


def test_an_unknown_target_lists_what_exists():
    with pytest.raises(
        KernelError, match="target 'trn4' is unknown; expected one of trn1, inf2, gen2, trn2, gen3, trn3"
    ):
        chip_of("trn4")


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_the_numbers_agree(chip):
    assert chip.psum_banks == 8 and chip.psum_bank_bytes.value == 4 * 512
    assert chip.peak_bf16_tflops.value == pytest.approx(chip.tensor_ghz.value * 128 * 128 * 2 / 1e3, rel=1e-3)
    assert chip.sbuf_partition_bytes.value % 1024 == 0


def test_generations_grow():
    sizes = [chip.sbuf_partition_bytes.value for chip in CHIPS]
    rates = [chip.dma_gb_per_s.value for chip in CHIPS]
    assert sizes == sorted(sizes) and rates == sorted(rates) and [c.generation for c in CHIPS] == [2, 3, 4]
