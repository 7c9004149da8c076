"""Swap the kernels that a launcher launches, without touching the module it lives in.

`@triton.jit` decides when it decorates whether a kernel is compiled or interpreted. A process that wants both therefore
needs two copies of the functions. `rebind` copies a launcher, with the plain functions of its module, into a namespace
of its own in which every kernel is replaced by what `replace` makes of it. The module stays as it was.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction, KernelInterface

KERNELS = (JITFunction, InterpretedFunction)  # the second where the user has set TRITON_INTERPRET


class Rebinder:
    """Copies functions; each namespace once, so that functions that share one still do."""

    def __init__(self, replace: Callable[[Rebinder, Any], Any]) -> None:
        self.replace = replace
        self.namespaces: dict[int, dict[str, Any]] = {}
        self.kernels: dict[int, Any] = {}

    def function(self, fn: types.FunctionType) -> types.FunctionType:
        cells = tuple(types.CellType(self.value(c.cell_contents)) for c in fn.__closure__ or ())
        copy = types.FunctionType(
            fn.__code__, self.namespace(fn.__globals__), fn.__name__, fn.__defaults__, cells or None
        )
        copy.__kwdefaults__, copy.__annotations__, copy.__doc__ = fn.__kwdefaults__, fn.__annotations__, fn.__doc__
        copy.__module__, copy.__qualname__ = fn.__module__, fn.__qualname__
        return copy

    def namespace(self, original: dict[str, Any]) -> dict[str, Any]:
        if id(original) not in self.namespaces:
            copy = self.namespaces[id(original)] = dict(original)
            for name, value in original.items():
                plain = isinstance(value, types.FunctionType) and value.__globals__ is original
                copy[name] = self.function(value) if plain else self.value(value)
        return self.namespaces[id(original)]

    def value(self, value: Any) -> Any:
        if not isinstance(value, (*KERNELS, Autotuner, Heuristics)):
            return value
        if id(value) not in self.kernels:
            self.kernels[id(value)] = (
                self.replace(self, value) if isinstance(value, KERNELS) else _Untuned(value, self.value(value.fn))
            )
        return self.kernels[id(value)]


class _Untuned(KernelInterface):  # type: ignore[misc]  # Triton is untyped
    """An autotuned kernel with the first of its configurations, or one with heuristics: nothing here can be timed."""

    def __init__(self, tuner: Any, kernel: Any) -> None:
        self.tuner, self.kernel = tuner, kernel

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        if isinstance(self.tuner, Autotuner):
            kwargs = {**self.tuner.configs[0].all_kwargs(), **kwargs}
        else:
            known = dict(zip(self.tuner.arg_names, args, strict=False))
            for name, heuristic in self.tuner.values.items():
                kwargs[name] = heuristic({**known, **kwargs})
        return self.kernel.run(*args, grid=grid, warmup=warmup, **kwargs)
