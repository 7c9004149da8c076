"""Where the call of an operator runs: by the device of its tensors, and on the CPU as `on_cpu` asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from triptych.harness.functions.places import REFERENCE, NoKernel, Place, cpu_place

OF_DEVICES = {"cuda": Place("triton"), "neuron": Place("nki"), "privateuseone": Place("nki")}
_chosen = [REFERENCE]  # of the process: a backward pass may run in another thread


@contextmanager
def on_cpu(backend: str = "numpy", *, target: str | None = None) -> Iterator[Place]:
    """Operators on tensors of the CPU run on this backend, within; elsewhere on the NumPy reference.

    Parameters:
        backend: "numpy" is the reference, in float64 and rounded once; "nki-sim" the simulator; "triton-cpu" Triton's
            interpreter.
        target: the chip of "nki-sim", as "trn2"; None is NEURON_PLATFORM_TARGET_OVERRIDE's, else "trn3".

    It holds for all threads of the process. A backward pass runs where its forward pass ran, wherever it is called.

    Raises ValueError for a backend or a target that does not exist, NoKernel where Triton is missing.
    """
    place = cpu_place(backend, target)
    with at(place):
        yield place


@contextmanager
def at(place: Place) -> Iterator[None]:
    """Operators on tensors of the CPU run there, within."""
    _chosen.append(place)
    try:
        yield
    finally:
        del _chosen[len(_chosen) - 1 - _chosen[::-1].index(place)]


def of_cpu() -> Place:
    """Where operators on tensors of the CPU run now."""
    return _chosen[-1]


def place_of(device: Any) -> Place:
    """Where operators on tensors of a device run. NoKernel for a device that no kernel is written for."""
    if device.type == "cpu":
        return of_cpu()
    if device.type not in OF_DEVICES:
        raise NoKernel(f"triptych has kernels for tensors on cpu, cuda and neuron, and these are on {device}")
    return OF_DEVICES[device.type]
