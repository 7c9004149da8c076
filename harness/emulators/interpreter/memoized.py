"""What the interpreter makes anew with every value and that depends on the value's type alone: made once a type.

A program of a kernel makes a block type and a tensor for each result of each operation, and broadcasts the operands of
each, which takes longer than the operation itself.
"""

from __future__ import annotations

from typing import Any

import triton.language as tl
from triton.language.semantic import TritonSemantic

from triptych.harness.emulators.interpreter.language import Patches

_new_block_type, _new_tensor = tl.block_type.__init__, tl.tensor.__init__
_broadcast_any, _cast_any = TritonSemantic.broadcast_impl_value, TritonSemantic.cast
_block_types: dict[tuple[Any, ...], dict[str, Any]] = {}
_shapes: dict[tuple[int, ...], Any] = {}  # of block types: one object for each
_tensors: dict[str, dict[str, Any]] = {}


def memoize(patches: Patches) -> None:
    """Have Triton's classes remember, while the patches last."""
    patches.put(tl.block_type, "__init__", _block_type)
    patches.put(tl.tensor, "__init__", _tensor)
    patches.put(TritonSemantic, "broadcast_impl_value", _broadcast)
    patches.put(TritonSemantic, "cast", _cast)


def _block_type(self: Any, element_ty: Any, shape: Any) -> None:
    sizes = tuple(shape.values) if type(shape) is tl.tuple else tuple(shape)
    key = (element_ty.name, *sizes)
    known = None if isinstance(element_ty, tl.pointer_type) else _block_types.get(key)  # a pointer has more to it
    if known is None:
        _new_block_type(self, element_ty, shape)
        if not all(type(size) is int for size in sizes):
            return
        self.shape = _shapes.setdefault(sizes, self.shape)
        known = _block_types[key] = dict(vars(self))
    vars(self).update(known)


def _tensor(self: Any, handle: Any, type: Any) -> None:
    known = _tensors.get(type.name)
    if known is None:
        _new_tensor(self, handle, type)
        if isinstance(type.scalar, tl.dtype) and not isinstance(type.scalar, tl.pointer_type):
            _tensors[type.name] = {name: value for name, value in vars(self).items() if name != "handle"}
        return
    vars(self).update(known)
    self.handle, self.type = handle, type


def _broadcast(self: Any, lhs: Any, rhs: Any) -> Any:
    """A scalar beside a block becomes one; blocks of one shape are what they are."""
    one, other = lhs.type, rhs.type
    if isinstance(one, tl.block_type):
        if not isinstance(other, tl.block_type):
            return lhs, _splat(self, rhs, one)
        if one.shape is other.shape:
            return lhs, rhs
    elif isinstance(other, tl.block_type):
        return _splat(self, lhs, other), rhs
    return _broadcast_any(self, lhs, rhs)


def _splat(self: Any, scalar: Any, block: Any) -> Any:
    wanted = tl.block_type(scalar.type.scalar, block.shape)
    return tl.tensor(self.builder.create_splat(wanted, scalar.handle), wanted)


def _cast(self: Any, input: Any, dst_ty: Any, *rounding: Any, **named: Any) -> Any:
    """What has the dtype already is what it is."""
    if input.dtype is dst_ty and not rounding and not named:
        return input
    return _cast_any(self, input, dst_ty, *rounding, **named)
