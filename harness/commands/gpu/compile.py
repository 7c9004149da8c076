"""`triptych compile`: Triton kernels built ahead of time for GPUs that are not here, and what each costs there."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from triptych.harness import files
from triptych.harness.backends.triton_launcher import NO_TRITON
from triptych.harness.collection import load_ops
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection, check_axes, dtypes_of, pick, pick_ops, sets_of
from triptych.harness.reports.formats import printable
from triptych.harness.reports.profile.compiled import table
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results.document import SCHEMA_VERSION

if TYPE_CHECKING:
    from triptych.harness.profiling.ahead_of_time import Compilation


def run(arguments: Namespace) -> int:
    """A table on stdout, what is wrong below it; exit code 1 if anything is."""
    ops, targets = asked(arguments)
    from triptych.harness.profiling.ahead_of_time import compilations

    line, found = StatusLine(sys.stderr), []
    try:
        for one in compilations(ops, selection(arguments, ops), targets):
            found.append(one)
            line.say(f"[{len(found)}] {one.op} {one.cases[0]} {one.dtype} {one.target}")
    finally:
        line.clear()
    if arguments.json:
        files.write(arguments.json, document(found))
    if not found:
        print("triptych: nothing was compiled: no selected op has a Triton kernel that takes the case", file=sys.stderr)
        return ExitCode.NOTHING_RAN
    taken = arguments.json == "-"
    stream = sys.stderr if taken else sys.stdout
    if not taken:
        print("\n".join(table(found)), end="\n\n")
    wrong = [one for one in found if one.fault]
    for one in wrong:
        kernel = f" {one.kernel.kernel}" if one.kernel else ""
        kernel += f" (row {one.row})" if one.row else ""
        print(printable(f"{one.op} {one.cases[0]} {one.dtype} on {one.target}:{kernel} {one.fault}"), file=stream)
    print(f"{len(found) - len(wrong)} of {len(found)} kernels compile and fit their GPU", file=stream)
    return ExitCode.MISMATCH if wrong else ExitCode.OK


def asked(arguments: Namespace) -> tuple[list[Op], list[str]]:
    """The ops that have a Triton kernel, and the GPUs to compile for; UsageError for what cannot be done."""
    if find_spec("triton") is None:
        raise UsageError(f"{NO_TRITON}: nothing here can compile.")
    from triptych.harness.emulators.compilation import TARGETS

    targets = list(dict.fromkeys(arguments.targets)) or list(TARGETS)
    for target in targets:
        if target not in TARGETS:
            raise unknown("target", target, TARGETS)
    if arguments.json:
        files.check_writable(arguments.json)
    ops = [op for op in pick_ops(arguments.ops, load_ops(arguments.sources)).values() if op.triton is not None]
    return ops, targets


def selection(arguments: Namespace, ops: Sequence[Op]) -> Selection:
    """The cases that the command line means: those of real models, unless it says others."""
    sets = sets_of(ops)
    check_axes(arguments.axes, {op.name: op for op in ops})
    usual = "smoke" if arguments.axes else "model"
    return Selection(
        sets=pick("case set", arguments.sets, sets) or ([usual] if usual in sets else sets),
        names=arguments.names,
        dtypes=pick("dtype", arguments.dtypes, dtypes_of(ops)),
        axes=arguments.axes,
    )


def document(found: Sequence[Compilation]) -> str:
    body = {"schema_version": SCHEMA_VERSION, "compiled": [one.to_dict() for one in found]}
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
