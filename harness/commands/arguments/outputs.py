"""Where the results of a command go: files, and stdout as `-`."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TextIO

from triptych.harness import files
from triptych.harness.errors import UsageError

WATCHED = "triptych-watch-"  # begins the name of the folder in which `--watch` keeps results between its runs


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files that a command line asks for, None where it asks for none."""

    json: str | None = None
    csv: str | None = None
    md: str | None = None
    html: str | None = None
    trace: str | None = None
    resume: str | None = None  # kept as results come
    quiet: bool = False
    label: str | None = None  # what the user calls this machine

    @classmethod
    def from_arguments(cls, arguments: Namespace) -> Outputs:
        """Those of a command line, whose options are called as the fields are."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)})

    @property
    def _once(self) -> dict[str, str]:
        """The paths of what is written once, at the end, by their options."""
        paths = {"json": self.json, "csv": self.csv, "md": self.md, "html": self.html, "trace": self.trace}
        return {f"--{name}": path for name, path in paths.items() if path}

    def check(self) -> None:
        """UsageError unless every file can be written and stdout takes one document, before anything runs."""
        if self.resume == "-":
            raise UsageError("--resume takes a file: what was printed cannot be continued.")
        stdout = [option for option, path in self._once.items() if path == "-"]
        if len(stdout) > 1:
            raise UsageError(f"stdout takes one document: only one of {' and '.join(stdout)} can be `-`.")
        for path in (self.resume, *self._once.values()):
            if path:
                files.check_writable(path)

    @property
    def watched(self) -> bool:
        """Whether results are kept for `--watch` alone, so that there is nothing to say of the file."""
        return self.resume is not None and Path(self.resume).parent.name.startswith(WATCHED)

    @property
    def stdout_taken(self) -> bool:
        """Whether stdout is for one document and nothing else."""
        return "-" in self._once.values()

    @property
    def stream(self) -> TextIO:
        """Where people read: stdout unless that is taken."""
        return sys.stderr if self.stdout_taken else sys.stdout
