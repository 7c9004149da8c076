"""What is compiled is not seen: slices and instructions leave what their Python leaves, errors and references too."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from calls import CALLS
from calls.plan import NAMES, Plan, first_choice, targets_of
from compiled_parts import PYTHON, in_python, needs_compiled
from shape_only_parts import story

from triptych.simulator import NkiError
from triptych.simulator.compiled import in_place
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.tensors.tensor import NkiTensor

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

pytestmark = needs_compiled
GETITEM = PYTHON[NkiTensor, "__getitem__"]
SLOTS = [name for name in NkiTensor.__slots__ if name not in ("storage", "_array")]


def told(view):
    """All that a view knows, or what an error says."""
    try:
        made = view()
    except Exception as error:
        return type(error), str(error)
    looked_up = hash(made.layout)  # by which a layout is found again
    return [getattr(made, name) for name in SLOTS], looked_up, made.storage.allocation, type(made.storage), made._array


def random_key(rng, n):
    """An index or slice of a dimension, in it, at its bounds, or beyond."""
    near = [int(i) for i in rng.integers(-n - 2, n + 3, 2)]
    kinds = (
        slice(near[0], near[1]),
        slice(None, near[0]),
        slice(near[0], None),
        slice(None),
        slice(*sorted(abs(i) for i in near), int(rng.integers(1, 4))),
        near[0],
        np.int64(near[0]),
        True,
        range(0, max(1, near[0]), 2),
        nl.ds(abs(near[0]), abs(near[1])),
        ...,
        None,
        2**70,
        slice(0, 2**70),
        1.5,
    )
    likely = np.array([6, 2, 2, 4, 1, 5, 1, 1, 1, 1, 1, 0.2, 0.2, 0.2, 0.2])
    return kinds[rng.choice(len(kinds), p=likely / likely.sum())]


@pytest.mark.parametrize("seed", range(20))
def test_a_slice_is_what_it_is_in_python(core, seed):
    rng = np.random.default_rng(seed)
    with core("trn3", strict=False) as c:
        index = c.tile(np.zeros((1, 1), np.int32))
        rows = c.tile(np.zeros((4, 1), np.int32))
        tensors = [nl.ndarray((9,), nl.int8, nl.private_hbm), nl.ndarray((4, 6), nl.bfloat16, nl.private_hbm)]
        tensors += [nl.ndarray((4, 6, 5), nl.float32, nl.shared_hbm), nl.ndarray((4, 6), nl.float32, nl.sbuf)]
        tensors += [nl.ndarray((4, 3, 5), nl.float32, nl.psum), nl.ndarray((4, 6), nl.float32, address=(32, 64))]
        tensors += [tensors[2].permute((2, 0, 1)), rows.broadcast(1, 6)]
        tensors += [
            tensors[2].select(0, index),
            tensors[1].vector_select(0, rows),
            tensors[2][2:2],
            nl.equal(rows, rows),
        ]
        tensors += [nl.ndarray((1,) * 9, nl.float32, nl.private_hbm), tensors[3].ap([[6, 4], [-1, 6]], offset=5)]
        for t in tensors:
            for _ in range(60):
                many = int(rng.integers(0, t.ndim + 2))
                key = tuple(random_key(rng, int(rng.choice(t.shape))) for _ in range(many))
                key = key[0] if many == 1 and rng.integers(2) else key
                assert told(lambda t=t, key=key: t[key]) == told(lambda t=t, key=key: GETITEM(t, key)), (t, key)


def events_of(core, cast, name):
    """What calls of an instruction leave in the trace, the first and two that are alike, and whether they are known."""
    call, target = CALLS[name](32, 8), targets_of(name)[-1]
    with core(target) as c:
        for seed in (1, 2, 3):
            if call.before:
                call.before(c)
            plan = Plan(call, first_choice, seed)
            made = plan.tiles(c, plan.inputs(c, cast))
            call.issue(**{n: view for n, (view, _, _) in made.items()})
        outputs = [np.ascontiguousarray(made[n][0].array).tobytes() for n in call.outputs]
        return story(c.machine.trace), c.machine.trace.notes, len(c.machine.plans), outputs


@pytest.mark.parametrize("name", NAMES)
def test_an_instruction_leaves_the_events_that_it_leaves_in_python(core, cast, name):
    with in_python():
        expected = events_of(core, cast, name)
    found = events_of(core, cast, name)
    assert [e[:4] + e[5:] for e in found[0]] == [e[:4] + e[5:] for e in expected[0]]
    assert found[1:] == expected[1:]


def loaded(c):
    return c.tile(np.ones((32, 16), np.float32))


REFUSED = {
    "operands of other shapes": lambda t, other: nisa.tensor_tensor(t, t, other[:, 0:3], nl.add),
    "no such parameter": lambda t, other: nisa.tensor_copy(t, other, what=1),
    "too many": lambda t, other: nisa.tensor_copy(t, other, nisa.engine.vector, "name", 1, 2, 3),
    "an engine that has it not": lambda t, other: nisa.tensor_copy(t, other, engine=nisa.engine.tensor),
    "a view that is empty": lambda t, other: nisa.tensor_copy(t[:, 3:3], other[:, 3:3]),
    "a tensor of another kind": lambda t, other: nisa.tensor_copy(t, np.ones((32, 16), np.float32)),
    "a result over its operand": lambda t, other: nisa.tensor_copy(t[:, 0:8], t[:, 4:12]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_instruction_says_what_it_says_in_python(core, what):
    def said():
        with core() as c:
            t, other = loaded(c), loaded(c)
            nisa.tensor_copy(t, other)
            with pytest.raises((NkiError, TypeError)) as e:
                REFUSED[what](t, other)
            return type(e.value), str(e.value)

    with in_python():
        expected = said()
    assert said() == expected


def test_a_second_result_over_its_operand_is_refused_as_the_first(core):
    """Whose plan is known, and whose regions are checked all the same."""
    with core() as c:
        t, other = loaded(c), loaded(c)
        nisa.tensor_copy(t[:, 0:8], other[:, 4:12])
        nisa.tensor_copy(t[:, 0:8], other[:, 4:12])
        with pytest.raises(NkiError, match="overlaps"):
            nisa.tensor_copy(t[:, 0:8], t[:, 4:12])


def test_an_error_of_an_instruction_goes_through(core):
    """A plan is known, and what carries it out raises."""
    with core() as c, pytest.MonkeyPatch.context() as m:
        t, other = loaded(c), loaded(c)
        nisa.tensor_copy(t, other)

        def compute(*operands):
            raise KeyboardInterrupt

        m.setattr(type(c.machine), "compute", compute)
        before = len(c.machine.trace.events)
        with pytest.raises(KeyboardInterrupt):
            nisa.tensor_copy(t, other)
        assert len(c.machine.trace.events) == before


def test_nothing_is_kept_of_slices_and_calls(core):
    with core() as c:
        t, other, sums = loaded(c), loaded(c), nl.ndarray((16, 16), nl.float32, nl.psum)

        def work():
            for i in range(200):
                view, _ = t[0:32, i % 8 : i % 8 + 8], t[20 + i % 8 :]  # one begins beyond the numbers that Python keeps
                nisa.tensor_copy(view, other[:, 0:8], name="a")
                nisa.tensor_copy(dst=view, src=other[:, 0:8], engine=nisa.engine.vector)
                nisa.activation(view, nl.exp, other[:, 0:8], scale=0.5)
                nisa.tensor_tensor(view, other[:, 0:8], other[:, 0:8], nl.add)
                nisa.tensor_tensor(t, other, other, nl.add)
                nisa.nc_matmul(sums, other, other, accumulate=False)
                nisa.nc_matmul(sums, other, other, accumulate=True)
                for key in ((0, 0, 0), slice(40, 50), (slice(None), 99), 1.5):
                    with contextlib.suppress(NkiError):
                        t[key]
                with contextlib.suppress(NkiError):
                    nisa.tensor_copy(dst=view, src=other[:, 0:9])
            c.machine.trace.events.clear()
            gc.collect()

        held = [t.storage, t.storage.allocation, t.buffer, t.dtype, t.strides, c.machine.trace, c.machine.trace.events]
        held += [nisa.engine.vector, nl.exp, "a", type(t), type(t.layout), type(t.region), type(c.machine)]
        work()
        held += [
            t.form,
            c.machine.plans,
            *c.machine.plans.values(),
            c.machine.append.__func__,
            None,
            False,
            True,
            0,
            64,
        ]
        before = sys.getallocatedblocks(), [sys.getrefcount(one) for one in held]
        for _ in range(5):
            work()
        assert sys.getallocatedblocks() - before[0] < 500, "of 12,000 calls"
        more = [sys.getrefcount(one) - count for one, count in zip(held, before[1], strict=True)]
        assert max(more) < 500, more


FREQUENT = {
    "slices": lambda t, other, hbm, sums: (t[0:16, 2:-2], t[3], t[:, 4], t[4:], hbm[1:3], hbm[0, 0]),
    "a copy with a name": lambda t, other, hbm, sums: nisa.tensor_copy(t, other, name="a"),
    "an engine": lambda t, other, hbm, sums: nisa.tensor_copy(dst=t, src=other, engine=nisa.engine.vector),
    "an operand twice": lambda t, other, hbm, sums: nisa.tensor_tensor(t, other, other, nl.add),
    "a number": lambda t, other, hbm, sums: nisa.activation(t, nl.exp, other, scale=0.5),
    "new views": lambda t, other, hbm, sums: nisa.dma_copy(hbm[:, 0:8], other[:, 4:12]),
    "a matmul": lambda t, other, hbm, sums: nisa.nc_matmul(sums, other, other, accumulate=False),
    "one that adds": lambda t, other, hbm, sums: nisa.nc_matmul(sums, other, other, accumulate=True),
    "a sum of a part": lambda t, other, hbm, sums: nisa.nc_matmul(sums[:, 4:8], other, other[:, 4:8], accumulate=True),
    "a sum that an accumulator keeps": lambda t, other, hbm, sums: nisa.activation_reduce(
        t, nl.exp, other, nl.add, t[:, 0:1]
    ),
    "a new tensor": lambda t, other, hbm, sums: (nl.ndarray((32, 16), nl.float32),),
    "a function of the language": lambda t, other, hbm, sums: (nl.add(t, other),),
    "one that is written": lambda t, other, hbm, sums: nisa.tensor_copy(nl.ndarray((32, 16), nl.float32), other),
    "one that is written in part": lambda t, other, hbm, sums: nisa.tensor_copy(
        nl.ndarray((32, 32), nl.float32)[:, 8:24], other
    ),
}


@pytest.mark.parametrize("what", FREQUENT)
def test_the_frequent_case_is_not_handed_to_python(core, what):
    replaced = [getattr(method, "fget", method).__code__ for method in in_place.IN_PYTHON]
    called = []
    with core() as c:
        t, other, hbm = loaded(c), loaded(c), nl.ndarray((32, 16), nl.float32, nl.private_hbm)
        tensors = t, other, hbm, nl.ndarray((16, 16), nl.float32, nl.psum)
        nisa.nc_matmul(tensors[3], other, other)
        FREQUENT[what](*tensors)
        sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == "call" else None)
        try:
            FREQUENT[what](*tensors)
        finally:
            sys.setprofile(None)
    assert not [code.co_name for code in called if code in replaced]


@pytest.mark.parametrize("given", [(1, 2, 3), ((), [], {}), ((), (), []), ((), ())])
def test_a_machine_is_told_what_it_takes(core, given):
    with core() as c, pytest.raises(TypeError, match="a kind, a tuple and a dict"):
        c.machine.execute(*given)


@pytest.mark.parametrize(("setting", "is_compiled"), [("0", False), ("1", True), (None, True)])
def test_the_environment_chooses(setting, is_compiled):
    env = {k: v for k, v in os.environ.items() if k != "TRIPTYCH_COMPILED"}
    env |= {} if setting is None else {"TRIPTYCH_COMPILED": setting}
    code = "from triptych import simulator; from triptych.simulator.compiled import in_place as c; print(c.IS_COMPILED)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str(is_compiled), done.stderr
