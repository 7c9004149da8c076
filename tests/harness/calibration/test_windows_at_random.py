"""Windows of the Tensor Engine's clock that begin at random are found as long as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stand_in import StandIn, by_the_clock, document

from triptych import simulator
from triptych.harness.calibration.calibrate import calibrate
from triptych.harness.calibration.fitting import fit
from triptych.harness.calibration.groups import GROUPS
from triptych.harness.calibration.observations import Observation, observed, pairs, trace_of
from triptych.simulator.chips import TARGETS

WINDOWS = next(group for group in GROUPS if group.fields == ("warm_up_ns",))
TRN2 = TARGETS["trn2"]
EVENLY = (np.arange(200) + 0.5) / 200  # of a window: what is left of it at the first use


@pytest.fixture(scope="module")
def traces() -> list[tuple[simulator.Trace, simulator.Trace]]:
    return [(one.traces[0], one.traces[1]) for one in observed(pairs(document(StandIn(), "clock")), WINDOWS, "trn2")]


@pytest.mark.parametrize("use", [0.6, 0.755, 0.95])
@pytest.mark.parametrize(("cold", "hot"), [(2.0, 1.0), (1.0, 1.6)])
def test_the_model_says_the_median_of_runs(
    traces: list[tuple[simulator.Trace, simulator.Trace]], use: float, cold: float, hot: float
) -> None:
    """To within what a matmul takes at both clocks, in whose middle the clock does not change."""
    settings = {"warm_up_use": use, "warm_up_slowdown": cold, "sustained_slowdown": hot, "warm_up_ns": 3000.0}
    chip = replace(TRN2, **{name: replace(getattr(TRN2, name), value=value) for name, value in settings.items()})
    each = (128 + 7) / 2.4
    (_, trace) = traces[-1]
    runs = [by_the_clock(126, each, 3000 * left, chip) for left in EVENLY]
    model = Observation("", 0, 1, (trace,), at_random=True)
    steady = model.predicted({**settings, "warm_up_ns": 0})
    assert model.predicted(settings) - steady == pytest.approx(np.median(runs) - 126 * each, abs=each)
    assert np.ptp(runs) == pytest.approx(3000 * abs(1 - hot / cold), abs=2 * each)


@pytest.mark.parametrize("window", [2800.0, 3413.3, 4200.0])
def test_windows_of_any_length_are_found(window: float) -> None:
    there = pairs(document(StandIn(settings={"warm_up_ns": window}), "clock"))
    found = fit(observed(there, WINDOWS, "trn2"), ["warm_up_ns"], {"warm_up_ns": 3413.3}, {})
    assert found.values["warm_up_ns"] == pytest.approx(window, rel=0.03)
    assert abs(found.values["warm_up_ns"] / window - 1) < 3 * found.errors["warm_up_ns"]


def test_what_the_probes_took_is_said_again_by_the_same_median() -> None:
    found = calibrate(document(StandIn(settings={"warm_up_ns": 4000.0}), "clock"))
    clock = {check.label: check for check in found.checks}["probe_clock 128 columns"]
    assert clock.after == pytest.approx(clock.measured, rel=0.02) and abs(clock.before / clock.measured - 1) > 0.03


def test_a_run_whose_clock_never_changes_knows_no_window() -> None:
    (cold,) = [one for one in pairs(document(StandIn(), "clock")) if one.name == "cold"]
    assert observed([cold], WINDOWS, "trn2") == []
    trace = trace_of(cold, min(cold.timings), "trn2")
    model = Observation("", 0, 1, (trace,), at_random=True)
    assert model.predicted({"warm_up_ns": 3000.0}) == model.predicted({"warm_up_ns": 4000.0})
