"""How fast the simulator is: its time over NumPy's for the same arithmetic, on one core.

    python -m triptych.harness.upkeep.figures.bench_simulator

Each simulated kernel and its NumPy counterpart run in turn, A B A B, so that the machine's drift hits both; what is
printed is the median of the ratios pair by pair, with the range of the middle half. NumPy computes in float32, whatever
the kernel's dtype. Times are processor times.

Behind them stands how fast kernels are traced that nobody could compute here, with shapes in place of arrays, and how
much memory a trace takes.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from triptych.harness.one_thread import ONE_THREAD
from triptych.harness.results import environment

PAIRS = 15
KERNELS = Path(__file__).parents[3] / "kernels" / "nki"


def main() -> int:
    """Print one line per kernel and dtype."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # NumPy reads its thread count when it is imported: start again with one thread.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "triptych.harness.upkeep.figures.bench_simulator"],
            {**os.environ, **ONE_THREAD},
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    numpy_version, python = environment.version("numpy"), platform.python_version()
    print(f"{environment.cpu()}, one core, Python {python}, NumPy {numpy_version}; median of {PAIRS} pairs")
    print(f"{'kernel':<30} {'dtype':<9} {'simulated':>11} {'NumPy':>10} {'ratio':>6}  middle half  instructions")
    for name, dtype, simulated, numpy in _pairs():
        events = simulated()
        numpy()
        ours, theirs = [], []
        for _ in range(PAIRS):
            ours.append(_seconds(simulated))
            theirs.append(_seconds(numpy))
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        low, _, high = statistics.quantiles(ratios, n=4)
        ms = 1e3 * statistics.median(ours), 1e3 * statistics.median(theirs)
        print(
            f"{name:<30} {dtype:<9} {ms[0]:>8.1f} ms {ms[1]:>7.1f} ms "
            f"{statistics.median(ratios):>6.2f}  {low:.2f}-{high:.2f}    {events:>6}",
            flush=True,
        )
    _trace_shapes()
    return 0


def _trace_shapes() -> None:
    """Print one line per kernel that is too large to compute."""
    from triptych import simulator
    from triptych.simulator import ShapeDtype

    def square(n: int) -> tuple[Any, ...]:
        return tuple(ShapeDtype((n, n), "bfloat16") for _ in range(2))

    def heads(queries: int, keys: int) -> tuple[Any, ...]:
        return tuple(ShapeDtype((1, 1, n, 128), "bfloat16") for n in (queries, keys, keys))

    matmul = simulator.load(KERNELS / "matmul.py").matmul
    attention = simulator.load(KERNELS / "attention_online.py").attention_online
    print(f"\n{'without data':<40} {'traced in':>10} {'instructions':>13} {'a second':>9} {'bytes each':>11}")
    for name, kernel, large, small in (
        ("matmul 16384 x 16384 x 16384", matmul, square(16384), square(4096)),
        ("attention 1 head 4096 of 131072 x 128", attention, heads(4096, 131072), heads(1024, 16384)),
    ):
        tracemalloc.start()
        trace = simulator.run(kernel, *small, target="trn2").trace
        each = tracemalloc.get_traced_memory()[0] / len(trace.events)
        tracemalloc.stop()
        start = time.process_time()
        events = len(simulator.run(kernel, *large, target="trn2").trace.events)
        seconds = time.process_time() - start
        print(f"{name:<40} {seconds:>8.1f} s {events:>13} {events / seconds:>9.0f} {each:>11.0f}", flush=True)


def _seconds(f: Callable[[], Any]) -> float:
    """Processor time, which other programs on the machine lengthen less than the clock's."""
    start = time.process_time()
    f()
    return time.process_time() - start


def _pairs() -> list[tuple[str, str, Callable[[], int], Callable[[], Any]]]:
    """(kernel, dtype, simulated run that returns its instruction count, NumPy's run)."""
    import numpy as np

    from triptych import simulator
    from triptych.simulator.dtypes import TABLE

    matmul = simulator.load(KERNELS / "matmul.py").matmul
    attention = simulator.load(KERNELS / "attention_online.py").attention_online
    rng = np.random.default_rng(0)
    rows: list[tuple[str, str, Callable[[], int], Callable[[], Any]]] = []

    def numpy_attention(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.T
        scores *= np.float32(q.shape[1] ** -0.5)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        return (scores @ v) / scores.sum(axis=1, keepdims=True)

    for dtype in ("float32", "bfloat16"):
        kind = TABLE[dtype].np
        a, b = (rng.standard_normal((2048, 2048)).astype(kind) for _ in range(2))
        a32, b32 = a.astype(np.float32), b.astype(np.float32)
        rows.append(
            (
                "matmul 2048 x 2048 x 2048",
                dtype,
                lambda a=a, b=b: len(simulator.run(matmul, a, b, target="trn2").trace.events),  # type: ignore[misc]
                lambda a=a32, b=b32: a.T @ b,  # type: ignore[misc]
            )
        )
        qkv = tuple(rng.standard_normal((1, 1, 2048, 128)).astype(kind) for _ in range(3))
        qkv32 = tuple(x[0, 0].astype(np.float32) for x in qkv)
        rows.append(
            (
                "attention 1 head 2048 x 128",
                dtype,
                lambda x=qkv: len(simulator.run(attention, *x, target="trn2").trace.events),  # type: ignore[misc]
                lambda x=qkv32: numpy_attention(*x),  # type: ignore[misc]
            )
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
