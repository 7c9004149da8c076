"""A kernel that is called inside `torch.compile(backend="neuron")`: one node of the graph, as on the device.

PyTorch's compiler takes a function into its graph as it is if its arguments are numbers, strings and tensors, so that a
kernel goes by its number.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

_numbers = itertools.count()
KERNELS: WeakValueDictionary[int, Any] = WeakValueDictionary()


@dataclass(frozen=True)
class Compiler:
    """PyTorch's, as far as a call of a kernel needs it.

    call: of a kernel's number, its cores (None leaves them), its arguments, and those by keyword; gives its outputs.
    """

    is_compiling: Callable[[], bool]
    call: Callable[[int, int | None, tuple[Any, ...], dict[str, Any]], Any]


compiler: Compiler | None = None  # once somebody has compiled for the device


def numbered(kernel: Any) -> int:
    """The number by which a graph calls a kernel."""
    number = next(_numbers)
    KERNELS[number] = kernel
    return number
