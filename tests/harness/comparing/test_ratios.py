"""Intervals: nothing is found where nothing is, 5 % is found where the clock allows, drift widens."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.harness.comparing.gate import limits
from triptych.harness.comparing.ratios import of_samples, of_times
from triptych.harness.errors import UsageError


def rounds(rng: np.random.Generator, centres: list[float], spread: float = 0.01) -> list[list[float]]:
    return [list(rng.normal(centre, spread * centre, 100)) for centre in centres]


def test_a_kernel_does_not_differ_from_itself() -> None:
    rng = np.random.default_rng(0)
    found = [of_samples(rounds(rng, [10.0] * 3), rounds(rng, [10.0] * 3), seed) for seed in range(40)]
    assert sum(ratio.significant for ratio in found) <= 6 and all(0.98 < ratio.value < 1.02 for ratio in found)


def test_five_percent_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    found = [of_samples(rounds(rng, [10.0] * 3), rounds(rng, [10.5] * 3), seed) for seed in range(10)]
    assert all(ratio.low > 1.03 and ratio.high < 1.07 for ratio in found)


def test_what_differs_from_round_to_round_is_in_the_interval() -> None:
    rng = np.random.default_rng(2)
    ratio = of_samples(rounds(rng, [10.0, 12.0, 10.0]), rounds(rng, [11.5, 10.0, 12.5]))
    assert not ratio.significant and ratio.low < 1 < ratio.high


def test_samples_that_drift_are_no_independent_draws() -> None:
    drift = [10 + 0.01 * i for i in range(100)]
    width = [r.high - r.low for r in (of_samples([drift], [drift]), of_samples([drift[::7] * 7], [drift[::7] * 7]))]
    assert width[0] > 1.5 * width[1]


def test_few_samples_tell_no_interval_and_predictions_have_none() -> None:
    few = of_samples([[1.0, 1.0]], [[2.0, 2.0, 2.0, 2.0, 2.0]])
    assert not few.known and not few.significant and few.value == 2
    assert of_times(100.0, 105.0).exact and of_times(100.0, 105.0).significant and not of_times(1, 1).significant


@pytest.mark.parametrize("text", ["", "predicted", "predicted:2", "mean:2%", "predicted:-2%", "median:x%"])
def test_a_limit_that_is_none_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="limit"):
        limits(text)


def test_limits_are_shares() -> None:
    assert limits("predicted:2%, median: 5.5 %") == {"predicted": 0.02, "median": 0.055}
