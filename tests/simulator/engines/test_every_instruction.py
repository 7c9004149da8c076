"""What holds for every instruction alike, over the table of valid calls in calls/.

Its result is its equation's whatever the dtypes, memories, engines and access patterns of its operands; it writes what
it says and no byte beside; it reads nothing unwritten; an output may be an input; and wrong operands are refused.
"""

from __future__ import annotations

import inspect
from enum import Enum

import numpy as np
import pytest
from calls import CALLS, WITHOUT
from calls.plan import GARBAGE, NAMES, Plan, fill, first_choice, targets_of
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import INSTRUCTIONS, NkiValidationError, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl


def close(got, expected, dtype, cast, rtol):
    """`got` is `expected` in dtype, up to `rtol` and a rounding where that is given."""
    if dtype.endswith("x4"):
        np.testing.assert_array_equal(got, expected)
        return
    got, want = got.astype(np.float64), cast(expected, dtype).astype(np.float64)
    if rtol == 0:
        np.testing.assert_array_equal(got, want)
    else:
        step = {"float8_e4m3": 2**-3, "float8_e5m2": 2**-2, "bfloat16": 2**-7, "float16": 2**-10}.get(dtype, 0)
        np.testing.assert_allclose(got, want, rtol + step, 1 if "int" in dtype else rtol)


def check(plan, made, held, cast):
    """Outputs are the equation's, written where they should be; all around them is as it was."""
    expected = plan.call.expected(held)
    for name in plan.call.outputs:
        view, around, within = made[name]
        shape = plan.call.operands[name].shape
        mask = plan.call.written[name](held) if name in plan.call.written else np.ones(shape, bool)
        marks = np.zeros(around.shape, bool)
        part = within(marks)
        part[...] = mask.reshape(part.shape)
        written = around.storage.written_at(around.layout)
        np.testing.assert_array_equal(np.broadcast_to(written, marks.shape), marks, err_msg=f"written of {name}")
        beside = np.ascontiguousarray(around.array)[~marks].view(np.uint8)
        assert (beside == GARBAGE).all(), f"{name}: bytes beside what it writes have changed"
        got = np.ascontiguousarray(view.array).reshape(shape)[mask]
        close(got, np.asarray(expected[name])[mask], plan.dtypes[name], cast, plan.call.rtol.get(name, 0))


def test_the_table_is_complete():
    assert set(CALLS) | WITHOUT == set(INSTRUCTIONS) and not set(CALLS) & WITHOUT


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_its_result_is_its_equations_wherever_its_operands_lie(core, cast, name, data):
    p, f = data.draw(st.sampled_from([1, 2, 5, 32, 128]), "p"), data.draw(st.integers(1, 9), "f")
    call = CALLS[name](p, f)
    target = data.draw(st.sampled_from(targets_of(name)), "target")
    with core(target) as c:
        plan = Plan(call, lambda what, values: data.draw(st.sampled_from(values), what), data.draw(st.integers(0, 99)))
        options = {}
        engines = [e for e, since in call.engines.items() if c.machine.chip.generation >= since]
        if engines:
            engine = data.draw(st.sampled_from(["unknown", *engines]), "engine")
            options = {} if engine == "unknown" else {"engine": nisa.engine[engine]}
            if engine == "gpsimd":
                plan.buffers = dict.fromkeys(plan.buffers, "sbuf")
            elif engine == "tensor":
                plan.buffers = {"dst": "psum", "data": "sbuf"}
        held = plan.inputs(c, cast)
        made = plan.tiles(c, held)
        if call.before:
            call.before(c)
        event = call.issue(**{n: view for n, (view, _, _) in made.items()}, **options)
        check(plan, made, held, cast)
        assert event is c.trace.events[-1] and event.op == name
        assert nisa.engine[event.engine] in INSTRUCTIONS[name].engines
        if options:
            assert event.engine == engine
        regions = {n: view.region for n, (view, _, _) in made.items()}
        read, written = (
            {r for r in regions_ if not r.allocation.buffer.endswith("registers")}
            for regions_ in (event.reads, event.writes)
        )
        assert read == {regions[n] for n in call.inputs}
        assert written == {regions[n] for n in call.outputs}


# Poison, aliasing and names


def plain(name, p=5, f=6, seed=3, choose=first_choice):
    """The call on p x f with dense operands in their first dtype and memory."""
    call = CALLS[name](p, f)
    plan = Plan(call, choose, seed)
    plan.layouts = dict.fromkeys(plan.layouts, "dense")
    return call, plan


def issue(c, call, tiles, **options):
    if call.before:
        call.before(c)
    return call.issue(**tiles, **options)


READS = [(name, n) for name in NAMES for n in CALLS[name](5, 6).inputs]


@pytest.mark.parametrize(("name", "operand"), READS)
def test_one_unwritten_element_of_an_input_is_reported_with_both_lines(core, cast, name, operand):
    for target in targets_of(name):
        call, plan = plain(name)
        read = np.broadcast_to(call.operands[operand].read, call.operands[operand].shape)
        for at in (0, -1):  # the first and the last element that it reads
            hole = np.unravel_index(np.flatnonzero(read)[at], read.shape)
            with core(target) as c:
                held = plan.inputs(c, cast)
                tiles = {n: view for n, (view, _, _) in plan.tiles(c, held).items()}
                tiles[operand] = nl.ndarray(read.shape, plan.dtypes[operand], getattr(nl, plan.buffers[operand]))
                written = read.copy()
                written[hole] = False
                fill(tiles[operand], held[operand], written)
                with pytest.raises(Uninitialized) as e:
                    issue(c, call, tiles)
                message = str(e.value)
                assert message.startswith(f"nisa.{name} at ") and "elements that nothing has written" in message
                assert "allocated at test_every_instruction.py:" in message
                assert not [event for event in c.trace.events if event.op == name]


PARTS = ("nc_matmul_mx", "nc_stream_shuffle", "nonzero_with_count", "topk")  # what they read of an operand is a part


@pytest.mark.parametrize("name", PARTS)
def test_where_all_of_an_operand_is_written_no_part_of_it_is_looked_for(core, cast, monkeypatch, name):
    with core("trn3") as c:
        call, plan = plain(name, p=37)
        held = plan.inputs(c, cast)
        tiles = {n: view for n, (view, _, _) in plan.tiles(c, held).items()}
        for n in call.inputs:
            tiles[n].wrote()
        asked = []
        monkeypatch.setattr(type(c.machine), "check_reads", lambda machine, tensors: asked.extend(tensors))
        issue(c, call, tiles)
        assert {id(t) for t in asked} <= {id(tiles[n]) for n in call.inputs}


def alike(call):
    """Pairs of an output and an input that could be one tensor."""
    for out in call.outputs:
        for n in call.inputs:
            a, b = call.operands[out], call.operands[n]
            if a.shape == b.shape and set(a.dtypes) & set(b.dtypes) and set(a.buffers) & set(b.buffers):
                yield out, n


MIXED = ("dma_transpose", "local_gather", "nc_n_gather")  # they read in another order than they write
ALIASES = [(name, *pair) for name in NAMES if name not in MIXED for pair in alike(CALLS[name](32, 32))]


@pytest.mark.parametrize(("name", "out", "source"), ALIASES)
def test_an_output_may_be_an_input(core, cast, name, out, source):
    """The instruction reads what was there before it, and the result is the one that it has elsewhere."""

    call, plan = plain(name, 32, 32)
    shared = set(call.operands[out].dtypes) & set(call.operands[source].dtypes)
    kind = next(d for d in call.operands[out].dtypes if d in shared)
    plan.dtypes |= {out: kind, source: kind}
    for names in call.same_dtype:
        if out in names or source in names:
            plan.dtypes |= dict.fromkeys(names, kind)
    place = next(b for b in call.operands[out].buffers if b in call.operands[source].buffers)
    plan.buffers |= {out: place, source: place}
    for target in targets_of(name):
        with core(target) as c:
            held = plan.inputs(c, cast)
            made = plan.tiles(c, held)
            tiles = {n: view for n, (view, _, _) in made.items()}
            issue(c, call, {**tiles, out: tiles[source]})
            expected = call.expected(held)
            mask = call.written[out](held) if out in call.written else np.ones(call.operands[out].shape, bool)
            got = np.ascontiguousarray(tiles[source].array).reshape(mask.shape)
            close(got[mask], np.asarray(expected[out])[mask], kind, cast, call.rtol.get(out, 0))
            np.testing.assert_array_equal(got[~mask], held[source][~mask])
            for other in set(call.outputs) - {out}:
                close(tiles[other].array, expected[other], plan.dtypes[other], cast, call.rtol.get(other, 0))


def substitute(monkeypatch, name, arguments):
    """The table's call of an instruction gets these arguments, whatever it says itself."""
    module = CALLS[name].__globals__["nisa"]
    issued = INSTRUCTIONS[name].issue

    def changed(*args, **kwargs):
        bound = inspect.signature(issued).bind(*args, **kwargs)
        bound.arguments |= arguments
        return issued(*bound.args, **bound.kwargs)

    monkeypatch.setattr(module, name, changed)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("register_")])
def test_an_instruction_may_have_a_name(core, cast, name, monkeypatch):
    substitute(monkeypatch, name, {"name": "mine"})
    call, plan = plain(name)
    with core(targets_of(name)[-1]) as c:
        tiles = {n: view for n, (view, _, _) in plan.tiles(c, plan.inputs(c, cast)).items()}
        assert issue(c, call, tiles).name == "mine"


@pytest.mark.parametrize("name", [n for n in NAMES if n != "rand2"])  # whose numbers only a rounding makes known
def test_without_rounding_the_equation_is_all_there_is(core, cast, name):
    """NKI_PRECISE_FP=0: what is bfloat16 elsewhere holds a float32 here."""
    call, plan = plain(name, choose=lambda what, values: "bfloat16" if "bfloat16" in values else values[0])
    low = [n for n in call.operands if plan.dtypes[n] == "bfloat16"]
    with core(targets_of(name)[-1], round_low_precision=False) as c:
        held = plan.inputs(c, cast)
        held |= {n: held[n].astype(np.float32) * np.float32(1.001) for n in low if n in held}
        made = plan.tiles(c, held)
        issue(c, call, {n: view for n, (view, _, _) in made.items()})
        plan.dtypes |= dict.fromkeys(low, "float32")
        check(plan, made, held, cast)


# Refusals


def refuses(core, cast, name, change, words, targets=None):
    """The call with some operands changed raises, and issues nothing."""
    for target in targets or targets_of(name):
        call, plan = plain(name, 32, 8)
        with core(target) as c:
            tiles = {n: view for n, (view, _, _) in plan.tiles(c, plan.inputs(c, cast)).items()}
            changed = change(c, call, tiles)
            with pytest.raises(NkiValidationError, match=words) as e:
                issue(c, call, changed)
            assert e.value.op == f"nisa.{name}" and e.value.source, e.value
            assert not [event for event in c.trace.events if event.op == name]


def like(c, tile, shape=None, dtype=None, buffer=None):
    """A written tile like another, but for what is given."""
    made = c.empty(shape or tile.shape, dtype or tile.dtype, buffer or tile.buffer.name)
    made.array[...] = 0
    made.wrote()
    return made


OPERANDS = [(name, n) for name in NAMES for n in CALLS[name](32, 8).operands]


@pytest.mark.parametrize(("name", "operand"), OPERANDS)
def test_an_array_is_no_operand(core, cast, name, operand):
    def change(c, call, tiles):
        return {**tiles, operand: np.zeros(tiles[operand].shape, np.float32)}

    refuses(core, cast, name, change, "got ndarray|got .*array")


@pytest.mark.parametrize(("name", "operand"), OPERANDS)
def test_an_operand_lies_where_it_may(core, cast, name, operand):
    wrong = {"sbuf", "psum", "private_hbm"} - set(CALLS[name](32, 8).operands[operand].buffers)

    for buffer in sorted(wrong):

        def change(c, call, tiles, buffer=buffer):
            return {**tiles, operand: like(c, tiles[operand], buffer=buffer)}

        refuses(core, cast, name, change, "must be|cannot access PSUM|cannot reach PSUM")


def _where(fits):
    return [(name, n) for name, n in OPERANDS if fits(CALLS[name](32, 8).operands[n])]


@pytest.mark.parametrize(("name", "operand"), _where(lambda o: not o.any_rows))
def test_an_operand_has_as_many_partitions_as_the_others(core, cast, name, operand):
    def change(c, call, tiles):
        rows, *free = tiles[operand].shape
        return {**tiles, operand: like(c, tiles[operand], (rows - 1 if rows > 1 else 2, *free))}

    refuses(core, cast, name, change, r"\d")


@pytest.mark.parametrize(("name", "operand"), _where(lambda o: not o.any_columns))
def test_an_operand_has_the_elements_it_needs(core, cast, name, operand):
    def change(c, call, tiles):
        *rest, last = tiles[operand].shape
        return {**tiles, operand: like(c, tiles[operand], (*rest, last + 1))}

    refuses(core, cast, name, change, r"\d")


@pytest.mark.parametrize(("name", "operand"), OPERANDS)
def test_an_operand_has_a_dtype_that_the_instruction_takes(core, cast, name, operand):
    """Packed elements are no numbers, and beside them the table names what the documentation leaves out."""
    known = CALLS[name](32, 8).operands[operand]
    assert not set(known.refuses) & set(known.dtypes)
    packed = () if known.dtypes[0].endswith("x4") else ("float4_e2m1fn_x4",)
    for dtype in (*packed, *known.refuses):

        def change(c, call, tiles, dtype=dtype):
            return {**tiles, operand: like(c, tiles[operand], dtype=dtype)}

        refuses(core, cast, name, change, "must be|packed|dtype|float32|any dtype but|integers|can only be set to 0")


CHOICES = [
    (name, p.name)
    for name in NAMES
    for p in inspect.signature(INSTRUCTIONS[name].issue).parameters.values()
    if isinstance(p.default, Enum)
]


@pytest.mark.parametrize(("name", "parameter"), CHOICES)
def test_an_enumeration_is_given_by_its_members(core, cast, name, parameter, monkeypatch):
    """Neither by a raw value nor by a name (nki/migration/index.rst), nor by the members of another."""
    default = inspect.signature(INSTRUCTIONS[name].issue).parameters[parameter].default
    for wrong in (default.value, default.name, nisa.nc_version.gen3):
        substitute(monkeypatch, name, {parameter: wrong})
        refuses(core, cast, name, lambda c, call, tiles: tiles, f"{parameter} must be")


@pytest.mark.parametrize("name", [name for name, parameter in CHOICES if parameter == "engine"])
def test_an_engine_is_one_that_runs_the_instruction(core, cast, name, monkeypatch):
    for engine in nisa.engine:
        if engine not in INSTRUCTIONS[name].engines and engine is not nisa.engine.unknown:
            substitute(monkeypatch, name, {"engine": engine})
            refuses(core, cast, name, lambda c, call, tiles: tiles, "engine")
