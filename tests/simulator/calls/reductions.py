"""Reductions, scans and searches along the free dimension, on the Vector Engine."""

from __future__ import annotations

import numpy as np

from calls.model import ANY, FLOATS, NOT_FLOAT32, NUMBERS, Call, F, Operand, call, column, f32, given, source
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

INDICES = ("int32", "uint8", "float32")  # what a tile of indices cannot be


@call
def tensor_reduce(p, f):
    return Call(
        {"dst": Operand((p, 1), ANY), "data": source((p, f), rank=True, any_columns=True)},
        lambda dst, data: nisa.tensor_reduce(dst, nl.maximum, data, 1),
        lambda x: {"dst": f32(x["data"]).max(axis=1, keepdims=True)},
    )


@call
def tensor_scalar_reduce(p, f):
    def expected(x):
        y = f32(x["data"]) + x["operand0"]
        return {"dst": y, "reduce_res": np.minimum(y.min(axis=1, keepdims=True), x["reduce_init"])}

    return Call(
        {
            "dst": Operand((p, f), ANY),
            "data": source((p, f)),
            "operand0": column(p, refuses=NOT_FLOAT32),
            "reduce_res": Operand((p, 1), FLOATS),
            "reduce_init": column(p, refuses=NOT_FLOAT32),
        },
        lambda dst, data, operand0, reduce_res, reduce_init: nisa.tensor_scalar_reduce(
            dst,
            data,
            nl.add,
            operand0,
            nl.minimum,
            reduce_res,
            reduce_cmd=nisa.reduce_cmd.load_reduce,
            reduce_init=reduce_init,
        ),
        expected,
    )


@call
def tensor_scalar_cumulative(p, f):
    narrow = tuple(d for d in NUMBERS if d != "tfloat32")
    return Call(
        {
            "dst": Operand((p, f), narrow, refuses=("int32", "uint32")),
            "src": source((p, f), narrow, refuses=("int32", "uint32", "tfloat32")),
            "imm0": column(p, refuses=NOT_FLOAT32),
            "imm1": column(p, refuses=NOT_FLOAT32),
        },
        lambda dst, src, imm0, imm1: nisa.tensor_scalar_cumulative(
            dst, src, nl.multiply, nl.maximum, imm0, imm1, nisa.reduce_cmd.load_reduce
        ),
        lambda x: {
            "dst": np.maximum.accumulate(np.concatenate([x["imm1"], f32(x["src"]) * x["imm0"]], axis=1), axis=1)[:, 1:]
        },
    )


@call
def tensor_tensor_scan(p, f):
    def expected(x):
        state, out = x["initial"][:, 0], np.empty((p, f), F)
        for i in range(f):
            state = out[:, i] = np.minimum(f32(x["data0"])[:, i] + state, f32(x["data1"])[:, i])
        return {"dst": out}

    return Call(
        {"dst": Operand((p, f), ANY), "data0": source((p, f)), "data1": source((p, f)), "initial": column(p)},
        lambda dst, data0, data1, initial: nisa.tensor_tensor_scan(dst, data0, data1, initial, nl.add, nl.minimum),
        expected,
        not_both_in_psum=("data0", "data1"),
    )


@call
def bn_stats(p, f):
    def moments(x):
        n = x.shape[1]
        mean = x.mean(axis=1) if n else np.zeros(p)
        return np.stack([np.full(p, n), mean, x.var(axis=1) * n if n else mean], axis=1)

    def expected(x):
        exact = x["data"].astype(np.float64)
        return {"dst": np.concatenate([moments(exact[:, 0::2]), moments(exact[:, 1::2])], axis=1)}

    return Call(
        {"dst": Operand((p, 6)), "data": source((p, f), ("float32", "bfloat16", "float16"), any_columns=True)},
        nisa.bn_stats,
        expected,
        rtol={"dst": 1e-3},
    )


@call
def bn_aggr(p, f):
    def triples(rng):
        return np.concatenate([rng.uniform(1, 9, (p, 3)).astype(F) for _ in range(f)], axis=1)

    def expected(x):
        count, mean, moment = (x["data"][:, i::3].astype(np.float64) for i in range(3))
        n = count.sum(axis=1)
        centre = (count * mean).sum(axis=1) / n
        spread = (moment + count * (mean - centre[:, None]) ** 2).sum(axis=1) / n
        return {"dst": np.stack([centre, spread], axis=1)}

    return Call(
        {"dst": Operand((p, 2)), "data": given(triples, ("float32", "bfloat16"), any_columns=True)},
        nisa.bn_aggr,
        expected,
        rtol={"dst": 1e-5},
    )


@call
def max8(p, f):
    return Call(
        {"dst": Operand((p, 8), ANY, rank=True), "src": source((p, f + 7), any_columns=True)},
        nisa.max8,
        lambda x: {"dst": np.sort(f32(x["src"]), axis=1)[:, :-9:-1]},
    )


def _eight(p, f):
    """Data of distinct whole numbers, and eight of each partition's."""
    n = f + 7

    def data(rng):
        return np.stack([rng.permutation(n) for _ in range(p)]).astype(F)

    def values(rng):
        return np.stack([rng.permutation(n)[:8] for _ in range(p)]).astype(F)

    kinds = ("float32", "bfloat16", "int16")
    return given(data, kinds, any_columns=True), given(values, kinds)


def _positions(x):
    return np.stack([[int(np.flatnonzero(row == v)[0]) for v in vals] for row, vals in zip(*x, strict=True)])


@call
def nc_find_index8(p, f):
    data, vals = _eight(p, f)
    return Call(
        {"dst": Operand((p, 8), ("uint16", "uint32"), rank=True, refuses=INDICES), "data": data, "vals": vals},
        nisa.nc_find_index8,
        lambda x: {"dst": _positions((f32(x["data"]), f32(x["vals"])))},
    )


@call
def nc_match_replace8(p, f):
    data, vals = _eight(p, f)

    def expected(x):
        at = _positions((f32(x["data"]), f32(x["vals"])))
        out = f32(x["data"]).copy()
        np.put_along_axis(out, at, -5, axis=1)
        return {"dst": out, "dst_idx": at}

    return Call(
        {
            "dst": Operand((p, f + 7), ("float32", "bfloat16", "int16")),
            "data": data,
            "vals": vals,
            "dst_idx": Operand((p, 8), ("uint16", "uint32"), rank=True, refuses=INDICES),
        },
        lambda dst, data, vals, dst_idx: nisa.nc_match_replace8(dst, data, vals, -5.0, dst_idx),
        expected,
    )
