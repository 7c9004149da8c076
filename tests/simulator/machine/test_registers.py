"""Registers of the sequencers, and the loops that run on them."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf, register_of

from triptych import simulator
from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((20, 6)).astype(np.float32)


def test_fori_loop_copies_as_many_as_a_register_says():
    def kernel(x, count):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        row = nl.ndarray((1, 6), x.dtype)
        nisa.memset(dst=row, value=0.0)
        for r in range(x.shape[0]):
            nisa.dma_copy(dst=out[r : r + 1], src=row)

        def body(i):
            nisa.dma_copy(dst=row, src=x.ap([[6, 1], [1, 6]], scalar_offset=i))
            nisa.dma_copy(dst=out.ap([[6, 1], [1, 6]], scalar_offset=i), src=row)

        nl.fori_loop(1, register_of(count), body, step=2)
        return out

    expected = np.zeros_like(TABLE)
    expected[1:8:2] = TABLE[1:8:2]
    np.testing.assert_array_equal(simulator.run(kernel, TABLE, np.array([[8]], np.int32)).outputs, expected)


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("style", ["while_loop", "while", "dynamic_range"])
def test_loops_that_count(style):
    def kernel(count):
        left, total, one = in_sbuf(count), nl.ndarray((1, 1), nl.int32), nl.ndarray((1, 1), nl.int32)
        nisa.memset(dst=total, value=0)
        nisa.memset(dst=one, value=1)

        def body(r):
            nisa.tensor_tensor(dst=total, data1=total, data2=left, op=nl.add)
            nisa.tensor_tensor(dst=left, data1=left, data2=one, op=nl.subtract)
            nisa.register_load(r, left)
            return r

        register = register_of(count)
        if style == "while_loop":
            nl.while_loop(register, body)
        elif style == "while":
            while register:
                body(register)
        else:
            for _ in nl.dynamic_range(register):
                body(nisa.register_alloc())
        return in_hbm(total)

    for n in (0, 1, 5):
        run = simulator.run(kernel, np.array([[n]], np.int32), options=simulator.Options(lint=False))
        assert run.outputs[0, 0] == n * (n + 1) // 2
        assert any("deprecated" in note for note in run.trace.notes) is (style != "while_loop")


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

    assert simulator.run(kernel, TABLE).outputs.ravel().tolist() == [-1, 7]


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
    "body returns": (lambda c, r: nl.fori_loop(0, 2, lambda k: 1), "returns nothing"),
    "counter": (lambda c, r: nl.fori_loop(0, 2, lambda k: nisa.register_move(k, 0)), "read only"),
    "counter loaded": (lambda c, r: nl.fori_loop(0, 2, lambda k: load(c, k)), "read only"),
    "step": (lambda c, r: nl.fori_loop(0, 2, lambda k: None, step=0), "1 or more"),
    "condition": (lambda c, r: nl.while_loop(r, lambda k: None), "is a register"),
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
def test_a_number_of_any_dtype_is_loaded_and_stored(core, same, dtype, expected, buffer):
    with core() as c:
        register = nisa.register_alloc()
        load(c, register, dtype, buffer=buffer, value=expected)
        stored = c.empty((1, 1), dtype, buffer)
        nisa.register_store(stored, register)
        assert register.value() == expected and same(stored, [[expected]])


LOOPS = {
    "fori_loop": lambda: nl.fori_loop(0, 1, lambda i: None),
    "while_loop": lambda: nl.while_loop(nisa.register_alloc(0), lambda r: r),
    "dynamic_range": lambda: nl.dynamic_range(1),
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_on_registers_stands_around_no_reorder_and_not_in_it(core, loop):
    def ordered(i):
        with nl.no_reorder():
            pass

    with core():
        loop()
        with pytest.raises(NkiValidationError, match="cannot stand in nl.no_reorder"), nl.no_reorder():
            loop()
        loop()
        nl.fori_loop(0, 2, ordered)


def test_a_register_from_a_tensor_is_a_leniency():
    def kernel(count):
        tile = in_sbuf(count)
        register = nisa.register_alloc(tile[0, 0])
        out = nl.ndarray((1, 1), nl.int32, nl.shared_hbm)
        nisa.register_store(out, register)
        return out

    count = np.array([[7]], np.int32)
    with pytest.raises(NkiValidationError, match="register_alloc takes an integer or None, got NkiTensor"):
        simulator.run(kernel, count)
    assert simulator.run(kernel, count, options=simulator.Options(check_operands=False)).outputs == 7
