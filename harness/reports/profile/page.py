"""The profile as one HTML file without a network: what it says, the timeline to zoom into, memory over time."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.harness.reports.html import render
from triptych.harness.reports.profile.drawing import drawing
from triptych.harness.reports.profile.figures import facts, figures_table, headline, stall_cause, what_if
from triptych.harness.results.profile import Profile
from triptych.simulator.timing import Prediction


def page(profiles: Sequence[Profile], predictions: Sequence[Prediction]) -> str:
    """The predictions of one case, one above the other on one axis of time.

    Parameters:
        predictions: the timeline of each profile.
    """
    drawn = drawing([profile.label for profile in profiles], predictions)
    return render(
        "profile/page.html",
        title=headline(profiles[0]),
        chips=list(dict.fromkeys(f"{p.target} ({p.predicted.chip})" for p in profiles)),
        profiles=profiles,
        facts=facts(profiles[0].predicted),
        table=figures_table(profiles, profiles),
        what_if=what_if(profiles),
        stall_cause=stall_cause,
        drawing=drawn,
        events=sum(len(run["op"]) for run in drawn["runs"]),
    )
