"""What torch.compile sees of an operator on a GPU: the launches of its Triton kernels, around which it plans and fuses.

Elsewhere, and for an exported program, an operator stays one node. This is what `torch.library.triton_op` does for one
function; ours are launchers of the collection, whose kernels are wrapped here instead of in their files.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode

LAUNCH_OPTIONS = ("num_warps", "num_stages", "num_ctas")  # that PyTorch knows; any other keeps Triton's default


def decompose_on_gpu(custom: Any, launched: Callable[..., Any]) -> None:
    """Let a compiler see `launched`, which calls a launcher, in the place of an operator whose tensors are on a GPU."""

    def rule(mode: Any, op: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not all(issubclass(kind, FakeTensor) or kind in (torch.Tensor, FunctionalTensor) for kind in kinds):
            return NotImplemented
        on_gpu = any(isinstance(x, torch.Tensor) and x.device.type == "cuda" for x in args)
        if not on_gpu or is_exporting():
            return mode.__torch_dispatch__(op, kinds, args, kwargs)
        with mode:
            return launched(*args, **kwargs)

    custom.register_torch_dispatch(FunctionalTensorMode, rule)


def is_exporting() -> bool:
    """Whether a program is traced that keeps operators as they are, as triton_op's do (torch._library.triton)."""
    from torch.export import _trace

    disabled: bool = _trace.custom_triton_ops_decomposition_disabled()
    return disabled


def traceable(launcher: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a launcher that launches through `torch.library.wrap_triton`, as do the functions of its file.

    The file's own globals stay as they are, because its kernels find each other by them.
    """
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.jit import JITFunction

    assert isinstance(launcher, types.FunctionType)
    scope = dict(launcher.__globals__)
    for name, value in launcher.__globals__.items():
        if isinstance(value, (JITFunction, Autotuner, Heuristics)):
            scope[name] = Wrapped(value)
        elif isinstance(value, types.FunctionType) and value.__globals__ is launcher.__globals__:
            copied = types.FunctionType(value.__code__, scope, value.__name__, value.__defaults__, value.__closure__)
            copied.__kwdefaults__ = value.__kwdefaults__
            scope[name] = copied
    found: Callable[..., Any] = scope[launcher.__name__]
    return found


class Wrapped:
    """A kernel of Triton whose launch PyTorch traces."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        wrapped = torch.library.wrap_triton(self.kernel)[grid]
        takes = {*self.kernel.arg_names, *LAUNCH_OPTIONS}

        def launch(*args: Any, **named: Any) -> Any:
            return wrapped(*args, **{name: x for name, x in named.items() if name in takes})

        return launch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)
