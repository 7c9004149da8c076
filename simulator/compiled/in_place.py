"""Whether what kernels do most is compiled: `frequent.c` in the place of the Python after which it is written.

It leaves the same objects in the same order. When it is there: triptych.simulator.built.
"""

from __future__ import annotations

import enum

from triptych.simulator.built import built
from triptych.simulator.machine.forms import PLAIN, describe, number_of
from triptych.simulator.machine.machine import Machine
from triptych.simulator.memory.layout import TUPLES, Layout
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Event, Region

REPLACED: tuple[tuple[type, str], ...] = ((NkiTensor, "__getitem__"), (Machine, "execute"))
IN_PYTHON = tuple(getattr(owner, name) for owner, name in REPLACED)


def _install() -> bool:
    frequent = built("frequent")
    if frequent is None:
        return False
    frequent.install(Machine, NkiTensor, Layout, Region, Event, enum.EnumMeta, PLAIN, TUPLES, number_of, describe)
    return True


IS_COMPILED = _install()
