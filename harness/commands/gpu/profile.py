"""`triptych profile --backend triton`: what a compiler and a data sheet say of Triton kernels, and no GPU is needed."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from triptych.harness import files
from triptych.harness.commands.gpu.compile import asked, selection
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.profiling.subjects import sizes_once
from triptych.harness.reports.formats import printable
from triptych.harness.reports.profile import on_gpu as reported
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results.document import SCHEMA_VERSION

if TYPE_CHECKING:
    from triptych.harness.profiling.on_gpu import GpuProfile

# Options of the simulator's profile, by the name that they are parsed to.
SIMULATED = {
    "trace": "--trace",
    "html": "--html",
    "settings": "--set",
    "args": "--arg",
    "no_data": "--no-data",
    "watch": "--watch",
    "label": "--label",
}


def run(arguments: Namespace) -> int:
    """The text on stdout, or the document; exit code 1 if a kernel does not compile or has a fault."""
    for name, option in SIMULATED.items():
        if getattr(arguments, name):
            raise UsageError(f"{option} is of a kernel that the simulator runs; one of Triton is compiled alone.")
    ops, targets = asked(arguments)
    from triptych.harness.profiling.on_gpu import profiled

    cases = [(op, case) for op in ops for _, case in sizes_once(op, selection(arguments, ops))]
    found: list[GpuProfile] = []
    line = StatusLine(sys.stderr)
    try:
        for i, (op, case) in enumerate(cases):
            line.say(printable(f"[{i + 1}/{len(cases)}] {op.name} {case.name} {case.dtype} {', '.join(targets)}"))
            found.append(profiled(op, case, targets))
    finally:
        line.clear()
    publish(arguments, found)
    if any(profile.faults for profile in found):
        return ExitCode.MISMATCH
    if any(profile.launches for profile in found):
        return ExitCode.OK
    print("triptych: nothing was compiled: no selected op has a Triton kernel that takes the case", file=sys.stderr)
    return ExitCode.NOTHING_RAN


def publish(arguments: Namespace, found: Sequence[GpuProfile]) -> None:
    if arguments.json:
        body = {"schema_version": SCHEMA_VERSION, "profiled": [profile.to_dict() for profile in found]}
        files.write(arguments.json, json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    if arguments.json != "-":
        print(reported.text(found), end="")
