"""Run AWS's public tutorial kernels, unmodified, on the simulator, and say which agree.

    python tests/public_kernels.py PATH [--target trn2]

PATH is a checkout of the repository aws-neuron/aws-neuron-sdk (its folder nki/examples is used). Each kernel is
compared with a NumPy expression of what its documentation says; beside the largest relative error stands whether the
criterion of AWS's tutorials (rtol 1e-2, atol 1e-4) holds. None of AWS's code is part of this project.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triptych import simulator

RTOL, ATOL = 1e-2, 1e-4


@dataclass(frozen=True)
class Public:
    """One public kernel: where it is, what it is called with, and what should come out."""

    file: str
    function: str
    arguments: Callable[[np.random.Generator], tuple[Any, ...]]
    expected: Callable[..., Any]


def matmul(k: int, m: int, n: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(arguments, expected) of a product lhsT[k, m].T @ rhs[k, n]."""

    def arguments(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(rng.standard_normal((k, columns)).astype(np.float32) for columns in (m, n))

    return arguments, lambda lhs, rhs: lhs.astype(np.float64).T @ rhs


def mamba_arguments(rng: np.random.Generator) -> tuple[Any, ...]:
    """delta, u [batch, channels, length], A [channels, states], B, C [batch, states, length]."""
    batch, channels, length, states = 1, 256, 512, 16
    shapes = [(batch, channels, length)] * 2 + [(channels, states)] + [(batch, states, length)] * 2
    delta, u, a, b, c = (rng.random(s).astype(np.float32) for s in shapes)
    return delta, u, -a, b, c


def mamba(delta: Any, u: Any, a: Any, b: Any, c: Any) -> Any:
    """h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t for each state; out_t = sum over states of h_t C_t."""
    out = np.zeros(delta.shape)
    h = np.zeros((*delta.shape[:2], a.shape[1]))
    for t in range(delta.shape[2]):
        step = delta[:, :, t, None].astype(np.float64)
        h = np.exp(step * a) * h + step * u[:, :, t, None] * b[:, None, :, t]
        out[:, :, t] = (h * c[:, None, :, t]).sum(axis=2)
    return out


def pooled(x: Any, size: int) -> Any:
    c, h, w = x.shape
    return x.reshape(c, h // size, size, w // size, size).mean(axis=(2, 4))


MATMUL = "matrix_multiplication/matrix_multiplication_nki_kernels.py"
MAMBA = "fused_mamba/mamba_nki_kernels.py"
KERNELS = (
    Public(MATMUL, "nki_matmul_basic_", *matmul(128, 64, 512)),
    *(
        Public(MATMUL, f"nki_matmul_{name}_", *matmul(1024, 2048, 1024))
        for name in ("tiled", "hoist_load", "block_free_dimension", "fully_optimized")
    ),
    Public(
        "tensor_addition/tensor_addition_nki_kernels.py",
        "nki_tensor_add",
        lambda rng: tuple(rng.random((512, 1024)).astype(np.float32) for _ in range(2)),
        lambda a, b: a + b,
    ),
    Public(
        "transpose2d/transpose2d_nki_kernels.py",
        "tensor_transpose2D_kernel_",
        lambda rng: (rng.integers(-99, 99, (5, 12)).astype(np.int8), (3, 4)),
        lambda x, shape: x.reshape(-1, *shape).transpose(0, 2, 1).reshape(x.shape),
    ),
    Public(
        "average_pool2d/average_pool2d_nki_kernels.py",
        "tensor_avgpool_kernel",
        lambda rng: (rng.random((128, 6, 6)).astype(np.float32), 2),
        pooled,
    ),
    Public(
        "simulate/nki_simulate_example.py",
        "add_kernel",
        lambda rng: tuple(rng.random((128, 512)).astype(np.float32) for _ in range(2)),
        lambda a, b: a + b,
    ),
    Public(
        "index-case-1.py",
        "tensor_split_kernel_",
        lambda rng: (rng.random((16, 33)).astype(np.float32),),
        lambda x: (x[:, 0::2], x[:, 1::2]),
    ),
    Public(
        "index-case-3.py",
        "tensor_maxpool_kernel_",
        lambda rng: (rng.random((128, 6, 6)).astype(np.float32), 2),
        lambda x, size: x.reshape(x.shape[0], 6 // size, size, 6 // size, size).max(axis=(2, 4)),
    ),
    *(Public(MAMBA, f"mamba_v{version}", mamba_arguments, mamba) for version in (1, 2, 3)),
)


def flat(outputs: Any) -> Any:
    """One array, or several, as one row of float64."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in parts])


def judged(kernel: Public, root: Path, target: str) -> tuple[str, str]:
    """(what happened, detail) of one kernel."""
    arguments = kernel.arguments(np.random.default_rng(0))
    expected = flat(kernel.expected(*arguments))
    try:
        function = getattr(simulator.load(root / kernel.file), kernel.function)
        run = simulator.run(function, *arguments, target=target)
    except Exception as error:  # whatever a kernel does is a row of the table
        return "did not run", f"{type(error).__name__}: {error}"
    out = flat(run.outputs)
    error = float(np.abs(out - expected).max() / np.abs(expected).max())
    agrees = np.allclose(out, expected, rtol=RTOL, atol=ATOL)
    return "agrees" if agrees else "differs", f"largest error {error:.1e}, {len(run.trace.events)} instructions"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit 1 if a kernel did not run or differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("path", type=Path, help="a checkout of aws-neuron/aws-neuron-sdk")
    parser.add_argument("--target", default="trn2", choices=("trn1", "inf2", "trn2", "trn3"))
    options = parser.parse_args(argv)
    root = options.path / "nki" / "examples"
    if not root.is_dir():
        parser.error(f"{options.path} has no folder nki/examples; give a checkout of aws-neuron/aws-neuron-sdk")
    rows = [(kernel, *judged(kernel, root, options.target)) for kernel in KERNELS]
    for kernel, what, detail in rows:
        print(f"{kernel.function:<32} {what:<12} {detail}")
    agree = sum(what == "agrees" for _, what, _ in rows)
    print(f"\n{agree} of {len(rows)} agree on {options.target}")
    return 0 if agree == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
