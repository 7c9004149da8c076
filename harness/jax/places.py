"""Where functions on arrays of the CPU run: `on_cpu`, which jax.jit and its kind know of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from triptych.harness.functions.places import REFERENCE, Place, cpu_place

_chosen = jax.make_user_context(default_value=REFERENCE)  # part of the key of every cache of traces


@contextmanager
def on_cpu(backend: str = "numpy", *, target: str | None = None) -> Iterator[Place]:
    """Functions on arrays of the CPU run on this backend, within; elsewhere on the NumPy reference.

    Parameters:
        backend: "numpy" is the reference, in float64 and rounded once; "nki-sim" the simulator; "triton-cpu" Triton's
            interpreter.
        target: the chip of "nki-sim", as "trn2"; None is NEURON_PLATFORM_TARGET_OVERRIDE's, else "trn3".

    It holds for this thread. What counts is where a function is called, or traced: one that was compiled elsewhere is
    traced again here. A derivative runs where its function ran, wherever it is taken.

    Raises ValueError for a backend or a target that does not exist, NoKernel where Triton is missing.
    """
    place = cpu_place(backend, target)
    with _chosen(place):
        yield place


def of_cpu() -> Place:
    """Where functions on arrays of the CPU run now."""
    place: Place = _chosen.value
    return place
