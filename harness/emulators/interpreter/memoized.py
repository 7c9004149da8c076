"""What the interpreter makes anew with every value and that depends on the value's type alone: made once a type.

A program of a kernel makes a block type and a tensor for each result of each operation, which takes longer than the
operation itself.
"""

from __future__ import annotations

from typing import Any

import triton.language as tl

from triptych.harness.emulators.interpreter.language import Patches

_new_block_type, _new_tensor = tl.block_type.__init__, tl.tensor.__init__
_block_types: dict[tuple[Any, ...], dict[str, Any]] = {}
_tensors: dict[str, dict[str, Any]] = {}


def memoize(patches: Patches) -> None:
    """Have Triton's classes remember, while the patches last."""
    patches.put(tl.block_type, "__init__", _block_type)
    patches.put(tl.tensor, "__init__", _tensor)


def _block_type(self: Any, element_ty: Any, shape: Any) -> None:
    if type(element_ty) is not tl.dtype or not all(type(size) is int for size in shape):  # pointers have more to them
        _new_block_type(self, element_ty, shape)
        return
    key = (element_ty.name, *shape)
    known = _block_types.get(key)
    if known is None:
        _new_block_type(self, element_ty, shape)
        known = _block_types[key] = dict(vars(self))
    vars(self).update(known)


def _tensor(self: Any, handle: Any, type: Any) -> None:
    if not isinstance(type.scalar, tl.dtype) or isinstance(type.scalar, tl.pointer_type):
        _new_tensor(self, handle, type)
        return
    known = _tensors.get(type.name)
    if known is None:
        _new_tensor(self, handle, type)
        known = _tensors[type.name] = {name: value for name, value in vars(self).items() if name != "handle"}
    vars(self).update(known)
    self.handle, self.type = handle, type
