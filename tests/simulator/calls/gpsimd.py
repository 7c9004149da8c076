"""GpSimd: patterns, gathers and searches; it reads and writes SBUF only."""

from __future__ import annotations

import numpy as np

from calls.model import ANY, Call, F, Operand, call, copied, f32, given, source, whole
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@call
def iota(p, f):
    return Call(
        {"dst": Operand((p, f), ANY, ("sbuf",), any_rows=True)},
        lambda dst: nisa.iota(dst, [[3, f]], -2, 5),
        lambda x: {"dst": -2 + 5 * np.arange(p)[:, None] + 3 * np.arange(f)[None, :]},
    )


@call
def affine_select(p, f):
    return Call(
        {"dst": Operand((p, f), ANY, ("sbuf",)), "on_true_tile": source((p, f), buffers=("sbuf",))},
        lambda dst, on_true_tile: nisa.affine_select(dst, [[-1, f]], 1, on_true_tile, 3.0, nl.greater_equal),
        lambda x: {
            "dst": np.where(
                np.arange(p)[:, None] >= np.arange(f), on_true := copied(x, "on_true_tile"), on_true.dtype.type(3)
            )
        },
    )


@call
def local_gather(p, f):
    rows, columns = 16 * (1 + p % 2), 2

    def expected(x):
        out = np.empty((rows, 32, 2), x["src_buffer"].dtype)
        for q in range(rows):
            core = slice(q // 16 * 16, q // 16 * 16 + 16)
            mine = x["index"][core].flatten(order="F")
            for k, at in enumerate(mine):
                out[q, k] = x["src_buffer"][q, at : at + 2]
        return {"dst": out.reshape(rows, -1)}

    return Call(
        {
            "dst": Operand((rows, 64), ANY, ("sbuf",)),
            "src_buffer": source((rows, f + 1), buffers=("sbuf",), any_columns=True),
            "index": whole(0, f, (rows, columns), ("uint16",), ("sbuf",), refuses=("uint32", "int16")),
        },
        lambda dst, src_buffer, index: nisa.local_gather(dst, src_buffer, index, 2),
        expected,
        same_dtype=(("dst", "src_buffer"),),
    )


@call
def nc_n_gather(p, f):
    return Call(
        {
            "dst": Operand((p, 5), ANY, ("sbuf",)),
            "data": source((p, f), buffers=("sbuf",), any_columns=True),
            "indices": whole(0, f, (p, 5), ("uint32",), ("sbuf",), refuses=("uint16", "int32")),
        },
        nisa.nc_n_gather,
        lambda x: {"dst": np.take_along_axis(x["data"], x["indices"].astype(int), axis=1)},
        same_dtype=(("dst", "data"),),
    )


@call
def tensor_partition_reduce(p, f):
    return Call(
        {"dst": Operand((1, f), ANY, ("sbuf",)), "data": source((p, f), buffers=("sbuf",), any_rows=True)},
        lambda dst, data: nisa.tensor_partition_reduce(dst, nl.maximum, data),
        lambda x: {"dst": f32(x["data"]).max(axis=0, keepdims=True)},
    )


@call
def sequence_bounds(p, f):
    def expected(x):
        ids = x["segment_ids"].reshape(-1).tolist()
        out = np.empty((1, 2, f))
        for i, mine in enumerate(ids):
            start = next(j for j in range(i, -1, -1) if j == 0 or ids[j - 1] != mine)
            end = next(j for j in range(i + 1, f + 1) if j == f or ids[j] != mine)
            out[0, :, i] = (start, end) if mine else (f, -1)
        return {"dst": out}

    kinds = ("float32", "int32")
    return Call(
        {
            "dst": Operand((1, 2, f), kinds, ("sbuf",), rank=True, refuses=("bfloat16", "int16")),
            "segment_ids": whole(0, 3, (1, f), kinds, ("sbuf",), refuses=("bfloat16", "int16")),
        },
        nisa.sequence_bounds,
        expected,
    )


def _every_sixteenth(shape):
    rows = np.zeros(shape, bool)
    rows[::16] = True
    return rows


@call
def nonzero_with_count(p, f):
    rows = min(16 + p, 128)

    def expected(x):
        out = np.zeros((rows, f + 1), int)
        for q in range(0, rows, 16):
            at = [4 + int(i) for i in np.flatnonzero(x["src"][q])]
            out[q] = [*at, *[-1] * (f - len(at)), len(at)]
        return {"dst": out}

    return Call(
        {
            "dst": Operand((rows, f + 1), ("int32",), ("sbuf",), refuses=("float32", "uint32")),
            "src": given(
                lambda rng: rng.integers(-1, 2, (rows, f)),
                ("float32", "int32"),
                ("sbuf",),
                read=_every_sixteenth((rows, f)),
                refuses=("bfloat16", "int16"),
            ),
        },
        lambda dst, src: nisa.nonzero_with_count(dst, src, 4),
        expected,
        written={"dst": lambda x: _every_sixteenth((rows, f + 1))},
    )


@call
def topk(p, f):
    rows, n, k = 16 * (1 + p % 2), 16 + f, 5
    read = np.zeros((rows, 3), bool)
    for i in range(n):
        read[i % 16 :: 16, i // 16] = True

    def expected(x):
        values, at = np.empty((rows, k), F), np.empty((rows, k), int)
        for group in range(0, rows, 16):
            snake = f32(x["src"])[group : group + 16].flatten(order="F")[:n]
            best = np.argsort(snake, kind="stable")[-k:]
            values[group : group + 16], at[group : group + 16] = snake[best], best
        return {"val_dst": values, "idx_dst": at}

    def distinct(rng):
        return rng.permutation(rows * 3).reshape(rows, 3).astype(F)

    return Call(
        {
            "val_dst": Operand((rows, k), ("bfloat16",), ("sbuf",), rank=True, refuses=("float32",)),
            "idx_dst": Operand((rows, k), ("uint32",), ("sbuf",), rank=True, refuses=("int32",)),
            "src": given(
                distinct, ("bfloat16",), ("sbuf",), read=read, rank=True, any_columns=True, refuses=("float32",)
            ),
        },
        lambda val_dst, idx_dst, src: nisa.topk(val_dst, idx_dst, src, n),
        expected,
    )
