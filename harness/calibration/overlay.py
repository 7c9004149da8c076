"""An overlay of a chip's record: some of its constants, as a file that `--set @FILE` takes.

# NeuronCore-v3
tensor_ghz=2.38  # GHz, 2.4 before
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from triptych import simulator
from triptych.harness.calibration.calibrate import Constant
from triptych.harness.errors import UsageError

HEAD = re.compile(r"# (NeuronCore-v\d+)")


def text(chip: str, constants: Iterable[Constant]) -> str:
    """The file of those constants that were decided."""
    lines = [f"# {chip}", "# Written by `triptych calibrate`; `triptych profile --set @FILE` takes it."]
    for one in constants:
        if one.after is not None:
            lines.append(f"{one.field}={one.after:.6g}  # {one.unit}, {one.before:g} before")
    return "\n".join(lines) + "\n"


def words(path: str, targets: Iterable[str]) -> list[str]:
    """The lines of a file as `--set` takes them. UsageError if it is none, or of another chip than a target is."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
    head = HEAD.fullmatch(lines[0].strip()) if lines else None
    if head is None:
        raise UsageError(f"{path} is no overlay of a chip: its first line must name one, as `# NeuronCore-v3`.")
    for target in targets:
        chip = simulator.TARGETS[target].name
        if chip != head[1]:
            raise UsageError(f"{path} was measured on {head[1]}, and {target} is {chip}.")
    return [word for line in lines if (word := line.partition("#")[0].strip())]
