"""A call of a kernel, unwrapped: the function behind it, its arguments, and how it is launched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triptych.simulator.analysis.edges import Edges
from triptych.simulator.errors import KernelError


@dataclass(frozen=True)
class Call:
    """A kernel's function with what one rank calls it with."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cores: int
    edges: Edges  # between named instructions, which `with_schedule` asks for


def call_of(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Unwrap a call.

    kernel: a `Kernel`, a plain function, or a partial of either, whose arguments come before `args` and under `kwargs`

    Raises KernelError if it cannot be called.
    """
    cores = 1
    edges: Edges = ()
    while True:
        if isinstance(kernel, functools.partial):
            args, kwargs = (*kernel.args, *args), {**kernel.keywords, **kwargs}
        cores = getattr(kernel, "cores", cores)
        edges = getattr(kernel, "edges", edges)
        inner = getattr(kernel, "function", None) or getattr(kernel, "func", None)
        if inner is None:
            break
        kernel = inner
    if not callable(kernel):
        raise KernelError(f"expected a kernel, a function, got {type(kernel).__name__}")
    return Call(kernel, args, kwargs, cores, edges)
