"""Who computes a block's calls: simulated kernels, NumPy that rounds after each operation, or nobody: a prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness.arrays import Array
from triptych.harness.precision import round_to
from triptych.reference import attention, attention_backward, attention_decode, linear, matmul, mlp, rmsnorm, rope
from triptych.simulator.chip.record import NOT_ONCE
from triptych.simulator.launch.execution import Run
from triptych.simulator.memory.shapes import ShapeDtype

KERNELS = Path(__file__).parents[2] / "kernels" / "nki"


@dataclass(frozen=True)
class Part:
    """A kernel by its file, and what it computes."""

    file: str
    definition: Callable[..., Any]


PARTS = {
    "attention": Part("attention", attention.attention),
    "attention_backward": Part("attention_backward", attention_backward.attention_backward),
    "attention_decode": Part("attention_decode", attention_decode.attention_decode),
    "gate_backward": Part("gate_backward", mlp.gate_backward),
    "gated_mlp": Part("mlp", mlp.gated_mlp),
    "heads_first": Part("heads_first", rope.heads_first),
    "linear": Part("linear", linear.linear),
    "linear_transposed": Part("linear", linear.linear_transposed),
    "matmul": Part("matmul", matmul.matmul),
    "rmsnorm": Part("rmsnorm", rmsnorm.rmsnorm),
    "rmsnorm_backward": Part("rmsnorm", rmsnorm.rmsnorm_backward),
    "rmsnorm_linear": Part("linear", linear.rmsnorm_linear),
    "rope": Part("rope", rope.rope),
}


@cache
def kernel_of(name: str) -> Any:
    """The kernel of a part, loaded against the simulator."""
    return getattr(simulator.load(KERNELS / f"{PARTS[name].file}.py"), name)


def contiguous(arguments: tuple[Any, ...]) -> list[Any]:
    """Arguments as HBM holds them."""
    return [np.ascontiguousarray(x) if isinstance(x, np.ndarray) and x.ndim else x for x in arguments]


@dataclass
class Simulated:
    """Calls the kernels in the simulator."""

    target: str

    def __call__(self, name: str, *arguments: Any, **params: Any) -> Any:
        return simulator.on(self.target).run(kernel_of(name), *contiguous(arguments), **params).outputs


@dataclass
class Eager:
    """Computes each call by its definition and rounds its results, as one operation after the other on a host would.

    The log-sum-exp stays in float32, as everybody keeps it.
    """

    def __call__(self, name: str, *arguments: Any, **params: Any) -> Any:
        dtype = next(x.dtype for x in arguments if isinstance(x, np.ndarray))
        found = PARTS[name].definition(*arguments, **params)
        if not isinstance(found, tuple):
            return round_to(found, dtype)
        wide = params.get("with_lse", False)
        return tuple(round_to(x, np.dtype(np.float32) if wide and i == 1 else dtype) for i, x in enumerate(found))


@dataclass(frozen=True)
class Timed:
    """One call and what is predicted of it."""

    name: str
    us: float  # without launch and teardown
    flops: int
    hbm_bytes: int


@dataclass
class Predicting:
    """Predicts each call, from shapes alone where a kernel's control flow allows it; results have the right shapes."""

    target: str
    calls: list[Timed] = field(default_factory=list)

    def __call__(self, name: str, *arguments: Any, **params: Any) -> Any:
        run = self._run(name, contiguous(arguments), params)
        predicted = simulator.predict_trace(run.trace, settings=NOT_ONCE)
        self.calls.append(Timed(name, predicted.total_us, predicted.flops, predicted.hbm_bytes))
        outputs = run.outputs
        return tuple(map(of_shape, outputs)) if isinstance(outputs, tuple) else of_shape(outputs)

    def _run(self, name: str, arguments: list[Any], params: dict[str, Any]) -> Run:
        on = simulator.on(self.target)
        if name not in ("attention", "attention_decode"):  # which branch on what they compute
            return on.run(kernel_of(name), *map(shape_alone, arguments), **params)
        return on.run(kernel_of(name), *map(filled, arguments), **params)


def shape_alone(x: Any) -> Any:
    return ShapeDtype(x.shape, x.dtype) if isinstance(x, np.ndarray) else x


def filled(x: Any) -> Any:
    """Standard normal numbers for zeros, so that no branch for odd inputs is taken; integers as they are."""
    if not isinstance(x, np.ndarray) or x.dtype.kind in "iu":
        return x
    drawn: Array = np.asarray(np.random.default_rng(0).standard_normal(x.shape, dtype=np.float32))
    return drawn.astype(x.dtype)


def of_shape(x: Any) -> Array:
    return np.zeros(x.shape, np.dtype(str(x.dtype)))
