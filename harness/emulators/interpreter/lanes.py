"""Values of several programs at once: an array with an axis for the programs before all others, and its operations.

An operation that treats all elements alike is one of NumPy on that array, with the bits that it has program by program.
What looks at one value, as a branch or the bounds of a loop, finds it where it is that of all programs, and else raises
`Apart`; so does every operation that is not known to be alike for all programs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import TensorHandle

from triptych.harness.arrays import Array
from triptych.harness.emulators.correction import CorrectedBuilder, CorrectedReduce
from triptych.harness.emulators.memory import Region

NAMES = """
    si_to_fp ui_to_fp fp_to_si fp_to_ui fp_ext fp_trunc int_cast fp_to_fp bitcast int_to_ptr ptr_to_int
    fadd fsub fmul fdiv frem fneg precise_divf approx_divf fabs iabs fma clampf select
    add sub mul sdiv udiv idiv srem urem shl lshr ashr umulhi and or xor addptr
    minsi minui minimumf minnumf maxsi maxui maximumf maxnumf
    icmpSLE icmpSLT icmpSGE icmpSGT icmpULE icmpULT icmpUGE icmpUGT icmpEQ icmpNE
    fcmpOLT fcmpOGT fcmpOLE fcmpOGE fcmpOEQ fcmpONE fcmpULT fcmpUGT fcmpULE fcmpUGE fcmpUEQ fcmpUNE
    cos sin exp exp2 log log2 sqrt precise_sqrt rsqrt floor ceil erf dot join split
"""
ELEMENTWISE = {f"create_{name}" for name in NAMES.split()}  # or of each matrix, or along the last axis


class Apart(Exception):
    """Programs cannot be run together here."""


class Lanes:
    """What `TensorHandle` is for one program, for several: `values` has the programs as its first axis."""

    def __init__(self, values: Array, dtype: Any) -> None:
        self.values, self.dtype = values, dtype

    get_element_ty = TensorHandle.get_element_ty

    @property
    def data(self) -> Array:
        """The one value that all programs have. Apart if there is none."""
        if not (self.values == self.values[:1]).all():
            raise Apart("a value of each program is looked at as one")
        first: Array = self.values[0]
        return first

    def set_attr(self, key: str, value: Any) -> None:
        """Hints of alignment, which change nothing."""


class Store:
    """What a store of several programs would write: elements of a region, and which program writes each."""

    def __init__(self, region: Region, dtype: np.dtype[Any], index: Array, values: Array, who: Array) -> None:
        self.region, self.dtype, self.index, self.values, self.who = region, dtype, index, values, who


class Guard:
    """In the place of a launch's `Order`: which regions that may be written programs read."""

    def __init__(self) -> None:
        self.read: set[int] = set()  # by address

    def reads(self, region: Region, index: Array, size: int) -> None:
        if region.writable:
            self.read.add(region.address)

    def writes(self, region: Region, index: Array, size: int) -> None:
        raise Apart("a write that is not held back")


class LanesBuilder:
    """A builder for programs at several places of a grid; it holds back what they store."""

    def __init__(self, builder: CorrectedBuilder, places: Array) -> None:
        """places: an index of the grid for each program, [programs, 3]."""
        self.builder, self.places, self.stores = builder, places, list[Store]()

    def __getattr__(self, name: str) -> Any:
        of_one = getattr(self.builder, name)
        if not name.startswith("create_"):
            return of_one
        found = self._alike(name, of_one)
        setattr(self, name, found)
        return found

    def _alike(self, name: str, of_one: Callable[..., Any]) -> Callable[..., Any]:
        def create(*args: Any, **named: Any) -> Any:
            if not any(type(x) is Lanes for x in (*args, *named.values())):
                if name in ELEMENTWISE or name == "create_make_range":
                    return of_one(*args, **named)
                raise Apart(name)
            if name not in ELEMENTWISE:
                raise Apart(name)
            ranks = {rank(x) for x in (*args, *named.values()) if type(x) in (Lanes, TensorHandle)}
            if len(ranks) > 1:
                raise Apart(f"{name} of values of several ranks")
            made = of_one(*map(whole, args), **{key: whole(x) for key, x in named.items()})
            return tuple(map(as_lanes, made)) if isinstance(made, tuple) else as_lanes(made)

        return create

    def create_extern_elementwise(self, *about: Any) -> Any:
        library, path, symbol, args, kind, pure = about
        if len({rank(x) for x in args}) > 1:
            raise Apart(f"{symbol} of values of several ranks")
        made = self.builder.create_extern_elementwise(library, path, symbol, [*map(whole, args)], kind, pure)
        return as_lanes(made) if any(type(x) is Lanes for x in args) else made

    def create_get_program_id(self, axis: int) -> Lanes:
        return Lanes(self.places[:, axis : axis + 1].astype(np.int32), tl.int32)

    def create_get_num_programs(self, axis: int) -> Any:
        return self.builder.create_get_num_programs(axis)

    def create_splat(self, kind: Any, x: Any) -> Any:
        if type(x) is not Lanes:
            return self.builder.create_splat(kind, x)
        if isinstance(x.dtype, tl.block_type):
            raise Apart("a splat of a block")
        shape = (len(x.values), *kind.shape)
        full = np.empty(shape, self.builder.np_dtype(x.dtype))
        full[...] = x.values.reshape(-1, *[1] * len(kind.shape))
        return Lanes(full, x.dtype.scalar)

    def create_expand_dims(self, x: Any, axis: int) -> Any:
        if type(x) is not Lanes:
            return self.builder.create_expand_dims(x, axis)
        return Lanes(np.expand_dims(x.values, axis + 1 if axis >= 0 else axis), x.dtype.scalar)

    def create_broadcast(self, x: Any, shape: Any) -> Any:
        if type(x) is not Lanes:
            return self.builder.create_broadcast(x, shape)
        return Lanes(np.broadcast_to(x.values, (len(x.values), *shape)), x.dtype.scalar)

    def create_trans(self, x: Any, order: Any) -> Any:
        if type(x) is not Lanes:
            return self.builder.create_trans(x, order)
        return Lanes(np.transpose(x.values, (0, *(axis + 1 for axis in order))), x.dtype.scalar)

    def create_reshape(self, x: Any, shape: Any, allow_reorder: bool) -> Any:
        if type(x) is not Lanes:
            return self.builder.create_reshape(x, shape, allow_reorder)
        return Lanes(x.values.reshape(len(x.values), *shape), x.dtype.scalar)

    def create_load(self, pointers: Any, *policy: Any, **named: Any) -> Any:
        return self.create_masked_load(pointers, ON, None, *policy, **named)

    def create_masked_load(self, pointers: Any, mask: Any, other: Any, *policy: Any, **named: Any) -> Any:
        shape = np.broadcast_shapes(whole(pointers).data.shape, whole(mask).data.shape)
        at = TensorHandle(np.broadcast_to(whole(pointers).data, shape), pointers.dtype)
        on = TensorHandle(np.broadcast_to(whole(mask).data, shape), tl.int1)
        alike = type(pointers) is type(mask) is TensorHandle and type(other) is not Lanes
        if type(other) is Lanes and type(pointers) is type(mask) is TensorHandle:
            raise Apart("what is loaded is alike, and what stands for it is not")
        loaded = self.builder.create_masked_load(at, on, whole(other), *policy, **named)
        return loaded if alike else Lanes(loaded.data, loaded.dtype)

    def create_store(self, pointers: Any, values: Any, *policy: Any, **named: Any) -> None:
        self.create_masked_store(pointers, values, ON, *policy, **named)

    def create_masked_store(self, pointers: Any, values: Any, mask: Any, *policy: Any, **named: Any) -> None:
        if type(pointers) is not Lanes:
            raise Apart("all programs write to the same place")
        memory, dtype = self.builder.memory, self.builder.memory_dtype(pointers.get_element_ty())
        shape = pointers.values.shape
        on = np.broadcast_to(np.asarray(whole(mask).data, bool), shape)
        who = np.broadcast_to(np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape)[on]
        given = np.broadcast_to(whole(values).data, shape)[on].astype(dtype, copy=False)
        for region, lanes, index in memory._resolve(pointers.values[on], dtype, "writes", ""):
            if not region.writable:
                raise Apart("a write to an input")
            self.stores.append(Store(region, dtype, index, given[lanes], who[lanes]))


ON = TensorHandle(np.ones(1, bool), tl.int1)


def rank(x: Any) -> int:
    return x.values.ndim - 1 if type(x) is Lanes else x.data.ndim


def as_lanes(x: Any) -> Lanes:
    return Lanes(x.data, x.dtype)


def whole(x: Any) -> Any:
    """What an operation of NumPy takes: the handle of one program, or that of all of them."""
    return TensorHandle(x.values, x.dtype) if type(x) is Lanes else x


class LanesReduce(CorrectedReduce):
    """`tl.reduce` of several programs: the same tree, along the axis that comes one later."""

    def apply(self, input: Any) -> Any:
        if not isinstance(input, tuple):
            return self.apply((input,))[0]
        lanes = [x.handle for x in input if type(x.handle) is Lanes]
        if not lanes:
            return super().apply(input)
        self.check_tensor(input)
        dimensions, count = len(input[0].shape), len(lanes[0].values)
        last = (
            self.axis is None and dimensions == 1 or self.axis is not None and self.axis % dimensions == dimensions - 1
        )
        values = [np.broadcast_to(whole(x.handle).data, (count, *(int(n) for n in x.shape))) for x in input]
        if self.combine_fn in (tl.standard._elementwise_max, tl.standard._elementwise_min) and not last:
            return self._one_by_one(input, values)  # NumPy might take it in another order
        flat = [np.ascontiguousarray(x.reshape(count, -1) if self.axis is None else x) for x in values]
        parts = [
            tl.tensor(TensorHandle(data, x.dtype.scalar), tl.block_type(x.dtype, list(data.shape)))
            for data, x in zip(flat, input, strict=True)
        ]
        axis = 1 if self.axis is None else self.axis % dimensions + 1
        found = CorrectedReduce(axis, self.combine_fn, self.keep_dims and self.axis is not None).apply(tuple(parts))
        shape = [1] * dimensions if self.keep_dims and self.axis is None else list(found[0].handle.data.shape[1:])
        return tuple(self._of_each(x.handle.data, x.dtype, shape) for x in found)

    def _one_by_one(self, input: Any, values: list[Array]) -> Any:
        each = [
            super(LanesReduce, self).apply(
                tuple(tl.tensor(TensorHandle(v[i], x.dtype.scalar), x.type) for v, x in zip(values, input, strict=True))
            )
            for i in range(len(values[0]))
        ]
        return tuple(
            tl.tensor(Lanes(np.stack([x.handle.data for x in one]), one[0].handle.dtype), one[0].type)
            for one in zip(*each, strict=True)
        )

    def _of_each(self, data: Array, dtype: Any, shape: list[int]) -> Any:
        kind = tl.block_type(dtype, shape) if shape else dtype
        return tl.tensor(Lanes(data.reshape(-1, *(shape or [1])), dtype.scalar), kind)
