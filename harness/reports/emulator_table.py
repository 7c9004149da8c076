"""What the self-test of an emulator found, as text."""

from __future__ import annotations

from triptych.harness.emulators.conformance import Tested
from triptych.harness.reports.text_table import text_table

WORD = 9  # as wide as the longest of `Tested.word`, so that a column does not depend on what was found


def text(tested: Tested) -> str:
    """A row for each operation, a column for each dtype, and how many are right."""
    operations = list(dict.fromkeys(operation for operation, _ in tested.cells))
    dtypes = list(dict.fromkeys(dtype for _, dtype in tested.cells))
    lines = text_table(
        [
            ["operation", *(dtype.ljust(WORD) for dtype in dtypes)],
            *([operation, *(tested.word((operation, dtype)) for dtype in dtypes)] for operation in operations),
        ]
    )
    lines.append(f"{tested.emulator}: {len(tested.cells) - len(tested.wrong)} of {len(tested.cells)} right")
    if tested.wrong:
        lines.append("WRONG: not what NumPy computes, so that a verdict on a kernel that uses it says little")
    if tested.corrected:
        lines.append("corrected: wrong in Triton's own interpreter, right in ours")
    return "\n".join(lines)
