"""A plan that is kept for calls of one form computes with each call's own operands and arguments."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from calls import CALLS
from calls.plan import NAMES, Plan, first_choice, targets_of

from triptych.simulator import INSTRUCTIONS, Uninitialized
from triptych.simulator.engines import dma
from triptych.simulator.errors import OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine import plan
from triptych.simulator.machine.forms import describe, form_of
from triptych.simulator.machine.machine import Machine
from triptych.simulator.memory.storage import Storage
from triptych.simulator.tensors.tensor import NkiTensor

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

ON_REGISTERS = {"register_load", "register_store"}  # whose calls have no key
FORMED = sorted(set(NAMES) - ON_REGISTERS)


def outputs(c, cast, call, seed):
    """What a call leaves in its outputs, as bytes."""
    plan = Plan(call, first_choice, seed)
    if call.before:
        call.before(c)
    made = plan.tiles(c, plan.inputs(c, cast))
    call.issue(**{n: view for n, (view, _, _) in made.items()})
    return [np.ascontiguousarray(made[n][0].array).tobytes() for n in call.outputs]


def test_every_instruction_returns_a_plan():
    assert {str(row.effect.__annotations__["return"]) for row in INSTRUCTIONS.values()} == {"Plan"}


@pytest.mark.parametrize("name", FORMED)
def test_the_second_call_of_a_form_gives_what_it_gives_alone(core, cast, name):
    call, target = CALLS[name](32, 8), targets_of(name)[-1]
    alone = []
    for seed in (1, 2):
        with core(target) as c:
            alone.append(outputs(c, cast, call, seed))
    with core(target) as c:
        assert outputs(c, cast, call, 1) == alone[0]
        plans = len(c.machine.plans)
        if name not in ("rng", "rand2", "dropout"):  # whose numbers follow those drawn before
            assert outputs(c, cast, call, 2) == alone[1]
        else:
            outputs(c, cast, call, 2)
        assert len(c.machine.plans) == plans > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_a_plan_makes_all_of_does_not_rest_on_what_stood_there(core, cast, monkeypatch, name):
    call, target = CALLS[name](32, 8), targets_of(name)[-1]
    plans, found = [], []
    perform = Machine.perform
    monkeypatch.setattr(
        Machine, "perform", lambda m, kind, plan, *of: plans.append(plan) or perform(m, kind, plan, *of)
    )
    for before in (0x00, 0xA5):
        with core(target, check_uninitialized=False) as c:
            if call.before:
                call.before(c)
            drawn = Plan(call, first_choice, 1)
            made = drawn.tiles(c, drawn.inputs(c, cast))
            for output in call.outputs:
                made[output][1].array.view(np.uint8)[...] = before
            call.issue(**{n: view for n, (view, _, _) in made.items()})
            found.append([np.ascontiguousarray(made[n][0].array).tobytes() for n in call.outputs])
    assert found[0] == found[1] or not plans[-1].makes_all


@pytest.mark.parametrize("in_place_first", [True, False])
def test_one_tensor_twice_is_another_call(core, in_place_first):
    with core() as c:
        for in_place in (in_place_first, not in_place_first, in_place_first):
            a, b, other = (c.tile(np.full((4, 8), v, np.float32)) for v in (1, 2, 9))
            dst = a if in_place else other
            nisa.tensor_tensor(dst, a, b, nl.add)
            assert (dst.array == 3).all() and (a.array == (3 if in_place else 1)).all()


def test_arguments_that_are_equal_and_not_the_same(core):
    with core() as c:
        x, dst = c.tile(np.ones((2, 4), np.float32)), c.empty((2, 4))
        for value in (0.0, -0.0, 0.0):
            nisa.tensor_scalar(dst, x, nl.multiply, value)
            assert (np.signbit(dst.array) == np.signbit(value)).all()
        integers = c.empty((2, 4), "int32")
        assert [type(nisa.memset(integers, v).attributes["value"]) for v in (1, True, np.int32(1))] == [
            int,
            bool,
            np.int32,
        ]


@pytest.mark.parametrize("tensor_first", [True, False])
def test_a_number_is_not_the_tensor_whose_form_has_it(core, tensor_first):
    with core() as c:
        x, column, dst = c.tile(np.ones((2, 4), np.float32)), c.tile(np.full((2, 1), 7, np.float32)), c.empty((2, 4))
        number = float(form_of(column))
        for operand, value in ((column, 7), (number, number))[:: 1 if tensor_first else -1]:
            nisa.tensor_scalar(dst, x, nl.add, operand)
            assert (dst.array == 1 + value).all()


def test_a_name_is_the_calls_own(core):
    with core() as c:
        x, dst = c.tile(np.ones((2, 4), np.float32)), c.empty((2, 4))
        assert [nisa.tensor_copy(dst, x, name=n).name for n in ("a", "b", None)] == ["a", "b", None]
        assert nisa.tensor_copy(dst, x, nisa.engine.vector, "last").name == "last"
        plans = len(c.machine.plans)
        assert nisa.tensor_copy(dst, x, nisa.engine.vector, "another").name == "another"
        assert len(c.machine.plans) == plans


def test_calls_of_one_name_are_told_apart_and_those_of_several_are_one_form(core):
    with core() as c:
        x, dst = c.tile(np.ones((2, 4), np.float32)), c.empty((2, 4))
        for name, number in (("a", 1.0), ("a", 2.0), ("b", 2.0)):
            nisa.tensor_scalar(dst=dst, data=x, op0=nl.add, operand0=number, name=name)
            assert (dst.array == 1 + number).all()
            nisa.tensor_scalar(dst, x, nl.add, number, False, None, None, False, nisa.engine.vector, name)
            assert (dst.array == 1 + number).all() and c.trace.events[-1].name == name
        assert len(c.machine.plans) == 4


def test_what_an_event_gets_later_is_its_own(core):
    with core() as c:
        x, dst = c.tile(np.ones((2, 4), np.float32)), c.empty((2, 4))
        first, second, third = (nisa.tensor_copy(dst, x) for _ in range(3))
        third.depends_on(first, kind=nisa.dependency.runtime)
        assert third.attributes["after"] == [first] and "after" not in second.attributes


def test_a_kept_plan_keeps_no_tensor(core, cast):
    with core("trn3") as c:
        for name in ("activation", "dma_copy", "nc_matmul", "tensor_scalar", "tensor_scalar_reduce", "range_select"):
            outputs(c, cast, CALLS[name](32, 8), 0)
        assert c.machine.plans
        reached, todo = set(), list(c.machine.plans.items())
        while todo:
            held = todo.pop()
            if id(held) in reached or isinstance(held, type) or type(held).__name__ in ("module", "function"):
                continue
            reached.add(id(held))
            assert not isinstance(held, (NkiTensor, Storage))
            todo += gc.get_referents(held) if isinstance(held, (tuple, list, dict)) else []
            if isinstance(held, plan.Plan):
                todo += [getattr(held, slot) for slot in plan.Plan.__slots__]


def test_the_form_of_a_tile_says_where_its_partitions_lie(core):
    with core() as c:
        whole = c.empty((128, 8))
        assert form_of(whole[0:32]) != form_of(whole[32:64])
        assert form_of(whole[0:32, 0:4]) == form_of(whole[0:32, 4:8])  # where in SBUF's partitions, no check asks
        banks = c.empty((128, 8), buffer="psum")
        assert form_of(banks[:, 0:4]) != form_of(banks[:, 4:8])


def test_the_form_of_a_view_of_hbm_says_which_hbm_and_not_where(core):
    with core() as c:
        own, shared = (c.empty((256, 8), buffer=f"{which}_hbm") for which in ("private", "shared"))
        assert form_of(own[0:32]) == form_of(own[7:39]) != form_of(own[0:33])
        assert (
            len({form_of(t) for t in (own, shared, c.empty((128, 8)), c.empty((256, 8), "int32", "private_hbm"))}) == 4
        )
        assert all(form_of(t) < 0 for t in (own, shared))  # so that none is the id of a member of an enumeration


@pytest.mark.parametrize("data", [True, False])
def test_a_call_is_known_again_where_a_part_is_read_and_written(core, data):
    """A shuffle that leaves partition 0 alone: the second finds the first's plan, and its own gaps."""
    mask = [255, *range(1, 32)]
    with core(data=data) as c:
        for holed in (False, True):
            src, dst = c.empty((32, 8)), c.empty((32, 8))
            nisa.memset(src[:, 0:8], 1.0)
            if holed:
                src = c.empty((32, 8))
                nisa.memset(src[:, 0:4], 1.0)
                with pytest.raises(Uninitialized, match="reads 4 of 8 elements"):
                    nisa.nc_stream_shuffle(dst, src, mask)
            else:
                nisa.nc_stream_shuffle(dst, src, mask)
                written = np.broadcast_to(dst.storage.written_at(dst.layout), dst.shape)
                assert not written[0].any() and written[1:].all()
            assert len([p for p in c.machine.plans.values() if p.plan.marks is not None]) == 1


def test_a_register_has_no_key(core):
    with core():
        assert not describe(nisa.register_alloc(1), [], [])


@pytest.mark.parametrize(("size", "has_key"), [(4096, True), (4097, False)])
def test_an_array_of_many_values_has_no_key(core, size, has_key):
    with core():
        assert describe(np.zeros(size, np.uint8), [], []) is has_key
        assert describe([np.zeros(size, np.uint8), 1], [], []) is has_key


def test_the_keys_of_arguments_that_differ_differ(core):
    """In type, in value, in sign, in length or in what holds them."""
    arrays = [np.array(v, d) for v, d in (([1, 2], "<i4"), ([1, 2], "<u4"), ([2, 1], "<i4"), ([[1, 2]], "<i4"))]
    numbers = [1, 2, True, 1.0, 0.0, -0.0, np.float32(1), np.float64(1), np.int32(1), np.int64(1), "1", None]
    with core():
        values = [*arrays, *numbers, [1, 2], (1, 2), [1], [[1], 2], [nl.add], nl.add, nl.subtract, range(2), range(3)]
        values += [nisa.engine.vector, nisa.engine.scalar, nisa.oob_mode.skip]
        keys = []
        for value in values:
            keys.append([])
            assert describe(value, keys[-1], [])
    assert len({tuple(key) for key in keys}) == len(values)


def test_a_gather_is_planned_once_and_reads_its_own_indices(core, monkeypatch):
    """And so is a scatter; what only indices show is seen in calls whose plan is known."""
    planned, indirect = [], dma._indirect_copy
    monkeypatch.setattr(dma, "_indirect_copy", lambda *given: (planned.append(given), indirect(*given))[1])
    x = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    with core("trn2") as c:
        table, tile, gaps = c.tile(x, buffer="private_hbm"), c.empty((32, 8)), c.empty((40, 8), buffer="private_hbm")
        nisa.dma_copy(dst=gaps[0:30], src=c.tile(x[0:30]))
        for first in (0, 5, 8):
            index = c.tile(np.arange(first, first + 32, dtype=np.int32).reshape(-1, 1))
            event = nisa.dma_copy(dst=tile, src=table.vector_select(0, index))
            np.testing.assert_array_equal(tile.array, x[first : first + 32])
            assert [r.offset for r in event.reads[:-1]] == [8 * row for row in range(first, first + 32)]
            assert event.reads[-1] == index.region and event.writes == (tile.region,)
        for row in (0, 7):
            index = c.tile(np.arange(31 + row, row - 1, -1, dtype=np.int32).reshape(-1, 1))
            event = nisa.dma_copy(dst=table.vector_select(0, index), src=tile)
            np.testing.assert_array_equal(table.array[row : row + 32], x[8:40][::-1])
            assert event.reads == (tile.region, index.region) and event.writes[0].offset == 8 * (31 + row)
        assert len(planned) == 2
        with pytest.raises(OutOfBounds, match="row 31 has index 40 leaves dimension 0"):
            nisa.dma_copy(dst=tile, src=table.vector_select(0, c.tile(np.arange(9, 41, dtype=np.int32).reshape(-1, 1))))
        with pytest.raises(Uninitialized, match="reads 8 of 8 elements that nothing has written, first at"):
            nisa.dma_copy(dst=tile, src=gaps.vector_select(0, c.tile(np.arange(32, dtype=np.int32).reshape(-1, 1))))
