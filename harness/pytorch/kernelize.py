"""A model on our kernels: `kernelize` changes how its modules compute, and nothing that they hold."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

from torch import nn

from triptych.harness.pytorch.recognition import ROTARY, forward_of, rotary
from triptych.harness.pytorch.substitutes import attempt, is_active, substituting


@dataclass
class Kernelized:
    """What `kernelize` did; `remove` undoes it, as does leaving a `with` block.

    served: modules and functions by name that a kernel computes whole, and how many there are. Of the functions of
    PyTorch that modules call, `calls` tells while the model runs.
    """

    model: nn.Module
    served: Counter[str] = field(default_factory=Counter)
    forwards: list[tuple[nn.Module, Any]] = field(default_factory=list)  # module, its own forward before, or None
    laid_out: list[Any] = field(default_factory=list)  # weights
    files: list[str] = field(default_factory=list)  # modules of Python whose function is replaced

    def remove(self) -> None:
        """Let the model compute as it did before."""
        for module, before in self.forwards:
            module.__dict__.pop("forward", None)
            if before is not None:
                module.forward = before
        for weight in self.laid_out:
            weight.data = weight.data.contiguous()
        for name in self.files:
            give_back(name)
        self.forwards, self.laid_out, self.files = [], [], []

    def __enter__(self) -> Kernelized:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def kernelize(model: nn.Module) -> Kernelized:
    """Let a model compute by our kernels, in place; forward and backward, wherever its tensors are.

    While one of its modules runs, `linear`, `scaled_dot_product_attention`, `rms_norm`, `cross_entropy` and `matmul` of
    PyTorch are computed by the operators of those names, and so are whole modules and functions that compute an
    RMSNorm, a gated MLP or rotary positions, as Hugging Face's do. What no kernel takes is left to PyTorch, and
    `calls().left` says what and why.

    Weights of linear layers keep names, shapes and numbers; they are laid out in memory as [in, out], which the kernels
    multiply without transposing, unless another module shares them. `remove` lays them back.
    """
    done = Kernelized(model)
    for module in model.modules():
        whole = forward_of(module)
        if whole is not None:
            done.served[type(module).__name__] += 1
        before = module.__dict__.get("forward")
        done.forwards.append((module, before))
        original = type(module).forward if before is None else functools.partial(unbound, before)
        module.forward = MethodType(within(original, whole, type(module).__name__), module)
    for name in {type(module).__module__ for module in model.modules()}:
        if replace_rotary(name):
            done.files.append(name)
            done.served[ROTARY] += 1
    lay_out(model, done)
    return done


def unbound(forward: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """A forward that is set on a module itself, as somebody else's wrapper is, called as those of classes are."""
    return forward(*args, **kwargs)


def within(original: Callable[..., Any], whole: Callable[..., Any] | None, name: str) -> Callable[..., Any]:
    """`original` while functions of PyTorch are substituted, or `whole` in its place where there is a kernel."""

    @functools.wraps(original)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with substituting():
            if whole is None:
                return original(self, *args, **kwargs)
            return attempt(name, functools.partial(whole, self), functools.partial(original, self), *args, **kwargs)

    return forward


def lay_out(model: nn.Module, done: Kernelized) -> None:
    """Weights of linear layers alone as [in, out] in memory."""
    owners: Counter[int] = Counter()
    for module in model.modules():
        owners.update(id(p) for p in module.parameters(recurse=False))
    for module in model.modules():
        if type(module) is nn.Linear and owners[id(module.weight)] == 1 and module.weight.is_contiguous():
            module.weight.data = module.weight.data.t().contiguous().t()
            done.laid_out.append(module.weight)


_replaced: dict[str, tuple[Any, int]] = {}  # module of Python -> its own function, and how many models use ours


def replace_rotary(name: str) -> bool:
    """Let the rotary function of a model's file be ours while a kernelized model runs; whether there is one."""
    if name in _replaced:
        _replaced[name] = _replaced[name][0], _replaced[name][1] + 1
        return True
    file = sys.modules.get(name)
    own: Any = getattr(file, ROTARY, None)
    ours: Any = None if own is None else rotary(own)
    if ours is None:
        return False

    @functools.wraps(own)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        return attempt(ROTARY, ours, own, *args, **kwargs) if is_active() else own(*args, **kwargs)

    setattr(file, ROTARY, chosen)
    _replaced[name] = own, 1
    return True


def give_back(name: str) -> None:
    """The opposite, for one model."""
    own, users = _replaced.pop(name)
    if users > 1:
        _replaced[name] = own, users - 1
    else:
        setattr(sys.modules[name], ROTARY, own)
