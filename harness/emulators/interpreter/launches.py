"""What launches do: whether the order of their programs can matter, and how not to run one again for nothing.

A kernel is run again to see whether it repeats its bits and whether its programs race. A launch of the interpreter
depends on nothing but its kernel, its grid, its arguments and the memory that it finds. So one that is met again with
all of these the same leaves what it left the first time; and unless one of its programs touches what another one
writes, it leaves the same in any order. Such a launch is not run again: what it left is put in place. Whatever the
launcher does around its launches is done again, and what it does otherwise than before leads to launches that are run.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

from triptych.harness.arrays import Array
from triptych.harness.bits import digest
from triptych.harness.emulators.memory import Memory, Order

MOST_BYTES = 2**24  # of memory, beyond which to look at all of it costs as much as a launch
PLAIN = (bool, int, float, str, bytes, type(None))
Left = dict[int, Array]  # by the region's address


class Launches:
    """The launches of one run on a problem of which another run may do without. Their order must not matter."""

    def __init__(self) -> None:
        self.left: dict[Hashable, Left] = {}

    def first(self, memory: Memory, what: Hashable, run: Callable[[Order | None], None]) -> None:
        """Run a launch and note what it leaves. `run` tells the order which program is next."""
        met = _met(memory, what)
        if met is None:
            run(None)
            return
        order = memory.order = Order()
        try:
            run(order)
        finally:
            memory.order = None
        order.end()
        if not order.matters:
            self.left[met] = {address: region.data.copy() for address, (region, _) in order.written.items()}

    def again(self, memory: Memory, what: Hashable, run: Callable[[Order | None], None]) -> None:
        """Put what a launch left in place, or run it if it was not met before."""
        met = _met(memory, what)
        left = None if met is None else self.left.get(met)
        if left is None:
            run(None)
            return
        for address, data in left.items():
            memory.region_at(address).data[...] = data


def _met(memory: Memory, what: Hashable) -> Hashable | None:
    """All that a launch depends on; None where that is too much to look at, or unknown."""
    regions = memory.regions.values()
    if what is None or sum(len(region.data) for region in regions) > MOST_BYTES:
        return None
    return what, tuple((region.address, len(region.data), digest(region.data)) for region in regions)


def described(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], memory: Memory) -> Hashable | None:
    """A kernel, its grid and its arguments as something that is equal where they are; None for an unknown argument."""
    try:
        given = tuple((name, _described(value, memory)) for name, value in arguments.items())
    except TypeError:
        return None
    return kernel.fn, grid, given, tuple(_constants(kernel.fn, set()))


def _constants(function: types.FunctionType, seen: set[types.FunctionType]) -> Iterator[Hashable]:
    """The numbers outside of a kernel that it and the functions that it calls name: they may have changed."""
    seen.add(function)
    outside = inspect.getclosurevars(function)
    for name, value in sorted({**outside.globals, **outside.nonlocals}.items()):
        if isinstance(value, (JITFunction, InterpretedFunction)):
            if value.fn not in seen:
                yield from _constants(value.fn, seen)
        elif isinstance(value, (*PLAIN, tl.constexpr)):
            yield name, str(value)


def _described(value: Any, memory: Memory) -> Hashable:
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return tuple(_described(part, memory) for part in value)
    if isinstance(value, TensorDescriptor):
        return tuple((name, _described(part, memory)) for name, part in sorted(vars(value).items()))
    if hasattr(value, "data_ptr"):
        return memory.address_of(value), str(value.dtype)
    if isinstance(value, tl.constexpr):
        return _described(value.value, memory)
    if isinstance(value, (JITFunction, InterpretedFunction)):
        function: Hashable = value.fn
        return function
    if isinstance(value, tl.dtype):
        return str(value)
    raise TypeError(f"unknown: {type(value).__name__}")
