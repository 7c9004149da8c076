"""A launch: arguments become what the compiler would take them for, and the programs of the grid run."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import triton.language as tl
from triton.backends.amd.compiler import HIPOptions
from triton.backends.nvidia.compiler import CUDAOptions
from triton.runtime import interpreter
from triton.runtime.interpreter import TensorHandle
from triton.runtime.jit import JITFunction, KernelParam, mangle_type
from triton.tools.tensor_descriptor import TensorDescriptor

from triptych.harness.emulators.errors import EmulationError, KernelRaised
from triptych.harness.emulators.interpreter import together
from triptych.harness.emulators.interpreter.launches import described
from triptych.harness.emulators.interpreter.rewriting import rewritten
from triptych.harness.emulators.memory import Order

OPTIONS = {f.name for options in (CUDAOptions, HIPOptions) for f in fields(options)} | {"launch_pdl", "stream"}
MOST_PROGRAMS = (2**31 - 1, 65535, 65535)  # CUDA C++ Programming Guide, "Technical Specifications": a grid's dimensions


class Launch:
    """One launch of a kernel, or several of one session: the functions that its programs have reached, rewritten."""

    def __init__(self, builder: Any, replaced: Mapping[int, Any]) -> None:
        self.builder, self.replaced = builder, replaced
        self._functions: dict[types.FunctionType, types.FunctionType] = {}

    def function(self, kernel: Any) -> types.FunctionType:
        """The function of a kernel, or of one that kernels call, as the interpreter runs it."""
        if kernel.fn not in self._functions:
            self._functions[kernel.fn] = rewritten(kernel.fn, self.replaced)
        return self._functions[kernel.fn]

    def run(self, kernel: Any, grid: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """`kernel[grid](*args, **named)`."""
        given = arguments_of(kernel, args, named)
        dimensions = dimensions_of(grid, given)
        arguments = {p.name: self._argument(p, given[p.name]) for p in parameters_of(kernel)}
        function = self.function(kernel)
        self.builder.set_grid_dim(*dimensions)

        def programs(order: Order | None) -> None:
            def one(place: tuple[int, ...]) -> None:
                self.builder.set_grid_idx(*place)
                if order is not None:
                    order.program += 1
                function(**arguments)

            together.run(self.builder, kernel.fn, lambda: function(**arguments), dimensions, order, one)

        if self.builder.launches is None:
            programs(None)
            return
        met = self.builder.launches.again if self.builder.backwards else self.builder.launches.first
        memory = self.builder.memory
        met(memory, described(kernel, dimensions, given, memory), programs)

    def _argument(self, parameter: KernelParam, value: Any) -> Any:
        """`value` as the compiler types it: constants stay what Python has, all else is a scalar or a pointer."""
        if isinstance(value, tl.constexpr):
            value = value.value
        if parameter.is_constexpr or value is None:
            return value
        if isinstance(value, tuple):
            parts = [self._argument(parameter, v) for v in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if isinstance(value, TensorDescriptor):
            return interpreter._implicit_cvt(value)
        if type(value) is int and value == 1 and not parameter.do_not_specialize and not parameter.annotation_type:
            return value  # a constant to the compiler
        if isinstance(value, (bool, int, float)):
            dtype = tl.str_to_ty(parameter.annotation_type or mangle_type(value), None)
            data = np.array([value]).astype(self.builder.np_dtype(dtype))
            return tl.tensor(TensorHandle(data, dtype), dtype)
        if hasattr(value, "data_ptr"):
            dtype = tl.str_to_ty(mangle_type(value), None)
            address = self.builder.memory.address_of(value)
            self.builder.memory.call(address, parameter.name)
            return tl.tensor(TensorHandle(np.array([address], np.uint64), dtype), dtype)
        if isinstance(value, (str, tl.dtype, JITFunction, interpreter.InterpretedFunction)):
            return value
        raise TypeError(f"a kernel takes no {type(value).__name__} as its argument {parameter.name}")


def parameters_of(kernel: Any) -> list[KernelParam]:
    """What Triton knows of a kernel's parameters; one that was decorated under TRITON_INTERPRET keeps it elsewhere."""
    if isinstance(kernel, JITFunction):
        known: list[KernelParam] = kernel.params
        return known
    fixed = kernel.kwargs.get("do_not_specialize") or ()
    found = enumerate(inspect.signature(kernel.fn).parameters.values())
    return [KernelParam(i, p, i in fixed or p.name in fixed, False) for i, p in found]


def arguments_of(kernel: Any, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """What a launch gives each parameter; an error if that is no launch of this kernel."""
    signature = inspect.signature(kernel.fn)
    given = {name: value for name, value in named.items() if name in signature.parameters}
    unknown = [name for name in named if name not in signature.parameters and name not in OPTIONS]
    if unknown:
        raise EmulationError(f"kernel {kernel.__name__} has no parameter, and Triton no option, {unknown[0]!r}")
    try:
        bound = signature.bind(*args, **given)
    except TypeError as error:
        raise KernelRaised(f"kernel {kernel.__name__}{signature} cannot be launched so: {error}") from None
    bound.apply_defaults()
    return dict(bound.arguments)


def dimensions_of(grid: Any, arguments: dict[str, Any]) -> tuple[int, ...]:
    """The three sizes of a grid, which may be a function of the arguments."""
    sizes = tuple(grid(arguments) if callable(grid) else grid)
    if not 1 <= len(sizes) <= 3:
        raise EmulationError(f"a grid has one to three dimensions, got {grid!r}")
    dimensions = tuple(int(n) for n in sizes + (1,) * (3 - len(sizes)))
    for axis, (n, most) in enumerate(zip(dimensions, MOST_PROGRAMS, strict=True)):
        if n > most:
            raise EmulationError(f"axis {axis} of a grid has {most} programs at most on CUDA, got {n}")
    return dimensions


def tune(tuner: Any, *args: Any, **named: Any) -> Any:
    """In place of `Autotuner.run`: with the first configuration that is not pruned, for nothing here can be timed."""
    return run_with(tuner, configurations(tuner, args, named)[0], args, named)


def configurations(tuner: Any, args: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """Those of an autotuned kernel that it does not prune for these arguments, as Triton would; if chosen, one."""
    tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
    found: list[Any] = tuner.prune_configs(named) if len(tuner.configs) > 1 else tuner.configs
    name = tuner.base_fn.__name__
    if _met is not None:
        _met.setdefault(name, [plain(config) for config in found])
    return [config for config in found if plain(config) == _chosen.get(name)][:1] or found


_chosen: Mapping[str, Mapping[str, Any]] = {}
_met: dict[str, list[Mapping[str, Any]]] | None = None


def plain(config: Any) -> Mapping[str, Any]:
    """A configuration as it is written down: its constants, and the options of the compiler."""
    return {name: x for name, x in config.all_kwargs().items() if isinstance(x, (bool, int, float, str))}


@contextmanager
def choosing(chosen: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within, autotuned kernels have one configuration, given by the name of the kernel."""
    global _chosen
    before, _chosen = _chosen, chosen
    try:
        yield
    finally:
        _chosen = before


@contextmanager
def autotuned() -> Iterator[dict[str, list[Mapping[str, Any]]]]:
    """The configurations of each autotuned kernel that is launched within, at its first launch."""
    global _met
    before, _met = _met, {}
    try:
        yield _met
    finally:
        _met = before


def run_with(tuner: Any, config: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """A launch of an autotuned kernel with one of its configurations."""
    tuner.best_config = config
    if config.pre_hook is not None:
        config.pre_hook({**tuner.nargs, **named, **config.all_kwargs()})
    return tuner.fn.run(*args, **named, **config.all_kwargs())
