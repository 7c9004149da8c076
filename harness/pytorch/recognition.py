"""Modules and functions that models write out by hand and a kernel computes whole: RMSNorm, the gated MLP, RoPE.

Recognised by what they compute, not by name alone: each is called on a few random numbers, and counts if it gives what
the operator is defined to give. The names and attributes are those of Hugging Face's models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from triptych.harness.functions.places import NoKernel
from triptych.harness.pytorch.blocks import rms_norm, rope
from triptych.harness.pytorch.linear import gated_mlp

EPS_NAMES = ("variance_epsilon", "eps")
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
ROTARY = "apply_rotary_pos_emb"  # (q, k, cos, sin, unsqueeze_dim=1), in the file of a model
NEAR = 1e-4  # relative, in float32


def forward_of(module: nn.Module) -> Callable[..., Any] | None:
    """A forward by operators for a module that is recognised, as a function of the module and its input; else None."""
    if is_norm(module):
        return norm_forward
    return mlp_forward if is_gated_mlp(module) else None


def norm_forward(module: Any, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, eps_of(module))


def mlp_forward(module: Any, x: Tensor) -> Tensor:
    gate, up, down = (getattr(module, name).weight for name in PROJECTIONS)
    return gated_mlp(x, gate, up, down)


def eps_of(module: nn.Module) -> float:
    return float(next(getattr(module, name) for name in EPS_NAMES if hasattr(module, name)))


def is_norm(module: nn.Module) -> bool:
    """Whether it computes x / sqrt(mean(x^2) + eps) * weight over the last axis; `nn.RMSNorm` calls a function."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.RMSNorm) or not isinstance(weight, Tensor) or weight.dim() != 1:
        return False
    eps = [getattr(module, name) for name in EPS_NAMES if hasattr(module, name)]
    if "RMSNorm" not in type(module).__name__ or not eps or not isinstance(eps[0], float):
        return False
    x, gain = numbers(3, len(weight)), numbers(len(weight))
    return gives(module, {"weight": gain}, x, x / (x.square().mean(-1, keepdim=True) + eps[0]).sqrt() * gain)


def is_gated_mlp(module: nn.Module) -> bool:
    """Whether it computes (silu(x @ gate.T) * (x @ up.T)) @ down.T by three plain linear layers and nothing else."""
    layers = dict(module.named_children())
    linears: list[Any] = [layers.get(name) for name in PROJECTIONS]
    if not all(type(one) is nn.Linear and one.bias is None and not one._forward_hooks for one in linears):
        return False
    gate, up, down = numbers(6, 4), numbers(6, 4), numbers(5, 6)
    weights = {f"{name}.weight": w for name, w in zip(PROJECTIONS, (gate, up, down), strict=True)}
    x = numbers(3, 4)
    return gives(module, weights, x, (functional.silu(x @ gate.t()) * (x @ up.t())) @ down.t())


def gives(module: nn.Module, weights: Mapping[str, Tensor], x: Tensor, right: Tensor) -> bool:
    """Whether a module with these weights in the place of its own computes `right` of x; False if it cannot run so."""
    try:
        with torch.no_grad():
            return near(torch.func.functional_call(module, dict(weights), (x,)), right)
    except Exception:  # it is a user's: whatever it raises, it is none of those that are known
        return False


def rotary(function: Any) -> Callable[..., Any] | None:
    """The function by `rope`, if it turns q and k[B, H, S, D] in pairs of halves by cos and sin[B, S, D]; else None."""
    q, k, angles = numbers(2, 3, 5, 8), numbers(2, 1, 5, 8), numbers(2, 5, 4)
    cos, sin = angles.cos().repeat(1, 1, 2), angles.sin().repeat(1, 1, 2)
    try:
        found = function(q, k, cos, sin)
        same = len(found) == 2 and all(near(f, by_halves(x, cos, sin)) for f, x in zip(found, (q, k), strict=True))
    except Exception:
        return None
    return turned if same else None


def by_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x[B, H, S, D] turned, written out."""
    half = x.shape[-1] // 2
    other = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos[:, None] + other * sin[:, None]


def turned(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1, **other: Any
) -> tuple[Tensor, Tensor]:
    """q and k turned by `rope`: their heads are axis 1, or 2 with unsqueeze_dim=2."""
    shapes = f"q {tuple(q.shape)}, cos {tuple(cos.shape)}, unsqueeze_dim={unsqueeze_dim}"
    if q.dim() != 4 or cos.dim() != 3 or cos.shape[-1] != q.shape[-1] or unsqueeze_dim not in (1, 2):
        raise NoKernel(f"the kernel turns whole heads [B, H, S, D] by cos[B, S, D], got {shapes}")
    if any(x is not None for x in other.values()):
        raise NoKernel(f"the kernel knows no {', '.join(other)}")
    if not (halves_repeat(cos) and halves_repeat(sin)):
        raise NoKernel("the kernel turns both numbers of a pair by one angle, and the halves of cos or sin differ")
    tables = [t[..., : q.shape[-1] // 2] for t in (cos, sin)]
    if unsqueeze_dim == 2:
        return rope(q, *tables), rope(k, *tables)
    found = [rope(x.transpose(1, 2), *tables).transpose(1, 2) for x in (q, k)]
    return found[0], found[1]


_repeating = WeakIdKeyDictionary()  # tables that were looked at: all layers share theirs


def halves_repeat(table: Tensor) -> bool:
    """Whether the second half of a table repeats the first; one that has no numbers yet is taken to."""
    if table.device.type == "meta" or torch.compiler.is_compiling() or table in _repeating:
        return True
    half = table.shape[-1] // 2
    repeats: bool = torch.equal(table[..., :half], table[..., half:])
    if repeats:
        _repeating[table] = True
    return repeats


def numbers(*shape: int) -> Tensor:
    """The same random numbers each time, whatever the caller's generator and default dtype and device are."""
    drawn: Tensor = torch.randn(
        shape, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float32, device="cpu"
    )
    return drawn


def near(found: Any, right: Tensor) -> bool:
    return isinstance(found, Tensor) and found.shape == right.shape and torch.allclose(found, right, NEAR, NEAR)
