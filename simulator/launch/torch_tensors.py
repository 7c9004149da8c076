"""Arguments and outputs of host code in PyTorch: arrays as tensors and back, and shapes as tensors without numbers.

PyTorch is not imported here: whoever has host code of it has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from triptych.simulator.dtypes import dtype_of
from triptych.simulator.launch.frameworks import NumPy, Torch
from triptych.simulator.memory.shapes import ShapeDtype


def mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """`value` with `change` of everything in its tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        return tuple(mapped(change, x) for x in value)
    if isinstance(value, dict):
        return {name: mapped(change, x) for name, x in value.items()}
    return change(value)


def tensor_of(x: Any) -> Any:
    """A tensor on the bytes of an array, or one without numbers for a shape; anything else as it is."""
    torch = sys.modules["torch"]
    if isinstance(x, ShapeDtype):
        return torch.empty(x.shape, dtype=torch_dtype(x.dtype), device="meta")
    return Torch.give(x, dtype_of(x.dtype), (), "an argument") if NumPy.owns(x) else x


def array_of(x: Any) -> Any:
    """The opposite."""
    if not Torch.owns(x):
        return x
    return shape_of(x) if x.device.type == "meta" else Torch.array(x, "an output")


def shape_of(x: Any) -> Any:
    """Shape and dtype of a tensor, without its numbers; anything else as it is."""
    if not Torch.owns(x):
        return x
    return ShapeDtype(tuple(int(n) for n in x.shape), str(x.dtype).removeprefix("torch."))


def like(x: Any) -> Callable[[Any], Any]:
    """What makes a tensor without numbers of a shape, on the device of `x`."""
    return lambda out: x.new_empty(out.shape, dtype=torch_dtype(out.dtype)) if isinstance(out, ShapeDtype) else out


def torch_dtype(dtype: Any) -> Any:
    return getattr(sys.modules["torch"], str(dtype).removesuffix("_"))
