"""What an instruction costs as it is called: what a formula has to know of the call stands in the trace."""

import numpy as np
import pytest

from triptych.simulator import INSTRUCTIONS
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing.reading.flops import flops_of

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

GHZ = {"trn1": {"vector": 1.12}, "trn2": {"tensor": 2.4, "vector": 0.96, "gpsimd": 1.2}}


def zeros(c, shape, dtype="bfloat16"):
    return c.tile(np.zeros(shape, np.float32), dtype)


def spent(c):
    """Cycles of its engine that the last instruction takes."""
    event = c.trace.events[-1]
    return INSTRUCTIONS[event.op].cost(event, c.machine.chip) * GHZ[c.trace.target][event.engine]


def test_a_product_with_the_identity_that_only_transposes(core):
    with core("trn2") as c:
        data, identity = zeros(c, (128, 128), "float32"), c.tile(np.eye(128), "float32")
        dst = c.empty((128, 128), buffer="psum")
        nisa.nc_matmul(dst, data, identity, is_transpose=True)
        assert spent(c) == pytest.approx(2 * 128 + 7) and flops_of(c.trace.events[-1]) == 0
        nisa.nc_matmul(dst, data, identity)
        assert spent(c) == pytest.approx(4 * 128 + 14) and flops_of(c.trace.events[-1]) == 2 * 128**3


@pytest.mark.parametrize("hint", ["is_stationary_onezero", "is_moving_onezero"])
@pytest.mark.parametrize(("dtype", "told", "untold"), [("float32", 2 * 96 + 7, 4 * 96 + 14), ("bfloat16", 103, 103)])
def test_a_product_of_ones_and_zeros(core, hint, dtype, told, untold):
    with core("trn2") as c:
        dst = c.empty((64, 96), "float32", "psum")
        for given, cycles in ((True, told), (False, untold)):
            nisa.nc_matmul(dst, zeros(c, (32, 64), dtype), zeros(c, (32, 96), dtype), **{hint: given})
            assert spent(c) == pytest.approx(cycles)


def test_a_product_of_two_rows_a_partition(core):
    with core("trn2") as c:
        left, right = zeros(c, (32, 2, 64), "float8_e4m3"), zeros(c, (32, 2, 96), "float8_e4m3")
        dst = c.empty((64, 96), "float32", "psum")
        nisa.nc_matmul(dst, left, right, perf_mode=nisa.matmul_perf_mode.double_row)
        assert spent(c) == pytest.approx(96 + 7) and flops_of(c.trace.events[-1]) == 2 * 64 * 64 * 96


@pytest.mark.parametrize(("value", "cycles"), [(0, 256), (1, 512)])
def test_a_constant(core, value, cycles):
    with core("trn2") as c:
        nisa.memset(c.empty((128, 512), "bfloat16"), value, engine=nisa.engine.vector)
        assert spent(c) == pytest.approx(cycles)


@pytest.mark.parametrize(("op", "cycles"), [(nl.subtract, 512), (nl.maximum, 1024)])
def test_two_tiles_of_bfloat16_on_the_first_generation(core, op, cycles):
    with core("trn1") as c:
        nisa.tensor_tensor(c.empty((128, 512), "bfloat16"), zeros(c, (128, 512)), zeros(c, (128, 512)), op)
        assert spent(c) == pytest.approx(cycles)


@pytest.mark.parametrize(("first", "cycles"), [(nl.subtract, 512), (nl.add, 1024)])
def test_a_pair_of_operators_of_bfloat16_on_the_first_generation(core, first, cycles):
    with core("trn1") as c:
        x, y = zeros(c, (128, 512)), zeros(c, (128, 512))
        nisa.scalar_tensor_tensor(c.empty((128, 512), "bfloat16"), x, first, 1.0, nl.multiply, y)
        assert spent(c) == pytest.approx(cycles)


@pytest.mark.parametrize(("op", "cycles"), [(nl.add, 256), (nl.maximum, 256), (nl.minimum, 512)])
def test_a_reduction(core, op, cycles):
    with core("trn2") as c:
        nisa.tensor_reduce(c.empty((128, 1), "bfloat16"), op, zeros(c, (128, 512)), axis=1)
        assert spent(c) == pytest.approx(cycles)


def test_a_gather_of_some_indices(core):
    with core("trn2") as c:
        index = c.tile(np.zeros((16, 4), np.uint16))
        dst = c.empty((16, 60 * 4), "float32")
        nisa.local_gather(dst, zeros(c, (16, 8), "float32"), index, num_elem_per_idx=4, num_valid_indices=60)
        assert spent(c) == pytest.approx(240 / 2.75 + 150)


def test_the_largest_of_some_values(core):
    with core("trn2") as c:
        values, places = c.empty((16, 8), "bfloat16"), c.empty((16, 8), "uint32")
        nisa.topk(values, places, zeros(c, (16, 7)), 100)
        assert spent(c) == pytest.approx(4 * 100 + 8)
