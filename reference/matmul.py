"""Matrix product, the definition: out[M, N] = lhsT[K, M].T @ rhs[K, N].

The left operand comes transposed, contraction axis first, because that is how both of an accelerator's operands lie
when its matrix unit contracts over the partition axis. Each element is

    out[m, n] = sum over k of lhsT[k, m] * rhs[k, n]

computed in float64 and returned in float64; rounding to a narrower dtype is the caller's. NaN and infinities propagate
as IEEE arithmetic says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def matmul(lhsT: NDArray[Any], rhs: NDArray[Any]) -> NDArray[np.float64]:
    """lhsT[K, M], rhs[K, N] -> out[M, N], float64."""
    for name, array, axes in (("lhsT", lhsT, "[K, M]"), ("rhs", rhs, "[K, N]")):
        if array.ndim != 2:
            raise ValueError(f"{name} must have 2 axes {axes}, got {array.ndim}: shape {array.shape}")
        if 0 in array.shape:
            raise ValueError(f"{name} {axes} must have no axis of size zero, got shape {array.shape}")
    if lhsT.shape[0] != rhs.shape[0]:
        raise ValueError(f"lhsT [K, M] and rhs [K, N] must have the same K, got {lhsT.shape[0]} and {rhs.shape[0]}")
    with np.errstate(invalid="ignore", over="ignore"):
        out: NDArray[np.float64] = lhsT.astype(np.float64, copy=False).T @ rhs.astype(np.float64, copy=False)
    return out


def matmul_mk(lhs: NDArray[Any], rhs: NDArray[Any]) -> NDArray[np.float64]:
    """lhs[M, K], rhs[K, N] -> out[M, N] = lhs @ rhs, float64: the left operand as it is usually stored."""
    if lhs.ndim != 2:
        raise ValueError(f"lhs must have 2 axes [M, K], got {lhs.ndim}: shape {lhs.shape}")
    return matmul(lhs.T, rhs)


def matmul_batched(lhsT: NDArray[Any], rhs: NDArray[Any]) -> NDArray[np.float64]:
    """lhsT[B, K, M], rhs[B, K, N] -> out[B, M, N], float64: the product of each pair."""
    if lhsT.ndim != 3 or rhs.ndim != 3 or len(lhsT) != len(rhs) or len(lhsT) == 0:
        raise ValueError(
            f"lhsT [B, K, M] and rhs [B, K, N] must have 3 axes and one B, got {lhsT.shape} and {rhs.shape}"
        )
    return np.stack([matmul(a, b) for a, b in zip(lhsT, rhs, strict=True)])
