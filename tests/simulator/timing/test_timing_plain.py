"""Schedules of programs drawn at random are those of a model that is as plain as the rules."""

from __future__ import annotations

import pytest
from plainly.chip import plain
from plainly.programs import drawn

from triptych.simulator import KernelError
from triptych.simulator.timing import schedule


@pytest.mark.parametrize("order", ["program", "overlapped"])
@pytest.mark.parametrize("seed", range(8))
def test_every_span_is_where_the_plain_model_has_it(seed: int, order: str) -> None:
    for trace in map(drawn, range(12 * seed, 12 * seed + 12)):
        expected = plain(trace, order)
        if expected is None:
            with pytest.raises(KernelError, match="can never run"):
                schedule(trace, order)
            continue
        for event, span, other in zip(trace.events, schedule(trace, order).spans, expected, strict=True):
            found = {"start": span.start_ns, "free": span.free_ns, "end": span.end_ns}
            assert found == pytest.approx({key: other[key] for key in found}), event
            assert (span.after, span.why) == (other["after"], other["why"]), event
            assert (span.track, span.issue) == (other["track"], other["issue"]), event
