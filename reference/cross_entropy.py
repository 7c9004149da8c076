"""Softmax with cross-entropy over a vocabulary, the definitions, forward and backward.

    lse[m] = log sum_v exp(logits[m, v]),    loss[m] = lse[m] - logits[m, labels[m]]
    dlogits[m, v] = (exp(logits[m, v] - lse[m]) - [v = labels[m]]) * dloss[m]

A row whose label is negative counts for nothing: its loss and its gradient are 0. Computed and returned in float64; NaN
and infinities propagate as IEEE arithmetic says of the formulas, with the largest logit taken out of the exponentials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[Float64, Float64]:
    """logits[M, V], labels[M] -> loss[M] and lse[M], float64."""
    check(logits, labels)
    logits = logits.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        top = logits.max(axis=1)
        lse: Float64 = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        lost = lse - logits[np.arange(len(labels)), np.maximum(labels, 0)]
    return np.where(labels >= 0, lost, 0.0), lse


def cross_entropy_backward(
    logits: NDArray[Any], labels: NDArray[Any], lse: NDArray[Any], dloss: NDArray[Any]
) -> Float64:
    """logits[M, V], labels[M], lse[M] as from the forward, dloss[M] -> dlogits[M, V], float64."""
    check(logits, labels)
    for name, column in (("lse", lse), ("dloss", dloss)):
        if column.shape != labels.shape:
            raise ValueError(f"{name} must have shape [M] = {labels.shape}, got {column.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        p = np.exp(logits.astype(np.float64) - lse.astype(np.float64)[:, None])
        p[np.arange(len(labels)), np.maximum(labels, 0)] -= 1
        out: Float64 = p * dloss.astype(np.float64)[:, None]
    out[labels < 0] = 0
    return out


def check(logits: NDArray[Any], labels: NDArray[Any]) -> None:
    """Raise ValueError with one sentence unless each row of logits[M, V] has a label below V."""
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must have 2 axes [M, V], none of size zero, got shape {logits.shape}")
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {logits.shape[0]} integers [M], got {labels.dtype} of shape {labels.shape}")
    if labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be below V = {logits.shape[1]}, got {labels.max()}")
