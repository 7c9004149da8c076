"""`triptych kernel OP`: a kernel of ours for those who do not have this project, checked before it is written."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from triptych.harness import files
from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.commands.sharing import single_file
from triptych.harness.commands.sharing.single_file import Wanted
from triptych.harness.emulators import version_support
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode

GPUS = ("sm_80", "sm_90", "sm_100", "gfx942")  # of `emulators.devices`, which imports Triton


def run(arguments: Namespace) -> int:
    """Check the kernel, and write it or print it; with --verify check the kernel of a file instead."""
    wanted = chosen(arguments.op, arguments.target)
    if arguments.verify:
        return verify(wanted, Path(arguments.verify))
    wanted.source()  # before minutes of checking
    target = files.to_be_made(arguments.to, "-o names a file") if arguments.to else None
    results = single_file.checked(wanted)
    if not results.ok:
        print(results, file=sys.stderr)
        print("triptych: nothing was written: the kernel does not agree", file=sys.stderr)
        return ExitCode.MISMATCH
    command = f"triptych kernel {wanted.op.name} --target {wanted.target} --verify {target.name if target else 'FILE'}"
    text = single_file.text(wanted, results.passed, command)
    if target is None:
        print(text, end="")
        return ExitCode.OK
    files.write(str(target), text)
    print(f"{target}: {wanted.op.name} for {wanted.target}, {len(results.passed)} cases agree")
    print(f"\n    {command}")
    return ExitCode.OK


def chosen(name: str, target: str) -> Wanted:
    """The op's kernel for a chip. UsageError if there is no such op, chip or kernel."""
    ops = builtin()
    if name not in ops:
        raise unknown("op", name, ops)
    neuron = BACKENDS["nki-sim"].targets
    if target not in (*neuron, *GPUS):
        raise unknown("target", target, (*neuron, *GPUS))
    panel = "triton" if target in GPUS else "nki"
    if (ops[name].triton if panel == "triton" else ops[name].nki) is None:
        raise UsageError(f"{name} has no {'Triton' if panel == 'triton' else 'NKI'} kernel, which {target} needs.")
    if panel == "triton" and version_support() is not None:
        raise UsageError(f"the kernel cannot be checked here: {version_support()}.")
    return Wanted(ops[name], panel, target)


def verify(wanted: Wanted, path: Path) -> int:
    """Check the kernel of the same name that stands in a file."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file; --verify names one that `triptych kernel` has written.")
    results = single_file.checked(wanted.at(path))
    print(results)
    return ExitCode.OK if results.ok else ExitCode.MISMATCH
