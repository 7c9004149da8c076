"""Programs of a launch run together, where that is the same: with one pass through the kernel's Python for many.

Most kernels do the same in every program, on other elements. Their programs take one path through the kernel, no
program reads what any may write, and no two write to one place: then what each computes does not depend on the others,
and NumPy computes it for all at once (`lanes`). Whatever is otherwise is noticed before anything was written, and the
programs run one by one from there, so that every error is that of a single program.

The first program is run by itself as well, and has to leave the same bytes.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from weakref import WeakSet

import numpy as np
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from triptych.harness.arrays import Array
from triptych.harness.emulators.correction import CorrectedBuilder
from triptych.harness.emulators.interpreter.lanes import Apart, Guard, LanesBuilder, LanesReduce, Store
from triptych.harness.emulators.interpreter.language import Patches
from triptych.harness.emulators.memory import Memory, Order

MOST = 128  # programs at once, a power of two as all sizes of blocks are
MOST_ELEMENTS = 2**16  # of the widest load or store of all of them: beyond, caches are too small
MOST_BYTES = 2**25  # that may be written: who wrote each is noted in four
FEWEST = 4  # programs of a launch that is worth it
SPOKEN = {"print", "breakpoint", "set_trace", "input"}
_apart: WeakSet[types.FunctionType] = WeakSet()  # kernels whose programs differ


def run(
    builder: Any,
    kernel: types.FunctionType,
    call: Callable[[], None],
    dimensions: tuple[int, ...],
    order: Order | None,
    one: Callable[[tuple[int, ...]], None],
) -> None:
    """Run the programs of a launch.

    kernel: as its user wrote it
    call: the kernel with its arguments, at whatever place of the grid the builder says
    order: told of what each program reads and writes
    one: runs the program at a place of the grid by itself
    """
    count = int(np.prod(dimensions))
    if not isinstance(builder, CorrectedBuilder) or builder.backwards or count < FEWEST or kernel in _apart:
        for number in range(count):
            one(place_of(number, dimensions))
        return
    launch = _Together(builder, call, dimensions, order or Order())
    launch.first(one)
    try:
        check_silent(kernel, set())
        launch.batches()
    except Exception:  # what is the fault of a program, it raises again by itself
        _apart.add(kernel)
    for number in range(launch.order.program, count):
        one(place_of(number, dimensions))
    launch.end()


def check_silent(kernel: types.FunctionType, seen: set[types.FunctionType]) -> None:
    """Apart if a kernel, or one that it calls, prints or stops by means of Python: for each program then."""
    seen.add(kernel)
    names = kernel.__code__.co_names
    if not SPOKEN.isdisjoint(names):
        raise Apart("it prints")
    for value in map(kernel.__globals__.get, names):
        if isinstance(value, (JITFunction, InterpretedFunction)) and value.fn not in seen:
            check_silent(value.fn, seen)


def place_of(number: int, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """Where in a grid a program is, the last axis fastest."""
    return tuple(map(int, np.unravel_index(number, dimensions)))


class _Together:
    """A launch whose programs are run together."""

    def __init__(
        self, builder: CorrectedBuilder, call: Callable[[], None], dimensions: tuple[int, ...], order: Order
    ) -> None:
        self.builder, self.call, self.dimensions, self.order = builder, call, dimensions, order
        self.memory: Memory = builder.memory
        self.read: set[int] = set()  # regions that may be written, by address

    def first(self, one: Callable[[tuple[int, ...]], None]) -> None:
        """The first program by itself."""
        before, self.memory.order, self.builder.widest = self.memory.order, self.order, 1
        self.order.program = 0 if before else 1  # `one` counts where it was told to
        try:
            one((0,) * len(self.dimensions))
        finally:
            self.memory.order = before

    def batches(self) -> None:
        """As many programs as come in powers of two. Apart, and nothing of a batch is written, if they differ."""
        written = sum(len(region.data) for region in self.memory.regions.values() if region.writable)
        most = min(MOST, MOST_ELEMENTS // self.builder.widest) if written <= MOST_BYTES else 0
        count, start = int(np.prod(self.dimensions)), 0
        while min(most, count - start) > 1:
            size = 1 << (min(most, count - start).bit_length() - 1)
            places = np.stack(np.unravel_index(np.arange(start, start + size), self.dimensions), axis=1)
            self.write(*self.held_back(places), start)
            self.order.program = start = start + size

    def held_back(self, places: Array) -> tuple[list[Store], set[int]]:
        """What the programs at some places would store, and the regions that they read and somebody may write."""
        together, guard = LanesBuilder(self.builder, places), Guard()
        with ExitStack() as stack:
            patches = Patches(stack)
            patches.put(interpreter, "interpreter_builder", together)
            patches.put(interpreter.interpreter_semantic, "builder", together)
            patches.put(interpreter, "ReduceOps", LanesReduce)
            patches.put(self.memory, "order", guard)
            self.call()
        return together.stores, guard.read

    def write(self, stores: list[Store], read: set[int], start: int) -> None:
        """Write what programs from number `start` on store, unless two of them write to one place, or read there."""
        regions = {store.region.address: store.region for store in stores}
        if (self.read | read) & (regions.keys() | self.order.written.keys()):
            raise Apart("what is read is written")
        self.read |= read
        if start == 0 and regions.keys() != self.order.written.keys():
            raise Apart("the first program writes elsewhere")
        before = {address: region.data.copy() for address, region in regions.items()} if start == 0 else {}
        of_first = {address: self.order.owners(regions[address]) == 1 for address in before}
        matters = self.order.matters
        for store in stores:
            matters = self.claim(store, start) or matters
        for store in stores:
            store.region.elements(store.dtype)[store.index] = store.values
        for address, data in before.items():
            region, mine = regions[address], self.order.owners(regions[address]) == 1
            if not np.array_equal(mine, of_first[address]) or (region.data[mine] != data[mine]).any():
                for other, kept in before.items():
                    regions[other].data[...] = kept
                raise Apart("the first program by itself leaves something else")
        self.order.matters = matters

    def end(self) -> None:
        """All programs have run: what those that ran together read, one that ran later may have written."""
        self.order.matters = self.order.matters or bool(self.read & self.order.written.keys())

    def claim(self, store: Store, start: int) -> bool:
        """Note who writes; whether a program of another batch wrote there. Apart if another one of this batch does."""
        size = store.dtype.itemsize
        owners = self.order.owners(store.region)
        elements = owners[: len(owners) // size * size].reshape(-1, size)
        who = (store.who + start + 1).astype(np.int32)[:, None]
        was = elements[store.index]
        other = (was != 0) & (was != who)
        elements[store.index] = who
        if (other & (was > start)).any() or (elements[store.index] != who).any():
            raise Apart("two programs write to one place")
        return bool(other.any())
