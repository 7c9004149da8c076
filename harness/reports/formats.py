"""Numbers and values as the reports write them."""

from __future__ import annotations

import math
from typing import Any


def short(value: float | None, digits: int = 3) -> str:
    """Two to three significant digits and no exponent where it can be read without one."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def percent(share: float) -> str:
    """`0.0971` as "9.7 %"."""
    return f"{100 * share:.1f} %"


def us(value: float) -> str:
    """Microseconds, without their unit."""
    return f"{value:,.1f}"


def scaled(value: float, unit: str) -> str:
    """`1.72e10` FLOP as "17.2 GFLOP"."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{short(value / factor)} {prefix}{unit}"
    return f"{short(value)} {unit}"


def kib(count: float) -> str:
    """Bytes as "224 KiB"."""
    return f"{short(count / 1024)} KiB"


def thousands(count: int) -> str:
    """`12345` as "12,345"."""
    return f"{count:,}"


def plural(count: int, one: str) -> str:
    """`3`, "case" as "3 cases"."""
    return f"{count:,} {one if count == 1 else one + 's'}"


def one_line(text: str) -> str:
    """`text` on one line; an error message may hold escape sequences."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """`text` without what a terminal would obey: a name from a file or a document may hold control codes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def flatten(value: Any) -> str:
    """A value of the environment record as words."""
    if value is None or value == {} or value == []:
        return "none"
    if isinstance(value, dict):
        between = "; " if any(isinstance(item, dict) for item in value.values()) else ", "
        return between.join(
            f"{key} {'not installed' if item is None else flatten(item)}" for key, item in value.items()
        )
    if isinstance(value, list):
        return "; ".join(flatten(item) for item in value)
    return str(value)
