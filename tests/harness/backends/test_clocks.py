"""What the clocks of backends return; no time is asserted."""

from triptych.harness.backends import clocks
from triptych.harness.results.status import Evidence


def test_summary_keeps_samples_and_orders_its_statistics():
    summary = clocks.summary([5.0, 1.0, 3.0, 2.0, 4.0], 2, Evidence.HOST, timer="t", cache="warm")
    assert summary.samples_us == [5.0, 1.0, 3.0, 2.0, 4.0]
    assert (summary.min_us, summary.median_us, summary.max_us) == (1.0, 3.0, 5.0)
    assert summary.min_us <= summary.p10_us <= summary.median_us <= summary.p90_us <= summary.max_us
    assert summary.evidence == "host" and summary.warmups == 2


def test_one_sample_has_no_spread():
    summary = clocks.summary([7.0], 1, Evidence.DEVICE, timer="t", cache="warm")
    assert {getattr(summary, key) for key in ("p10_us", "median_us", "p90_us")} == {7.0}


def test_sampling_stops_at_the_budget_but_not_before_the_fewest():
    calls = []
    budget = clocks.TimingBudget(warmup_seconds=0, seconds=0, fewest=4)
    result = clocks.time_host(lambda: calls.append(1), budget, Evidence.HOST)
    assert len(result.samples_us) == 4 and len(calls) == 4 + result.warmups
    most = clocks.TimingBudget(warmup_seconds=0, seconds=60, fewest=1, most=6)
    assert len(clocks.time_host(lambda: None, most, Evidence.HOST).samples_us) == 6


def test_the_first_the_last_and_some_calls_between_are_looked_at():
    calls, seen = [], []

    def call():
        calls.append(1)
        return len(calls)

    budget = clocks.TimingBudget(warmup_seconds=0, seconds=60, fewest=1, most=11, look=seen.append)
    clocks.time_host(call, budget, Evidence.HOST)
    assert seen == [1, 2, 4, 8, 11]
