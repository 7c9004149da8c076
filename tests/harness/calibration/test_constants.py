"""The constants of a stand-in are found again, and each probe says of which it speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from stand_in import TRUE, StandIn, document

from triptych.harness.calibration.calibrate import calibrate
from triptych.harness.calibration.fitting import fit
from triptych.harness.calibration.groups import GROUPS, Group
from triptych.harness.calibration.observations import Observation, observed, pairs
from triptych.simulator.chips import TARGETS


@pytest.mark.parametrize("only", ["probe_v", "probe_g", pytest.param("", marks=pytest.mark.slow)])
def test_the_constants_of_a_device_are_found_again(only: str) -> None:
    found = calibrate(document(StandIn(), only))
    assert found.chip == "NeuronCore-v3" and {one.field for one in found.constants} == set(TRUE)
    decided = [one for one in found.constants if one.after is not None]
    assert len(decided) == {"probe_v": 5, "probe_g": 3, "": len(TRUE)}[only]
    for one in decided:
        assert one.after is not None and one.error is not None, one
        off = abs(one.after / TRUE[one.field] - 1)
        assert off < max(5 * one.error, 0.002), one
        assert off < 0.15 and (off < 0.03 or abs(one.before / TRUE[one.field] - 1) > 2 * off), one
    errors = found.errors(fitted=True)
    assert errors is not None and errors[1] < 0.01 and errors[1] < errors[0] / 2


CLOCK = {"tensor_ghz", "matmul_extra_cycles", "warm_up_slowdown"}
MOVED = {"dma_gb_per_s", "dma_descriptor_ns"}


@pytest.mark.parametrize(
    ("probe", "fields"),
    [
        ("probe_clock cold", CLOCK),
        ("probe_clock 96 columns", CLOCK | {"warm_up_ns"}),
        ("probe_vector by a column", {"vector_ghz", "access_cycles", "operand_cycles"}),
        ("probe_scalar in PSUM", {"scalar_ghz", "access_cycles"}),
        ("probe_scalar 512", {"scalar_ghz", "access_cycles", "scalar_sbuf_cycles"}),
        ("probe_scalar by a column", {"scalar_ghz", "access_cycles", "scalar_sbuf_cycles", "scalar_operand_cycles"}),
        ("probe_reciprocal 128", {"vector_ghz", "access_cycles", "reciprocal_cycles"}),
        ("probe_bounce on one ring", MOVED | {"dma_start_ns"}),
        ("probe_bounce there and back", MOVED | {"dma_start_ns", "dma_skew_ns"}),
        ("probe_bounce sync", MOVED | {"dma_hardware_start_ns", "dma_skew_ns"}),
        ("probe_barrier gpsimd", {"gpsimd_latency_ns", "barrier_ns"}),
    ],
)
def test_what_moves_a_probe(probe: str, fields: set[str]) -> None:
    (one,) = observed(pairs(document(StandIn(), probe.partition(" ")[0])), Group((), (probe,)), "trn2")
    before = one.predicted({})
    every = [name for group in GROUPS for name in group.fields]
    moved = {
        name
        for name in every
        if one.predicted({name: 1.1 * getattr(TARGETS["trn2"], name).value}) != pytest.approx(before)
    }
    assert moved == fields


@pytest.mark.parametrize(
    ("fields", "only"),
    [
        (["warm_up_slowdown", "warm_up_ns"], "probe_(matmul|clock)"),
        (["scalar_operand_cycles", "scalar_sbuf_cycles"], "probe_scalar"),
        (["reciprocal_cycles"], "probe_reciprocal"),
        (["dma_skew_ns", "dma_hardware_start_ns"], "probe_(dma|pieces|bounce)"),
        (["barrier_ns"], "probe_barrier"),
        (["gpsimd_launch_ns"], "probe_launch"),
    ],
)
def test_a_device_that_differs_in_some_constants_is_told_of_those(fields: list[str], only: str) -> None:
    """Every other constant that the same probes decide stays where it was."""
    told = calibrate(document(StandIn(settings={name: TRUE[name] for name in fields}), only))
    found = {one.field: one for one in told.constants}
    for name in fields:
        assert found[name].after == pytest.approx(TRUE[name], rel=0.03)
    for name, one in found.items():
        if name not in fields and one.after is not None:
            assert one.error is not None and abs(one.after / one.before - 1) < max(5 * one.error, 0.01), one


def test_a_constant_that_stands_at_zero_says_why_it_stays() -> None:
    found = document(StandIn(), "probe_vector")
    found.env["neuron"]["chip"] = "trn1"
    (left,) = [one.why_not for one in calibrate(found).constants if one.field == "operand_cycles"]
    assert left == "it stands at 0, and a fit moves by factors"


def test_a_device_that_is_as_the_model_says_changes_nothing() -> None:
    found = calibrate(document(StandIn(settings={}), only="probe_v"))
    for one in found.constants:
        if one.after is not None:
            assert one.error is not None and abs(one.after / one.before - 1) < 5 * one.error
    assert {one.field for one in found.constants if one.after} == {
        "vector_ghz",
        "access_cycles",
        "operand_cycles",
        "min_cycles",
        "vector_latency_ns",
    }
    (left,) = {one.why_not for one in found.constants if one.field == "launch_ns"}
    assert left == "none of its probes was timed"


def test_what_the_observations_do_not_decide_is_left_alone() -> None:
    @dataclass(frozen=True)
    class Line(Observation):
        def predicted(self, settings: Mapping[str, float]) -> float:
            both = {"a": 1.0, "b": 2.0, **settings}
            return both["a"] * both["b"]

    fitted = fit([Line("x", 6.0, 0.01, ()), Line("y", 6.0, 0.01, ())], ("a", "b"), {"a": 1.0, "b": 2.0}, {})
    assert len(fitted.values) == 1 and len(fitted.left) == 1
    assert np.prod([{"a": 1.0, "b": 2.0, **fitted.values}[name] for name in "ab"]) == pytest.approx(6, rel=1e-3)
