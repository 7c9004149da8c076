"""The simulator beside a device, as text: is it right, how far off are its times, which constants would be better."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from triptych.harness.calibration.calibrate import Calibration
from triptych.harness.calibration.groups import EXACT
from triptych.harness.calibration.observations import DEVICE
from triptych.harness.reports.text_table import text_table
from triptych.harness.results.profile import Outcome
from triptych.harness.results.result import Result
from triptych.harness.results.status import Status
from triptych.harness.results.timing import Measured, Predicted

SIMULATOR = "nki-sim"


def comparison(results: Sequence[Outcome]) -> str:
    """Each case of the device beside the simulator's: verdict, share of equal bits, distance, both times."""
    rows = [["op", "case", "dtype", "device", "same bits", "apart", "measured", "predicted", "off by"]]
    errors, claims = [], []
    ours = {(r.op, r.case, r.dtype): r for r in results if isinstance(r, Result) and r.backend == SIMULATOR}
    for theirs in results:
        if not isinstance(theirs, Result) or theirs.backend != DEVICE:
            continue
        mine = ours.get((theirs.op, theirs.case, theirs.dtype))
        label = mine.backend_label if mine else ""
        parity = theirs.parity.get(label)
        bits, apart = (f"{parity.identical:.2%}", f"{parity.share:.3g}") if parity else ("-", "-")
        if theirs.op in EXACT and theirs.status is not Status.SKIPPED:
            equal = parity is not None and parity.identical == 1
            claims.append((equal, f"{theirs.op} {theirs.case}: {EXACT[theirs.op]}"))
        times = ["-", "-", "-"]
        if isinstance(theirs.timing, Measured) and mine and isinstance(mine.timing, Predicted):
            error = mine.timing.predicted_us / theirs.timing.median_us - 1
            errors.append(error)
            times = [f"{theirs.timing.median_us:.2f} us", f"{mine.timing.predicted_us:.2f} us", f"{error:+.1%}"]
        rows.append([theirs.op, theirs.case, theirs.dtype, str(theirs.status), bits, apart, *times])
    lines = text_table(rows, right={4, 5, 6, 7, 8}, rule=True)
    lines.append("\napart: 1 is as far as two kernels can be that are both right")
    if errors:
        lines.append(
            f"times: {len(errors)} measured; the prediction is off by {statistics.median(map(abs, errors)):.1%} in the "
            f"median, with a bias of {statistics.median(errors):+.1%}"
        )
    lines += claimed(claims)
    return "\n".join(lines) + "\n"


def plain(value: float) -> str:
    """Four digits, and no exponent."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def claimed(claims: Iterable[tuple[bool, str]]) -> list[str]:
    """Where every bit is claimed: how often that held, and each place where it did not."""
    claims = list(claims)
    broken = [what for equal, what in claims if not equal]
    if not claims:
        return ["bits: none is claimed of what ran"]
    return [
        f"bits: all are equal in {len(claims) - len(broken)} of {len(claims)} cases in which we claim it",
        *(f"  NOT EQUAL: {what}" for what in broken),
    ]


def calibration(found: Calibration) -> str:
    """The constants, the probes before and after, and the whole kernels that nothing was fitted to."""
    rows = [["constant", "before", "after", "", ""]]
    for one in found.constants:
        if one.after is None:
            rows.append([one.field, plain(one.before), "-", one.unit, one.why_not])
        else:
            rows.append(
                [one.field, plain(one.before), plain(one.after), one.unit, f"± {max(one.error or 0, 1e-3):.1%}"]
            )
    lines = [f"{found.chip} ({found.target})", "", *text_table(rows, right={1, 2}, rule=True), ""]
    rows = [["", "measured", "before", "off by", "after", "off by"]]
    for check in found.checks:
        before, after = (f"{us / check.measured - 1:+.1%}" for us in (check.before, check.after))
        rows.append(
            [check.label, f"{check.measured:.4g} us", f"{check.before:.4g}", before, f"{check.after:.4g}", after]
        )
    lines += text_table(rows, right={1, 2, 3, 4, 5}, rule=True)
    for fitted, what in (
        (True, "probes, as many as constants in most groups, and fitted to"),
        (False, "whole kernels, which they were not"),
    ):
        errors = found.errors(fitted)
        words = (
            f"off by {errors[0]:.1%} before and {errors[1]:.1%} after, in the median" if errors else "none was timed"
        )
        lines += ["", f"{what}: {words}"] if fitted else [f"{what}: {words}"]
    lines += [f"not predicted: {what}" for what in found.unpredicted]
    return "\n".join(lines) + "\n"
