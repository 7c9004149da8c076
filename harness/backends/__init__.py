"""Who runs a problem, and all that is known of each; a new backend is one file and one row here.

Rooms from `trials` upwards may import it; it imports the judge's problems, the emulators and what lies below them.
"""

from __future__ import annotations

from triptych.harness.backends.base import Backend
from triptych.harness.backends.nki_device import NeuronDevice
from triptych.harness.backends.nki_sim import Simulator
from triptych.harness.backends.pytorch import Torch
from triptych.harness.backends.reference import Reference
from triptych.harness.backends.triton_device import TritonDevice
from triptych.harness.backends.triton_interpreter import Interpreter
from triptych.harness.emulators import pretended_gpu
from triptych.harness.ops import loading

__all__ = ["BACKENDS", "REFERENCES", "Backend"]

BACKENDS: dict[str, Backend] = {  # in the order in which a table shows them
    backend.name: backend
    for backend in (Reference(), Simulator(), NeuronDevice(), Interpreter(), TritonDevice(), Torch())
}
loading.pretending = pretended_gpu
REFERENCES = frozenset(name for name, backend in BACKENDS.items() if backend.is_reference)
