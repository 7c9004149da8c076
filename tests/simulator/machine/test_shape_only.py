"""A run without data leaves the trace of a run with data: each instruction and function, each wrong operand."""

from __future__ import annotations

import numpy as np
import pytest
from calls import CALLS
from calls.plan import Plan, fill, targets_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_parts import in_hbm, in_sbuf
from shape_only_parts import X, both, story

from triptych.simulator import NeedsData, NkiError, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.language as nl

ASKS = {"register_load"}  # instructions whose effect is a value
BOTH = (True, False)


def called(core, cast, target, plans, options, data):
    """The trace of calls one after the other, and what their outputs have written, of each."""
    states = []
    with core(target, data=data) as c:
        for plan in plans:
            made = plan.tiles(c, plan.inputs(c, cast))
            if plan.call.before:
                plan.call.before(c)
            plan.call.issue(**{n: view for n, (view, _, _) in made.items()}, **options)
            for name in plan.call.outputs:
                _, around, _ = made[name]
                written = around.storage.written_at(around.layout)
                states.append(np.broadcast_to(written, around.shape).tolist())
    return story(c.trace), states, c.trace.notes


@pytest.mark.parametrize("name", sorted(set(CALLS) - ASKS))
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_an_instruction_leaves_the_event_and_the_marks_that_it_leaves_with_data(core, cast, name, data):
    """Three calls: two in one form, the second of which is not carried out, and one in another."""
    p, f = data.draw(st.sampled_from([1, 2, 5, 32, 128]), "p"), data.draw(st.integers(1, 9), "f")
    target = data.draw(st.sampled_from(targets_of(name)), "target")
    drawn = [Plan(CALLS[name](p, f), lambda what, values: data.draw(st.sampled_from(values), what)) for _ in range(2)]
    plans = [drawn[0], drawn[0], drawn[1]]
    (story_with, states_with, notes_with), (without, states, notes) = (
        called(core, cast, target, plans, {}, has) for has in BOTH
    )
    assert without == story_with
    if name != "tensor_copy_predicated":  # of which all counts as written
        assert states == states_with
    assert [n for n in notes_with if "NaN" not in n and "outside" not in n] == notes


@pytest.mark.parametrize("name", sorted(set(CALLS) - ASKS - {"register_store"}))
def test_a_call_like_one_before_it_is_not_carried_out(core, cast, name):
    """It leaves an event all the same, of its own tensors. The second may find an accumulator begun by the first."""
    call = CALLS[name](32, 8)
    plan = Plan(call, lambda what, values: values[0])
    made = []
    with core(targets_of(name)[-1], data=False) as c:
        if call.before:
            call.before(c)
        for _ in range(3):
            tiles = {n: view for n, (view, _, _) in plan.tiles(c, plan.inputs(c, cast)).items()}
            count = len(c.trace.events)
            call.issue(**tiles)
            (event,) = c.trace.events[count:]
            written = {r.allocation for r in event.writes if not r.allocation.buffer.endswith("registers")}
            assert written == {tiles[n].region.allocation for n in call.outputs}
            made.append(len(c.machine.plans))
    assert made[1] == made[2]


READS = [(name, n) for name in sorted(CALLS) for n in CALLS[name](5, 6).inputs]


@pytest.mark.parametrize(("name", "operand"), READS)
def test_an_unwritten_element_is_found_with_and_without_data(core, cast, name, operand):
    """In the first call of a form and, for what was written then, in the second."""
    call = CALLS[name](5, 6)
    plan = Plan(call, lambda what, values: values[0])
    read = np.broadcast_to(call.operands[operand].read, call.operands[operand].shape)
    written = read.copy()
    written[np.unravel_index(np.flatnonzero(read)[-1], read.shape)] = False
    said = []
    for data, before in ((True, False), (False, False), (False, True)):
        with core(targets_of(name)[-1], data=data) as c:
            if call.before:
                call.before(c)
            held = plan.inputs(c, cast)
            if before and name not in ASKS:
                call.issue(**{n: view for n, (view, _, _) in plan.tiles(c, held).items()})
            tiles = {n: view for n, (view, _, _) in plan.tiles(c, held).items()}
            tiles[operand] = nl.ndarray(read.shape, plan.dtypes[operand], getattr(nl, plan.buffers[operand]), "holed")
            fill(tiles[operand], held[operand], written)
            with pytest.raises(Uninitialized) as e:
                call.issue(**tiles)
            said.append(str(e.value))
    assert said[0] == said[1] == said[2]


WRONG = {"partitions": lambda shape: (shape[0] % 128 + 1, *shape[1:]), "elements": lambda s: (*s[:-1], s[-1] + 1)}


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_wrong_operand_is_refused_in_the_words_of_a_run_with_data(core, cast, name):
    call = CALLS[name](32, 8)
    plan = Plan(call, lambda what, values: values[0])

    def said(data, operand, shape=None, dtype=None, buffer=None):
        with core(targets_of(name)[-1], data=data) as c:
            if call.before:
                call.before(c)
            tiles = {n: view for n, (view, _, _) in plan.tiles(c, plan.inputs(c, cast)).items()}
            t = tiles[operand]
            tiles[operand] = nl.ndarray(shape or t.shape, dtype or t.dtype, buffer or t.buffer, name="wrong")
            tiles[operand].array[...] = 0
            tiles[operand].wrote()
            try:
                call.issue(**tiles)
            except NkiError as e:
                return type(e), str(e)

    for operand, o in call.operands.items():
        for change in (
            *({"shape": wrong(o.shape)} for wrong in WRONG.values()),
            *({"dtype": dtype} for dtype in ("float4_e2m1fn_x4", "int8", "float16")),
            *({"buffer": buffer} for buffer in (nl.sbuf, nl.psum, nl.private_hbm)),
        ):
            with_data, without = (said(data, operand, **change) for data in BOTH)
            by_values = with_data and "min must be less than max" in with_data[1]
            assert with_data == without or by_values or (name in ASKS and without[0] is NeedsData)


# Functions of nl, which issue instructions

UNARY = [
    "abs",
    "all",
    "arctan",
    "ceil",
    "copy",
    "cos",
    "erf",
    "exp",
    "expand_dims",
    "floor",
    "gelu",
    "invert",
    "log",
    "logical_not",
    "max",
    "mean",
    "mish",
    "negative",
    "relu",
    "reciprocal",
    "rms_norm",
    "rsqrt",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "square",
    "sum",
    "tan",
    "tanh",
    "transpose",
    "trunc",
    "var",
]
MORE = {"max": (1,), "mean": (1,), "sum": (1,), "var": (1,), "all": (1,), "expand_dims": (1,)}


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_a_function_leaves_the_trace_that_it_leaves_with_data(name):
    def kernel(x):
        a = in_sbuf(x)
        for _ in range(2):
            if name == "rms_norm":
                nl.rms_norm(a, a, 1, 64)
            elif name == "invert":
                nl.invert(nl.zeros((128, 64), nl.int32))
            else:
                getattr(nl, name)(a, *MORE.get(name, ()))
        return in_hbm(a)

    both(kernel, X)


def test_functions_that_make_and_move_tensors_leave_the_trace_that_they_leave_with_data():
    def kernel(x):
        a = nl.load(x)
        ones = nl.ones((128, 8), nl.bfloat16, nl.shared_hbm)
        eye = nl.shared_identity_matrix(128, nl.float32)
        constant = nl.shared_constant(np.ones((2, 8), np.float32))
        product = nl.matmul(eye, a, transpose_x=True)
        b = nl.where(nl.greater(a, 0.0), a, nl.broadcast_to(a[0:1], (128, 64)))
        nl.gather_flattened(b, nl.zeros((128, 4), nl.uint32))
        nl.load_transpose2d(constant)
        nl.dropout(nl.load(ones), 0.5)
        out = nl.full((128, 64), 2.0, nl.float32, nl.shared_hbm)
        nl.store(out, nl.add(nl.copy(product), b))
        return out

    both(kernel, X, target="trn3")
