"""The backends by name, in the order in which a table shows them."""

from __future__ import annotations

from triptych.harness.backends.base import Backend
from triptych.harness.backends.nki_sim import Device, Simulator
from triptych.harness.backends.pytorch import Torch
from triptych.harness.backends.reference import Reference
from triptych.harness.backends.triton_interpreter import Interpreter, TritonDevice

__all__ = ["BACKENDS", "Backend"]

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Reference(), Simulator(), Device(), Interpreter(), TritonDevice(), Torch())
}
