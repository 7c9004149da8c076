"""Edges between named instructions: what they are given as, when they hold, and when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf

from triptych import simulator
from triptych.simulator import KernelError
from triptych.simulator.lend import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

X = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


@nki.jit
def kernel(x):
    """Two that nothing connects, and one that needs both."""
    tile = in_sbuf(x)
    inverse, raised, total = (nl.ndarray(x.shape, x.dtype) for _ in range(3))
    nisa.reciprocal(inverse, tile, name="inverse")
    nisa.tensor_scalar(raised, tile, nl.add, 1.0, name="raised")
    nisa.tensor_tensor(total, inverse, raised, nl.add, name="total")
    return in_hbm(total)


def waits(run):
    """{consumer: producers} of the events."""
    return {e.name: [p.name for p in e.attributes["after"]] for e in run.trace.events if "after" in e.attributes}


@pytest.mark.parametrize("schedule", [[("raised", "inverse")], [("raised", ["inverse"])], (("raised", ("inverse",)),)])
def test_an_edge_has_one_producer_or_several(schedule):
    run = simulator.run(kernel.with_schedule(schedule), X)
    assert waits(run) == {"raised": ["inverse"]} and not waits(simulator.run(kernel, X))
    np.testing.assert_array_equal(run.outputs, np.float32(1) / X + (X + 1))


def test_edges_go_on_every_core_and_with_the_launch():
    scheduled = kernel.with_schedule([("raised", "inverse"), ("total", ["inverse", "raised"])])
    run = simulator.run(scheduled[2], X, target="trn3")
    assert waits(run) == {"raised": ["inverse"], "total": ["inverse", "raised"]}
    consumers = [e for e in run.trace.events if "after" in e.attributes]
    assert len(consumers) == 4 and all(p.core == e.core for e in consumers for p in e.attributes["after"])
    np.testing.assert_array_equal(nki.simulate(scheduled)(X), run.outputs)


def test_an_edge_forwards_in_time_is_noted_where_nothing_forbids_it():
    run = simulator.run(kernel.with_schedule([("inverse", "raised")]), X)
    assert not waits(run) and len(run.trace.notes) == 1
    assert "test_schedule.py:" in run.trace.notes[0] and "'inverse' run after 'raised'" in run.trace.notes[0]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([("raised", "invers")], "no instruction is called 'invers'; names of this kernel: inverse, raised, total"),
        ([("inverse", "total")], "'inverse' cannot run after 'total', which needs what 'inverse' does"),
        ([("raised", "inverse"), ("inverse", "raised")], "'raised' would have to run after itself"),
        ([("raised", "raised")], "'raised' would have to run after itself"),
        (["raised"], "an edge is .consumer, producer. .*; got 'raised'"),
        ([("raised", 1)], "an edge is .consumer, producer. .*; got .'raised', 1."),
        ([("raised", ["inverse", None])], "an edge is"),
    ],
)
def test_limits(schedule, message):
    with pytest.raises(KernelError, match=f"with_schedule: {message}"):
        simulator.run(kernel.with_schedule(schedule), X)


def test_a_name_of_two_instructions_names_none():
    def twice(x):
        tile = in_sbuf(x)
        for _ in range(2):
            nisa.reciprocal(tile, tile, name="inverse")
        return in_hbm(tile)

    with pytest.raises(
        KernelError, match=r"2 instructions are called 'inverse', at test_schedule.py:\d+, test_schedule"
    ):
        simulator.run(nki.jit(twice).with_schedule([("inverse", "inverse2")]), X)
