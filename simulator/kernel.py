"""Kernels: `nki.jit`, `nki.simulate`, and `run`, which also returns the trace."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.capacity import check_capacity
from triptych.simulator.chips import chip_of, default_target
from triptych.simulator.cores import Core, Who, Work, take_turns
from triptych.simulator.dtypes import TABLE
from triptych.simulator.errors import KernelError, NkiError, show_line
from triptych.simulator.lint.live import warn
from triptych.simulator.machine import Machine, Options, input_tensor, on_machine, running
from triptych.simulator.older import JIT_OPTIONS
from triptych.simulator.races import check_races
from triptych.simulator.tensor import NkiTensor
from triptych.simulator.trace import Trace

Array = NDArray[Any]


class Kernel:
    """A function decorated with `nki.jit`; `kernel[2]` launches it on two cores."""

    def __init__(self, function: Callable[..., Any], cores: int = 1) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.cores = cores

    def __getitem__(self, grid: Any) -> Kernel:
        cores = grid[0] if isinstance(grid, tuple) and len(grid) == 1 else grid
        if cores not in (1, 2):
            raise KernelError(f"kernel[n] takes 1 or 2 logical cores, got {grid!r}")
        return Kernel(self.function, cores)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if running():  # a kernel called by a kernel is a plain function
            return self.function(*args, **kwargs)
        if os.environ.get("NKI_SIMULATOR") == "1":
            return simulate(self)(*args, **kwargs)
        raise KernelError(
            f"{self.function.__name__} was called directly and there is no Neuron device; use nki.simulate(kernel)(...)"
            " or set NKI_SIMULATOR=1"
        )


def jit(fn: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Mark a function as a kernel (nki.jit)."""
    if "platform_target" in kwargs:
        raise KernelError("nki.jit takes no platform_target since NKI 0.3; set NEURON_PLATFORM_TARGET_OVERRIDE")
    unknown = set(kwargs) - JIT_OPTIONS
    if unknown:
        raise KernelError(f"nki.jit takes no argument {', '.join(sorted(unknown))}")
    return jit if fn is None else Kernel(fn)


@dataclass
class Run:
    """What a simulated run leaves: its outputs (an array, or a tuple of them) and its trace."""

    outputs: Any
    trace: Trace


def run(kernel: Any, *args: Any, target: str = "trn2", options: Options | None = None, **kwargs: Any) -> Run:
    """Execute `kernel` on the simulator of `target`, on one rank.

    Arrays become HBM tensors; other arguments go through unchanged. Inputs that the kernel writes to are updated in
    place. Returns `Run` with `.outputs` (NumPy arrays of the kernel's dtypes) and `.trace`.

    Raises NkiError (in one sentence, with the kernel's line) for whatever the kernel does wrong.
    """
    launch = Launch(kernel, args, kwargs, target, options or Options())
    with without_collector():
        results = take_turns(launch.works())
    return launch.finished(results)


class Launch:
    """One rank's call of a kernel: its memory, its trace and its cores."""

    def __init__(
        self,
        kernel: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        target: str,
        options: Options,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.function = kernel
        if not isinstance(kernel, functools.partial):  # whose arguments go with it
            self.function = getattr(kernel, "function", None) or getattr(kernel, "func", None) or kernel
        if not callable(self.function):
            raise KernelError(f"expected a kernel, a function, got {type(kernel).__name__}")
        _check_call(self.function, args, kwargs)
        if options.lint:
            warn(self.function)
        self.rank = rank
        self.options = options
        cores = getattr(kernel, "cores", 1)
        chip = chip_of(target)
        if cores > 1 and chip.generation < 3:
            raise KernelError(
                f"kernel[{cores}] needs NeuronCore-v3 or newer, and the target is {chip.name}",
                source="about-neuron/arch/neuron-hardware/trainium2.rst",
            )
        self.trace = Trace(chip, target)
        shared: list[NkiTensor] = []
        self.machines = [Machine(chip, self.trace, options, n, cores, shared, rank, ranks) for n in range(cores)]
        self.bound: list[tuple[NkiTensor, Array]] = []
        names = _argument_names(self.function, len(args))
        self.args = [self._wrap(v, n) for v, n in zip(args, names, strict=True)]
        self.kwargs = {k: self._wrap(v, k) for k, v in kwargs.items()}
        for m in self.machines:
            m.arguments = len(self.bound)

    def _wrap(self, value: Any, name: str) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if 0 in value.shape or value.ndim == 0:
            raise KernelError(f"argument {name} has shape {value.shape}; every axis needs at least one element")
        first = self.machines[0]
        tensor = input_tensor(first, value if first.ranks == 1 else value.copy(), name)  # each rank has its own HBM
        self.bound.append((tensor, value))
        return tensor

    def works(self) -> dict[Who, Work]:
        """What each core of the rank does."""

        def work(m: Machine, core: Core) -> Any:
            m.meet = core.meet
            with on_machine(m), np.errstate(all="ignore"):
                try:
                    return self.function(*self.args, **self.kwargs)
                except NkiError as e:
                    if m.ranks > 1 and e.rank is None:
                        e.rank = m.rank
                    raise

        return {(m.rank, m.core): functools.partial(work, m) for m in self.machines}

    def written(self) -> list[tuple[NkiTensor, Array]]:
        """The arguments that live in a copy and that the kernel wrote to, each with the caller's array."""
        copies = [(tensor, array) for tensor, array in self.bound if not np.shares_memory(tensor.array, array)]
        if not copies:
            return []
        ids = {region.allocation.id for event in self.trace.events for region in event.writes}
        return [(tensor, array) for tensor, array in copies if tensor.storage.allocation.id in ids]

    def finished(self, results: dict[Who, Any]) -> Run:
        """What the rank leaves: its trace checked, its arguments written back, its outputs."""
        if self.options.check_capacity:
            check_capacity(self.trace)
        if self.options.check_races and len(self.machines) > 1:
            check_races(self.trace)
        for tensor, array in self.written():
            _write_back(tensor, array, self.function)
        result = results[self.rank, 0]
        if isinstance(result, (tuple, list)):
            return Run(tuple(_output(t, self.function) for t in result), self.trace)
        return Run(_output(result, self.function), self.trace)


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's cyclic collector off: a trace is many small objects without cycles, and walking them cost a third.

    Afterwards all that is alive counts as old, as if it had been walked.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _check_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as e:
        name = getattr(function, "__name__", "kernel")
        raise KernelError(f"{name}{inspect.signature(function)} cannot be called so: {e}") from None


def _definition(function: Callable[..., Any]) -> tuple[str, int] | None:
    """(file, line) where a kernel is defined."""
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else None


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    names = list(inspect.signature(function).parameters)
    return [names[i] if i < len(names) else f"arg{i}" for i in range(count)]


def _write_back(tensor: NkiTensor, array: Array, function: Callable[..., Any]) -> None:
    """Bring an input that lives in a copy (not dense, widened, read-only, of many ranks) up to date if it changed."""
    new = tensor.array.astype(array.dtype)
    if np.array_equal(new.view(np.uint8), np.ascontiguousarray(array).view(np.uint8)):
        return
    if not array.flags.writeable:
        name = getattr(function, "__name__", "the kernel")
        raise KernelError(f"{name} writes to its argument {tensor.name}, which is a read-only array")
    array[...] = new


def _output(result: Any, function: Callable[..., Any]) -> Array:
    """A returned tensor as an array that owns its data, checked to be an HBM tensor with every element written."""
    name = getattr(function, "__name__", "kernel")
    if not isinstance(result, NkiTensor):
        raise KernelError(f"{name} must return HBM tensors, got {type(result).__name__}", line=_definition(function))
    if result.buffer.on_chip:
        raise KernelError(
            f"{name} returns {result.name!r} in {result.buffer.value}; an output is a tensor in nl.shared_hbm",
            line=_definition(function),
        )
    if result.storage.missing:
        raise _unwritten(name, result, _definition(function))
    dtype = result.dtype.np
    return result.array.astype(dtype) if result.array.dtype != dtype else result.array.copy()


def _unwritten(name: str, result: NkiTensor, line: tuple[str, int] | None) -> NkiError:
    a = result.storage.allocation
    first, missing = result.storage.first_missing()
    index = [int(i) for i in np.unravel_index(first, a.shape)]
    return KernelError(
        f"{name} returns {a.name!r} {a.shape} (allocated at {show_line(a.line)}) with {missing} of "
        f"{math.prod(a.shape)} elements never written, first at {index}",
        line=line,
    )


def default_options() -> Options:
    """NKI_PRECISE_FP=0 keeps low precision in float32 (nki/guides/nki_simulator.rst)."""
    return Options(round_low_precision=os.environ.get("NKI_PRECISE_FP", "1") != "0")


def simulate(kernel: Any) -> Callable[..., Any]:
    """A callable that runs `kernel` on the simulator: NumPy arrays in, NumPy arrays out; torch tensors likewise.

    The chip is NEURON_PLATFORM_TARGET_OVERRIDE's, else trn3; NKI_PRECISE_FP=0 switches low-precision rounding off.
    """

    @functools.wraps(getattr(kernel, "function", kernel))
    def simulated(*args: Any, **kwargs: Any) -> Any:
        from_torch = any(type(a).__module__.partition(".")[0] == "torch" for a in (*args, *kwargs.values()))
        take = _torch_to_numpy if from_torch else lambda a: a
        result = run(
            kernel,
            *[take(a) for a in args],
            target=default_target(),
            options=default_options(),
            **{k: take(v) for k, v in kwargs.items()},
        ).outputs
        if not from_torch:
            return result
        return tuple(map(_numpy_to_torch, result)) if isinstance(result, tuple) else _numpy_to_torch(result)

    return simulated


def _torch_to_numpy(value: Any) -> Any:
    """A torch tensor's bytes as an array (shared, so that in-place updates show); anything else as it is."""
    if type(value).__module__.partition(".")[0] != "torch" or not hasattr(value, "data_ptr"):
        return value
    import torch

    name = str(value.dtype).removeprefix("torch.")
    if name in TABLE and TABLE[name].kind == "f" and name not in ("float16", "float32"):
        bits = {1: torch.uint8, 2: torch.int16}[value.element_size()]
        return value.detach().view(bits).numpy().view(TABLE[name].np)
    return value.detach().numpy()


def _numpy_to_torch(array: Array) -> Any:
    import torch

    name = array.dtype.name
    if array.dtype.kind == "V" or name not in ("float16", "float32"):
        known = getattr(torch, name, None)
        if name.startswith(("bfloat", "float8")) and known is not None:
            return torch.from_numpy(array.view({1: np.uint8, 2: np.int16}[array.itemsize])).view(known)
    return torch.from_numpy(array)
