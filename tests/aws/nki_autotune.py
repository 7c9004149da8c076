"""awslabs/nki-autotune: the kernels that were written by hand, in kernel_library/ and kernel_transforms.py.

All multiply matrices of 2048 x 2048: that size is a constant of theirs. Their authors' check runs them in float32
(nkigym's simulate_fp32) and asks rtol and atol 5e-3; the simulator's mode without rounding does the same.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from aws.table import Case, Ran, distance, execute
from triptych.simulator import Options

SIZE, TOLERANCE, EPSILON = 2048, 5e-3, 1e-6


def product(left: Any, right: Any) -> Any:
    return left @ right


def transposed_product(left: Any, right: Any) -> Any:
    return left.T @ right


def normed_product(left: Any, right: Any) -> Any:
    """Each row of left over its root mean square, times right."""
    return left / np.sqrt(np.square(left).mean(axis=1, keepdims=True) + EPSILON) @ right


BY_HAND = {
    "kernel_library/matmul/lhsT_rhs/kernel_hand_90.92mfu.py": transposed_product,
    "kernel_library/matmul/lhs_rhs/kernel_handtuned_89.26mfu.py": product,
    "kernel_library/rmsnorm_matmul/kernel_hand_online.py": normed_product,
}
LADDER = "kernel_transforms.py"  # sixteen steps from a plain product to a tuned one, and a part of one


def recognises(path: Path) -> bool:
    return (path / "nkigym").is_dir() and (path / "kernel_library").is_dir()


def cases(path: Path) -> Iterator[Case]:
    for file, expected in BY_HAND.items():
        for kernel in kernels(path / file):
            yield case_of(kernel, f"{file}, {SIZE} x {SIZE}", expected)
    for kernel in kernels(path / LADDER):
        yield case_of(kernel, f"{LADDER}, {SIZE} x {SIZE}", transposed_product)


def kernels(file: Path) -> list[Any]:
    """The kernels that a file defines."""
    sys.modules.setdefault("nkigym.synthesis", types.ModuleType("nkigym.synthesis")).__dict__.setdefault(
        "simulate_fp32", None
    )
    sys.modules.setdefault("nkigym", types.ModuleType("nkigym"))
    spec = importlib.util.spec_from_file_location(f"autotune_{abs(hash(file))}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [v for v in vars(module).values() if hasattr(v, "__getitem__") and callable(v) and hasattr(v, "__wrapped__")]


def case_of(kernel: Any, label: str, reference: Callable[[Any, Any], Any]) -> Case:
    def run(options: Options) -> Sequence[Ran]:
        rng = np.random.default_rng(0)
        arguments = tuple(rng.standard_normal((SIZE, SIZE)).astype(ml_dtypes.bfloat16) for _ in range(2))
        expected = reference(*(a.astype(np.float64) for a in arguments))
        options = replace(options, round_low_precision=False)
        out, seconds, instructions = execute(kernel, "trn2", options, arguments)
        close = np.allclose(np.asarray(out, np.float64), expected, rtol=TOLERANCE, atol=TOLERANCE)
        return [Ran(kernel.__name__, "trn2", 1, seconds, instructions, close, distance(out, expected))]

    return Case(kernel.__name__, label, run)
