"""PyTorch's functions, as models call them, by operators: what stands in for which while a kernelized model runs.

A substitute takes what the function takes and gives what it gives, or raises NoKernel; PyTorch's own then runs, and
whoever listens to `calls` hears which and why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from triptych.harness.functions import calls
from triptych.harness.functions.places import NoKernel
from triptych.harness.pytorch.attention import scaled_dot_product_attention
from triptych.harness.pytorch.blocks import cross_entropy, rms_norm
from triptych.harness.pytorch.linear import linear, matmul


def as_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`."""
    if input.dim() < 1 or weight.dim() != 2:
        raise NoKernel(
            f"the kernels take x[.., K] and weight[N, K], got {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    return linear(input, weight, bias)


def as_rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """`torch.nn.functional.rms_norm`."""
    if len(normalized_shape) != 1 or weight is None:
        raise NoKernel(f"the kernel normalises the last axis and has a weight, got {tuple(normalized_shape)}, {weight}")
    return rms_norm(input, weight, torch.finfo(input.dtype).eps if eps is None else eps)


def as_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`torch.nn.functional.cross_entropy`, which gives the loss in the logits' dtype."""
    if weight is not None or label_smoothing or size_average is not None or reduce is not None:
        raise NoKernel("the kernel has neither weights of classes nor label smoothing")
    if input.dim() != 2 or target.dim() != 1 or target.is_floating_point():
        raise NoKernel(
            f"the kernel takes logits[M, V] and labels[M], got {tuple(input.shape)} and {tuple(target.shape)}"
        )
    return cross_entropy(input, target, ignore_index=ignore_index, reduction=reduction).to(input.dtype)


def as_matmul(input: Tensor, other: Tensor) -> Tensor:
    """`torch.matmul`, and what else is called so."""
    same = input.dim() == other.dim() >= 2 and input.shape[:-2] == other.shape[:-2]
    if not same and not (other.dim() == 2 and input.dim() >= 2):
        raise NoKernel(f"the kernels take no such shapes: {tuple(input.shape)} and {tuple(other.shape)}")
    return matmul(input, other)


SUBSTITUTES: dict[Callable[..., Any], Callable[..., Any]] = {
    functional.linear: as_linear,
    functional.scaled_dot_product_attention: scaled_dot_product_attention,
    functional.rms_norm: as_rms_norm,
    functional.cross_entropy: as_cross_entropy,
    **dict.fromkeys((torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.mm, Tensor.bmm), as_matmul),
    Tensor.__matmul__: as_matmul,
}
NARROWED = ("linear", "matmul", "mm", "bmm", "__matmul__", "scaled_dot_product_attention")  # by autocast
_state = threading.local()


class Substituting(TorchFunctionMode):  # type: ignore[misc]
    """Functions of PyTorch are computed by operators within, where these can."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        substitute = SUBSTITUTES.get(func)
        if substitute is None:
            return func(*args, **(kwargs or {}))
        return attempt(func.__name__, substitute, func, *args, **(kwargs or {}))


def attempt(name: str, ours: Callable[..., Any], theirs: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `ours` gives, or `theirs` where there is no kernel, which is told."""
    try:
        return ours(*in_dtype(name, args), **kwargs)
    except NoKernel as error:
        calls.left(name, str(error))
        return theirs(*args, **kwargs)


def in_dtype(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments in the dtype of autocast, where it is on and has one for the function; else as they are.

    NoKernel where autocast leaves it to PyTorch's own operations, and for tensors that hold no floating-point numbers.
    """
    tensors = [x for x in args if isinstance(x, Tensor)]
    if tensors and not tensors[0].is_floating_point():
        raise NoKernel(f"the kernels take floating-point numbers, got {tensors[0].dtype}")
    device = tensors[0].device.type if tensors else "cpu"
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return args
    if name not in NARROWED:
        raise NoKernel("under autocast its dtypes are those of the operations that PyTorch makes it of")
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in args)


def is_active() -> bool:
    """Whether a kernelized model runs in this thread."""
    return bool(getattr(_state, "active", False))


@contextmanager
def substituting() -> Iterator[None]:
    """As in `Substituting`; once, however deep modules call each other."""
    if is_active():
        yield
        return
    _state.active = True
    try:
        with Substituting():
            yield
    finally:
        _state.active = False
