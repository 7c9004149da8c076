"""A launch of a kernel in Gluon: descriptors find their memory, and the programs of the grid run one by one."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import triton.experimental.gluon.language as gluon
from triton.experimental.gluon.language.nvidia import hopper

from triptych.harness.emulators.correction import CheckedBuilder
from triptych.harness.emulators.errors import NotEmulated
from triptych.harness.emulators.gluon.language import Program
from triptych.harness.emulators.gluon.machine import Machine
from triptych.harness.emulators.gluon.shared import Descriptor
from triptych.harness.emulators.gluon.values import Scalar
from triptych.harness.emulators.interpreter.launching import arguments_of, dimensions_of
from triptych.harness.emulators.memory import Memory

SEED = 0  # of the first program's order


def launch(builder: CheckedBuilder, kernel: Any, grid: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """`kernel[grid](*args, **named)`, on the memory of `builder` and in its order; roles in an order of chance."""
    if builder.holds_wide:
        raise NotEmulated("Gluon is emulated in its own precisions alone")
    given = arguments_of(kernel, args, named)
    grid = dimensions_of(grid, given)
    arguments = {name: argument(builder.memory, name, value) for name, value in given.items()}
    places = list(enumerate(np.ndindex(grid)))
    for number, place in reversed(places) if builder.backwards else places:
        machine = Machine(seed=SEED + number)
        function = hosted(kernel.fn, Program(machine, grid, place).names(gluon, hopper), {})
        machine.run(partial(function, **arguments))


def argument(memory: Memory, name: str, value: Any) -> Any:
    """What a kernel sees of an argument."""
    if hasattr(value, "block_shape"):
        return Descriptor(memory, name, memory.address_of(value.base), value)
    if hasattr(value, "data_ptr"):
        raise NotEmulated(f"the emulation of Gluon takes tensors as descriptors for TMA; '{name}' is a pointer")
    if type(value) is int:
        return Scalar(value)
    return np.float32(value) if isinstance(value, float) else value


def hosted(fn: types.FunctionType, names: Mapping[int, Any], known: dict[Any, Any]) -> types.FunctionType:
    """A function of a kernel, and all that it calls, with what the emulation has in place of Gluon's names."""
    if fn not in known:
        found = {"range": counted, **fn.__globals__}
        made = known[fn] = types.FunctionType(fn.__code__, found, fn.__name__, fn.__defaults__, fn.__closure__)
        made.__kwdefaults__ = fn.__kwdefaults__
        for name in fn.__code__.co_names:
            if name in found:
                found[name] = replaced(found[name], names, known)
    hosting: types.FunctionType = known[fn]
    return hosting


def counted(*bounds: int) -> Iterator[Scalar]:
    """`range`, whose numbers are scalars of the kernel."""
    return map(Scalar, range(*bounds))


def replaced(value: Any, names: Mapping[int, Any], known: dict[Any, Any]) -> Any:
    if id(value) in names:
        return names[id(value)]
    if isinstance(value, gluon.constexpr):
        return value.value
    return hosted(value.fn, names, known) if getattr(value, "is_gluon", lambda: False)() else value
