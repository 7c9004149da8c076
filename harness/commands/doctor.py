"""`triptych doctor`: which backends are here, why the others are not, and what to trust."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from triptych.harness import extras
from triptych.harness.backends import BACKENDS, Backend
from triptych.harness.backends.neuron import parts
from triptych.harness.emulators import conformance
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports import emulator_table
from triptych.harness.reports.terminal import paint, wants_colour
from triptych.harness.reports.text_table import text_table
from triptych.harness.results import environment
from triptych.simulator.compiled.in_place import IS_COMPILED

COMPILED = {
    True: "slices and instructions in C",
    False: "all in Python: there was no C compiler when it was installed, or TRIPTYCH_COMPILED=0",
}


def run(arguments: Namespace) -> int:
    """Print it all; a missing backend is no failure."""
    print("Backends")
    print(indented(backends(wants_colour(sys.stdout))))
    for backend in BACKENDS.values():
        if backend.emulates:
            print(f"\n{backend.emulates}")
            print(indented(emulator(backend)))
    print("\nA Neuron instance, part by part")
    print(indented(neuron(parts.parts())))
    print("\nExtras")
    print(indented(installed()))
    print("\nMachine and versions")
    print(indented(machine(environment.record())))
    return ExitCode.OK


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def backends(colour: bool) -> str:
    """A line for each backend: whether it is here, and what it offers or why it is missing."""
    reasons = {backend.name: backend.missing() for backend in BACKENDS.values()}
    rows = [
        [name, "missing" if reason else "available", reason or offer(BACKENDS[name])]
        for name, reason in reasons.items()
    ]
    lines = text_table(rows)
    for i, (_, word, _) in enumerate(rows):
        lines[i] = lines[i].replace(word, paint(word, "green" if word == "available" else "yellow", colour), 1)
    return "\n".join(lines)


def neuron(some: Sequence[parts.Part]) -> str:
    """What `nki` consists of: which part is here, what each other one is needed for, and what to do first."""
    rows = [[part.name, "here" if part.found else "missing", part.words] for part in some]
    step = parts.first_missing(some)
    return "\n".join([*text_table(rows), *([f"next step: {step}"] if step else [])])


def installed() -> str:
    """A line for each extra: whether all of it is here, and what is missing or broken; imports it."""
    rows = []
    for extra, modules in extras.EXTRAS.items():
        wrong = extras.lacking(extra)
        state = "broken" if any(one.broken for one in wrong) else "missing" if wrong else "here"
        here = ", ".join(extras.NAMES.get(module, module) for module in modules)
        rows.append([extra, state, "; ".join(map(str, wrong)) or here])
    absent = [part for part in (parts.nki(), parts.compiler()) if not part.found]
    rows.append(
        ["neuron", "missing" if absent else "here", "; ".join(part.wrong for part in absent) or "nki, neuronx-cc"]
    )
    return "\n".join(text_table(rows))


def offer(backend: Backend) -> str:
    """What a backend says of a kernel, and for which chips."""
    targets = f"targets {', '.join(backend.targets)} (default {', '.join(backend.default_targets)})"
    return "; ".join([f"evidence: {backend.evidence}", *([targets] if backend.targets else [])])


def emulator(backend: Backend) -> str:
    """The table of an emulator's self-test, or why there is none."""
    tested = backend.selftest()
    if not isinstance(tested, conformance.Tested):
        return tested or "emulates nothing"
    return emulator_table.text(tested)


def machine(env: dict[str, Any]) -> str:
    """The environment record, one fact a line."""
    packages = env.pop("packages")
    git = env.pop("git")
    gpus = env.pop("gpus")
    facts = {key: value for key, value in env.items() if key != "utc"}
    facts["git"] = f"{git['sha']}{' with local changes' if git['dirty'] else ''}" if git else "not a checkout"
    facts["simulator"] = COMPILED[IS_COMPILED]
    facts["gpus"] = "; ".join(f"{gpu['name']}, driver {gpu['driver']}" for gpu in gpus) or "none"
    facts.update({name: version or "not installed" for name, version in packages.items()})
    for key, value in facts.items():
        if isinstance(value, dict):
            facts[key] = ", ".join(f"{name}={setting}" for name, setting in value.items()) or "not set"
    return "\n".join(text_table([[key, str(value)] for key, value in facts.items()]))
