"""`triptych lint`: what the compiler of NKI would reject, found without running anything."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from triptych import simulator
from triptych.harness import files
from triptych.harness.errors import UsageError, unknown
from triptych.harness.exit_codes import ExitCode
from triptych.harness.ops.loading import split_function
from triptych.harness.results.document import SCHEMA_VERSION
from triptych.simulator import lint
from triptych.simulator.options import default_api


def run(arguments: Namespace) -> int:
    """Findings on stdout, one a line, and how many; exit code 1 if one of them is an error."""
    target, api = oldest(arguments.targets), default_api()
    try:
        if arguments.json:
            files.check_writable(arguments.json)
        chosen = dict.fromkeys(split_function(path) for path in arguments.paths)
        found = [finding for path, function in chosen for finding in lint.lint_file(path, function, target, api)]
        if arguments.json:
            files.write(arguments.json, document(found, target, api))
    except lint.LintError as error:
        raise UsageError(f"{str(error).rstrip('.')}.") from error
    stream = sys.stderr if arguments.json == "-" else sys.stdout
    if stream is sys.stdout:
        print("".join(f"{finding}\n" for finding in found), end="")
    print(summary(found, len({path for path, _ in chosen})), file=stream)
    return ExitCode.MISMATCH if any(finding.severity == lint.ERROR for finding in found) else ExitCode.OK


def oldest(targets: Sequence[str]) -> str | None:
    """The target of the oldest generation: what it has, the others have too."""
    for target in targets:
        if target not in simulator.TARGETS:
            raise unknown("target", target, simulator.TARGETS)
    return min(targets, key=lambda target: simulator.TARGETS[target].generation, default=None)


def document(found: Sequence[lint.Finding], target: str | None, api: str) -> str:
    body = {
        "schema_version": SCHEMA_VERSION,
        "nki": api,
        "target": target,
        "findings": [asdict(finding) for finding in found],
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def summary(found: Sequence[lint.Finding], files: int) -> str:
    errors = sum(finding.severity == lint.ERROR for finding in found)
    return f"{counted(errors, 'error')}, {counted(len(found) - errors, 'warning')} in {counted(files, 'file')}"


def counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
