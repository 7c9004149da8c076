"""The knobs of a kernel file: constants of its module that may be set otherwise, and to what.

    BLOCK_M = 128
    KNOBS = {"BLOCK_M": (64, 128, 256)}

Both are plain assignments of literals at the top level of the file, read here without running it. A compiler never sees
KNOBS, so that it costs nothing on a chip. A setting replaces the literals alone: every line stays where it is.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.harness.errors import UsageError, unknown

NAME = "KNOBS"
EXAMPLE = f'as BLOCK_M = 128 and {NAME} = {{"BLOCK_M": (64, 128, 256)}}'
Value = int | float | str | bool
Setting = Mapping[str, Value]  # of every knob


@dataclass(frozen=True)
class Knobs:
    """The knobs of one file."""

    path: Path
    text: bytes
    values: Mapping[str, Sequence[Value]]  # to try, the file's own among them
    own: Setting  # what the file says now
    places: Mapping[str, tuple[int, int]]  # of each literal in the text

    def settings(self) -> Iterator[Setting]:
        """Every setting, the file's own first."""
        yield dict(self.own)
        for some in itertools.product(*self.values.values()):
            setting = dict(zip(self.values, some, strict=True))
            if not same(setting, self.own):
                yield setting

    @property
    def count(self) -> int:
        return math.prod(len(some) for some in self.values.values())

    def written(self, setting: Setting) -> bytes:
        """The file with another setting."""
        text = self.text
        for name, (start, end) in sorted(self.places.items(), key=lambda place: -place[1][0]):
            if not same({name: setting[name]}, {name: self.own[name]}):
                text = text[:start] + repr(setting[name]).encode() + text[end:]
        return text

    def only(self, chosen: Mapping[str, Sequence[Value]]) -> Knobs:
        """With other values to try of some knobs; a knob that none are given of stays as it is in the file."""
        for name in chosen:
            if name not in self.values:
                raise unknown("knob", name, self.values)
        values = {name: with_own(self.own[name], chosen.get(name, ())) for name in self.values}
        return Knobs(self.path, self.text, values, self.own, self.places)


def same(one: Setting, other: Setting) -> bool:
    """Whether two settings are the same file: True is not 1."""
    return [(k, type(v), v) for k, v in one.items()] == [(k, type(v), v) for k, v in other.items()]


def with_own(own: Value, values: Sequence[Value]) -> tuple[Value, ...]:
    """The values, each once, the file's own among them."""
    found = [] if any(same({"": own}, {"": value}) for value in values) else [own]
    for value in values:
        if not any(same({"": value}, {"": other}) for other in found):
            found.append(value)
    return tuple(found)


def knobs_of(path: Path) -> Knobs | None:
    """The knobs of a file; None if it declares none. UsageError, with the line, for a declaration that says nothing."""
    try:
        text = path.read_bytes()
        body = ast.parse(text).body
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}.") from error
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is not Python: {error}.") from error
    assigned: dict[str, list[ast.expr]] = {}
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            assigned.setdefault(node.target.id, []).append(node.value)
    if NAME not in assigned:
        return None
    where = f"{path.name}:{assigned[NAME][-1].lineno}"
    values = declared(literal(assigned[NAME][-1]), where)
    starts = [0, *itertools.accumulate(len(line) for line in text.splitlines(keepends=True))]
    own: dict[str, Value] = {}
    places: dict[str, tuple[int, int]] = {}
    for name in values:
        found = assigned.get(name, [])
        value = literal(found[0]) if len(found) == 1 else None
        if not isinstance(value, Value):
            raise UsageError(
                f"{where}: the knob {name!r} must be a constant that the file assigns once, outside of functions, a "
                f"plain number or string; {EXAMPLE}."
            )
        at = found[0]
        assert at.end_lineno is not None and at.end_col_offset is not None
        own[name] = value
        places[name] = starts[at.lineno - 1] + at.col_offset, starts[at.end_lineno - 1] + at.end_col_offset
    return Knobs(path, text, {name: with_own(own[name], some) for name, some in values.items()}, own, places)


def literal(node: ast.expr) -> object:
    """The value of a literal; None of anything else."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def declared(value: object, where: str) -> Mapping[str, Sequence[Value]]:
    """The dictionary that stands behind KNOBS; UsageError where it is another thing."""
    if not isinstance(value, dict) or not value:
        raise UsageError(f"{where}: {NAME} must be a dictionary of literals, {EXAMPLE}.")
    for name, some in value.items():
        if not isinstance(name, str) or not isinstance(some, (tuple, list)) or not some:
            raise UsageError(f"{where}: {NAME} takes names and the values to try of each, {EXAMPLE}; got {name!r}.")
        if not all(isinstance(one, Value) for one in some):
            raise UsageError(f"{where}: the knob {name!r} takes plain numbers or strings; got {some!r}.")
    return value


def knob(text: str) -> tuple[str, tuple[Value, ...]]:
    """`BLOCK_M=64,128` as ("BLOCK_M", (64, 128)); what is no literal is a string."""
    name, equals, words = text.partition("=")
    values = [word.strip() for word in words.split(",") if word.strip()]
    if not equals or not name.strip() or not values:
        raise UsageError(f"--knob takes NAME=value,value,..., as in --knob BLOCK_M=64,128; got {text!r}.")
    return name.strip(), tuple(read(word) for word in values)


def read(word: str) -> Value:
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return value if isinstance(value, Value) else word
