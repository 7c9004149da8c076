"""`triptych kernel OP`: one kernel of ours as a file that runs without this project, checked before it is written.

The file imports `nki`, or `triton`, and what Python and NumPy have. Its head says what it is, under which licence,
where it is from, at which sizes it agreed with the reference when it was written, and how to check it again.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from triptych import __version__
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import split_kernel
from triptych.harness.collection import builtin
from triptych.harness.emulators import version_support
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.files import OutputError
from triptych.harness.nki_versions import VERSIONS
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.result import Result
from triptych.harness.testing.api import check
from triptych.harness.testing.results import Results

GPUS = ("sm_80", "sm_90", "sm_100", "gfx942")  # of `emulators.devices`, which imports Triton
SETS = "smoke,adversarial-short"
NEEDS = {"nki": ("nki",), "triton": ("triton",)}  # of a panel, beside NumPy and Python's own library
WIDTH = 120


@dataclass(frozen=True)
class Wanted:
    """A kernel of an op, for one chip."""

    op: Op
    panel: str  # "nki" or "triton"
    target: str

    @property
    def backend(self) -> str:
        """Who runs it here."""
        return "nki-sim" if self.panel == "nki" else "triton-cpu"

    @property
    def place(self) -> tuple[Path, str]:
        """Its file and its name there."""
        return split_kernel(self.op.nki if self.panel == "nki" else self.op.triton)

    def of_file(self, path: Path) -> Wanted:
        """The kernel of the same name in another file."""
        kernel = f"{path.resolve()}:{self.place[1]}"
        op = replace(self.op, nki=kernel) if self.panel == "nki" else replace(self.op, triton=kernel)
        return replace(self, op=op)


def run(arguments: Namespace) -> int:
    """Check the kernel, and write it or print it; with --verify check the kernel of a file instead."""
    wanted = chosen(arguments.op, arguments.target)
    if arguments.verify:
        return verify(wanted, Path(arguments.verify))
    source = wanted.place[0].read_text(encoding="utf-8")
    check_alone(source, wanted)
    target = Path(arguments.to) if arguments.to else None
    if target is not None and (target.exists() or not target.parent.is_dir()):
        why = "is there already" if target.exists() else "is in a folder that is not there"
        raise UsageError(f"{target} {why}; -o names a file that is to be made.")
    results = checked(wanted)
    if not results.ok:
        print(results, file=sys.stderr)
        print("triptych: nothing was written: the kernel does not agree", file=sys.stderr)
        return ExitCode.MISMATCH
    text = f"{head(wanted, source, results.passed, target)}{source}"
    if target is None:
        print(text, end="")
        return ExitCode.OK
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}.") from error
    print(f"{target}: {wanted.op.name} for {wanted.target}, {len(results.passed)} cases agree")
    print(f"\n    {command(wanted, target)}")
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


def check_alone(source: str, wanted: Wanted) -> None:
    """UsageError if the file needs others than its language, NumPy and Python's library."""
    allowed = {"numpy", *NEEDS[wanted.panel], *sys.stdlib_module_names}
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    others = sorted({name for name in names if name.partition(".")[0] not in allowed})
    if others:
        raise UsageError(f"the kernel of {wanted.op.name} is no single file: it imports {', '.join(others)}.")


def checked(wanted: Wanted) -> Results:
    """The kernel's cases, run here."""
    targets = wanted.target if wanted.panel == "nki" else ()
    return check(wanted.op, backends=wanted.backend, targets=targets, cases=SETS, isolated=False)


def verify(wanted: Wanted, path: Path) -> int:
    """Check the kernel of the same name that stands in a file."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file; --verify names one that `triptych kernel` has written.")
    results = checked(wanted.of_file(path))
    print(results)
    return ExitCode.OK if results.ok else ExitCode.MISMATCH


def head(wanted: Wanted, source: str, passed: Sequence[Result], target: Path | None) -> str:
    """The comment before the file's own words."""
    path, function = wanted.place
    git = environment.git()
    commit = f", commit {git['sha'][:12]}{' with local changes' if git['dirty'] else ''}" if git else ""
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    language = f"NKI {VERSIONS[0]}" if wanted.panel == "nki" else "Triton"
    lines = [
        "SPDX-License-Identifier: Apache-2.0",
        'Licensed under the Apache License, Version 2.0, on an "AS IS" basis, without warranties or conditions.',
        "",
        f"{function}: {wanted.op.summary}",
        f"From Triptych {__version__}{commit}: kernels/{wanted.panel}/{path.name} (sha256 {digest}..), for {language}.",
        f"It imports {wanted.panel}, and of Triptych nothing.",
        "",
        f"Agrees with the reference in float64 on {passed[0].backend_label} at these cases of `triptych list "
        f"{wanted.op.name}`:",
        *cases(passed),
        "Check it again:",
        f"    {command(wanted, target)}",
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"


def cases(passed: Sequence[Result]) -> list[str]:
    """The cases by dtype, as many on a line as fit."""
    lines = []
    for dtype in dict.fromkeys(result.dtype for result in passed):
        line = f"    {dtype}:"
        for name in (result.case for result in passed if result.dtype == dtype):
            if len(line) + len(name) + 4 > WIDTH:
                lines.append(line)
                line = "       "
            line += f" {name}"
        lines.append(line)
    return lines


def command(wanted: Wanted, target: Path | None) -> str:
    return f"triptych kernel {wanted.op.name} --target {wanted.target} --verify {target.name if target else 'FILE'}"
