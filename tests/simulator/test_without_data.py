"""A run without data leaves the trace of a run with data: each instruction, each kernel of ours, each error of use."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from calls import CALLS
from calls.plan import Plan, fill, targets_of
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych import simulator
from triptych.simulator import NeedsData, NkiError, NkiValidationError, Options, ShapeDtype, Uninitialized
from triptych.simulator.dtypes import TABLE
from triptych.simulator.lend import simulated_nki

with simulated_nki():
    import nki
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

KERNELS = Path(__file__).parents[2] / "kernels" / "nki"
ASKS = {"register_load"}  # instructions whose effect is a value
BOTH = (True, False)


def story(trace):
    """All that a trace says of its events, with what stands for where an argument was given."""
    return [
        (
            e.op,
            e.engine,
            e.reads,
            e.writes,
            e.line,
            e.core,
            e.name,
            {k: v for k, v in e.attributes.items() if k != "written"},
        )
        for e in trace.events
    ]


def both(kernel, *arrays, target="trn2", **kwargs):
    """The traces of a kernel on arrays and on their shapes, which have to be one story; the outputs' too."""
    lines = []
    for arguments in (arrays, [ShapeDtype(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in arrays]):
        lines.append(simulator.run(kernel, *arguments, target=target, **kwargs))
    with_data, without = lines
    assert story(with_data.trace) == story(without.trace)
    assert with_data.trace.allocations == without.trace.allocations
    outputs = [r.outputs if isinstance(r.outputs, tuple) else (r.outputs,) for r in (with_data, without)]
    for array, shape in zip(*outputs, strict=True):
        assert shape == ShapeDtype(array.shape, array.dtype)
    return without.trace


def refused(kernel, *arrays, match, error=NkiValidationError, options=None, **kwargs):
    """A kernel raises the same with arrays and with their shapes."""
    said = []
    for arguments in (arrays, [ShapeDtype(a.shape, a.dtype) for a in arrays]):
        with pytest.raises(error, match=match) as e:
            simulator.run(kernel, *arguments, options=options, **kwargs)
        said.append((type(e.value), str(e.value)))
    assert said[0] == said[1]


# Instructions


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
                written = around.storage.written_at(around.dtype, around.at)
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
            made.append(sum(len(v) for state in c.machine._states.values() for v in state.templates.values()))
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
@pytest.mark.filterwarnings("ignore::triptych.simulator.NoteWarning")
def test_a_function_leaves_the_trace_that_it_leaves_with_data(name):
    def kernel(x):
        a = tile_of(x)
        for _ in range(2):
            if name == "rms_norm":
                nl.rms_norm(a, a, 1, 64)
            elif name == "invert":
                nl.invert(nl.zeros((128, 64), nl.int32))
            else:
                getattr(nl, name)(a, *MORE.get(name, ()))
        return out_of(a)

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


# Kernels


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_our_matmuls(target, dtype):
    file = simulator.load(KERNELS / "matmul.py")
    for k, m, n in ((128, 128, 512), (1300, 200, 1100), (1, 1, 1)):
        for kernel in (file.matmul_tiled, file.matmul):
            both(kernel, np.ones((k, m), TABLE[dtype].np), np.ones((k, n), TABLE[dtype].np), target=target)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("causal", [False, True])
def test_our_attention(target, causal):
    attention = simulator.load(KERNELS / "attention.py").attention
    for heads, queries, keys, d in ((2, 300, 1400, 64), (1, 130, 20, 128)):
        q, kv = np.ones((1, heads, queries, d), np.float32), np.ones((1, 1, keys, d), np.float32)
        both(attention, q, kv, kv, causal=causal, target=target)


def tile_of(x):
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    return tile


def out_of(tile):
    out = nl.ndarray(tile.shape, tile.dtype, nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tile)
    return out


X = np.ones((128, 64), np.float32)


def test_accumulation_is_known_by_what_was_written():
    """accumulate=None asks per call: the same instruction reads its dst or not; and half a tile may be begun."""

    def kernel(x):
        a = tile_of(x)
        dst = nl.ndarray((64, 2, 64), nl.float32, nl.psum)
        for bank in (0, 0, 1):
            nisa.nc_matmul(dst[:, bank, :], a, a)
        nisa.nc_matmul(dst[:, :, :32], a, a)
        for _ in range(2):
            part = nl.ndarray((64, 64), nl.float32, nl.psum)
            nisa.nc_matmul(part[:, :32], a, a[:, :32])
            nisa.nc_matmul(part, a, a)  # onto half: only a part is added to
        copied = nl.ndarray((64, 2, 64), nl.float32)
        nisa.tensor_copy(copied, dst)
        return out_of(copied.reshape((64, 128)))

    reads = [len(e.reads) for e in both(kernel, X, target="trn1").events if e.op == "nc_matmul"]
    assert reads == [2, 3, 2, 3, 2, 3, 2, 3]


def test_accumulators_hold_a_value_from_a_reset_on():
    def kernel(x, idle):
        a = tile_of(x)
        dst, total = nl.ndarray(x.shape, nl.float32), nl.ndarray((128, 1), nl.float32)
        options = {"op0": nl.add, "operand0": 1.0, "reduce_op": nl.add}
        for command in (nisa.reduce_cmd.reset_reduce, nisa.reduce_cmd.reduce, nisa.reduce_cmd.reduce):
            nisa.tensor_scalar_reduce(dst, a, reduce_res=total, reduce_cmd=command, **options)
        if idle:
            forgets = nl.ndarray((128, 64), nl.uint8)
            nisa.memset(forgets, 1)
            nisa.select_reduce(dst, forgets, a, 0.0)
            nisa.tensor_scalar_reduce(dst, a, reduce_res=total, reduce_cmd=nisa.reduce_cmd.reduce, **options)
        return out_of(total)

    both(kernel, X, False)
    for x in (X, ShapeDtype((128, 64), "float32")):
        with pytest.raises(NkiValidationError, match="accumulator of the Vector Engine holds nothing on partition 0"):
            simulator.run(kernel, x, True)


def test_tensors_with_addresses_share_bytes():
    def kernel(x):
        a = nl.ndarray(x.shape, x.dtype, nl.sbuf, address=(0, 1024))
        nisa.dma_copy(dst=a, src=x)
        low = nl.ndarray((64, 32), nl.int32, nl.sbuf, address=(64, 1024))
        banks = []
        for _ in range(2):
            bank = nl.ndarray((64, 64), nl.float32, nl.psum, address=(0, 2048))
            nisa.nc_matmul(bank, a, a)
            nisa.nc_matmul(bank, a, a)
            banks.append(bank)
        copied = nl.ndarray((64, 64), nl.float32)
        nisa.tensor_copy(copied, banks[-1])
        return out_of(low), out_of(copied)

    assert [len(e.reads) for e in both(kernel, X).events if e.op == "nc_matmul"] == [2, 3, 2, 3]


def test_an_address_is_poisoned_by_the_next_tensor_there():
    def kernel(x):
        a = nl.ndarray(x.shape, x.dtype, nl.sbuf, address=(0, 0))
        nisa.dma_copy(dst=a, src=x)
        del a
        return out_of(nl.ndarray((64, 80), nl.float32, nl.sbuf, address=(64, 16)))

    refused(kernel, X, match="reads 5120 of 5120 elements that nothing has written", error=Uninitialized)


def test_what_a_kernel_leaves_unwritten_is_found():
    def kernel(x):
        out = nl.ndarray((4, 128, 64), nl.float32, nl.shared_hbm)
        for i in (0, 1, 3):
            nisa.dma_copy(dst=out[i], src=x)
        nisa.dma_copy(dst=out[2, :100, :], src=x[:100])
        nisa.dma_copy(dst=out[2, 100:, 1:], src=x[100:, 1:])
        return out

    refused(kernel, X, match=r"28 of 32768 elements never written, first at \[2, 100, 0\]", error=NkiError)


def test_a_kernel_that_needs_too_much_sbuf_is_refused():
    def kernel(x):
        tiles = [nl.ndarray((128, 32 * 1024), nl.float32) for _ in range(2)]
        for t in tiles:
            nisa.memset(t, 0.0)
        nisa.tensor_copy(tiles[0], tiles[1])
        return out_of(tiles[0])

    refused(kernel, X, match="needs 262144 bytes of each sbuf partition")


def test_operands_that_overlap_are_seen_behind_a_call_of_one_form_that_do_not():
    def kernel(x):
        a, b = tile_of(x), tile_of(x)
        for source in (b, a):
            nisa.tensor_copy(a[:, 1:33], source[:, 0:32])

    refused(kernel, X, match="overlaps .*, which is read at other elements or in another order")


def test_equal_arguments_of_different_types_are_different_calls():
    def kernel(x, value):
        a = nl.ndarray(x.shape, nl.int32)
        for v in (1, np.int32(1), True, value):
            nisa.memset(a, v)
        return out_of(a)

    assert [type(e.attributes["value"]) for e in both(kernel, X, 2).events[:3]] == [int, np.int32, bool]
    refused(lambda x: kernel(x, 1.0), X, match="value must be an integer that int32 holds, got 1.0")


def test_each_line_and_name_is_the_calls_own():
    def kernel(x):
        a = tile_of(x)
        for i in range(3):
            nisa.tensor_copy(a, a, name=f"copy{i}")
        nisa.tensor_copy(a, a)
        return out_of(a)

    events = both(kernel, X).events[1:5]
    assert [e.name for e in events] == ["copy0", "copy1", "copy2", None]
    assert events[0].line == events[2].line != events[3].line


def test_an_edge_between_events_is_its_own():
    def kernel(x):
        a = tile_of(x)
        copies = [nisa.tensor_copy(a, a) for _ in range(3)]
        copies[2].depends_on(copies[0])
        copies[2].depends_on(copies[1])
        return out_of(a)

    events = simulator.run(kernel, ShapeDtype((128, 64), "float32")).trace.events[1:4]
    assert [e.attributes.get("after") for e in events] == [None, None, events[:2]]


def test_loops_and_addresses_of_known_registers_need_no_data():
    def kernel(x):
        a = tile_of(x)
        out = nl.ndarray((4, 128, 16), nl.float32, nl.shared_hbm)

        def body(i):
            part = nl.ndarray((128, 1, 16), nl.float32)
            nisa.tensor_copy(
                part, a.reshape_dim(1, (4, 16)).ap([[64, 128], [16, 1], [1, 16]], scalar_offset=i, indirect_dim=1)
            )
            nisa.dma_copy(dst=out.select(0, i), src=part.reshape((128, 16)))
            nisa.affine_select(part, [[1, 16]], 1, part, 0.0, offset=i)

        nl.fori_loop(0, 4, body)
        return out

    events = both(kernel, X).events
    assert len({e.reads[0].offset for e in events if e.op == "tensor_copy"}) == 4


def needs_data(kernel, *shapes, target="trn2", cores=1):
    for options in (None, Options(data=False)):
        given = [ShapeDtype(*s) if options is None else np.zeros(s[0], TABLE[s[1]].np) for s in shapes]
        with pytest.raises(NeedsData, match="this run has shapes alone.*; run it with arrays") as e:
            simulator.run(nki.jit(kernel)[cores], *given, target=target, options=options)
        assert e.value.op and "test_without_data.py:" in str(e.value)


def test_what_depends_on_data_says_so():
    def looped(n):
        r = nisa.register_alloc()
        nisa.register_load(r, n)
        nl.while_loop(r, lambda r: r)

    def selected(n):
        rows = nl.ndarray((16, 1), nl.int32)
        nisa.dma_copy(dst=rows, src=n)
        nisa.dma_copy(dst=nl.ndarray((16, 1), nl.int32), src=n.vector_select(0, rows))

    def moved(n):
        index, t = tile_of(n)[0:1], tile_of(n)
        nisa.tensor_copy(nl.ndarray((16, 1), nl.int32), t.reshape((16, 1, 1)).select(1, index))

    def gathered(n):
        t, index = nl.ndarray((32, 8), nl.float32), nl.ndarray((32, 1), nl.uint16)
        nisa.memset(t, 0.0)
        nisa.memset(index, 0)
        nisa.tensor_copy(nl.ndarray((32, 8), nl.float32), t.indirect(index, 8))

    needs_data(looped, ((1,), "int32"))
    needs_data(selected, ((16, 1), "int32"))
    needs_data(moved, ((16, 1), "int32"))
    needs_data(gathered, ((16, 1), "int32"), target="trn3")


@pytest.mark.filterwarnings("ignore::triptych.simulator.NoteWarning")
def test_what_shows_values_says_that_there_are_none(capsys):
    def kernel(x):
        a = tile_of(x)
        nl.device_print("x", x)
        assert nl.equal(a, a)
        return out_of(a)

    both(kernel, X)
    assert capsys.readouterr().out.endswith("x (no values: this run has shapes alone)\n")


def test_checks_of_values_are_left_out():
    """A transpose by what may be the identity, bounds that may be in order; and notes on values are not made."""

    def kernel(x, bounds):
        a, b = tile_of(x), tile_of(bounds)
        dst = nl.ndarray((128, 128), nl.float32, nl.psum)
        nisa.nc_matmul(dst, a, a, is_transpose=True)
        random = nl.ndarray((128, 8), nl.float32)
        nisa.rand2(random, b[:, 0:1], b[:, 1:2])
        nisa.activation(random, nl.reciprocal, random)
        nisa.tensor_copy(nl.ndarray((128, 8), nl.int8), random)
        return out_of(random)

    eye, bounds = np.eye(128, dtype=np.float32), np.tile(np.float32([1, 2]), (128, 1))
    assert not both(kernel, eye, bounds, target="trn3").notes


# Arguments and outputs


class Config(nl.NKIObject):
    weight: object = None
    factor: float = 1.0


def scaled(x, pair, config, named=None):
    a = tile_of(x)
    for other in (pair[0], config.weight, named["bias"]):
        nisa.tensor_tensor(a, a, tile_of(other), nl.add)
    nisa.tensor_scalar(a, a, nl.multiply, config.factor)
    return {"out": out_of(a), "pair": (out_of(a), None)}


def test_stand_ins_may_lie_where_arrays_may_and_mix_with_them():
    run = simulator.run(nki.jit(scaled), X, (X, 3), Config(weight=ShapeDtype(X.shape, np.float32)), named={"bias": X})
    shape = ShapeDtype((128, 64), "float32")
    assert run.outputs == {"out": shape, "pair": (shape, None)}
    assert [a.name for a in run.trace.allocations[:4]] == ["x", "pair[0]", "config.weight", "named['bias']"]


def test_without_data_arrays_stay_as_they_are():
    def kernel(x):
        nisa.dma_copy(dst=x, src=tile_of(x))

    x = np.ones((128, 64), np.float32)
    x.setflags(write=False)
    run = simulator.run(kernel, x, options=Options(data=False))
    assert run.outputs is None and (x == 1).all() and len(run.trace.events) == 2


def test_a_stand_in_is_a_shape_and_a_dtype():
    s = ShapeDtype([np.int64(4), 8], np.float16)
    assert (s.shape, s.dtype, s.ndim, s.nbytes) == ((4, 8), nl.float16, 2, 64)
    assert s == ShapeDtype((4, 8), "float16") != ShapeDtype((4, 8), "bfloat16") and len({s, s}) == 1
    with pytest.raises(NkiError, match="a shape is a sequence of integers, got 5"):
        ShapeDtype(5, "float32")
    with pytest.raises(NkiError, match="float64"):
        ShapeDtype((5,), "float64")
    with pytest.raises(NkiError, match=r"argument x has shape \(\); every axis needs"):
        simulator.run(lambda x: out_of(x), ShapeDtype((), "float32"))


# Cores and ranks


def test_two_cores_exchange_and_wait_for_each_other():
    def kernel(x):
        a, b = tile_of(x), nl.ndarray(x.shape, x.dtype)
        shared = nl.ndarray((2, *x.shape), x.dtype, nl.shared_hbm)
        me = nl.program_id(0)
        for i in range(2):
            nisa.sendrecv(a, b, 1 - me, 1 - me, i)
            nisa.tensor_copy(a, b)
        nisa.dma_copy(dst=shared[me], src=a)
        nisa.core_barrier(shared, (0, 1))
        other = tile_of(shared[1 - me])
        nisa.tensor_copy(other, other)
        out = nl.ndarray((2, *x.shape), x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out[me], src=other)
        return out

    events = both(nki.jit(kernel)[2], X).events
    assert {e.attributes["epoch"] for e in events if e.op == "tensor_copy"} == {0, 1}


def test_a_race_of_two_cores_is_found():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=tile_of(x))
        if nl.program_id(0) == 1:
            tile_of(out)
            nisa.dma_copy(dst=out[0:64], src=tile_of(x)[0:64])
        return out

    refused(nki.jit(kernel)[2], X, match="race on")


def test_ranks_exchange():
    group = ncc.ReplicaGroup([[0, 1]])

    def kernel(x):
        src, total = (nl.ndarray(x.shape, x.dtype, nl.shared_hbm) for _ in range(2))
        every = nl.ndarray((256, 64), x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=src, src=x)
        ncc.all_reduce([src], [total], group, nl.add)
        ncc.all_gather([total], [every], group, 0)
        ncc.collective_permute([total], [src], [(0, 1), (1, 0)])
        return every

    runs = [simulator.run_ranks(kernel, [(x,), (X,)]) for x in (X, ShapeDtype((128, 64), "float32"))]
    for with_data, without in zip(*runs, strict=True):
        assert story(with_data.trace) == story(without.trace) and with_data.trace.notes == without.trace.notes
        assert without.outputs == ShapeDtype((256, 64), "float32")


def test_parts_whose_sizes_are_data_need_it():
    def kernel(x, sizes):
        src, dst = (nl.ndarray(x.shape, x.dtype, nl.shared_hbm) for _ in range(2))
        nisa.dma_copy(dst=src, src=x)
        ncc.all_to_all_v([src], [dst], ncc.ReplicaGroup([[0, 2], [1, 3]]), sizes)

    shapes = (ShapeDtype((128, 64), "float32"), ShapeDtype((3, 2), "uint32"))
    with pytest.raises(NeedsData, match="ncc.all_to_all_v at .*needs the values of .*'sizes'"):
        simulator.run_ranks(kernel, [shapes] * 4, target="trn1")


# Size


def test_tensors_of_gigabytes_take_no_memory():
    """4 GiB of arguments, of which a kernel copies, multiplies and writes parts."""

    def kernel(x, y):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=y)
        tile = tile_of(x[:128, 0:2048])
        for column in range(0, 1 << 14, 2048):
            nisa.dma_copy(dst=out[1 << 14 : (1 << 14) + 128, column : column + 2048], src=tile)
        return out

    big = ShapeDtype((1 << 15, 1 << 15), "bfloat16")
    tracemalloc.start()
    try:
        run = simulator.run(kernel, big, big)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert big.nbytes == 2 << 30 and peak < 8 << 20 and run.outputs == big


def test_memory_grows_with_the_instructions():
    """About 460 bytes an instruction, as docs/simulator.md says."""
    matmul = simulator.load(KERNELS / "matmul.py").matmul
    sizes = []
    tracemalloc.start()
    try:
        for n in (1024, 2048):
            x = ShapeDtype((n, n), "bfloat16")
            run = simulator.run(matmul, x, x)
            sizes.append((len(run.trace.events), tracemalloc.get_traced_memory()[0]))
            del run
    finally:
        tracemalloc.stop()
    (few, less), (many, more) = sizes
    assert (more - less) / (many - few) < 600
