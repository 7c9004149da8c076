"""The backends by name, in the order in which a table shows them."""

from __future__ import annotations

from triptych.harness.backends.base import Backend
from triptych.harness.backends.gpu import Interpreter, TritonDevice
from triptych.harness.backends.host import Reference
from triptych.harness.backends.neuron import Device, Simulator
from triptych.harness.backends.pytorch import Torch

__all__ = ["BACKENDS", "Backend"]

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Reference(), Simulator(), Device(), Interpreter(), TritonDevice(), Torch())
}
