"""Loops that run on registers."""

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


# what a kernel does with a register, and what the error says
LIMITS = {
    "body returns": (lambda c, r: nl.fori_loop(0, 2, lambda k: 1), "returns nothing"),
    "step": (lambda c, r: nl.fori_loop(0, 2, lambda k: None, step=0), "1 or more"),
    "condition": (lambda c, r: nl.while_loop(r, lambda k: None), "is a register"),
}


@pytest.mark.parametrize(("act", "message"), LIMITS.values(), ids=LIMITS)
def test_limits(refused, act, message):
    refused(lambda c: act(c, nisa.register_alloc(1)), message)


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
