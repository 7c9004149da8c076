"""The chip records: every number has a unit, a source and how it is known, and the numbers agree with each other."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

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


def test_every_number_stands_on_the_page_as_it_is_here():
    page = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    told = {name: numbers for name, *numbers in re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", page, re.M)}
    names = dict.fromkeys(parameter.values[1] for parameter in FACTS)
    here = {name: [f"{getattr(chip, name).value:g}" for chip in CHIPS] for name in names}
    assert {name: told.get(name) for name in here} == here


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


def test_inf2_differs_from_its_generation_in_what_its_tensor_engine_sustains():
    """In a product of 8192 x 8192 x 8192 the engine is active for 19.17 ms; at the peak it would be for 11.98."""
    own, trn1 = chip_of("inf2"), chip_of("trn1")
    differ = {f.name for f in dataclasses.fields(own) if getattr(own, f.name) != getattr(trn1, f.name)}
    assert differ == {"sustained_slowdown"} and own.sustained_slowdown.known == "measured"
    least = 2 * 8192**3 / own.peak_bf16_tflops.value / 1e9  # ms
    assert own.sustained_slowdown.value == pytest.approx(19.168 / least, rel=1e-3)


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


# As AWS's pages print them, generation by generation, or as their figures give them: 16 engines of 17 bytes/ns.
DOCUMENTED = {
    "tensor_ghz": (2.8, 2.4, 2.4),
    "vector_ghz": (1.12, 0.96, 1.2),
    "scalar_ghz": (1.4, 1.2, 1.2),
    "gpsimd_ghz": (1.4, 1.2, 1.2),
    "partitions": (128,) * 3,
    "min_cycles": (64,) * 3,
    "gpsimd_start_cycles": (150,) * 3,
    "fp32_matmul_passes": (4,) * 3,
    "warm_up_slowdown": (1, 2, 2),  # "throttled to half its clock below half its use of 3 us"
    "dma_gb_per_s": (16 * 17, pytest.approx(16 * 24.4, abs=1), 16 * 33),
    "dma_rings": (16,) * 3,
    "dma_issue_ns": (600,) * 3,
    "hbm_gb_per_s": (820 / 2, 716, pytest.approx(4700 / 4, rel=0.01)),
    "hbm_cores": (1, 2, 2),
    "cores_per_device": (2, 8, 8),
    "neuronlink_gb_per_s": (384, 1280, 2560),
    "collective_step_ns": ((1000 + 2000) / 2,) * 3,
    "mesh_bytes": (10**6,) * 3,
    "halving_bytes": (56 * 10**6,) * 3,
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_number_is_the_pages(name):
    assert tuple(getattr(chip, name).value for chip in CHIPS) == DOCUMENTED[name]


# As they were read off traces and profiles: of which generation, the number, and how far off it may be.
MEASURED = {
    ("launch_ns", 2): (12_500, 0),
    ("teardown_ns", 2): (4_400 - 380, 0),
    ("scalar_latency_ns", 2): (189 - (64 + 50) / 1.4, 0.5),  # an element takes the shortest interval, 64 cycles
    ("matmul_extra_cycles", 3): (429.7 * 2.4 - 1024, 0.5),  # between two passes of 512 rows
    ("access_cycles", 3): (600 * 0.96 - 512, 0),  # 512 elements every 597 to 603 ns on Vector
    ("tensor_latency_ns", 3): (376 - 216 + 38, 0),  # a matmul of 512 columns, the next, and who waits for it
    ("vector_latency_ns", 3): (690 - 600 + 34, 0),
    ("scalar_latency_ns", 3): (585 - 480 + 33, 1),
    ("table_load_ns", 3): (1283, 0),
    ("dma_start_ns", 3): (740, 0),
    ("dma_end_ns", 3): ((368 + 388) / 2, 5),
    ("launch_ns", 3): (13_440, 0),
    ("gpsimd_launch_ns", 3): (14_730 - 13_440, 0),
    ("teardown_ns", 3): (2_080 - 380, 0),
    ("warm_up_ns", 3): (4096 / 1.2, 0.1),
    ("warm_up_use", 3): ((0.75 + 0.76) / 2, 0.001),
    ("cool_down_use", 3): ((0.34 + 0.39) / 2, 0.001),
    ("operand_cycles", 3): (396 * 0.96 - 512 / 2 - 64, 1),  # tensor_scalar at twice the speed
    ("scalar_operand_cycles", 3): (107, 5),
    ("scalar_sbuf_cycles", 3): ((612 - 569) * 1.2, 7),
    ("reciprocal_cycles", 3): (6.246 * 0.96, 0.01),
    ("barrier_ns", 3): (598, 0),
    ("dma_skew_ns", 3): ((423 - 8 * 26.9 + 346 - 8 * 16.4) / 2, 5),
    ("dma_hardware_start_ns", 3): (1330, 4),
    ("sustained_slowdown", 2): (6.97 / 6.11, 0.01),
    ("dma_software_issue_ns", 3): (603, 0),
    ("dma_static_issue_ns", 3): (80 * 2.3, 0.1),
}


@pytest.mark.parametrize(("name", "generation"), MEASURED)
def test_a_number_is_what_was_measured(name, generation):
    value, apart = MEASURED[name, generation]
    assert getattr(CHIPS[generation - 2], name).value == pytest.approx(value, abs=apart)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_what_is_assumed_to_be_anothers_is_anothers(chip):
    for name in [f.name for f in dataclasses.fields(chip)]:
        fact, third = getattr(chip, name), getattr(CHIPS[1], name)
        if isinstance(fact, Fact) and fact.source == "that of NeuronCore-v3":
            assert fact.value == third.value, name
        elif isinstance(fact, Fact) and fact.source == "that of the Scalar Engine":
            assert fact.value == getattr(chip, name.replace("gpsimd", "scalar")).value, name
    assert (
        CHIPS[1].launch_ns.value == CHIPS[2].launch_ns.value
        and CHIPS[1].teardown_ns.value == CHIPS[2].teardown_ns.value
    )
    cycles = [c.vector_latency_ns.value * c.vector_ghz.value for c in (chip, CHIPS[1])]
    assert cycles[0] == pytest.approx(cycles[1], abs=1)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_what_a_kernel_takes_once_is_its_launch_and_its_end(target):
    chip = chip_of(target)
    parts = (chip.launch_ns, chip.gpsimd_launch_ns, chip.teardown_ns)
    assert chip.once_us == pytest.approx(sum(part.value for part in parts) / 1000) and chip.once_us > 10
