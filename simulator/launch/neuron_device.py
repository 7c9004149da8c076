"""PyTorch's device `neuron` where there is none: what is asked to lie on it lies on the CPU.

Tensors say that they are on `cpu`. A copy to the device is a copy, so that what a kernel writes there is not seen here.
"""

from __future__ import annotations

import functools
import types
import warnings
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from triptych.simulator.chips import chip_of, default_target
from triptych.simulator.errors import KernelError
from triptych.simulator.launch import graph_calls
from triptych.simulator.launch.call import environment_cores
from triptych.simulator.launch.execution import SimulatorWarning
from triptych.simulator.launch.kernel import Kernel
from triptych.simulator.launch.nki_ops import on_shapes

NAME = "neuron"


@functools.cache
def map_to_cpu() -> None:
    """Let `device="neuron"` and `.to("neuron")` mean the CPU, and `torch.compile(backend="neuron")` compile nothing.

    It holds for the process, in all threads. Raises RuntimeError if another backend has taken PyTorch's free device.
    """
    torch.utils.rename_privateuse1_backend(NAME)
    if not hasattr(torch, NAME):
        torch._register_device_module(NAME, device_module())
    for name, empty in {"empty.memory_format": empty_tensor, "empty_strided": empty_strided_tensor}.items():
        LIBRARY.impl(name, empty, "PrivateUse1")
    torch.Tensor.to = moved(torch.Tensor.to)
    torch.compile = compiling_nothing(torch.compile)


LIBRARY = torch.library.Library("aten", "IMPL")


def device_module() -> types.ModuleType:
    """`torch.neuron`, which has no device: PyTorch asks it before it compiles or draws random numbers."""
    module = types.ModuleType(f"torch.{NAME}", "The device neuron of PyTorch, which stands for the CPU here.")
    answers = {
        "is_available": lambda: False,
        "device_count": lambda: 0,
        "current_device": lambda: 0,
        "synchronize": lambda device=None: None,
        "manual_seed_all": lambda seed: None,
        "_is_in_bad_fork": lambda: False,
    }
    module.__dict__.update(answers)
    return module


def empty_tensor(size: Any, *, dtype: Any = None, layout: Any = None, memory_format: Any = None, **place: Any) -> Any:
    """`aten::empty.memory_format`; all that makes tensors goes through it."""
    kept = memory_format or torch.contiguous_format
    return torch.empty(size, dtype=dtype, layout=layout or torch.strided, memory_format=kept, device="cpu")


def empty_strided_tensor(size: Any, stride: Any, *, dtype: Any = None, **place: Any) -> Any:
    """`aten::empty_strided`."""
    return torch.empty_strided(size, stride, dtype=dtype, device="cpu")


def moved(to: Any) -> Any:
    """`torch.Tensor.to`, which makes a copy on the CPU where the device is asked for."""

    @functools.wraps(to)
    def chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        if any(is_device(x) for x in (*args[:1], kwargs.get("device"))):
            args = ("cpu", *args[1:]) if args and is_device(args[0]) else args
            kwargs = {**kwargs, "copy": True} | ({"device": "cpu"} if is_device(kwargs.get("device")) else {})
            args = args[:3] if len(args) > 3 else args  # a fourth one is `copy`
        return to(self, *args, **kwargs)

    return chosen


def compiling_nothing(compile: Any) -> Any:
    """`torch.compile`, whose backend of the device's name runs the graph as it is.

    Registering a backend would import PyTorch's compiler, which takes seconds.
    """

    @functools.wraps(compile)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("backend") == NAME:
            kwargs["backend"] = as_it_is
            calls_in_graphs()
        return compile(*args, **kwargs)

    return chosen


@functools.cache
def calls_in_graphs() -> None:
    """Let kernels that are called in what is compiled be nodes of its graph."""
    torch.compiler.allow_in_graph(call)
    graph_calls.compiler = graph_calls.Compiler(torch.compiler.is_compiling, call)


def call(number: int, cores: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The outputs of a kernel, or tensors like them where the arguments have no numbers."""
    kernel = graph_calls.KERNELS[number]
    if cores is not None:
        kernel = kernel.on_cores(cores)
    kinds = {type(x) for x in (*args, *kwargs.values())}
    if FunctionalTensor in kinds:
        raise KernelError(
            f'{kernel.__name__} is called in what is compiled for another backend than "{NAME}": wrap it in nki_op'
        )
    if FakeTensor in kinds:
        return on_shapes(kernel, args, kwargs)
    warn_of_degree(kernel)
    return kernel(*args, **kwargs)


def warn_of_degree(kernel: Kernel) -> None:
    """Warn of a kernel whose LNC degree is not the graph's: its compiler takes two cores from trn2 on."""
    two = chip_of(default_target()).generation >= 3
    if two and environment_cores() is None and kernel.cores != 2:
        warnings.warn(
            f"{kernel.function.__name__} runs on one core in a graph, for which AWS's compiler takes two: NCC_EVRF066, "
            "unless NEURON_LOGICAL_NC_CONFIG says for both which [compiler/error-codes/EVRF066.html]",
            SimulatorWarning,
            stacklevel=3,
        )


def as_it_is(graph: Any, inputs: Any) -> Any:
    """A backend of `torch.compile` that compiles nothing."""
    return graph.forward


def is_device(x: Any) -> bool:
    if isinstance(x, torch.device):
        same: bool = x.type == NAME
        return same
    return isinstance(x, str) and x.partition(":")[0] == NAME
