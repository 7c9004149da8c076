"""Loops that run on registers."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf, register_of

from triptych import simulator
from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
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
        options = simulator.Options(lint=False, api="0.7" if style == "while_loop" else "0.6")
        run = simulator.run(kernel, np.array([[n]], np.int32), options=options)
        assert run.outputs[0, 0] == n * (n + 1) // 2
        assert any("deprecated" in note for note in run.trace.notes) is (style != "while_loop")


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("bounds", [(4,), (1, 4), (1, 8, 3), (5, 5)])
def test_dynamic_range_counts_as_range_does(core, bounds):
    with core(api="0.6"):
        assert [counter.value() for counter in nl.dynamic_range(*bounds)] == list(range(*bounds))


@pytest.mark.parametrize("style", ["while", "dynamic_range", "if", "not", "int", "range"])
def test_python_asks_no_register(core, style):
    """What 0.6 takes of it is in test_loops_that_count; an `if` was never one of its forms."""
    with (
        core() as c,
        pytest.raises(NkiValidationError, match="not known while|removed in NKI 0.7; write the body as") as e,
    ):
        register = nisa.register_alloc(1)
        if style == "while":
            while register:
                pass
        elif style == "dynamic_range":
            nl.dynamic_range(3)
        elif style == "if":
            if register:
                pass
        elif style == "not":
            _ = not register
        else:
            _ = {"int": int, "range": range}[style](register)
    assert style == "dynamic_range" or isinstance(e.value, TypeError)
    with core(api="0.6"), pytest.raises(TypeError):
        if nisa.register_alloc(1):
            pass
    assert c.trace.events == []


def test_the_counter_is_a_scalar_that_computes():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        row = nl.ndarray((1, 6), x.dtype)

        def body(i):
            nisa.dma_copy(dst=row, src=x.ap([[6, 1], [1, 6]], scalar_offset=i * 2 + 1))
            nisa.dma_copy(dst=out.ap([[6, 1], [1, 6]], scalar_offset=2 * i), src=row)
            nisa.dma_copy(dst=out.ap([[6, 1], [1, 6]], scalar_offset=1 + 2 * i), src=row)

        nl.fori_loop(0, 10, body)
        return out

    expected = np.repeat(TABLE[1::2], 2, 0)
    np.testing.assert_array_equal(simulator.run(kernel, TABLE).outputs, expected)


def counted(x):
    n, tile = [0], nl.ndarray((4, 4), nl.float32)

    def body(i):
        n[0] += 1
        nisa.memset(tile, value=float(n[0]))

    nl.fori_loop(0, 3, body)
    return in_hbm(tile)


def appended(x):
    tiles = []

    def body(i):
        tiles.append(nl.ndarray((4, 4), nl.float32))
        for tile in tiles:
            nisa.memset(tile, value=0.0)

    nl.fori_loop(0, 3, body)
    return x


def rebound(x):
    tiles = [nl.zeros((4, 4), nl.float32), nl.zeros((4, 4), nl.float32)]

    def body(r):
        nisa.tensor_copy(tiles[0], tiles[1])
        tiles.reverse()
        nisa.register_move(r, 0 if tiles[0] is first else 1)
        return r

    first = tiles[0]
    nl.while_loop(nisa.register_alloc(1), body)
    return x


def shorter(x):
    steps = [3, 2, 1]
    tile = nl.ndarray((4, 4), nl.float32)

    def body(i):
        for _ in range(steps.pop(0)):
            nisa.memset(tile, value=0.0)

    nl.fori_loop(0, 3, body)
    return x


def inner(x):
    n, tile = [0], nl.ndarray((4, 4), nl.float32)

    def body(i):
        n[0] += 1
        nl.fori_loop(0, 2, lambda j: nisa.memset(tile, value=float(n[0])) and None)

    nl.fori_loop(0, 3, body)
    return x


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (counted, "nisa.memset has value 1.0 in round 1 and 2.0 in round 2: only the counter may differ"),
        (
            appended,
            "nisa.memset has argument 1 made in the round 0, .* in round 1 and 't1' .* in round 2|round 2 has a nisa",
        ),
        (rebound, "nisa.tensor_copy has argument 1 '.*' at 0 in round 1 and '.*' at 0 in round 2"),
        (shorter, "round 2 has no nisa.memset, which round 1 has at test_wrappers_loops.py:"),
        (inner, "nisa.memset has value 1.0 in round 1 and 2.0 in round 3"),
    ],
)
def test_a_body_is_traced_once(kernel, words):
    """The compiler bakes in the first round, so that a body which counts in Python would be silently wrong there."""
    for api in ("0.7", "0.6"):
        with pytest.raises(NkiValidationError, match=f"traced once, and {words}") as e:
            simulator.run(kernel, TABLE, options=simulator.Options(api=api, lint=False))
        assert e.value.line[0] == __file__


def test_what_may_differ_between_rounds_is_the_counter_and_what_it_moves():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)

        def body(i):
            row = nl.ndarray((1, 6), x.dtype)  # of the round
            nisa.dma_copy(dst=row, src=x.ap([[6, 1], [1, 6]], scalar_offset=i), name="load")
            for half in range(2):
                part = row[:, 3 * half : 3 * half + 3]
                nisa.tensor_scalar(part, part, nl.multiply, float(half + 1))
            nisa.dma_copy(dst=out.ap([[6, 1], [1, 6]], scalar_offset=i), src=row)

        nl.fori_loop(0, 20, body)
        return out

    expected = TABLE * np.repeat([1, 2], 3).astype(TABLE.dtype)
    np.testing.assert_array_equal(simulator.run(kernel, TABLE).outputs, expected)


def test_what_both_cores_share_and_a_body_makes_is_the_same_in_each_round():
    """The second core finds what the first one has made, as the constant of an identity."""

    def kernel(x):
        out = nl.ndarray((2, 4, 4), nl.float32, nl.shared_hbm)

        def body(i):
            identity = nl.shared_identity_matrix(4, nl.float32)
            nisa.core_barrier(out, (0, 1))
            copy = nl.ndarray((4, 4), nl.float32)
            nisa.tensor_copy(dst=copy, src=identity)
            nisa.dma_copy(dst=out[nl.program_id(0)], src=copy)

        nl.fori_loop(0, 3, body)
        return out

    found = simulator.run(nki.jit(kernel)[2], TABLE, target="trn2").outputs
    np.testing.assert_array_equal(found, [np.eye(4)] * 2)


# what a kernel does with a register, and what the error says
LIMITS = {
    "body returns": (lambda c, r: nl.fori_loop(0, 2, lambda k: 1), "returns nothing"),
    "step": (lambda c, r: nl.fori_loop(0, 2, lambda k: None, step=0), "1 or more"),
    "step of no integer": (lambda c, r: nl.fori_loop(0, 2, lambda k: None, step=1.5), "1 or more, got 1.5"),
    "step of a name": (lambda c, r: nl.fori_loop(0, 2, lambda k: None, step="2"), "1 or more, got '2'"),
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


@pytest.mark.parametrize("step", [0, -1, 1.5, "2"])
def test_a_dynamic_range_has_the_steps_of_a_loop(core, step):
    with core(api="0.6"), pytest.raises(NkiValidationError, match="step must be a compile-time integer of 1 or more"):
        nl.dynamic_range(0, 4, step)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_loop_on_registers_stands_around_no_reorder_and_not_in_it(core, loop):
    def ordered(i):
        with nl.no_reorder():
            pass

    with core(api="0.6"):
        loop()
        with pytest.raises(NkiValidationError, match="cannot stand in nl.no_reorder"), nl.no_reorder():
            loop()
        loop()
        nl.fori_loop(0, 2, ordered)
