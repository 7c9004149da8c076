"""Whether what kernels do most is compiled: `frequent.c` in the place of the Python after which it is written.

It is built where the package is installed with a C compiler at hand, for CPython with its global lock (setup.py), and
leaves the same objects in the same order. Without it, or with TRIPTYCH_COMPILED=0 in the environment, all is Python.
"""

from __future__ import annotations

import enum
import importlib
import os
from typing import Any

from triptych.simulator.machine.forms import PLAIN, describe, number_of
from triptych.simulator.machine.machine import Machine
from triptych.simulator.memory.layout import TUPLES, Layout
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Event, Region

REPLACED: tuple[tuple[type, str], ...] = ((NkiTensor, "__getitem__"), (Machine, "execute"))
IN_PYTHON = tuple(getattr(owner, name) for owner, name in REPLACED)


def built(name: str) -> Any:
    """What is in C under that name, or None: it was not built, or TRIPTYCH_COMPILED is 0."""
    if os.environ.get("TRIPTYCH_COMPILED") == "0":
        return None
    try:
        return importlib.import_module(f"triptych.simulator.compiled.{name}")
    except ImportError:
        return None


def _install() -> bool:
    frequent = built("frequent")
    if frequent is None:
        return False
    frequent.install(Machine, NkiTensor, Layout, Region, Event, enum.EnumMeta, PLAIN, TUPLES, number_of, describe)
    return True


IS_COMPILED = _install()
