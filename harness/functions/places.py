"""Where the call of an operator may run, and which of these places a caller may ask for on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from triptych import simulator
from triptych.harness.backends.triton_launcher import NO_TRITON
from triptych.harness.emulators import version_support


class NoKernel(NotImplementedError):
    """There is no kernel for what was asked; its text is one sentence that says where there is one."""


@dataclass(frozen=True)
class Place:
    """A backend by the harness's name of it, and the chip that it simulates."""

    backend: str  # "numpy", "nki-sim", "triton-cpu" on the CPU; "triton" on a GPU; "nki" on a Neuron device
    target: str | None = None


REFERENCE = Place("numpy")
ON_CPU = ("numpy", "nki-sim", "triton-cpu")


def cpu_place(backend: str, target: str | None) -> Place:
    """The place that a framework's `on_cpu` is asked for, checked.

    Raises ValueError for a backend or a target that does not exist, NoKernel where Triton is missing.
    """
    if backend not in ON_CPU:
        raise ValueError(f"on_cpu takes {', '.join(map(repr, ON_CPU))}, got {backend!r}")
    if backend == "nki-sim":
        try:
            return Place(backend, simulator.on(target).target)
        except simulator.NkiError as error:
            raise ValueError(str(error)) from None
    if target is not None:
        raise ValueError(f"a target is a chip for 'nki-sim' to simulate, and {backend!r} has none; got {target!r}")
    if backend == "triton-cpu":
        why = NO_TRITON if find_spec("triton") is None else version_support()
        if why is not None:
            raise NoKernel(why)
    return Place(backend)
