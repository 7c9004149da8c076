"""`nki_op` and `wrap_nki` of `torch_neuronx`, for machines without one: kernels in operators of PyTorch.

`nki_op` makes `torch.ops.NAMESPACE.NAME` of a function that calls kernels, as `torch.library.triton_op` does for Triton
(TorchNeuron's tests, aws-neuron/torch-neuronx: `nki_op(name, fn=None, mutates_args={})`). Its outputs' shapes, which a
compiler asks for, come from running the kernels without data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from triptych.simulator.errors import KernelError, NeedsData
from triptych.simulator.launch.host import launched_on_shapes, launcher, launching
from triptych.simulator.launch.kernel import Kernel, simulate
from triptych.simulator.launch.simulator import on


def nki_op(name: str, fn: Callable[..., Any] | None = None, mutates_args: str | Iterable[str] = ()) -> Any:
    """An operator `name`, as "mine::add", of a function on tensors that calls kernels; as a decorator without `fn`.

    mutates_args: the arguments that its kernels write to. The operator has the methods of `torch.library.custom_op`, as
    `register_autograd(backward, setup_context=..)`. Of a tensor that is returned and was given the caller gets a copy,
    because an operator of PyTorch returns no argument.
    """
    if not isinstance(name, str) or name.count("::") != 1:
        raise KernelError(f'nki_op takes a name as "namespace::operator", got {name!r}')
    if fn is None:
        return lambda function: nki_op(name, function, mutates_args)
    if isinstance(fn, Kernel):
        raise KernelError(
            f"nki_op wraps a function of tensors that calls a kernel, and {fn.function.__name__} is the kernel itself"
        )
    mutated = mutates_args if isinstance(mutates_args, str) else tuple(mutates_args)

    def outputs(*args: Any, **kwargs: Any) -> Any:
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
        with launching(launcher() or simulated):
            return own(fn(*args, **kwargs), given)

    def shapes(*args: Any, **kwargs: Any) -> Any:
        with launching(on_shapes):
            return fn(*args, **kwargs)

    schema = torch.library.infer_schema(fn, mutates_args=mutated)
    made: Any = torch.library.custom_op(name, outputs, mutates_args=mutated, schema=schema)
    made.register_fake(shapes)
    made.__nki_host__ = fn
    return made


def simulated(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The outputs of a kernel, as `nki.simulate` computes them."""
    return simulate(kernel)(*args, **kwargs)


def own(returned: Any, given: list[Any]) -> Any:
    """What a function returned, with copies of tensors that it was given."""
    if isinstance(returned, (tuple, list)):
        return tuple(own(x, given) for x in returned)
    if not isinstance(returned, torch.Tensor):
        return returned
    storage = returned.untyped_storage().data_ptr()
    return returned.clone() if any(x.untyped_storage().data_ptr() == storage for x in given) else returned


def on_shapes(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The outputs of a kernel on tensors without numbers, as such tensors."""
    try:
        return launched_on_shapes(on().run, kernel, args, kwargs).outputs
    except NeedsData as error:
        raise NeedsData(
            f"{error.message}; the shapes of the outputs are then the operator's to tell: register_fake(function)"
        ) from None


class Wrapped:
    """A kernel that is called on tensors: `wrap_nki(kernel)[grid](..)`; grid is the LNC degree, alone or in a list."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Wrapped:
        return Wrapped(self.kernel[tuple(grid) if isinstance(grid, list) else grid])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.kernel(*args, **kwargs)


def wrap_nki(kernel: Any) -> Wrapped:
    if not isinstance(kernel, Kernel):
        raise KernelError(f"wrap_nki takes what nki.jit gives, got {type(kernel).__name__}")
    return Wrapped(kernel)
