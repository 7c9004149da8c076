"""Triton's interpreter made right, kernels compiled for a GPU that is not there, and what each emulator gets right.

Backends and the rooms above may import it; importing it imports no Triton, so that a machine without one can still ask.

* `interpret` runs a launcher on NumPy arrays through Triton's interpreter, without PyTorch, with bfloat16 made right
  (`correction.py`), and with every load and store checked against the bounds of its argument (`memory.py`).
* `replay` does the same without low-precision rounding (`wide.py`).
* `version_support` says whether the installed Triton is one the correction was tested with.
* `selftest` tests the interpreter operation by operation and dtype by dtype, with the correction and without.
* `compilation.compile_launcher` compiles a launcher's kernels for a GPU ahead of time and reports what they cost.
* `conformance` has the self-tests of the interpreter and of the NKI simulator in one form; `usage` says which of their
  rows a kernel uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from triptych.harness.arrays import Array, Arrays
from triptych.harness.emulators.errors import (
    EmulationError,
    KernelRaised,
    NotEmulated,
    OrderError,
    OutOfBoundsError,
    ReadOnlyError,
    UnsupportedVersionError,
)
from triptych.harness.emulators.version import version_support

if TYPE_CHECKING:
    from triptych.harness.emulators.interpreter.launches import Launches
    from triptych.harness.emulators.triton_selftest import Row

__all__ = [
    "EmulationError",
    "KernelRaised",
    "NotEmulated",
    "OrderError",
    "OutOfBoundsError",
    "ReadOnlyError",
    "UnsupportedVersionError",
    "selftest",
    "interpret",
    "interpret_backwards",
    "pretended_gpu",
    "replay",
    "version_support",
]


def interpret(
    launcher: Callable[..., Any],
    arrays: Arrays,
    out: Array | None,
    mutates: Sequence[str] = (),
    launches: Launches | None = None,
    /,
    **params: Any,
) -> Any:
    """Call `launcher(**arrays, out=out, **params)` with every `@triton.jit` function interpreted; fills `out`.

    The result is what the launcher returned, an array for each tensor. A launcher that makes its own output gets no
    `out` if that is None. Inputs are read-only to the kernel, but for those named in `mutates`. Poison `out` first: the
    emulation writes nothing that the kernel does not. What the launches leave is kept in `launches`.
    """
    check_version()
    from triptych.harness.emulators import running

    return running.interpret(launcher, arrays, out, params, mutates=tuple(mutates), launches=launches)


def interpret_backwards(
    launcher: Callable[..., Any],
    arrays: Arrays,
    out: Array | None,
    mutates: Sequence[str] = (),
    launches: Launches | None = None,
    /,
    **params: Any,
) -> Any:
    """Likewise with the programs of each launch in reverse order, which a GPU may choose as well.

    What is in `launches`, from a run before, leaves the same in any order and is not run again. `OrderError` if the
    kernel has atomic operations, by which programs may wait for each other.
    """
    check_version()
    from triptych.harness.emulators import running

    return running.interpret(launcher, arrays, out, params, backwards=True, mutates=tuple(mutates), launches=launches)


def replay(
    launcher: Callable[..., Any], arrays: Arrays, out: Array | None, mutates: Sequence[str] = (), /, **params: Any
) -> Any:
    """`interpret` with every value in float32 at least: what low-precision rounding did to the result is undone."""
    check_version()
    from triptych.harness.emulators import running
    from triptych.harness.emulators.wide import WideBuilder

    return running.interpret(launcher, arrays, out, params, WideBuilder, mutates=tuple(mutates))


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Triton and PyTorch say within that there is a GPU, which files ask when they are imported."""
    check_version()
    from triptych.harness.emulators import devices
    from triptych.harness.emulators.interpreter.hosting import on_the_host
    from triptych.harness.emulators.memory import Memory

    with devices.pretend(devices.INTERPRETER), on_the_host(Memory()):
        yield


def check_version() -> None:
    sentence = version_support()
    if sentence is not None:
        raise UnsupportedVersionError(sentence)


def selftest() -> list[Row]:
    """A row for each operation and dtype of the interpreter's self-test."""
    from triptych.harness.emulators import triton_selftest

    return triton_selftest.rows()
