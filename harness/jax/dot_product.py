"""`jax.nn.dot_product_attention` by `attention`: its signature, its layout, and where no kernel does what it does."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from triptych.harness.functions.places import NoKernel
from triptych.harness.jax.attention import attention


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    local_window_size: int | tuple[int, int] | None = None,
) -> jax.Array:
    """JAX's function of that name by `attention`, of query[B, T, N, H], key and value[B, S, K, H].

    `bias`, added to the scores, and the bool `mask` have four axes that broadcast to [B, N, T, S]. A `scale` other than
    1 / sqrt(H) multiplies the query first, which rounds once more. With `is_causal` query i sees the keys j <= i, of
    which `local_window_size`, or the first of two, keeps j >= i - size.

    Raises NoKernel for what no kernel does: three axes, more queries than keys under `is_causal`, a window without it,
    a gradient beside `bias` or `mask`.
    """
    why = refusal(query, key, value, is_causal, local_window_size)
    if why is not None:
        raise NoKernel(f"dot_product_attention: {why}")
    length = query.shape[1]
    if is_causal:  # JAX counts from the first query, `attention` from the last
        key, value = key[:, :length], value[:, :length]
        bias, mask = (None if x is None else x[..., :length] for x in (bias, mask))
    if scale is not None and abs(scale * query.shape[-1] ** 0.5 - 1) > 1e-12:
        query = query * jnp.asarray(scale * query.shape[-1] ** 0.5, query.dtype)
    left = local_window_size[0] if isinstance(local_window_size, tuple) else local_window_size
    out = attention(
        *(x.swapaxes(1, 2) for x in (query, key, value)),
        causal=is_causal,
        window=None if left is None else left + 1,
        mask=added(bias, mask, query, key.shape[1]),
    )
    return out.swapaxes(1, 2)


def added(bias: jax.Array | None, mask: jax.Array | None, query: jax.Array, keys: int) -> jax.Array | None:
    """What is added to the scores, [B or 1, N or 1, T, S] in the query's dtype."""
    if bias is None and mask is None:
        return None
    out = jnp.zeros((), query.dtype) if bias is None else bias.astype(query.dtype)
    if mask is not None:
        out = jnp.where(mask, out, -jnp.inf)
    return jnp.broadcast_to(out, (*out.shape[:2], query.shape[1], keys))


def refusal(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    is_causal: bool,
    local_window_size: int | tuple[int, int] | None,
) -> str | None:
    """Why a call of JAX's function is none for the kernels; None if it is one."""
    if not query.ndim == key.ndim == value.ndim == 4:
        shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
        return f"the kernels take four axes [B, T, N, H], got {shapes}"
    if is_causal and query.shape[1] > key.shape[1]:
        return f"is_causal with more queries, {query.shape[1]}, than keys, {key.shape[1]}, is not the kernels' causal"
    if local_window_size is not None and not is_causal:
        return f"the kernels have a window with is_causal=True alone, got local_window_size={local_window_size!r}"
    return None
