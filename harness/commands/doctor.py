"""`triptych doctor`: which backends are here, why the others are not, and what to trust."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.emulators import conformance
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import tables
from triptych.harness.results import environment


def run(arguments: Namespace) -> int:
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
    for backend in BACKENDS.values():
        if backend.emulates:
            print(f"\n{backend.emulates}")
            print(indented(emulator(backend)))
    print("\nMachine and versions")
    print(indented(machine(environment.record())))
    return ExitCode.OK


def paint(word: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{word}\x1b[0m" if colour else word


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def emulator(backend: Backend) -> str:
    """The table of an emulator's self-test, or why there is none."""
    tested = backend.selftest()
    if not isinstance(tested, conformance.Tested):
        return tested or "emulates nothing"
    note = "corrected: wrong in Triton's own interpreter, right in ours"
    return conformance.table(tested) + (f"\n{note}" if tested.corrected else "")


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
