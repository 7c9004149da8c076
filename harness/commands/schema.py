"""`triptych schema`: the JSON schema of the documents that `--json` writes."""

from __future__ import annotations

import json
from argparse import Namespace

from triptych.harness.exit_codes import ExitCode
from triptych.harness.results.document import schema


def run(arguments: Namespace) -> int:
    print(json.dumps(schema(), indent=1))
    return ExitCode.OK
