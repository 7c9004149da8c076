"""What a matmul's errors of dtypes allow on each generation."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa


def _matmul(c, operand="bfloat16", dst="float32"):
    nisa.nc_matmul(c.empty((4, 4), dst, "psum"), c.empty((8, 4), operand), c.empty((8, 4), operand))


@pytest.mark.parametrize(("targets", "operands", "results"), [
    (("trn1", "trn2"), {"float32", "tfloat32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2"}, "float32"),
    (
        ("trn3",), {"float32", "tfloat32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2", "float8_e4m3fn"},
        "float32 or bfloat16",
    ),
])  # fmt: skip
def test_what_is_allowed_is_named(core, targets, operands, results):
    for target in targets:
        with core(target) as c:
            with pytest.raises(nisa.NkiValidationError, match="stationary must be one of") as error:
                _matmul(c, "int8")
            named = str(error.value).partition("must be one of ")[2].partition(" on ")[0]
            assert set(named.split(", ")) == operands
            with pytest.raises(nisa.NkiValidationError, match=f"dst must be {results} on {c.machine.chip.name}, got"):
                _matmul(c, dst="float16")
            for operand in operands:
                with pytest.raises(nisa.NkiValidationError, match="nothing has written"):  # and so far all is well
                    _matmul(c, operand)


@pytest.mark.parametrize(("target", "engine", "told"), [
    ("trn2", "tensor", True), ("trn3", "tensor", False), ("trn2", "vector", False), ("trn1", "vector", False),
])  # fmt: skip
def test_a_transpose_by_the_tensor_engine_lies_in_one_bank_before_v4(core, target, engine, told):
    with core(target) as c:
        banks, tile = c.empty((6, 1024), buffer="psum"), c.tile(np.ones((4, 6), np.float32))
        for first in (508, 512):
            nisa.nc_transpose(banks[:, first : first + 4], tile, nisa.engine[engine])
        if told:
            with pytest.raises(nisa.NkiValidationError, match="dst must lie in one PSUM bank of 2048 bytes"):
                nisa.nc_transpose(banks[:, 510:514], tile, nisa.engine[engine])
        else:
            nisa.nc_transpose(banks[:, 510:514], tile, nisa.engine[engine])
