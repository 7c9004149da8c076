"""Attention as an operator: `attention` with all that its kernels take, and PyTorch's own signature of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from triptych.harness.functions.choices import WITHOUT_GRADIENT, attention_row
from triptych.harness.functions.places import NoKernel
from triptych.harness.pytorch.operators import operator


@operator("attention", attention_row, "out")
def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """out[B, H, Sq, D]."""
    return q.new_empty(q.shape)


@operator("attention_lse", "attention_lse", "out", "lse", with_lse=True)
def forward_with_lse(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """out[B, H, Sq, D] and lse[B, H, Sq], which is float32 but for inputs in float64."""
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=statistics(q.dtype))


@operator("attention_backward", "attention_backward", "dq", "dk", "dv")
def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    dout: Tensor,
    lse: Tensor,
    causal: bool = False,
    window: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq[B, H, Sq, D], dk and dv[B, Hkv, Sk, D]."""
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


@operator("attention_decode", "attention_decode", "out", mutates=("k_cache", "v_cache"))
def decode(
    q: Tensor,
    k_new: Tensor,
    v_new: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    lengths: Tensor,
) -> Tensor:
    """out[B, H, T, D]; the caches are appended to."""
    return q.new_empty(q.shape)


def statistics(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over a row: float32, as the kernels keep them; float64 where all is float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def save(ctx: Any, given: Mapping[str, Any], outputs: Any) -> None:
    ctx.save_for_backward(given["q"], given["k"], given["v"], *outputs)
    ctx.sees = {"causal": given["causal"], "window": given["window"]}
    ctx.mark_non_differentiable(outputs[1])
    ctx.set_materialize_grads(False)


def gradient(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> dict[str, Tensor]:
    if dout is None:
        return {}
    q, k, v, out, lse = ctx.saved_tensors
    return dict(zip("qkv", backward(q, k, v, out, dout.contiguous(), lse, **ctx.sees), strict=True))


forward_with_lse.differentiable(gradient, save, by=("attention_backward",), refused=WITHOUT_GRADIENT)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """out[B, H, Sq, D] = softmax(q k^T / sqrt(D)) v, of q[B, H, Sq, D], k and v[B, Hkv, Sk, D].

    With `causal` query i sees the keys j <= i + Sk - Sq, with `window` the last so many of these. `softcap`,
    `sinks[H]`, `mask[B or 1, H or 1, Sq, Sk]` and `segments[B, S]` are those of the reference; with one of them there
    is no gradient, and NoKernel says so where one is needed.
    """
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))):
        out: Tensor = forward(q, k, v, causal, window, softcap, sinks, mask, segments)
        return out
    asked = {"softcap": softcap, "sinks": sinks, "mask": mask, "segments": segments}
    lacks = [name for name, value in asked.items() if value is not None]
    if lacks:
        raise NoKernel(
            f"attention has no backward kernel with {', '.join(lacks)}; call it under torch.no_grad(), or leave this "
            "layer to PyTorch"
        )
    out, _ = forward_with_lse(q, k, v, causal, window)
    return out


def attention_decode(
    q: Tensor, k_new: Tensor, v_new: Tensor, k_cache: Tensor, v_cache: Tensor, lengths: Tensor
) -> Tensor:
    """out[B, H, T, D] of T new tokens a sequence, which are appended to the caches[B, Hkv, S, D] at lengths[B], int32.

    New token i of sequence b sees the first lengths[b] tokens of its cache and the new ones up to itself.
    """
    out: Tensor = decode(q, k_new, v_new, k_cache, v_cache, lengths)
    return out


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """PyTorch's function of that name by `attention`, of query[B, H, L, E], key and value[B, Hkv, S, E].

    A bool mask says what is seen. A `scale` other than 1 / sqrt(E) multiplies the query first, which rounds once more.
    Raises NoKernel for what no kernel does: dropout, heads of two sizes, `is_causal` with more queries than keys, a
    gradient through a mask.
    """
    why = refusal(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
    if why is not None:
        raise NoKernel(f"scaled_dot_product_attention: {why}")
    d = query.shape[-1]
    if scale is not None and abs(scale * d**0.5 - 1) > 1e-12:
        query = query * (scale * d**0.5)
    if is_causal:  # PyTorch counts from the first query, `attention` from the last
        key, value = key[..., : query.shape[-2], :], value[..., : query.shape[-2], :]
    return attention(query, key, value, causal=is_causal, mask=added(attn_mask, query))


def added(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """What a mask of PyTorch's adds to the scores, as [B or 1, H or 1, L, S] in the query's dtype."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))
    mask = mask.to(query.dtype)
    mask = mask.reshape((1,) * (4 - mask.dim()) + tuple(mask.shape))
    return mask.expand(*mask.shape[:2], query.shape[-2], mask.shape[-1])


def refusal(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> str | None:
    """Why a call of PyTorch's function is none for the kernels; None if it is one."""
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dim() == key.dim() == value.dim() == 4:
        return f"the kernels take four axes [B, H, L, E], got {shapes}"
    if dropout_p:
        return f"no kernel drops out, got dropout_p={dropout_p}; set it to 0, or leave this layer to PyTorch"
    if key.shape != value.shape or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        return f"the kernels take one B and E, and key and value of one shape, got {shapes}"
    if query.shape[1] != key.shape[1] and not (enable_gqa and query.shape[1] % key.shape[1] == 0):
        return f"query and key have other heads, which enable_gqa=True allows where one divides the other: {shapes}"
    if is_causal and attn_mask is not None:
        return "is_causal and attn_mask exclude each other"
    if is_causal and query.shape[2] > key.shape[2]:
        return f"is_causal with more queries than keys is not what the kernels call causal: {shapes}"
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if attn_mask is not None and (learns or (torch.is_grad_enabled() and attn_mask.requires_grad)):
        return "attention has no backward kernel with a mask; call it under torch.no_grad()"
    return None
