"""What the benchmark of the simulator times: kernels, each with NumPy's way to the same result.

Our kernels where the arithmetic is what takes the time; below them one kernel for each way to move data, whose cost is
that of its instructions: small tiles, rows that are gathered and scattered, addresses, access patterns, loops on the
chip.

As a program this file answers its standard input: for each number of a work, how long the simulator and NumPy took. It
imports the simulator that PYTHONPATH names, with the kernels beside it, so that one file of works times two checkouts;
one of those may be of before NKI 0.7, in which a loop on the chip was a statement.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import triptych
from triptych import simulator
from triptych.simulator.dtypes import TABLE

Array = NDArray[Any]
nisa, nl = (importlib.import_module(f"nki.{name}") for name in ("isa", "language"))  # the simulator's, in any checkout
KERNELS = Path(triptych.__file__).parent / "kernels" / "nki"
P = 128  # partitions
STATS = 512  # elements that bn_stats takes


@dataclass(frozen=True)
class Work:
    """A kernel on its arguments, and NumPy's function on its own."""

    name: str
    dtype: str
    kernel: Any
    arguments: tuple[Array, ...]
    numpy: Callable[..., Any]
    theirs: tuple[Array, ...]

    def simulated(self) -> int:
        """Run the kernel; how many instructions it had."""
        return len(simulator.run(self.kernel, *self.arguments, target="trn2").trace.events)

    def plain(self) -> Any:
        return self.numpy(*self.theirs)


def works() -> Iterator[Work]:
    """All of them, the ones that compute first; NumPy computes in float32, and moves what the kernel moves."""
    rng = np.random.default_rng(0)
    for dtype in ("float32", "bfloat16"):
        kind = TABLE[dtype].np
        a, b = (rng.standard_normal((2048, 2048)).astype(kind) for _ in range(2))
        x = rng.standard_normal((4096, 4096)).astype(kind)
        heads = [tuple(rng.standard_normal((1, 1, n, 128)).astype(kind) for _ in range(3)) for n in (2048, 4096)]
        rows = rng.permutation(8192).astype(np.int32).reshape(8192, 1)
        table = rng.standard_normal((8192, 2048)).astype(kind)
        matmul, attention = _ours("matmul"), _ours("attention_online", "attention")
        yield Work("matmul 2048 x 2048 x 2048", dtype, matmul, (a, b), lambda a, b: a.T @ b, _wide(a, b))
        for qkv in heads:
            name = f"attention 1 head {qkv[0].shape[2]} x 128"
            yield Work(name, dtype, attention, qkv, _attention, _wide(*[t[0, 0] for t in qkv]))
        yield Work("softmax 4096 x 4096", dtype, _softmax_kernel, (x,), _softmax, _wide(x))
        yield Work("layernorm 4096 x 4096", dtype, _layernorm_kernel, (x,), _layernorm, _wide(x))
        yield Work("copy 4096 x 4096 whole", dtype, _copied(4096), (x,), np.copy, (x,))
        yield Work("copy 4096 x 4096 in 128 x 128", dtype, _copied(P), (x,), np.copy, (x,))
        yield Work("gather 8192 rows of 2048", dtype, _gathered, (table, rows), _taken, (table, rows))
        yield Work("scatter 8192 rows of 2048", dtype, _scattered, (table, rows), _put, (table, rows))
        yield Work("copy at addresses", dtype, _copied(2048, (0, 0)), (x,), np.copy, (x,))
        yield Work("every other column by ap", dtype, _strided, (x,), lambda x: x[:, ::2].copy(), (x,))
        yield Work("copy in a loop on the chip", dtype, _looped, (x,), np.copy, (x,))
    for dtype in ("float32", "bfloat16") if hasattr(simulator, "SimulatorWarning") else ():  # before, an error
        x = rng.standard_normal((4096, 4096)).astype(TABLE[dtype].np)
        yield Work("scale tiles with padding", dtype, _padded, (x,), _scaled, _wide(x))


def _ours(*names: str) -> Any:
    """The kernel of the first of these names that the checkout has."""
    name = next(name for name in names if (KERNELS / f"{name}.py").exists())
    return getattr(simulator.load(KERNELS / f"{name}.py"), name)


def _wide(*arrays: Array) -> tuple[Array, ...]:
    return tuple(a.astype(np.float32) for a in arrays)


def _attention(q: Array, k: Array, v: Array) -> Array:
    scores = q @ k.T
    scores *= np.float32(q.shape[1] ** -0.5)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    out: Array = (scores @ v) / scores.sum(axis=1, keepdims=True)
    return out


def _softmax(x: Array) -> Array:
    e: Array = x - x.max(axis=1, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(axis=1, keepdims=True)
    return e


def _layernorm(x: Array) -> Array:
    out: Array = x - x.mean(axis=1, keepdims=True)
    out /= np.sqrt(x.var(axis=1, keepdims=True) + np.float32(1e-5))
    return out


def _scaled(x: Array) -> Array:
    out: Array = x * np.float32(2)
    return out


def _taken(table: Array, rows: Array) -> Array:
    found: Array = np.take(table, rows[:, 0], axis=0)
    return found


def _put(table: Array, rows: Array) -> Array:
    out = np.empty_like(table)
    out[rows[:, 0]] = table
    return out


def _output(x: Any) -> Any:
    return nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)


def _softmax_kernel(x: Any) -> Any:
    """Rows of 4096, P at a time: maximum, exponential with its sum on the way, division."""
    out = _output(x)
    n = x.shape[1]
    for m in range(0, x.shape[0], P):
        tile, e = nl.ndarray((P, n), x.dtype, buffer=nl.sbuf), nl.ndarray((P, n), nl.float32, buffer=nl.sbuf)
        top, total, over = (nl.ndarray((P, 1), nl.float32, buffer=nl.sbuf) for _ in range(3))
        nisa.dma_copy(dst=tile, src=x[m : m + P, :])
        nisa.tensor_reduce(dst=top, op=nl.maximum, data=tile, axis=1, negate=True)
        nisa.activation_reduce(dst=e, op=nl.exp, data=tile, bias=top, reduce_op=nl.add, reduce_res=total)
        nisa.reciprocal(dst=over, data=total)
        nisa.tensor_scalar(dst=tile, data=e, op0=nl.multiply, operand0=over)
        nisa.dma_copy(dst=out[m : m + P, :], src=tile)
    return out


def _layernorm_kernel(x: Any) -> Any:
    """Rows of 4096, P at a time: means and variances of 512 columns, of all of them, and (x - mean) * rstd."""
    out = _output(x)
    n = x.shape[1]
    epsilon = nl.ndarray((P, 1), nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=epsilon, value=1e-5)
    for m in range(0, x.shape[0], P):
        tile, stats = nl.ndarray((P, n), x.dtype, buffer=nl.sbuf), nl.ndarray((P, 6 * n // STATS), nl.float32)
        both, rstd = nl.ndarray((P, 2), nl.float32, buffer=nl.sbuf), nl.ndarray((P, 1), nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[m : m + P, :])
        for i in range(n // STATS):
            nisa.bn_stats(dst=stats[:, 6 * i : 6 * i + 6], data=tile[:, STATS * i : STATS * (i + 1)])
        nisa.bn_aggr(dst=both, data=stats)
        nisa.activation(dst=rstd, op=nl.rsqrt, data=both[:, 1:2], bias=epsilon)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.subtract, operand0=both[:, 0:1], op1=nl.multiply, operand1=rstd)
        nisa.dma_copy(dst=out[m : m + P, :], src=tile)
    return out


def _copied(width: int, address: tuple[int, int] | None = None) -> Any:
    """Copies by way of SBUF, in tiles of `width` columns."""

    def kernel(x: Any) -> Any:
        out = _output(x)
        for m in range(0, x.shape[0], P):
            for n in range(0, x.shape[1], width):
                tile = nl.ndarray((P, width), x.dtype, buffer=nl.sbuf, address=address)
                nisa.dma_copy(dst=tile, src=x[m : m + P, n : n + width])
                nisa.dma_copy(dst=out[m : m + P, n : n + width], src=tile)
        return out

    return kernel


def _gathered(table: Any, rows: Any) -> Any:
    """out[i] = table[rows[i]]."""
    out = nl.ndarray((rows.shape[0], table.shape[1]), table.dtype, buffer=nl.shared_hbm)
    for m in range(0, rows.shape[0], P):
        index = nl.ndarray((P, 1), rows.dtype, buffer=nl.sbuf)
        tile = nl.ndarray((P, table.shape[1]), table.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=index, src=rows[m : m + P, :])
        nisa.dma_copy(dst=tile, src=table.vector_select(0, index))
        nisa.dma_copy(dst=out[m : m + P, :], src=tile)
    return out


def _scattered(table: Any, rows: Any) -> Any:
    """out[rows[i]] = table[i]."""
    out = _output(table)
    for m in range(0, rows.shape[0], P):
        index = nl.ndarray((P, 1), rows.dtype, buffer=nl.sbuf)
        tile = nl.ndarray((P, table.shape[1]), table.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=index, src=rows[m : m + P, :])
        nisa.dma_copy(dst=tile, src=table[m : m + P, :])
        nisa.dma_copy(dst=out.vector_select(0, index), src=tile)
    return out


def _strided(x: Any) -> Any:
    """out = x[:, 0::2], by an access pattern over tiles in SBUF."""
    m, n = x.shape
    out = nl.ndarray((m, n // 2), x.dtype, buffer=nl.shared_hbm)
    for i in range(0, m, P):
        tile, half = nl.ndarray((P, n), x.dtype, buffer=nl.sbuf), nl.ndarray((P, n // 2), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[i : i + P, :])
        nisa.tensor_copy(dst=half, src=tile.ap([[n, P], [2, n // 2]]))
        nisa.dma_copy(dst=out[i : i + P, :], src=half)
    return out


def _looped(x: Any) -> Any:
    """Copies by way of SBUF, P rows a round of a loop whose counter is a register."""
    out = _output(x)
    source, target = x.reshape((x.shape[0] // P, P, x.shape[1])), out.reshape((x.shape[0] // P, P, x.shape[1]))

    def body(i: Any) -> None:
        tile = nl.ndarray((P, x.shape[1]), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=source.select(0, i))
        nisa.dma_copy(dst=target.select(0, i), src=tile)

    if hasattr(nl, "fori_loop"):
        nl.fori_loop(0, x.shape[0] // P, body)
    else:
        for i in nl.dynamic_range(x.shape[0] // P):
            body(i)
    return out


def _padded(x: Any) -> Any:
    """out = 2 x, by tiles of one column more, in which nothing was written."""
    out = _output(x)
    m, n = x.shape
    for i in range(0, m, P):
        tile, doubled = nl.ndarray((P, n + 1), x.dtype, buffer=nl.sbuf), nl.ndarray((P, n + 1), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[:, 0:n], src=x[i : i + P, :])
        nisa.tensor_scalar(dst=doubled, data=tile, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=out[i : i + P, :], src=doubled[:, 0:n])
    return out


def serve() -> None:
    """Print the works in one line; then answer numbers of them with seconds, NumPy's seconds and instructions."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    listed = list(works())
    print(";".join(f"{work.name}|{work.dtype}" for work in listed), flush=True)
    for line in sys.stdin:
        work = listed[int(line)]
        start = time.process_time()
        events = work.simulated()
        between = time.process_time()
        work.plain()
        print(between - start, time.process_time() - between, events, flush=True)


if __name__ == "__main__":
    serve()
