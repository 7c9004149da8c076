"""The probes, as ops: each has pairs of cases, `NAME/x64` and `NAME/x128`, whose times differ by 64 of one thing.

Which constants of a chip they decide: groups.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.calibration.groups import EXACT
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.regimes import normal, round_inputs
from triptych.harness.ops.shapes import Input

KERNELS = Path(__file__).with_name("kernels.py")
MANY = 64


def pairs(name: str, small: int, large: int = 0, **rest: Any) -> list[Mapping[str, Any]]:
    """Two cases, the second with twice the count unless it is given."""
    return [{"name": f"{name}/x{count}", "count": count, **rest} for count in (small, large or 2 * small)]


def transfers(name: str, small: int, **rest: Any) -> list[Mapping[str, Any]]:
    """Two cases, the second with twice as many transfers."""
    return [{"name": f"{name}/x{count}", "C": count, "P": 128, **rest} for count in (small, 2 * small)]


def products(p: Array, x: Array, count: int) -> Array:
    """out[K, N] = count * p[K, K].T @ x[K, N]."""
    return np.asarray(count * (p.T @ x))


def turns(x: Array, count: int, ring: int) -> Iterator[tuple[Array, int]]:
    """Each of `ring` parts of x[P, F], side by side, and how often its turn comes: at part, part + ring, .. < count."""
    for part, columns in enumerate(np.split(x, ring, axis=1)):
        yield columns, len(range(part, count, ring))


def halved(x: Array, count: int, ring: int, engine: str, by: str, memory: str) -> Array:
    """out[P, F]: each part of x halved at its turns."""
    return np.concatenate([part * 0.5**times for part, times in turns(x, count, ring)], axis=1)


def inverted(x: Array, count: int, ring: int) -> Array:
    """out[P, F]: each part of x, or 1 / x where its turn comes an odd number of times."""
    return np.concatenate([part ** (-1.0) ** times for part, times in turns(x, count, ring)], axis=1)


def permuted(p: Array, x: Array, count: int) -> Array:
    """out[K, N] = (p.T)^count @ x."""
    return np.asarray(np.linalg.matrix_power(p.T, count) @ x)


def cyclic(case: Case, rng: np.random.Generator) -> dict[str, Array]:
    """The permutation that moves each row down by one, and x."""
    k, n = case.axes["K"], case.axes["N"]
    return round_inputs({"p": np.roll(np.eye(k), 1, axis=1), "x": normal(rng, k, n)}, case.dtype)


def of_functions(x: Array, count: int) -> Array:
    """out[P, F] = exp(x), or tanh(exp(x))."""
    return np.exp(x) if count == 1 else np.tanh(np.exp(x))


def summed(x: Array) -> Array:
    """out[P, 1] = sum over f of x[P, F]."""
    return np.asarray(x.sum(axis=1, keepdims=True))


def same(x: Array, queue: str) -> Array:
    """out = x."""
    return x.copy()


def same_by_two(x: Array) -> Array:
    """out = x."""
    return x.copy()


def first_of_two(x: Array) -> Array:
    """out[C, P, K, S] = x[c, p, k, 0, s]."""
    return x[:, :, :, 0, :].copy()


def met(x: Array, count: int) -> Array:
    """out = x."""
    return x.copy()


def half(x: Array, count: int, queue: str) -> Array:
    """out = x / 2."""
    return x / 2


def halvings(engine: str, name: str, width: int, ring: int, count: int, **other: str) -> list[Mapping[str, Any]]:
    """Two cases of halvings by one engine, `width` columns at once, by a number and in SBUF unless other is said."""
    where: dict[str, Any] = {"engine": engine, "by": "number", "memory": "sbuf", **other}
    return pairs(name, count, P=128, F=width * ring, ring=ring, **where)


def by_columns(engine: str) -> list[list[Mapping[str, Any]]]:
    """What Vector and Scalar are both asked: wide and narrow tiles, one after the other, and by a column."""
    return [
        halvings(engine, "512", 512, 4, MANY),
        halvings(engine, "1024", 1024, 4, MANY),
        halvings(engine, "1", 1, 16, MANY),
        halvings(engine, "dependent", 64, 1, MANY // 2),
        halvings(engine, "by a column", 512, 4, MANY, by="column"),
    ]


def one_engine(engine: str, *cases: list[Mapping[str, Any]]) -> Op:
    return op(f"probe_{engine}", {"x": ("P", "F")}, halved, "halvings", list(itertools.chain(*cases)))


def op(name: str, inputs: Any, reference: Any, kernel: str, cases: Sequence[Any], **rest: Any) -> Op:
    exact = {"tolerance": {"rtol": 0, "atol": 0}} if name in EXACT and name != "probe_sum" else {}
    settings = {"dtypes": ("float32",), **exact, **rest}
    return Op(name, inputs, reference, {"smoke": cases}, nki=f"{KERNELS}:{kernel}", **settings)


def from_v3(case: Case, backend: str, target: str) -> str | None:
    return "a kernel on two cores, and hardware DGE, need NeuronCore-v3 or newer" if old(backend, target) else None


def hardware_from_v3(case: Case, backend: str, target: str) -> str | None:
    return from_v3(case, backend, target) if case.params["queue"] == "sync" else None


def old(backend: str, target: str) -> bool:
    """Whether the chip is of the second generation; the device's own is asked for."""
    from triptych.harness.backends.neuron import parts

    return (target or parts.target()) in ("trn1", "inf2")


OPS = [
    op(
        "probe_matmul",
        cyclic,
        products,
        "matmuls",
        [
            *pairs("512 columns", MANY, K=128, N=512, dtype="bfloat16"),
            *pairs("128 columns", 2 * MANY, K=128, N=128, dtype="bfloat16"),
            *pairs("512 columns of float32", MANY // 2, K=128, N=512, dtype="float32"),
        ],
        shapes={"p": ("K", "K"), "x": ("K", "N")},
        dtypes=("bfloat16", "float32"),
        tolerance={"bfloat16": {"rtol": 2**-7, "atol": 0}, "float32": {"rtol": 2**-16, "atol": 0}},  # of `count` sums
    ),
    op(
        "probe_clock",
        cyclic,
        products,
        "matmuls",
        [
            *pairs("cold", 10, K=128, N=128),  # before a window can end that makes the clock whole
            # Across the moment at which it changes, 2.6 to 6.0 us after the first: the smaller takes 3.1 us on trn2,
            # the larger 6.1 us on trn1.
            *pairs("96 columns", 36, 166, K=128, N=96),
            *pairs("112 columns", 31, 144, K=128, N=112),
            *pairs("128 columns", 27, 126, K=128, N=128),
        ],
        shapes={"p": ("K", "K"), "x": ("K", "N")},
        dtypes=("bfloat16",),
        tolerance={"rtol": 2**-7, "atol": 0},
    ),
    one_engine(
        "vector",
        *by_columns("vector"),
    ),
    one_engine(
        "scalar",
        *by_columns("scalar"),
        halvings("scalar", "in PSUM", 512, 4, MANY, memory="psum"),
    ),
    one_engine(
        "gpsimd",
        halvings("gpsimd", "256", 256, 4, MANY),
        halvings("gpsimd", "1024", 1024, 4, MANY),
        halvings("gpsimd", "dependent", 64, 1, MANY // 2),
    ),
    op(
        "probe_reciprocal",
        {"x": Input(("P", "F"), low=0.5, high=2.0)},
        inverted,
        "reciprocals",
        pairs("128", MANY // 2, P=128, F=512, ring=4),
        tolerance={"rtol": 2**-12, "atol": 0},  # an approximation, MANY / 4 times one after the other
    ),
    op(
        "probe_permute",
        cyclic,
        permuted,
        "permutations",
        pairs("128x128", MANY // 2, K=128, N=128, dtype="bfloat16"),
        shapes={"p": ("K", "K"), "x": ("K", "N")},
        dtypes=("bfloat16",),
    ),
    op("probe_table", {"x": ("P", "F")}, of_functions, "functions", pairs("tables", 1, P=128, F=128)),
    op("probe_sum", {"x": ("P", "F")}, summed, "sums", [{"name": "4096", "P": 128, "F": 4096}]),
    op(
        "probe_dma",
        {"x": ("C", "P", "W")},
        same,
        "copies",
        [
            *transfers("static", 32, W=4, queue="static"),
            *transfers("gpsimd", 32, W=4, queue="gpsimd"),
            *transfers("sync", 32, W=4, queue="sync"),
            *transfers("rows", 8, W=512, queue="static"),
        ],
        unsupported=hardware_from_v3,
    ),
    op(
        "probe_pieces",
        {"x": ("C", "P", "K", 2, "S")},
        first_of_two,
        "pieces",
        transfers("16 of 128 bytes", 4, K=16, S=32),
    ),
    op(
        "probe_bounce",
        {"x": ("P", "W")},
        half,
        "bounces",
        [
            *pairs("there and back", 16, P=128, W=4, queue="open"),
            *pairs("on one ring", 16, P=8, W=4, queue="open"),
            *pairs("sync", 16, P=128, W=4, queue="sync"),
        ],
        unsupported=hardware_from_v3,
    ),
    op("probe_barrier", {"x": ("P", "W")}, met, "meetings[2]", pairs("gpsimd", 16, P=128, W=4), unsupported=from_v3),
    op(
        "probe_two_cores",
        {"x": ("C", "P", "W")},
        same_by_two,
        "copies_by_two[2]",
        transfers("rows", 8, W=512),
        unsupported=from_v3,
    ),
    op(
        "probe_launch",
        {"x": ("C", "P", "W")},
        same,
        "copies",
        [*transfers("one tile", 1, W=4, queue="static"), *transfers("by GpSimd", 1, W=4, queue="gpsimd")],
    ),
]
