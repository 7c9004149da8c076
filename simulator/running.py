"""The machine of the kernel that is running, as everything below the machine asks for it.

A kernel calls `nl.*`, `nisa.*` and methods of tensors as plain functions; each thread knows the machine that they run
on. `Running` is what tensors and operands need of it; engines and functions of the language see all of it, through
`triptych.simulator.machine.machine.machine`.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from numpy.typing import NDArray

from triptych.simulator.chip.record import Chip
from triptych.simulator.errors import KernelError
from triptych.simulator.options import Options
from triptych.simulator.trace import Event


class Running(Protocol):
    """One core of one rank while it runs a kernel. Tensors are defined above this file, and `Any` here."""

    chip: Chip
    options: Options
    any_dynamic: bool  # whether a view with an index that is read late was ever made

    def check_reads(self, tensors: Any) -> None:
        """Raise Uninitialized if an element of one of these tensors was never written."""

    def values(self, tensor: Any) -> NDArray[Any]:
        """What a tensor holds; NeedsData in a run that has shapes alone."""

    def note(self, message: str, line: tuple[str, int] | None = None) -> None:
        """Keep a remark, with the kernel's line."""

    def remark(self, name: str, message: str, source: str) -> None:
        """Note what is one of options.REMARKS, or raise it where the options forbid it."""

    def note_values(self, message: str) -> None:
        """Keep a remark on the values that the instruction which runs has met."""

    def issue(self, name: str, **operands: Any) -> Event:
        """Execute an instruction of `nki.isa` by its name."""


class _Current(threading.local):
    machine: Running | None = None


current = _Current()


def running() -> Running:
    """The machine of the kernel that is running."""
    found = current.machine
    if found is None:
        raise KernelError("called outside a kernel; run the kernel with nki.simulate(kernel)(...) or simulator.run")
    return found


def is_running() -> bool:
    """Whether a kernel runs on this thread."""
    return current.machine is not None


class on_machine:
    """`with on_machine(m):` kernels called inside run on `m`."""

    def __init__(self, m: Running) -> None:
        self.machine = m
        self.before: Running | None = None

    def __enter__(self) -> None:
        self.before = current.machine
        current.machine = self.machine

    def __exit__(self, *exc: object) -> None:
        current.machine = self.before
