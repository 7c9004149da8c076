"""What is moved and multiplied at once: the bits that Python leaves, and by Python where the compiled part gives up."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_parts import by_both, in_python, needs_compiled
from shape_only_parts import story

from triptych import simulator
from triptych.simulator import NkiError
from triptych.simulator.analysis import regions
from triptych.simulator.dtypes import TABLE
from triptych.simulator.engines import tensor as tensor_engine
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.deferral.pending import _TRIED
from triptych.simulator.operands import operands

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

pytestmark = needs_compiled
SHAPE = 32, 4, 24
MANY = 14  # times, after _TRIED of which what could be put off in vain is done at once


def both(kernel, *arrays):
    """The run, which has to be Python's, and the functions of Python that it called."""
    found, expected, called = by_both(lambda: simulator.run(kernel, *arrays, target="trn2"))
    assert story(found.trace) == story(expected.trace) and found.trace.notes == expected.trace.notes
    np.testing.assert_array_equal(found.outputs.view(np.uint8), expected.outputs.view(np.uint8))
    return found, called


def computed(source):
    """A copy in SBUF that an engine has made, so that nothing of it waits."""
    tile = nl.ndarray(source.shape, source.dtype)
    nisa.dma_copy(dst=tile, src=source)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    return tile


VIEWS = {
    "whole": lambda t: t,
    "blocks": lambda t: t[0:16, 1:3, 4:20],
    "rows side by side": lambda t: t[:, 1:3, :],
    "one element a row": lambda t: t[:, :, 3],
    "one row": lambda t: t[0:1, 2, :],
    "one element": lambda t: t[0:1, 2, 5:6],
    "gaps": lambda t: t.ap([[96, 32], [2, 48]]),
    "repeated": lambda t: t.ap([[96, 32], [0, 3], [1, 8]]),
    "other order": lambda t: t.permute((0, 2, 1)),
    "bytes": lambda t: t.view(nl.uint8)[:, :, 0:20],
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("to", VIEWS)
@pytest.mark.parametrize("source", VIEWS)
def test_what_is_copied_has_the_bits_of_python(source, to, dtype):
    def kernel(x):
        out, tile = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm), computed(x)
        for copy in (nisa.tensor_copy, nisa.dma_copy):
            other = nl.ndarray(SHAPE, x.dtype)
            for value in range(MANY):
                nisa.memset(dst=other, value=value)
                copy(dst=VIEWS[to](other), src=VIEWS[source](tile))
            nisa.tensor_tensor(dst=tile, data1=tile, data2=other, op=nl.add)
        nisa.dma_copy(dst=out, src=tile)
        return out

    x = np.random.default_rng(0).integers(-30, 30, SHAPE).astype(TABLE[dtype].np)
    try:
        found, called = both(kernel, x)
    except NkiError:  # other sizes, or a result whose elements are one
        with in_python(), pytest.raises(NkiError):
            simulator.run(kernel, x, target="trn2")
        return
    if source == to == "blocks":
        assert called.count(operands.move.__code__) <= 2 * _TRIED + 4


def test_what_is_copied_within_a_tensor_is_left_to_python():
    def kernel(x):
        out, tile = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm), computed(x)
        for _ in range(MANY):
            nisa.dma_copy(dst=tile[:, 1:3, :], src=tile[:, 0:2, :])
        nisa.dma_copy(dst=out, src=tile)
        return out

    try:
        both(kernel, np.random.default_rng(0).standard_normal(SHAPE, np.float32))
    except NkiError as e:
        assert "overlap" in str(e)


def test_arguments_that_share_bytes_are_copied_one_after_the_other():
    def kernel(x, y):
        for _ in range(MANY):
            nisa.dma_copy(dst=y, src=x)
        return y

    found = []
    for _ in range(2):
        held = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)
        with in_python() if found else pytest.MonkeyPatch.context():
            simulator.run(kernel, held[0:48], held[16:64], target="trn2")
        found.append(held)
    np.testing.assert_array_equal(*found)


SIZES = [(128, 128, 512), (128, 32, 96), (64, 1, 96), (64, 32, 1), (1, 32, 96), (2, 2, 2), (37, 19, 61)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("k", "m", "n"), SIZES)
@pytest.mark.parametrize("part", [False, True])
def test_a_product_has_the_bits_of_python(k, m, n, dtype, part):
    """Written, added to, and added where a matmul has written, in all of a tile and in a part of one."""

    def kernel(a, b):
        out, left, right = nl.ndarray((m, n), nl.float32, buffer=nl.shared_hbm), computed(a), computed(b)
        total = nl.ndarray((m, n), nl.float32)
        nisa.memset(dst=total, value=0.0)
        for accumulates in (False, True, None):
            sums = nl.ndarray((m, n), nl.float32, buffer=nl.psum)
            where = sums[:, n // 2 :] if part and n > 1 else sums
            moving = right[:, n // 2 :] if part and n > 1 else right
            nisa.nc_matmul(dst=sums, stationary=left, moving=right, accumulate=False)
            for _ in range(MANY):
                nisa.nc_matmul(dst=where, stationary=left, moving=moving, accumulate=accumulates)
            nisa.tensor_tensor(dst=total, data1=total, data2=sums, op=nl.add)
        nisa.dma_copy(dst=out, src=total)
        return out

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((k, size), np.float32).astype(TABLE[dtype].np) for size in (m, n))
    _, called = both(kernel, a, b)
    by_python = called.count(tensor_engine._multiply.__code__)
    assert (by_python < 3 * MANY) is (min(k, m, n) > 1 and not (part and n == 2)), by_python


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("p", "f"), [(128, 128), (32, 17), (1, 32), (64, 1), (2, 2)])
@pytest.mark.parametrize("on", ["tensor", "vector"])
def test_a_transpose_has_the_bits_of_python(p, f, dtype, on):
    """On Tensor to PSUM and on Vector in SBUF; of a whole tile, and from and to parts of tiles that have gaps."""

    def kernel(x):
        out, tile = nl.ndarray((f, 3 * p), x.dtype, buffer=nl.shared_hbm), computed(x)
        wide = nl.ndarray((p, 2 * f), x.dtype)
        nisa.memset(dst=wide, value=0)
        nisa.tensor_copy(dst=wide[:, f : 2 * f], src=tile)
        turned = nl.ndarray((f, 3 * p), x.dtype, buffer=nl.psum if on == "tensor" else nl.sbuf)
        nisa.memset(dst=turned, value=0)
        for _ in range(3):
            nisa.nc_transpose(dst=turned[:, 0:p], data=tile, engine=getattr(nisa.engine, on))
            nisa.nc_transpose(dst=turned[:, p : 2 * p], data=wide[:, f : 2 * f], engine=getattr(nisa.engine, on))
            nisa.nc_transpose(
                dst=turned[:, 2 * p :], data=wide.ap([[2 * f, p], [2, f]]), engine=getattr(nisa.engine, on)
            )
        result = nl.ndarray((f, 3 * p), x.dtype)
        nisa.tensor_copy(dst=result, src=turned)
        nisa.dma_copy(dst=out, src=result)
        return out

    x = np.random.default_rng(0).integers(-30, 30, (p, f)).astype(TABLE[dtype].np)
    try:
        _, called = both(kernel, x)
    except NkiError:  # larger than Vector's, or no dtype of Tensor's
        with in_python(), pytest.raises(NkiError):
            simulator.run(kernel, x, target="trn2")
        return
    assert (called.count(operands.move_transposed.__code__) < 9) is (min(p, f) > 1)


@pytest.mark.parametrize("size", [2, 128])
def test_a_matrix_is_multiplied_with_itself_as_in_python(size):
    def kernel(a):
        out, tile = nl.ndarray((size, size), nl.float32, buffer=nl.shared_hbm), computed(a)
        sums, result = nl.ndarray((size, size), nl.float32, buffer=nl.psum), nl.ndarray((size, size), nl.float32)
        for _ in range(MANY):
            nisa.nc_matmul(dst=sums, stationary=tile, moving=tile)
        nisa.tensor_copy(dst=result, src=sums)
        nisa.dma_copy(dst=out, src=result)
        return out

    both(kernel, np.random.default_rng(0).standard_normal((64, size), np.float32))


def test_operands_of_more_dimensions_and_with_gaps_are_multiplied_as_in_python():
    def kernel(a):
        out, tile = nl.ndarray((32, 48), nl.float32, buffer=nl.shared_hbm), computed(a)
        sums, result = nl.ndarray((32, 48), nl.float32, buffer=nl.psum), nl.ndarray((32, 48), nl.float32)
        for _ in range(MANY):
            nisa.nc_matmul(dst=sums, stationary=tile[:, 0:2, 0:16], moving=tile[:, 2:4, :])
            nisa.nc_matmul(dst=sums, stationary=tile.ap([[96, 32], [2, 32]]), moving=tile[:, 1:3, :])
            nisa.nc_matmul(dst=sums[:, 0:24], stationary=tile[:, 1, 0:24].ap([[96, 32], [0, 32]]), moving=tile[:, 1, :])
        nisa.tensor_copy(dst=result, src=sums)
        nisa.dma_copy(dst=out, src=result)
        return out

    both(kernel, np.random.default_rng(0).standard_normal(SHAPE, np.float32))


@pytest.mark.filterwarnings("ignore:outer-state:triptych.simulator.LintWarning")
def test_results_beside_what_is_read_are_checked_where_they_may_overlap():
    """In place each time, in another tensor, and then over a part of what is read."""
    said = []

    def kernel(x):
        out, tile = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm), computed(x)
        other = computed(x)
        for first in (0, 0, 0, 1):
            nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
            nisa.tensor_scalar(dst=other[:, 0:2, :], data=tile[:, 1:3, :], op0=nl.add, operand0=1.0)
            try:
                nisa.tensor_scalar(dst=tile[:, 0:2, :], data=tile[:, first : first + 2, :], op0=nl.add, operand0=1.0)
            except NkiError as e:
                said.append(e.message)
        nisa.dma_copy(dst=out, src=tile)
        return out

    _, called = both(kernel, np.random.default_rng(0).standard_normal(SHAPE, np.float32))
    assert len(said) == 2 and "overlaps" in said[0]
    assert called.count(regions.check_overlaps.__code__) <= 9, "of 15"
