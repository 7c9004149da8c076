"""The table of instructions: each documented, exercised by a test, and with a cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triptych.harness.upkeep.pages import nki_names
from triptych.simulator import INSTRUCTIONS, NkiValidationError
from triptych.simulator.api.newer import SINCE as SINCE_VERSION
from triptych.simulator.enums import engine
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

NAMES = sorted(INSTRUCTIONS)
SINCE = {
    "activate2": 4,
    "core_barrier": 3,
    "exponential": 4,
    "nc_matmul_mx": 4,
    "nonzero_with_count": 3,
    "quantize_mx": 4,
    "rand2": 4,
    "rand_get_state": 3,
    "rand_set_state": 3,
    "range_select": 3,
    "sendrecv": 3,
    "sendrecv_compute": 3,
}


def test_the_table_holds_every_documented_instruction():
    functions = {n.name for n in nki_names.read() if n.module == "nki.isa" and n.kind == "function"}
    newer = {"scalar_load", "scalar_store", "sendrecv_compute"}  # of NKI 0.7
    assert set(INSTRUCTIONS) == (functions | newer) - {"get_nc_version", "get_nc_sub_version", "register_alloc"}


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_complete(name):
    row = INSTRUCTIONS[name]
    assert row.name == name and row.engines and all(isinstance(e, engine) for e in row.engines)
    assert len(row.summary) > 20 and row.summary.endswith((".", ":")) and row.summary.isascii()
    scalar = name in ("scalar_load", "scalar_store")  # which a function issues, and gives what it made
    newer = f"nki.isa.{name}" in SINCE_VERSION
    page = f"nki.isa.{name}.html of SDK 2.33" if newer else "nki/api/nki/isa/__init__.py"
    assert row.source == f"{page}, {name}" and row.since == SINCE.get(name, 2)
    assert scalar or getattr(nisa, name) is row.issue and row.issue.__doc__ == row.effect.__doc__
    assert row.cost.text and row.cost.known in ("documented", "historical", "assumed")


@pytest.mark.parametrize("name", NAMES)
def test_an_instruction_is_exercised_by_the_tests_of_its_module(name):
    module = INSTRUCTIONS[name].effect.__module__.removeprefix("triptych.simulator.engines.").replace(".", "_")
    tests = (Path(__file__).parents[1] / "engines" / f"test_{module}.py").read_text()
    assert f"nisa.{name}(" in tests and "LIMITS" in tests and "test_limits" in tests


@pytest.mark.parametrize("name", SINCE)
def test_an_instruction_of_a_later_generation_is_refused_before_anything_else(core, name):
    with core("trn1"), pytest.raises(NkiValidationError, match=f"nisa.{name} at .* needs NeuronCore-v{SINCE[name]} or"):
        INSTRUCTIONS[name].issue(None)


# Costs: the documented formulas, in cycles of the engine's clock


def cost_ns(c):
    event = c.trace.events[-1]
    return INSTRUCTIONS[event.op].cost(event, c.trace.chip)


def _z(c, *shape, dtype="float32", buffer="sbuf"):
    return c.tile(np.zeros(shape), dtype, buffer)


N = 256
WIDE = (4, 1024)
P, H, F, BF, X4 = "psum", "private_hbm", (4, N), "bfloat16", "float8_e5m2_x4"
COSTS = [
    # Vector at 1.12 GHz on v2, 0.96 on v3
    ("trn1", lambda c: nisa.tensor_copy(c.empty(F), _z(c, *F)), N / 1.12),
    ("trn1", lambda c: nisa.tensor_copy(c.empty((4, 8)), _z(c, 4, 8)), 64 / 1.12),
    ("trn2", lambda c: nisa.tensor_copy(c.empty(F), _z(c, *F)), N / 2 / 0.96),
    ("trn2", lambda c: nisa.tensor_copy(c.empty(F), _z(c, *F, buffer=P)), N / 0.96),
    ("trn2", lambda c: nisa.tensor_copy(c.empty((4, 1024), "bfloat16"), _z(c, 4, 1024, dtype="bfloat16")), 256 / 0.96),
    ("trn1", lambda c: nisa.tensor_tensor(c.empty(F), _z(c, *F), _z(c, *F), nl.add), 2 * N / 1.12),
    ("trn1", lambda c: nisa.tensor_tensor(c.empty(F), _z(c, *F, buffer=P), _z(c, *F), nl.add), N / 1.12),
    ("trn1", lambda c: nisa.tensor_tensor(c.empty(F, BF), *_two(c), nl.add), N / 1.12),
    (
        "trn1",
        lambda c: nisa.tensor_tensor(c.empty(F, BF), *_two(c), nl.less),
        2 * N / 1.12,
    ),
    ("trn2", lambda c: nisa.tensor_tensor(c.empty(F, BF), *_two(c), nl.less), N / 2 / 0.96),
    ("trn2", lambda c: nisa.tensor_tensor(c.empty(F), *_two(c), nl.add), N / 0.96),
    ("trn1", lambda c: nisa.memset(c.empty(F, BF), 0), N / 2 / 1.12),
    ("trn1", lambda c: nisa.memset(c.empty(F, BF), 1), N / 1.12),
    ("trn1", lambda c: nisa.memset(c.empty(F, BF), 0, nisa.engine.gpsimd), (150 + N) / 1.4),
    ("trn1", lambda c: nisa.tensor_reduce(c.empty((4, 1)), nl.add, _z(c, *F), 1), N / 1.12),
    ("trn2", lambda c: nisa.tensor_reduce(c.empty((4, 1), BF), nl.add, _z(c, *F, dtype=BF), 1), N / 2 / 0.96),
    ("trn2", lambda c: nisa.tensor_reduce(c.empty((4, 1), BF), nl.minimum, _z(c, *F, dtype=BF), 1), N / 0.96),
    ("trn1", lambda c: nisa.reciprocal(c.empty(F), _z(c, *F)), 8 * N / 1.12),
    ("trn2", lambda c: nisa.reciprocal(c.empty(F), _z(c, *F)), 6 * N / 0.96),
    ("trn1", lambda c: nisa.tensor_tensor_scan(c.empty(F), _z(c, *F), _z(c, *F), 0.0, nl.add, nl.add), 2 * N / 1.12),
    ("trn1", lambda c: nisa.bn_stats(c.empty((4, 6)), _z(c, *F)), N / 1.12),
    ("trn1", lambda c: nisa.bn_aggr(c.empty((4, 2)), _z(c, 4, 60)), 13 * 20 / 1.12),
    ("trn1", lambda c: nisa.max8(c.empty((4, 8)), _z(c, *F)), N / 1.12),
    ("trn1", lambda c: nisa.tensor_copy_predicated(c.empty(F), _z(c, *F), _z(c, *F, dtype="uint8")), 2 * N / 1.12),
    (
        "trn1",
        lambda c: nisa.tensor_copy_predicated(c.empty(F), _z(c, *F, buffer=P), _z(c, *F, dtype="uint8")),
        N / 1.12,
    ),
    ("trn1", lambda c: nisa.tensor_copy_predicated(c.empty(F), 1.0, _z(c, *F, dtype="uint8")), N / 1.12),
    ("trn1", lambda c: nisa.select_reduce(c.empty(F), _z(c, *F, dtype="uint8"), _z(c, *F), 0.0), 2 * N / 1.12),
    (
        "trn2",
        lambda c: nisa.range_select(c.empty(F), _z(c, *F), nl.less, nl.less, _z(c, 4, 1), _z(c, 4, 1)),
        N / 0.96,
    ),
    ("trn1", lambda c: nisa.nc_find_index8(c.empty((4, 8), "uint32"), _z(c, *F), _z(c, 4, 8)), N / 1.12),
    ("trn1", lambda c: nisa.nc_match_replace8(c.empty(F), _z(c, *F), _z(c, 4, 8), 0.0), N / 1.12),
    ("trn1", lambda c: nisa.nc_stream_shuffle(c.empty(F), _z(c, *F), [0] * 32), N / 1.12),
    ("trn1", lambda c: nisa.tensor_scalar_reduce(c.empty(F), _z(c, *F), nl.add, 0.0, nl.add), (N + 64) / 1.12),
    ("trn1", lambda c: nisa.tensor_scalar_cumulative(c.empty(F), _z(c, *F), nl.add, nl.add, 0.0), 2 * N / 1.12),
    ("trn3", lambda c: nisa.exponential(c.empty((4, 512)), _z(c, 4, 512)), 128 / 1.2),
    ("trn1", lambda c: nisa.dropout(c.empty(F), _z(c, *F), 0.5), N / 1.12),
    ("trn1", lambda c: nisa.rng(c.empty(F, "uint8")), N / 1.12),
    ("trn2", lambda c: nisa.rng(c.empty(F, "uint8"), nisa.engine.gpsimd), (150 + N) / 1.2),
    ("trn3", lambda c: nisa.rand2(c.empty((4, 512)), 0.0, 1.0), 128 / 1.2),
    ("trn1", lambda c: nisa.set_rng_seed(_z(c, 1, 1, dtype="uint32")), 64 / 1.12),
    ("trn2", lambda c: nisa.rand_set_state(_z(c, 4, 6, dtype="uint32")), 156 / 1.2),
    ("trn2", lambda c: nisa.rand_get_state(c.empty((4, 6), "uint32")), 156 / 1.2),
    (
        "trn3",
        lambda c: nisa.quantize_mx(c.empty((32, N), X4), _z(c, 32, 4 * N, dtype=BF), c.empty((4, N), "uint8")),
        N / 1.2,
    ),
    # GpSimd at 1.4 and 1.2 GHz, 150 cycles to start
    ("trn1", lambda c: nisa.iota(c.empty(F), [[1, N]]), (150 + N) / 1.4),
    ("trn2", lambda c: nisa.affine_select(c.empty(F), [[1, N]], 0, _z(c, *F), 0.0), (150 + N) / 1.2),
    ("trn1", lambda c: nisa.tensor_partition_reduce(c.empty((1, N)), nl.add, _z(c, *F)), (150 + N) / 1.4),
    ("trn1", lambda c: nisa.sequence_bounds(c.empty((1, 2, N)), _z(c, 1, N)), (150 + 2 * N) / 1.4),
    ("trn2", lambda c: nisa.nonzero_with_count(c.empty((1, N), "int32"), _z(c, 1, N - 1)), (150 + N) / 1.2),
    ("trn1", lambda c: nisa.nc_n_gather(c.empty(F), _z(c, *F), _z(c, *F, dtype="uint32")), (150 + N) / 1.4),
    (
        "trn1",
        lambda c: nisa.nc_n_gather(c.empty((4, 520)), _z(c, *F), _z(c, 4, 520, dtype="uint32")),
        (2 * 150 + 520) / 1.4,
    ),
    (  # 64 indices of 4 float32: C = (28 + 16) / 16 / 1
        "trn1",
        lambda c: nisa.local_gather(c.empty((16, N)), _z(c, 16, N), _z(c, 16, 4, dtype="uint16"), 4),
        (150 + 256 / (44 / 16)) / 1.4,
    ),
    (  # 64 indices of 1 float32: C = (28 + 4) / 4 / 1
        "trn1",
        lambda c: nisa.local_gather(_z(c, 16, 64), _z(c, 16, N), _z(c, 16, 4, dtype="uint16")),
        (150 + 64 / 8) / 1.4,
    ),
    (
        "trn2",
        lambda c: nisa.topk(c.empty((16, 8), BF), c.empty((16, 8), "uint32"), _z(c, 16, 4, dtype=BF), 64),
        (4 * 64 + 8) / 1.2,
    ),
    # Two bytes on Vector of v3: four times as fast dense in SBUF, twice with gaps or from PSUM, not with gaps in PSUM
    ("trn2", lambda c: nisa.tensor_copy(c.empty(WIDE, BF), _z(c, *WIDE, dtype=BF)), 256 / 0.96),
    ("trn2", lambda c: nisa.tensor_copy(c.empty(WIDE, BF), _z(c, 4, 2048, dtype=BF)[:, ::2]), 512 / 0.96),
    ("trn2", lambda c: nisa.tensor_copy(c.empty(WIDE, BF), _z(c, *WIDE, dtype=BF, buffer=P)), 512 / 0.96),
    ("trn2", lambda c: nisa.tensor_copy(c.empty(WIDE, BF), _z(c, 4, 2048, dtype=BF, buffer=P)[:, ::2]), 1024 / 0.96),
    ("trn2", lambda c: nisa.tensor_copy(c.empty(WIDE), _z(c, *WIDE, dtype=BF)), 1024 / 0.96),
    ("trn1", lambda c: nisa.tensor_copy(c.empty(WIDE, BF), _z(c, *WIDE, dtype=BF)), 1024 / 1.12),
    # Scalar at 1.4 GHz; reading the accumulator takes 64 cycles more
    ("trn1", lambda c: nisa.activation(c.empty(F), nl.exp, _z(c, *F)), N / 1.4),
    ("trn1", lambda c: nisa.activation_reduce(c.empty(F), nl.exp, _z(c, *F), nl.add, c.empty((4, 1))), (N + 64) / 1.4),
    (
        "trn3",
        lambda c: nisa.activate2(c.empty(F), nl.exp, _z(c, *F), 1.0, 0.0, nl.multiply, nl.add),
        N / 1.2,
    ),
    # Tensor at 2.8 and 2.4 GHz: as many cycles as moving columns and 7; four times for float32, in two passes
    ("trn1", lambda c: _matmul(c, 128, 128, 512, "bfloat16"), (512 + 7) / 2.8),
    ("trn2", lambda c: _matmul(c, 128, 128, 512, "float32"), (4 * 512 + 14) / 2.4),
    ("trn2", lambda c: _matmul(c, 128, 128, 8, "bfloat16"), (64 + 7) / 2.4),
    ("trn2", lambda c: nisa.nc_transpose(c.empty((64, 32), buffer=P), _z(c, 32, 64)), (2 * 64 + 7) / 2.4),
    ("trn2", lambda c: nisa.nc_transpose(c.empty((64, 32), BF, P), _z(c, 32, 64, dtype=BF)), (64 + 7) / 2.4),
    ("trn3", lambda c: _matmul_mx(c, 128, 64, 300), (300 + 7) / 2.4),
    # DMA at 272 and 390 GB/s over 16 rings, 5.9 ns a descriptor. A transpose: 90 %, within SBUF half
    ("trn1", lambda c: nisa.dma_copy(c.empty((128, N)), _z(c, 128, N, buffer="private_hbm")), 8 * (5.9 + 4 * N / 17)),
    (
        "trn2",
        lambda c: nisa.dma_copy(c.empty((128, N)), _z(c, 128, N, buffer="private_hbm")),
        8 * (5.9 + 4 * N / 24.375),
    ),
    # A ring has eight partitions, and what they need is its own: 2 rows on one, 17 on three
    (
        "trn2",
        lambda c: nisa.dma_copy(c.empty((2, 2048)), _z(c, 2, 2048, buffer="private_hbm")),
        2 * (5.9 + 8192 / 24.375),
    ),
    (
        "trn2",
        lambda c: nisa.dma_copy(c.empty((17, 1024)), _z(c, 17, 1024, buffer="private_hbm")),
        8 * (5.9 + 4096 / 24.375),
    ),
    ("trn2", lambda c: nisa.dma_copy(*_rows(c, 4, 14)), 6 * (5.9 + 4096 / 24.375)),  # four and six
    ("trn2", lambda c: nisa.dma_copy(*_rows(c, 6, 9)), 2 * (5.9 + 4096 / 24.375)),
    # Within HBM 2 runs of 8 KiB are cut into 16 parts; 17 of 4 KiB with gaps leave one ring with two
    ("trn2", lambda c: nisa.dma_copy(*_in_hbm(c, 2, 2048)), 5.9 + 1024 / 24.375),
    ("trn2", lambda c: nisa.dma_copy(*_in_hbm(c, 17, 1024)), 2 * (5.9 + 4096 / 24.375)),
    # Of two bytes here and four there the longer counts
    ("trn2", lambda c: nisa.dma_copy(c.empty((128, N)), _z(c, 128, N, dtype=BF, buffer=H)), 8 * (5.9 + 4 * N / 24.375)),
    ("trn2", lambda c: nisa.dma_copy(c.empty((128, N), BF), _z(c, 128, N, buffer=H)), 8 * (5.9 + 4 * N / 24.375)),
    # Transposes: blocks of 128 x 16, 16 elements of which are those of a ring; 90 % of its rate, within SBUF half
    ("trn2", lambda c: nisa.dma_transpose(c.empty((64, 32)), _z(c, 32, 64, buffer=H)), 2 * (5.9 + 512 / 24.375 / 0.9)),
    ("trn2", lambda c: nisa.dma_transpose(c.empty((64, 33)), _z(c, 33, 64)), 3 * (5.9 + 512 / 24.375 / 0.5)),
    (
        "trn2",
        lambda c: nisa.dma_transpose(c.empty((128, 1, 4, 128), BF), _z(c, 128, 1, 4, 128, dtype=BF)),
        32 * (5.9 + 256 / 24.375 / 0.5),
    ),
    ("trn2", lambda c: nisa.dma_compute(c.empty((64, 32)), [_z(c, 64, 32)] * 3, nl.add), 3 * 8192 / 390),
]


def _rows(c, first, last):
    """Some rows of a tile, and as many of a tensor in HBM."""
    return c.empty((128, 1024))[first:last], _z(c, last - first, 1024, buffer=H)


def _in_hbm(c, rows, columns):
    """A tensor in HBM, and the half of a wider one."""
    return c.empty((rows, columns), buffer=H), _z(c, rows, 2 * columns, buffer=H)[:, 0:columns]


def _two(c):
    return [_z(c, *F, dtype=BF) for _ in range(2)]


def _matmul(c, k, m, n, dtype):
    nisa.nc_matmul(c.empty((m, n), buffer="psum"), _z(c, k, m, dtype=dtype), _z(c, k, n, dtype=dtype))


def _matmul_mx(c, k, m, n):
    left, right = _z(c, k, m, dtype=X4), _z(c, k, n, dtype=X4)
    nisa.nc_matmul_mx(
        c.empty((m, n), buffer="psum"), left, right, _z(c, k, m, dtype="uint8"), _z(c, k, n, dtype="uint8")
    )


@pytest.mark.parametrize(("target", "call", "expected"), COSTS)
def test_a_cost_is_its_formula(core, target, call, expected):
    with core(target) as c:
        call(c)
        assert cost_ns(c) == pytest.approx(expected, rel=1e-9)
