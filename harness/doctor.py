"""`triptych doctor`: which backends are here, why the others are not, and what to trust."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

from triptych.harness import environment, tables
from triptych.harness.backends import BACKENDS


def doctor() -> int:
    """Print it all; a missing backend is no failure."""
    colour = tables.wants_colour(sys.stdout)
    print("Backends")
    for backend in BACKENDS.values():
        reason = backend.missing()
        word = paint("available", "32", colour) if reason is None else paint("missing", "33", colour)
        padding = " " * (10 - len("missing" if reason else "available"))
        targets = f"targets {', '.join(backend.targets)} (default {', '.join(backend.default_targets)})"
        facts = reason or "; ".join([f"evidence: {backend.evidence}", *([targets] if backend.targets else [])])
        print(f"  {backend.name:<11} {word}{padding} {facts}")
    print("\nTriton's interpreter, operation by operation")
    print(indented(conformance()))
    print("\nMachine and versions")
    print(indented(machine(environment.record())))
    return 0


def paint(word: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{word}\x1b[0m" if colour else word


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def conformance() -> str:
    """A row for each operation, a column for each dtype: right, or wrong without the correction, or wrong."""
    from triptych.harness import emulation

    reason = BACKENDS["triton-cpu"].missing() or emulation.version_support()
    if reason:
        return reason
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for row in emulation.conformance():
        words = {(True, True): "right", (True, False): "corrected"}
        word = words.get((bool(row["corrected_ok"]), bool(row["uncorrected_ok"])), "WRONG")
        table[row["operation"]][row["dtype"]] = word
    dtypes = list(dict.fromkeys(dtype for cells in table.values() for dtype in cells))
    width = max(len(operation) for operation in table)
    head = "  ".join(["operation".ljust(width), *(dtype.ljust(9) for dtype in dtypes)])
    rows = (
        "  ".join([operation.ljust(width), *(cells.get(d, "-").ljust(9) for d in dtypes)])
        for operation, cells in table.items()
    )
    note = "corrected: wrong in Triton's own interpreter, right in ours"
    return "\n".join(line.rstrip() for line in (head, *rows, note))


def machine(env: dict[str, Any]) -> str:
    """The environment record, one fact a line."""
    packages = env.pop("packages")
    git = env.pop("git")
    gpus = env.pop("gpus")
    facts = {key: value for key, value in env.items() if key != "utc"}
    facts["git"] = f"{git['sha']}{' with local changes' if git['dirty'] else ''}" if git else "not a checkout"
    facts["gpus"] = "; ".join(f"{gpu['name']}, driver {gpu['driver']}" for gpu in gpus) or "none"
    facts.update({name: version or "not installed" for name, version in packages.items()})
    for key, value in facts.items():
        if isinstance(value, dict):
            facts[key] = ", ".join(f"{name}={setting}" for name, setting in value.items()) or "not set"
    width = max(map(len, facts))
    return "\n".join(f"{key.ljust(width)}  {value}" for key, value in facts.items())
