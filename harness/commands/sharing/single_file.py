"""One kernel of ours as a file that runs without this project, checked before anybody gets it.

The file imports `nki`, or `triton`, and what Python and NumPy have. Its head says what it is, under which licence,
where it is from, at which sizes it agreed with the reference when it was written, and how to check it again.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from triptych import __version__
from triptych.harness.backends.base import split_kernel
from triptych.harness.errors import UsageError
from triptych.harness.nki_versions import VERSIONS
from triptych.harness.ops.op import Op
from triptych.harness.results import environment
from triptych.harness.results.result import Result
from triptych.harness.testing.api import check
from triptych.harness.testing.results import Results

SETS = ("smoke", "adversarial-short")
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

    def at(self, path: Path, function: str = "") -> Wanted:
        """The kernel of the same name, or of another one, in another file."""
        kernel = f"{path.resolve()}:{function or self.place[1]}"
        op = replace(self.op, nki=kernel) if self.panel == "nki" else replace(self.op, triton=kernel)
        return replace(self, op=op)

    def source(self) -> str:
        """The text of its file. UsageError if the file needs others than its language, NumPy and Python's library."""
        source = self.place[0].read_text(encoding="utf-8")
        allowed = {"numpy", *NEEDS[self.panel], *sys.stdlib_module_names}
        others = [name for name in imported(source) if name.partition(".")[0] not in allowed]
        if others:
            raise UsageError(f"the kernel of {self.op.name} is no single file: it imports {', '.join(others)}.")
        return source


def imported(source: str) -> list[str]:
    """What a file imports, in alphabetical order."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return sorted(names)


def checked(wanted: Wanted) -> Results:
    """The kernel's cases, run here."""
    targets = wanted.target if wanted.panel == "nki" else ()
    return check(wanted.op, backends=wanted.backend, targets=targets, cases=SETS, isolated=False)


def text(wanted: Wanted, passed: Sequence[Result], command: str) -> str:
    """The file: its head, with the cases that passed and the command that checks it again, and the kernel's own."""
    source = wanted.source()
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
        f"    {command}",
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + f"\n{source}"


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
