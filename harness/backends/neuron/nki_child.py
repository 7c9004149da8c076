"""The process that has AWS's nki: it calls kernels, one after the other, and keeps the NEFF of each.

NKI_ARTIFACTS_DIR must stand before nki is imported and name an empty folder at each compilation, so that the process is
started with it and the folder emptied before each call. Messages are pickles: a `Call` comes in, a `Called` or a
`Failed` goes out. The process holds a core until it ends.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends.base import member
from triptych.harness.backends.neuron import internal, parts
from triptych.harness.ops import loading
from triptych.harness.ops.outputs.naming import flatten


@dataclass(frozen=True)
class Call:
    """A kernel by its file and function, with its arguments.

    changed: positions of the arrays that it may write to; they come back
    clock: what nki's own clock is asked for; None: to compile and run once
    """

    path: str
    function: str
    positional: Sequence[Any]
    named: dict[str, Any]
    changed: Sequence[int] = ()
    clock: dict[str, Any] | None = None
    target: str = ""


@dataclass(frozen=True)
class Called:
    """What came of it. names: of the kernel's parameters that are arrays, in order; seconds: compilation included."""

    outputs: dict[str, Array]
    changed: list[Array]
    names: list[str]
    neff: str | None
    seconds: float
    version: str
    clock: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """It raised: type, message, and the line of the kernel's file."""

    kind: str
    message: str
    where: str


def main() -> None:
    """Serve until the parent goes away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a core must not stay held
    requests, replies = _private_pipes()
    artifacts = Path(os.environ["NKI_ARTIFACTS_DIR"])
    number = 0
    while True:
        try:
            call: Call = pickle.load(requests)
        except EOFError:
            return
        number += 1
        try:
            answer: Called | Failed = perform(call, artifacts, artifacts.parent / f"{number}.neff")
        except BaseException as error:
            answer = Failed(type(error).__name__, str(error), loading.at(error, Path(call.path)))
        sys.stdout.flush()  # which the parent reads with the answer
        pickle.dump(answer, replies)
        replies.flush()


def perform(call: Call, artifacts: Path, kept: Path) -> Called:
    """Compile and run the kernel, or time it by nki's own clock."""
    path = Path(call.path)
    _empty(artifacts)
    kernel = member(loading.load(path), call.function, path)
    started = time.perf_counter()
    clock: dict[str, Any] = {}
    if call.clock is None:
        returned = kernel(*call.positional, **call.named)
    else:
        clock = internal.samples(
            kernel, call.positional, call.named, folder=str(artifacts), target=call.target, request=call.clock
        )
        returned = clock.pop("outputs")
    seconds = time.perf_counter() - started
    neffs = sorted(artifacts.rglob("*.neff"), key=lambda file: file.name != "kernel.neff")
    if neffs:
        shutil.move(neffs[0], kept)
    return Called(
        {name: np.asarray(x) for name, x in flatten(returned).items()},
        [call.positional[i] for i in call.changed],
        _array_names(kernel, call),
        str(kept) if neffs else None,
        seconds,
        parts.nki().found or "of no version",
        clock,
    )


def _array_names(kernel: Any, call: Call) -> list[str]:
    function = inspect.unwrap(getattr(kernel, "func", kernel))
    bound = inspect.signature(function).bind(*call.positional, **call.named)
    return [name for name, value in bound.arguments.items() if isinstance(value, np.ndarray)]


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a kernel or the compiler prints is log
    return requests, replies


if __name__ == "__main__":
    main()
