"""Values on the command line: durations, sizes, tolerances, seeds and axes. Each says what it wants."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from triptych.harness.comma_lists import comma_list
from triptych.harness.errors import UsageError

CLUSTER = re.compile(r"local|auto|(ray://)?([^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d+)")
RANGE = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*:\s*([x+])\s*(\d+)\s*")
MOST_SIZES = 1000  # of one axis in one range
SMALLEST_MEMORY = 2**28  # bytes that a worker needs before it runs a kernel


def seconds(text: str) -> float:
    """A positive duration: `90`, `90s`, `1.5m` or `500ms`."""
    given = text
    for suffix, unit in (("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if text.endswith(suffix):
            text, scale = text[: -len(suffix)], unit
            break
    else:
        scale = 1.0
    try:
        value = float(text) * scale
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"wants a duration above zero, as 90, 500ms or 2m, got {given!r}")
    return value


def size(text: str) -> int:
    """A positive number of bytes: `8G`, `500M`."""
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    try:
        value = int(float(number) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[unit])
    except (KeyError, ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"wants a size above zero, as 8G or 500M, got {text!r}")
    if value < SMALLEST_MEMORY:
        raise argparse.ArgumentTypeError(
            f"wants 256M at least, which a worker needs before it runs a kernel, got {text!r}"
        )
    return value


def cluster(text: str) -> str:
    """The address of a Ray cluster: `local`, `auto`, `HOST:PORT` or `ray://HOST:PORT`."""
    found = CLUSTER.fullmatch(text)
    if not found or not 0 < int(found["port"] or 1) < 2**16:
        raise argparse.ArgumentTypeError(
            f"wants local (Ray on this machine), auto (the cluster that it is a node of), HOST:PORT or "
            f"ray://HOST:PORT, got {text!r}"
        )
    return text


def tolerance(text: str) -> float:
    """A finite number, zero or above."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"wants a number that is zero or above, got {text!r}")
    return value


def budget(text: str) -> float:
    """A factor above zero: `3` or `3x`."""
    value = tolerance(text.removesuffix("x"))
    if value == 0:
        raise argparse.ArgumentTypeError(f"wants a factor above zero, as 3 or 3x, got {text!r}")
    return value


def seed(text: str) -> int:
    """A whole number, zero or above."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"wants a whole number that is zero or above, got {text!r}")
    return value


def count(text: str) -> int:
    """A whole number above zero: `8`."""
    value = int(text) if text.strip().isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"wants a whole number above zero, as 8, got {text!r}")
    return value


def counts(text: str) -> list[int]:
    """Whole numbers above zero: `1,8,32`."""
    try:
        found = [int(word) for word in comma_list(text)]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"wants whole numbers above zero, as 1,8,32, got {text!r}")
    return found


class Axes(argparse.Action):
    """Collects each `-a M=256,1024` or `-a M=256:1024:x2` (brackets allowed) into {"M": [256, 1024]}."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        axes = dict(getattr(namespace, self.dest))
        name, sizes = axis(str(values))
        if name in axes:
            raise UsageError(f"-a names axis {name} twice; give all its values at once, as in -a {name}=256,1024.")
        setattr(namespace, self.dest, {**axes, name: sizes})


def axis(text: str) -> tuple[str, list[int]]:
    """`M=256,1024` as ("M", [256, 1024]); each value may be a range (`sweep`)."""
    name, equals, values = text.partition("=")
    name = name.strip()
    words = comma_list(values.strip().strip("[]"))
    try:
        sizes = [size for word in words for size in (sweep(word) if ":" in word else [int(word)])]
    except ValueError:
        sizes = []
    if not equals or not name or not sizes:
        raise UsageError(f"-a takes AXIS=value,value,... with whole numbers, as in -a M=256,1024; got {text!r}.")
    if any(size < 0 for size in sizes):
        raise UsageError(f"an axis cannot be negative; got {text!r}.")
    return name, sizes


def sweep(text: str) -> list[int]:
    """`256:8192:x2` as [256, 512, ..., 8192], and `256:1024:+256` as [256, 512, 768, 1024].

    The last size is in it where a step leads there.
    """
    found = RANGE.fullmatch(text)
    first, last, how, step = (int(found[1]), int(found[2]), found[3], int(found[4])) if found else (1, 0, "", 0)
    if first > last or (step < 2 if how == "x" else step < 1) or (how == "x" and first == 0):
        raise UsageError(
            f"a range of sizes is FIRST:LAST:xFACTOR or FIRST:LAST:+STEP, as 256:8192:x2 or 256:1024:+256; got {text}."
        )
    sizes = [first]
    while (following := sizes[-1] * step if how == "x" else sizes[-1] + step) <= last:
        if len(sizes) == MOST_SIZES:
            raise UsageError(f"{text!r} is more than {MOST_SIZES} sizes of an axis; take a longer step.")
        sizes.append(following)
    return sizes
