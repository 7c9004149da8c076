"""Host code that launches kernels: who runs a kernel that is called directly, and what was launched.

A function of PyTorch that calls kernels (`torch_neuronx.nki_op`) runs on tensors of the CPU. Each kernel that it calls
runs on the simulator that the function was given to, or gives outputs of shapes alone where tensors have no numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from triptych.simulator.errors import KernelError
from triptych.simulator.launch.arguments import lacks_data, leaves
from triptych.simulator.launch.execution import Run
from triptych.simulator.launch.frameworks import Torch
from triptych.simulator.launch.torch_tensors import array_of, like, mapped, shape_of, tensor_of

Launch = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]  # kernel, args, kwargs -> outputs
_launcher: ContextVar[Launch | None] = ContextVar("launcher", default=None)


def launcher() -> Launch | None:
    """What runs kernels that are called directly here; None if nobody has asked to."""
    return _launcher.get()


@contextmanager
def launching(launch: Launch) -> Iterator[None]:
    """Kernels that are called directly within are run by `launch`."""
    before = _launcher.set(launch)
    try:
        yield
    finally:
        _launcher.reset(before)


def has_device() -> bool:
    """Whether tensors of the CPU stand for those of a Neuron device: `torch_neuronx` is imported, and is ours."""
    return bool(getattr(sys.modules.get("torch_neuronx"), "__triptych__", False))


def host_function(kernel: Any) -> Callable[..., Any] | None:
    """The function of PyTorch behind an operator that `nki_op` made; None for anything else."""
    found: Callable[..., Any] | None = getattr(kernel, "__nki_host__", None)
    return found


def run_host(run: Callable[..., Run], operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """An operator of PyTorch that calls kernels, each of which `run` runs, on arrays, tensors or shapes.

    The trace is that of its one kernel; of one that launches several there is none, and whoever reads it is told.
    """
    runs: list[Run] = []
    without_data = lacks_data((args, kwargs))

    def launch(kernel: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        one = launched_on_shapes(run, kernel, given, named) if without_data else run(kernel, *given, **named)
        runs.append(one)
        return one.outputs

    function = host_function(operator) if without_data else operator
    assert function is not None
    positional, named = mapped(tensor_of, (args, kwargs))
    with launching(launch):
        outputs = function(*positional, **named)
    is_array = any(x is not y for x, y in zip(leaves((args, kwargs)), leaves((positional, named)), strict=True))
    trace: Any = runs[0].trace if len(runs) == 1 else NoTrace(operator, len(runs))
    return Run(mapped(array_of, outputs) if is_array else outputs, trace)


def launched_on_shapes(run: Callable[..., Run], kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
    """A kernel on tensors without numbers, whose outputs are such tensors."""
    tensors = [x for x in leaves((args, kwargs)) if Torch.owns(x)]
    if not tensors:
        raise KernelError("a kernel that an operator of PyTorch calls takes tensors, got none")
    positional, named = mapped(shape_of, (args, kwargs))
    done = run(kernel, *positional, **named)
    return Run(mapped(like(tensors[0]), done.outputs), done.trace)


class NoTrace:
    """In the place of the trace of a function that launched no kernel or several."""

    def __init__(self, operator: Any, launches: int) -> None:
        self._told = operator, launches

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        operator, launches = self._told
        code = operator.__nki_host__.__code__
        raise KernelError(
            f"{operator._qualname} launches {launches} kernels, and a trace is of one: predict the kernels one by one",
            line=(code.co_filename, code.co_firstlineno),
        )
