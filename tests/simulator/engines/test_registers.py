"""Registers of the sequencers: alloc, move, load, store, and what Python cannot do with one."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_sbuf

from triptych import simulator
from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

X = np.zeros((20, 6), np.float32)


def test_registers_move_and_store():
    def kernel(x):
        a, b = nisa.register_alloc(7), nisa.register_alloc()
        nisa.register_move(b, a)
        nisa.register_move(a, -1)
        tile, out = nl.ndarray((1, 1), nl.int32), nl.ndarray((2, 1), nl.int32, nl.shared_hbm)
        nisa.register_store(tile, a)
        nisa.dma_copy(dst=out[0:1], src=tile)
        nisa.register_store(tile, b)
        nisa.dma_copy(dst=out[1:2], src=tile)
        return out

    assert simulator.run(kernel, X).outputs.ravel().tolist() == [-1, 7]


def element(c, dtype="int32", shape=(1, 1), buffer="sbuf", value=3):
    return c.tile(np.full(shape, value), dtype, buffer)


def load(c, r, *args, **kwargs):
    nisa.register_load(r, element(c, *args, **kwargs))


def store(c, r, *args, **kwargs):
    nisa.register_store(element(c, *args, **kwargs), r)


# what a kernel does with a core and a register, and what the error says
LIMITS = {
    "arithmetic": (lambda c, r: r + 1, "not known while the kernel is built"),
    "an index": (lambda c, r: range(r), "not known while the kernel is built"),
    "unwritten": (lambda c, r: nisa.register_move(r, nisa.register_alloc()), "nothing has written"),
    "not a register": (lambda c, r: nisa.register_move(3, r), "must be a register"),
    "a number moved": (lambda c, r: nisa.register_move(r, 1.5), "expected an integer or a register, got float"),
    "a tile moved": (lambda c, r: nisa.register_move(r, element(c)), "expected an integer or a register, got Nki"),
    "a float": (lambda c, r: nisa.register_alloc(1.5), "an integer or None"),
    "two elements loaded": (lambda c, r: load(c, r, shape=(1, 2)), "src must be one number in HBM or SBUF"),
    "loaded from PSUM": (lambda c, r: load(c, r, buffer="psum"), "src must be one number in HBM or SBUF"),
    "four floats loaded": (lambda c, r: load(c, r, "float8_e5m2_x4"), "src must be one number in HBM or SBUF"),
    "loaded into a tile": (lambda c, r: nisa.register_load(element(c), element(c)), "dst must be a register"),
    "nothing loaded": (lambda c, r: nisa.register_load(r, c.empty((1, 1), "int32")), "nothing has written"),
    "two elements stored": (lambda c, r: store(c, r, shape=(2, 1)), "dst must be one number in HBM or SBUF"),
    "stored into PSUM": (lambda c, r: store(c, r, buffer="psum"), "dst must be one number in HBM or SBUF"),
    "a number stored": (lambda c, r: store(c, 3), "src must be a register, got int 3"),
    "nothing stored": (lambda c, r: store(c, nisa.register_alloc()), "reads a register that nothing has written"),
    "counter": (lambda c, r: nl.fori_loop(0, r, lambda k: nisa.register_move(k, 0)), "read only"),
    "counter loaded": (lambda c, r: nl.fori_loop(0, r, lambda k: load(c, k)), "read only"),
    "scalar counter": (lambda c, r: nl.fori_loop(0, 2, lambda k: nisa.register_move(k, 0)), "dst must be a register"),
}


@pytest.mark.parametrize(("act", "message"), LIMITS.values(), ids=LIMITS)
def test_limits(refused, act, message):
    refused(lambda c: act(c, nisa.register_alloc(1)), message)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 2**31, 2**32 + 5, -1])
def test_a_register_holds_32_bits(core, same, value):
    with core() as c:
        register, tile = nisa.register_alloc(value), c.empty((1, 1), "int32")
        nisa.register_store(tile, register)
        assert same(tile, [[(value + 2**31) % 2**32 - 2**31]])
        nisa.register_load(register, tile)
        assert register.value() == tile.array[0, 0]


@pytest.mark.parametrize(("dtype", "expected"), [("float32", 7), ("uint8", 200), ("int16", -3), ("bfloat16", 12)])
@pytest.mark.parametrize("buffer", ["sbuf", "private_hbm", "shared_hbm"])
def test_register_load_and_register_store_take_any_number(core, same, dtype, expected, buffer):
    with core() as c:
        register = nisa.register_alloc()
        load(c, register, dtype, buffer=buffer, value=expected)
        stored = c.empty((1, 1), dtype, buffer)
        nisa.register_store(stored, register)
        assert register.value() == expected and same(stored, [[expected]])


def test_a_register_from_a_tensor_is_a_remark():
    def kernel(count):
        tile = in_sbuf(count)
        register = nisa.register_alloc(tile[0, 0])
        out = nl.ndarray((1, 1), nl.int32, nl.shared_hbm)
        nisa.register_store(out, register)
        return out

    count = np.array([[7]], np.int32)
    words = "register_alloc takes an integer or None, got NkiTensor"
    with pytest.raises(NkiValidationError, match=words):
        simulator.run(kernel, count, options=simulator.Options(strict=True))
    with pytest.warns(simulator.SimulatorWarning, match=words):
        assert simulator.run(kernel, count).outputs == 7


def test_a_register_from_a_tensor_at_an_address_that_varies_is_no_mere_remark(core):
    with core(strict=False) as c:
        numbers = c.tile(np.zeros((1, 4), np.int32), buffer="private_hbm")
        with pytest.raises(NkiValidationError, match="register_alloc takes an integer or None, got"):
            nisa.register_alloc(numbers.select(0, nisa.register_alloc(0)))


def test_one_number_may_have_one_dimension():
    """The examples on the pages of register_load and register_store allocate [1] in SBUF."""

    def kernel(x):
        bound = nl.full([1], 7, dtype=nl.int32, buffer=nl.sbuf)
        register = nisa.register_alloc()
        nisa.register_load(register, bound)
        result = nl.ndarray([1], dtype=nl.int32, buffer=nl.sbuf)
        nisa.register_store(result, register)
        out = nl.ndarray(x.shape, nl.int32, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=result)
        return out

    with pytest.warns(simulator.SimulatorWarning, match=r"py:\d+: shape \(1,\) in SBUF is taken for \(1, 1\)"):
        assert simulator.run(kernel, np.zeros((1, 1), np.int32)).outputs == 7


@pytest.mark.parametrize(("number", "held"), [(2.7, 3), (2.5, 2), (3.5, 4), (-2.7, -3), (-0.4, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_float_is_rounded_to_the_nearest_integer(core, dtype, number, held):
    with core() as c:
        register = nisa.register_alloc()
        nisa.register_load(register, c.tile(np.array([[number]], dtype), dtype))
        assert register.state == held
