"""An overlay of a chip's record: some of its constants, as a file that `--set @FILE` takes.

# NeuronCore-v3, measured on trn2
tensor_ghz=2.38  # GHz, 2.4 before

Constants are fitted beside all others of a record, so that they go with that record alone: inf2's Tensor Engine slows
down further than trn1's, and the same measured time of a matmul asks for another `tensor_ghz`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from triptych import simulator
from triptych.harness.calibration.calibrate import Constant
from triptych.harness.errors import UsageError

HEAD = re.compile(r"# (NeuronCore-v\d+)(?:, measured on (\w+))?")


def text(target: str, constants: Iterable[Constant]) -> str:
    """The file of those constants that were decided, measured on a target."""
    lines = [
        f"# {simulator.TARGETS[target].name}, measured on {target}",
        "# Written by `triptych calibrate`; `triptych profile --set @FILE` takes it.",
    ]
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
    source = measured_on(path, lines[0].strip() if lines else "")
    for target in targets:
        check_same(path, source, target)
    return [word for line in lines if (word := line.partition("#")[0].strip())]


def measured_on(path: str, first: str) -> str:
    """The target that the first line of an overlay names. One without it, as was written once, must leave no doubt."""
    head = HEAD.fullmatch(first)
    if head is None:
        raise UsageError(
            f"{path} is no overlay of a chip: its first line must name one, as `# NeuronCore-v3, measured on trn2`."
        )
    name, said = head.groups()
    known = [target for target, chip in simulator.TARGETS.items() if chip.name == name and said in (None, target)]
    if not known:
        raise UsageError(
            f"the first line of {path} names no chip that is known: {first!r}; expected one of "
            f"{', '.join(f'`# {chip.name}, measured on {target}`' for target, chip in simulator.TARGETS.items())}."
        )
    others = [target for target in known if simulator.TARGETS[target] != simulator.TARGETS[known[0]]]
    if others:
        raise UsageError(
            f"{path} was measured on {name}, which {known[0]} and {others[0]} are, with records that differ in "
            f"{differences(known[0], others[0])}; say on which in its first line, as `{first}, measured on "
            f"{others[0]}`."
        )
    return known[0]


def check_same(path: str, source: str, target: str) -> None:
    """UsageError if what was measured on `source` does not speak of `target`."""
    one, other = simulator.TARGETS[source], simulator.TARGETS[target]
    if one.name != other.name:
        raise UsageError(
            f"{path} was measured on {one.name}, and {target} is {other.name}; give `--target {source}`, or constants "
            f"that were measured on {target}: `triptych verify-device` there, then `triptych calibrate`."
        )
    if one != other:
        raise UsageError(
            f"{path} was measured on {source}; {target} is {other.name} too, but their records differ in "
            f"{differences(source, target)}, beside which its constants were fitted. Give `--target {source}`, or "
            f"measure on {target}: `triptych verify-device` there, then `triptych calibrate`."
        )


def differences(one: str, other: str) -> str:
    """The fields in which the records of two targets differ."""
    a, b = simulator.TARGETS[one], simulator.TARGETS[other]
    return ", ".join(f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name))
