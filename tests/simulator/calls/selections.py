"""Selections and shuffles on the Vector Engine, and random numbers from known states."""

from __future__ import annotations

import numpy as np

from calls.model import ANY, FLOATS, NOT_FLOAT32, Call, F, Operand, call, column, f32, given, source, whole
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


@call
def tensor_copy_predicated(p, f):
    return Call(
        {
            "dst": Operand((p, f), ANY),
            "src": source((p, f)),
            "predicate": whole(0, 2, (p, f), ("uint8", "uint16", "uint32"), refuses=("int8", "float32")),
        },
        nisa.tensor_copy_predicated,
        lambda x: {"dst": x["src"]},
        same_dtype=(("dst", "src"),),
        not_both_in_psum=("src", "predicate"),
        written={"dst": lambda x: x["predicate"] != 0},
    )


@call
def select_reduce(p, f):
    def expected(x):
        y = np.where(x["predicate"] != 0, f32(x["on_true"]), x["on_false"])
        return {"dst": y, "reduce_res": y.max(axis=1, keepdims=True)}

    return Call(
        {
            "dst": Operand((p, f), ANY),
            "predicate": whole(0, 2, (p, f), ("int8", "uint8", "int16", "uint16"), refuses=("uint32", "float32")),
            "on_true": source((p, f), (*FLOATS, "int8", "uint16"), refuses=("tfloat32", "int32", "uint32")),
            "on_false": column(p),
            "reduce_res": Operand((p, 1), FLOATS, refuses=("int32", "uint8")),
        },
        lambda dst, predicate, on_true, on_false, reduce_res: nisa.select_reduce(
            dst, predicate, on_true, on_false, reduce_res, nisa.reduce_cmd.reset_reduce
        ),
        expected,
        not_both_in_psum=("on_true", "predicate"),
    )


@call
def range_select(p, f):
    def expected(x):
        index = 2 + np.arange(f)[None, :]
        chosen = (index >= x["bound0"]) & (index < x["bound1"])
        y = np.where(chosen, f32(x["on_true_tile"]), np.finfo(F).min)
        return {"dst": y, "reduce_res": y.max(axis=1, keepdims=True)}

    bound = given(lambda rng: rng.integers(0, f + 4, (p, 1)).astype(F), refuses=NOT_FLOAT32)
    return Call(
        {
            "dst": Operand((p, f), FLOATS),
            "on_true_tile": source((p, f), FLOATS, refuses=("int32", "uint8")),
            "bound0": bound,
            "bound1": bound,
            "reduce_res": Operand((p, 1)),
        },
        lambda dst, on_true_tile, bound0, bound1, reduce_res: nisa.range_select(
            dst, on_true_tile, nl.greater_equal, nl.less, bound0, bound1, reduce_res=reduce_res, range_start=2
        ),
        expected,
    )


@call
def nc_stream_shuffle(p, f):
    rows = 32 * (1 + p % 2)
    mask = [5 * i % 32 for i in range(32)]
    order = np.concatenate([32 * q + np.array(mask) for q in range(rows // 32)])
    return Call(
        {"dst": Operand((rows, f), ANY, any_rows=True), "src": source((rows, f))},
        lambda dst, src: nisa.nc_stream_shuffle(dst, src, mask),
        lambda x: {"dst": x["src"][order]},
        same_dtype=(("dst", "src"),),
    )


@call
def rng(p, f):
    """From known states of the generators: Marsaglia's XORWOW, one number at a time."""
    states = np.random.default_rng(7).integers(0, 2**32, (p, 6), dtype=np.uint32)

    def expected(x):
        out = np.empty((p, f), np.uint32)
        for row, state in zip(out, states.tolist(), strict=True):
            for i in range(f):
                t = state[0] ^ state[0] >> 2
                v = (state[4] ^ state[4] << 4 ^ t ^ t << 1) & 0xFFFFFFFF
                state[:] = [*state[1:5], v, (state[5] + 362437) & 0xFFFFFFFF]
                row[i] = (state[5] + v) & 0xFFFFFFFF
        return {"dst": out}

    return Call(
        {"dst": Operand((p, f), ("uint32",), ("sbuf",), any_rows=True, any_columns=True, refuses=FLOATS)},
        lambda dst: nisa.rng(dst, engine=nisa.engine.gpsimd),
        expected,
        before=_set_states(states),
        since=3,
    )


def _set_states(states):
    """The generators of the partitions where a tile may lie, from 0 or from 64 on."""
    everywhere = np.zeros((128, 6), np.uint32)
    everywhere[: len(states)] = states
    if len(states) <= 64:
        everywhere[64 : 64 + len(states)] = states
    return lambda c: nisa.rand_set_state(c.tile(everywhere))


@call
def rand_get_state(p, f):
    states = np.random.default_rng(f).integers(0, 2**32, (p, 6), dtype=np.uint32)
    return Call(
        {"dst": Operand((p, 6), ("uint32",), ("sbuf",), rank=True, any_rows=True, refuses=("int32",))},
        nisa.rand_get_state,
        lambda x: {"dst": states},
        before=_set_states(states),
    )


@call
def rand_set_state(p, f):
    seeds = source((p, 6), ("uint32",), ("sbuf",), rank=True, any_rows=True, refuses=("int32",))
    return Call({"src_seeds": seeds}, nisa.rand_set_state, lambda x: {})


@call
def set_rng_seed(p, f):
    seed = source((1, 1), ("uint32", "int32"), rank=True, refuses=("uint16", "int8"))
    return Call({"src_seeds": seed}, nisa.set_rng_seed, lambda x: {})


@call
def rand2(p, f):
    """Between bounds 2^-20 apart every number is the lower one in eight bits."""
    low = 1 + np.arange(p, dtype=F)[:, None] % 7
    return Call(
        {
            "dst": Operand((p, f), ("bfloat16", "int16", "uint8"), any_columns=True, refuses=("float8_e4m3fn",)),
            "min": given(low, refuses=NOT_FLOAT32),
            "max": given(low + F(2.0**-20), refuses=NOT_FLOAT32),
        },
        lambda dst, min, max: nisa.rand2(dst, min, max),
        lambda x: {"dst": np.broadcast_to(x["min"], (p, f))},
    )
