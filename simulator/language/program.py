"""What a kernel says to the compiler or to the host: program order, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language.common import function
from triptych.simulator.machine.machine import machine
from triptych.simulator.machine.unwritten import require_written
from triptych.simulator.memory.storage import PSUM
from triptych.simulator.operands.operands import describe
from triptych.simulator.tensors.tensor import NkiTensor


@function
@contextmanager
def no_reorder() -> Iterator[None]:
    """A block whose instructions keep program order, as all do here. It holds no loop that runs on registers.

    Whatever runs inside belongs to it, called functions and inner blocks too (nki/guides/how-to-scheduling-apis.rst).
    """
    m = machine()
    with m.scoped(no_reorder=m.scope.get("no_reorder") or m.opened()):
        yield


@function
def device_print(print_prefix: str, tensor: NkiTensor) -> None:
    """Print the prefix and the values of a tensor in SBUF or HBM, at once."""
    if not isinstance(print_prefix, str):
        raise NkiValidationError(f"print_prefix must be a constant string, got {describe(print_prefix)}")
    if not isinstance(tensor, NkiTensor) or tensor.buffer is PSUM:
        raise NkiValidationError(f"tensor must be in SBUF or HBM, got {describe(tensor)}")
    require_written(machine(), (tensor,))
    print(print_prefix, tensor.shown_values())
