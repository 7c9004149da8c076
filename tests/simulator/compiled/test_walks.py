"""The walks over a trace in C find what those in Python find, in the same order, of drawn traces and of kernels."""

from __future__ import annotations

import dataclasses
import gc
import random
import sys
from typing import Any

import pytest
from plainly.accesses import drawn as drawn_accesses
from plainly.programs import drawn as drawn_program

from triptych.harness.collection import builtin
from triptych.harness.ops.selection import Selection
from triptych.harness.profiling.subjects import of_ops
from triptych.harness.profiling.tracing import traced
from triptych.simulator.analysis.capacity import lives_of
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.timing.forms import forms
from triptych.simulator.timing.links import coded, numbered
from triptych.simulator.timing.room import tenants_of
from triptych.simulator.timing.scheduler import WALKS
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Region, Trace

pytestmark = pytest.mark.skipif(
    WALKS is None, reason="nothing is compiled: no C compiler was there, or TRIPTYCH_COMPILED=0"
)
CODES = {"data": 3, "overwrite": 1, "order": 0}
NAMES = sorted(name for name, op in builtin().items() if op.nki is not None)


def found(trace: Trace, compiled: Any = None) -> tuple[Any, ...]:
    """What all walks find, with what events wait for in its order."""
    waits, tenants = hazards(trace, compiled), tenants_of(trace, compiled)
    arrays = *numbered(waits, compiled), *numbered(tenants.of_event, compiled), coded(waits, CODES, compiled)
    edges = [list(each.items()) for each in waits]
    lives = list(lives_of(trace, compiled).items())
    return edges, forms(trace, compiled), tenants, lives, [array.tolist() for array in arrays]


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_walked_over_alike(name: str) -> None:
    subject = of_ops([builtin()[name]], Selection(sets=["smoke"]), {})[0]
    for target in ("trn1", "trn2", "trn3"):
        if subject.unsupported(target) is None:
            trace = traced(subject, target)
            assert found(trace, WALKS) == found(trace)


@pytest.mark.parametrize("seed", range(4))
def test_drawn_traces_are_walked_over_alike(seed: int) -> None:
    """With views of any kind, two cores, what a kernel orders itself, addresses, and regions read through indices."""
    for number in range(40 * seed, 40 * seed + 40):
        trace = drawn_accesses(number) if number % 2 else drawn_program(number)
        rng = random.Random(number)
        assert found(trace, WALKS) == found(trace)
        moved = [
            Event(e.op, rng.choice((e.engine, "dma")), e.reads, e.writes, e.line, e.core, e.name, e.attributes)
            for e in trace.events
            if e.attributes.keys().isdisjoint(("after", "registers"))
        ]
        for event in rng.sample(moved, len(moved) // 4):
            event.reads = tuple(indirect(region, rng.randint(1, 3)) for region in event.reads)
        trace = dataclasses.replace(trace, events=moved)
        assert found(trace, WALKS) == found(trace)


def indirect(region: Region, count: int) -> IndirectRegion:
    of = IndirectRegion(*region)
    of.offsets = tuple(range(count))
    return of


def test_a_trace_longer_than_is_walked_over_at_once() -> None:
    float32 = TABLE["float32"]
    tiles = [Allocation(i, "t", "sbuf", (128, 8), float32, ("k.py", i)) for i in range(3)]
    regions = [Region(tile, 0, (128, 8), (8, 1), float32) for tile in tiles]
    events = [
        Event("tensor_copy", "vector", (regions[i % 3],), (regions[(i + 1) % 3],), ("k.py", i), 0, None, {})
        for i in range(5000)
    ]
    trace = Trace(chip_of("trn2"), "trn2", events)
    assert found(trace, WALKS) == found(trace)
    assert hazards(trace, WALKS)[4998] == {4996: "overwrite", 4997: "data", 4995: "order"}


@pytest.mark.parametrize("seed", range(4))
def test_a_line_that_allocates_in_more_than_one_memory(seed: int) -> None:
    """Places on chip and elsewhere are then on one map; and some views begin before their tensor, or have no bytes."""
    rng, dtypes = random.Random(seed), [TABLE[name] for name in ("bfloat16", "float32", "uint8")]
    tensors = [
        Allocation(i, "t", rng.choice(("sbuf", "psum", "private_hbm")), (8, 64), dtypes[0], ("k.py", 1))
        for i in range(12)
    ]

    def view() -> Region:
        row, dtype = rng.choice((16, 64, 128)), rng.choice(dtypes)
        shape = rng.choice(((2, 8), (4, 16), (1, 2, 4), (8, 64), (3, 0)))
        strides = rng.choice(((row, 1), (row, -1), (row, 2)))
        strides = (strides[0], 8, strides[1]) if len(shape) == 3 else strides
        return Region(rng.choice(tensors), rng.randrange(-8, 200), shape, strides, dtype)

    events = [Event("tensor_copy", "vector", (view(), view()), (view(),), ("k.py", i), 0, None, {}) for i in range(200)]
    trace = Trace(chip_of("trn2"), "trn2", events)
    assert [list(each.items()) for each in hazards(trace, WALKS)] == [list(each.items()) for each in hazards(trace)]


def test_more_tensors_and_views_than_are_kept_at_hand() -> None:
    rng, float32 = random.Random(0), TABLE["float32"]
    tensors = [
        Allocation(i, "t", rng.choice(("sbuf", "psum", "private_hbm")), (8, 64), float32, ("k.py", i % 9))
        for i in range(3000)
    ]

    def view(near: int) -> Region:
        tensor = tensors[min(max(near // 2 + rng.randrange(-40, 40), 0), 2999)]
        return Region(tensor, 64 * rng.randrange(4) + 4 * rng.randrange(12), (rng.randint(1, 4), 4), (64, 1), float32)

    events = [
        Event("tensor_copy", "vector", (view(i), view(i)), (view(i),), ("k.py", i), rng.randrange(2), None, {})
        for i in range(6000)
    ]
    trace = Trace(chip_of("trn2"), "trn2", events)
    assert found(trace, WALKS) == found(trace)


def test_what_is_no_event_is_refused() -> None:
    trace = Trace(chip_of("trn2"), "trn2", ["memset"])  # type: ignore[list-item]
    for walk in (forms, tenants_of, lives_of):
        with pytest.raises(TypeError, match="expected events, got 'memset'"):
            walk(trace, WALKS)


def test_errors_of_what_is_asked_in_python_come_through() -> None:
    """A tensor whose dtype has no size, in the walk that asks for its bytes and in that which asks for its box."""
    tile = Allocation(0, "t", "sbuf", (128, 8), None, ("k.py", 1))  # type: ignore[arg-type]
    event = Event(
        "memset", "vector", (), (Region(tile, 0, (128, 8), (8, 1), TABLE["float32"]),), ("k.py", 1), 0, None, {}
    )
    trace = Trace(chip_of("trn2"), "trn2", [event])
    for walk in (hazards, tenants_of):
        for compiled in (None, WALKS):
            with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'itemsize'"):
                walk(trace, compiled)


def test_reasons_that_have_no_code_and_numbers_that_are_none() -> None:
    for compiled in (None, WALKS):
        with pytest.raises(KeyError, match="meeting"):
            coded([{}, {0: "data"}, {0: "meeting"}], CODES, compiled)
        for wrong in ([{}, {"a": "data"}], [[0], ["a"]], [[0], None]):
            with pytest.raises((TypeError, ValueError)):
                numbered(wrong, compiled)  # type: ignore[arg-type]


def test_no_reference_is_left_behind() -> None:
    traces = [drawn_program(5), drawn_accesses(3), drawn_accesses(4)]
    events = [event for trace in traces for event in trace.events]
    held: list[Any] = [one for e in events for one in (e, e.engine, e.attributes, *e.reads, *e.writes)]
    held += [one for e in events for r in e.reads + e.writes for one in (r.allocation, r.shape, r.strides, r.dtype)]
    held += ["data", "overwrite", "order", None]

    def work() -> None:
        for _ in range(20):
            for trace in traces:
                found(trace, WALKS)
        gc.collect()

    work()
    counts = [sys.getrefcount(one) for one in held]
    blocks = sys.getallocatedblocks()
    work()
    assert sys.getallocatedblocks() - blocks < 1000, "of 1,480 events"
    more = [sys.getrefcount(one) - count for one, count in zip(held, counts, strict=True)]
    assert max(more) < 20, more
