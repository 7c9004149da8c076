"""`triptych calibrate FILE`: which constants of the chip fit what a device said of the probes."""

from __future__ import annotations

import sys
from argparse import Namespace

from triptych.harness import files
from triptych.harness.calibration import overlay
from triptych.harness.calibration.calibrate import calibrate
from triptych.harness.exit_codes import ExitCode
from triptych.harness.reports.device import text
from triptych.harness.reports.terminal import StatusLine
from triptych.harness.results.document import read


def run(arguments: Namespace) -> int:
    """Print the constants with their errors, and write the overlay if one is asked for."""
    if arguments.write:
        files.check_writable(arguments.write)
    document = read(arguments.document)
    line = StatusLine(sys.stderr)
    try:
        found = calibrate(document, line.say)
    finally:
        line.clear()
    if document.cut_short:
        print(f"triptych: {document.cut_short}", file=sys.stderr)
    if arguments.write:
        files.write(arguments.write, overlay.text(found.target, found.constants))
    if arguments.write != "-":
        print(text.calibration(found), end="")
    if arguments.write and arguments.write != "-":
        print(f"written: {arguments.write}, for `triptych profile --target {found.target} --set @{arguments.write}`")
    return ExitCode.OK
