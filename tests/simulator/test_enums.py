"""Enumerations: what kernels do with their members, and the leniency for operands that the documentation excludes."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator import NkiValidationError, enums
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def noted(c, words):
    return any(words in note for note in c.trace.notes)


def test_generations_have_an_order():
    v = enums.nc_version
    assert v.gen2 < v.gen3 < v.gen4 and v.gen4 >= v.gen3 >= v.gen3 and not v.gen3 > v.gen3
    with pytest.raises(TypeError):
        _ = v.gen3 < 4


VALUES = {  # nki/api/nki/isa/__init__.py
    "engine": {"tensor": 1, "vector": 5, "scalar": 2, "gpsimd": 3, "dma": 4, "sync": 6, "unknown": 0},
    "reduce_cmd": {"idle": 0, "reset": 1, "reduce": 2, "reset_reduce": 3, "load_reduce": 4},
    "dge_mode": {"unknown": 0, "swdge": 1, "hwdge": 2, "none": 3},
    "oob_mode": {"error": 0, "skip": 1},
    "dma_engine": {"dma": 1, "gpsimd_dma": 2},
    "perf_mode": {"none": "none", "double_row": "double_row"},
}


@pytest.mark.parametrize("what", VALUES)
def test_a_raw_value_names_the_member_that_has_it(what):
    for name, value in VALUES[what].items():
        assert enums.named({what: value, "op": value})[what].name == name
    assert enums.named({what: 9, "op": 1}) == {what: 9, "op": 1}
    assert [version.value for version in enums.nc_version] == [2, 3, 4]


def test_a_direct_transpose_has_descriptors_and_a_remark_by_default(core, same):
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    with core("trn2") as c, pytest.raises(NkiValidationError, match="takes dge_mode unknown or hwdge"):
        nisa.dma_transpose(c.empty((8, 4)), c.tile(x), dge_mode=nisa.dge_mode.none)
    with core("trn2", strict=False) as c:
        out = c.empty((8, 4))
        nisa.dma_transpose(out, c.tile(x), dge_mode=nisa.dge_mode.none)
        assert same(out, x.T) and noted(c, "takes dge_mode unknown or hwdge")


def test_an_operand_tile_is_float32_and_a_remark_by_default(core, same):
    x, scale = np.full((4, 8), 3, np.float32), np.full((4, 1), 0.5, np.float32)
    with core("trn2") as c, pytest.raises(NkiValidationError, match="an operand tile .* must be float32"):
        nisa.tensor_scalar(c.empty((4, 8)), c.tile(x), nl.multiply, c.tile(scale, "bfloat16"))
    with core("trn2", strict=False) as c:
        out = c.empty((4, 8))
        nisa.tensor_scalar(out, c.tile(x), nl.multiply, c.tile(scale, "bfloat16"))
        assert same(out, x * 0.5) and noted(c, "must be float32")


def test_a_float_is_no_value_of_an_integer_tile_and_a_remark_by_default(core):
    with core("trn2") as c, pytest.raises(NkiValidationError, match="must be an integer that uint8 holds, got 2.0"):
        nisa.memset(c.empty((4, 8), nl.uint8), 2.0)
    with core("trn2", strict=False) as c:
        tile = c.empty((4, 8), nl.uint8)
        nisa.memset(tile, 2.0)
        assert (tile.array == 2).all() and noted(c, "must be an integer that uint8 holds, got 2.0")
        for value in (0.5, -1.0, 256.0, float("nan"), float("inf")):
            with pytest.raises(NkiValidationError, match="must be an integer that uint8 holds"):
                nisa.memset(tile, value)


def test_a_raw_integer_is_no_member_and_a_remark_by_default(core):
    with core("trn2") as c:
        tile, source = c.empty((4, 4)), c.tile(np.ones((4, 4), np.float32))
        with pytest.raises(NkiValidationError, match="dge_mode must be a nisa.dge_mode, got 3; raw integers"):
            nisa.dma_copy(tile, source, dge_mode=3)
    with core("trn2", strict=False) as c:
        tile, source = c.empty((4, 4), nl.bfloat16), c.tile(np.ones((4, 4), np.float32))
        nisa.dma_copy(tile, source, dge_mode=3, engine=0)
        assert noted(c, "nisa.dma_copy: dge_mode=3 is no member of its enumeration")
        with pytest.raises(NkiValidationError, match="hwdge does not cast"):
            nisa.dma_copy(tile, source, dge_mode=2)
        with pytest.raises(NkiValidationError, match="dge_mode must be a nisa.dge_mode, got 7"):
            nisa.dma_copy(tile, source, dge_mode=7)
