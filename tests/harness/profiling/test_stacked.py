"""Tensors where a stack allocator puts them: rounds of a loop wait for each other's places."""

import numpy as np
import pytest

from triptych import simulator
from triptych.harness.profiling.stacked import stacked
from triptych.simulator.chips import chip_of
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.timing import schedule
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Trace

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

X = np.ones((128, 1024), np.float32)


def rounds(x):
    """Three rounds, of which each loads, computes and stores."""
    out = nl.ndarray((nl.num_programs(0), 3, 128, 1024), nl.float32, nl.shared_hbm)
    for i in range(3):
        loaded = nl.ndarray((128, 1024), nl.float32, nl.sbuf)
        nisa.dma_copy(loaded, x, name=f"load {i}")
        half = nl.ndarray((128, 1024), nl.bfloat16, nl.sbuf)
        nisa.activation(half, nl.exp, loaded, name=f"exp {i}")
        nisa.dma_copy(out[nl.program_id(0), i], half, name=f"store {i}")
    return out


def traced(kernel, cores=1) -> Trace:
    return simulator.run(nki.jit(kernel)[cores], X, target="trn2").trace


def test_a_round_waits_for_the_places_of_the_last() -> None:
    plain = traced(rounds)
    spans = {plain.events[s.index].name: s for s in schedule(plain).spans}
    assert spans["load 1"].start_ns < spans["exp 0"].start_ns
    in_turn = stacked(plain)
    spans = {in_turn.events[s.index].name: s for s in schedule(in_turn).spans}
    for i in (1, 2):
        assert spans[f"load {i}"].start_ns >= spans[f"exp {i - 1}"].end_ns
        assert spans[f"load {i}"].start_ns < spans[f"store {i - 1}"].start_ns  # which reads another place
        assert spans[f"exp {i}"].start_ns >= spans[f"store {i - 1}"].end_ns


def test_what_is_read_through_indices_keeps_them() -> None:
    tensor = Allocation(0, "t", "sbuf", (128, 64), TABLE["int8"], ("k.py", 1))
    region = IndirectRegion(tensor, 0, (128, 64), (64, 1), TABLE["int8"])
    region.offsets = (3, 5)
    event = Event("x", "gpsimd", (region,), (), ("k.py", 1), 0, None, {})
    (moved,) = stacked(Trace(chip_of("trn3"), "trn3", [event])).events[0].reads
    assert isinstance(moved, IndirectRegion)
    assert (moved.allocation.address, moved.offsets, moved.free_size) == ((0, 0), (3, 5), 2)


def test_each_line_of_each_core_has_a_place_of_its_own() -> None:
    trace = stacked(traced(rounds, 2))
    places = {
        (event.core, region.allocation.name, region.allocation.address)
        for event in trace.events
        for region in (*event.reads, *event.writes)
        if region.allocation.buffer == "sbuf"
    }
    assert places == {(core, *of) for core in (0, 1) for of in (("loaded", (0, 0)), ("half", (0, 4096)))}
    assert {r.allocation.address for e in trace.events for r in e.reads if r.allocation.buffer != "sbuf"} == {None}


def both(x):
    tensors = []
    for _ in range(2):
        tensors.append(nl.ndarray((128, 1024), nl.float32, nl.sbuf))
        nisa.dma_copy(tensors[-1], x)
    nisa.tensor_tensor(tensors[0], tensors[0], tensors[1], nl.add)
    return x


def addressed(x):
    nisa.dma_copy(nl.ndarray((128, 1024), nl.float32, nl.sbuf, address=(0, 0)), x)
    return x


@pytest.mark.parametrize(("kernel", "why"), [(both, "is used after its line has allocated"), (addressed, "of its own")])
def test_what_is_no_stack_of_rounds_is_refused(kernel, why) -> None:
    with pytest.raises(ValueError, match=why):
        stacked(traced(kernel))
