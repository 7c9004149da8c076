"""The names of Gluon that the emulation has, as one program's roles call them; every other name is refused.

Of those with an effect:

    warpgroup_mma     acc = a b + acc in float32, from shared memory when the tensor cores get to it
    tma.async_load    a block to shared memory, then its bytes counted at the barrier
    mbarrier.expect   so many bytes more in this phase, and one arrival
"""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.emulators.errors import EmulationError, NotEmulated
from triptych.harness.emulators.gluon.machine import Barrier, Machine, Operation
from triptych.harness.emulators.gluon.shared import Barriers, Descriptor, Shared, allocated
from triptych.harness.emulators.gluon.values import Block, Scalar, as_float32, block, numpy_dtype


class Names:
    """A module of Gluon: the names that are emulated, constants of Triton's own, and a refusal of all others."""

    def __init__(self, module: types.ModuleType, names: dict[str, Any]) -> None:
        self._module, self._names = module, names

    def __getattr__(self, name: str) -> Any:
        if name in self._names:
            return self._names[name]
        if name.endswith("Layout"):
            return Layout
        known = getattr(self._module, name, None)
        if isinstance(known, type(self._module)) or known is None or callable(known):
            raise NotEmulated(f"the emulation of Gluon has no {self._module.__name__.rpartition('.')[2]}.{name}")
        return known


class Product:
    """An accumulator under way, or one that is there."""

    def __init__(self, value: Block | None, operand: Block | None = None) -> None:
        """operand: the left one, where it is read from registers."""
        self.value, self.operand = value, operand


class Layout:
    """Layouts say where numbers lie, which changes none of them."""

    def __init__(self, *args: Any, **named: Any) -> None:
        pass


class BarrierLayout(Layout):
    """Of shared memory that holds barriers."""


class Program:
    """One program of a launch: what its functions see under Gluon's names."""

    def __init__(self, machine: Machine, grid: Sequence[int], at: Sequence[int]) -> None:
        self.machine, self.grid, self.at = machine, grid, at
        self.barriers = 0

    # Shared memory and barriers

    def allocate_shared_memory(self, dtype: Any, shape: Sequence[int], layout: Any, value: Any = None) -> Any:
        if not isinstance(layout, BarrierLayout):
            return allocated(self.machine, dtype, shape, value)
        self.barriers += 1
        name = f"barrier {self.barriers}"
        made = [Barrier(f"{name}[{i}]" if len(shape) > 1 else name) for i in range(int(np.prod(shape)))]
        return Barriers(made) if len(shape) > 1 else made[0]

    def init(self, barrier: Barrier, count: int) -> None:
        barrier.init(int(count))

    def wait(self, barrier: Barrier, phase: int, pred: Any = True, deps: Sequence[Any] = ()) -> None:
        if pred:
            what = f"phase {int(phase)} of {barrier.name}{_line()}"
            self.machine.current.give_way(lambda: barrier.passed(int(phase)), what)

    def arrive(self, barrier: Barrier, count: int = 1, pred: Any = True) -> None:
        if pred:
            barrier.arrive(int(count))
        self.machine.current.give_way()

    def expect(self, barrier: Barrier, bytes_per_cta: int, pred: Any = True) -> None:
        if pred:
            barrier.expect(int(bytes_per_cta))

    # Copies

    def async_load(
        self, source: Descriptor, at: Sequence[int], barrier: Barrier, result: Shared, pred: Any = True
    ) -> None:
        if not pred:
            return
        if result.shape != source.block_shape or result.dtype != source.dtype:
            raise EmulationError(
                f"a block of {source.dtype}{source.block_shape} is copied to {result.dtype}{result.shape}"
            )
        place = [int(i) for i in at]

        def end() -> None:
            result.array[...] = source.read(place)
            barrier.copied(source.nbytes_per_cta)

        what = f"a copy of '{source.name}'{_line()}"
        self.machine.begin(Operation(what, (), (result.array,), end), self.machine.loads)
        self.machine.current.give_way()

    def async_store(self, to: Descriptor, at: Sequence[int], source: Shared) -> None:
        if source.shape != to.block_shape or source.dtype != to.dtype:
            raise EmulationError(f"a block of {source.dtype}{source.shape} is copied to {to.dtype}{to.block_shape}")
        place = [int(i) for i in at]
        what = f"a copy to '{to.name}'{_line()}"
        stores = self.machine.current.stores
        self.machine.begin(Operation(what, (source.array,), (), lambda: to.write(place, source.array)), stores)
        self.machine.current.give_way()

    def store_wait(self, pendings: int, read_only: bool = True) -> None:
        stores = self.machine.current.stores
        self.machine.current.give_way(lambda: len(stores) <= int(pendings), f"copies to memory{_line()}")

    def fence_async_shared(self, cluster: bool = False) -> None:
        self.machine.fence()

    # Products

    def warpgroup_mma(
        self, a: Any, b: Shared, acc: Any, *, use_acc: Any = True, precision: Any = None,
        max_num_imprecise_acc: Any = None, is_async: bool = False,
    ) -> Any:  # fmt: skip
        before = acc if isinstance(acc, Product) else Product(acc)
        made = Product(None, a if isinstance(a, Block) else None)
        if a.shape[1] != b.shape[0] or a.dtype != b.dtype:
            raise EmulationError(f"a product of {a.dtype}{list(a.shape)} and {b.dtype}{b.shape}")

        def end() -> None:
            left = as_float32(a if isinstance(a, Block) else a.array)
            product = left @ as_float32(b.array)
            made.value = block(product + before.value if use_acc else product)

        reads = (b.array,) if isinstance(a, Block) else (a.array, b.array)
        role = self.machine.current
        self.machine.begin(Operation(f"a product{_line()}", reads, (), end), role.products)
        role.give_way()
        return made if is_async else self.warpgroup_mma_wait(0, (made,))

    def warpgroup_mma_wait(self, num_outstanding: int = 0, deps: Sequence[Any] = ()) -> Any:
        role = self.machine.current
        role.give_way(lambda: len(role.products) <= int(num_outstanding), f"products{_line()}")
        found = []
        for one in deps:
            if not isinstance(one, Product):
                found.append(one)
                continue
            if one.value is None:
                raise EmulationError(f"a product is waited for that may still be under way{_line()}")
            if one.operand is not None and not any(one.operand is other for other in deps):
                raise EmulationError(
                    f"the operand in registers of a product that was under way is not among the deps{_line()}: "
                    "its registers may hold other numbers by then"
                )
            found.append(one.value)
        return found[0] if len(found) == 1 else tuple(found)

    # Roles

    def warp_specialize(self, functions: Sequence[Any], worker_num_warps: Any, worker_num_regs: Any = None) -> Any:
        (first, given), *others = functions
        workers = [
            self.machine.add(f"worker {i} ({function.__name__})", partial(function, *args))
            for i, (function, args) in enumerate(others)
        ]
        result = first(*given)
        self.machine.current.give_way(lambda: builtins.all(worker.done for worker in workers), "the workers' end")
        return result

    def names(self, gluon: Any, hopper: Any) -> dict[int, Any]:
        """What stands for each module and function of Gluon, by the `id` of the real one."""
        mbarrier = {name: getattr(self, name) for name in ("init", "wait", "arrive", "expect")}
        mbarrier |= {"MBarrierLayout": BarrierLayout, "invalidate": lambda barrier: None}
        tma = {name: getattr(self, name) for name in ("async_load", "async_store", "store_wait")}
        functions: dict[str, Any] = {"warpgroup_mma_init": Product, "fence_async_shared": self.fence_async_shared}
        functions |= {name: getattr(self, name) for name in ("warpgroup_mma", "warpgroup_mma_wait")}
        modules: dict[str, Any] = {"mbarrier": Names(hopper.mbarrier, mbarrier), "tma": Names(hopper.tma, tma)}
        language = {
            **MATHS,
            "program_id": lambda axis: Scalar(self.at[axis]),
            "num_programs": lambda axis: Scalar(self.grid[axis]),
            "allocate_shared_memory": self.allocate_shared_memory,
            "warp_specialize": self.warp_specialize,
            "barrier": lambda: None,  # of one role's threads, which are one here
        }
        found: dict[int, Any] = {id(gluon): Names(gluon, language), id(hopper): Names(hopper, {**functions, **modules})}
        found |= {id(getattr(hopper, name)): value for name, value in {**functions, **modules}.items()}
        for module, names in ((gluon, language), (hopper.mbarrier, mbarrier), (hopper.tma, tma)):
            found |= {id(getattr(module, name)): value for name, value in names.items() if hasattr(module, name)}
        return found


def _line() -> str:
    """Where the kernel is, as " (file.py:12)"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and Path(frame.f_code.co_filename).parent == Path(__file__).parent:
        frame = frame.f_back
    return f" ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def _extreme(of: Callable[..., Any]) -> Callable[..., Any]:
    def found(x: Any, y: Any) -> Any:
        value = of(x, y)
        return Scalar(int(value)) if isinstance(x, int) and isinstance(y, int) else block(value)

    return found


def _reduced(of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis=None, **named: block(of(np.asarray(x), axis=axis))


def _each(of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: block(of(np.asarray(x, np.float32)))


def full(shape: Sequence[int], value: Any, dtype: Any, layout: Any = None) -> Block:
    return block(np.full([int(n) for n in shape], value, numpy_dtype(dtype)))


def where(condition: Any, x: Any, y: Any) -> Any:
    typed = x if isinstance(x, np.ndarray) else y
    return block(np.where(np.asarray(condition), x, y).astype(getattr(typed, "dtype", np.float32)))


MATHS: dict[str, Any] = {
    "arange": lambda start, end, layout=None: block(np.arange(int(start), int(end), dtype=np.int32)),
    "full": full,
    "zeros": lambda shape, dtype, layout=None: full(shape, 0, dtype),
    "where": where,
    "maximum": _extreme(np.fmax),
    "minimum": _extreme(np.fmin),
    "max": _reduced(np.fmax.reduce),
    "min": _reduced(np.fmin.reduce),
    "sum": _reduced(np.sum),
    "exp2": _each(np.exp2),
    "exp": _each(np.exp),
    "log2": _each(np.log2),
    "log": _each(np.log),
    "abs": lambda x: block(np.abs(x)),
    "cdiv": lambda x, y: (Scalar(x) + y - 1) // y,
    "convert_layout": lambda value, layout, assert_trivial=False: value,
    "static_range": builtins.range,
    "static_assert": lambda holds, message="": None,
    "constexpr": lambda value: value,
    "to_tensor": lambda value: Scalar(value) if type(value) is int else value,
}
