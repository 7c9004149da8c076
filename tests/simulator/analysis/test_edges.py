"""Edges between named instructions: what they are given as, when they hold, and when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf

from triptych import simulator
from triptych.simulator import KernelError, NkiValidationError
from triptych.simulator.analysis.edges import edges_of, keep
from triptych.simulator.analysis.hazards import hazards
from triptych.simulator.chips import chip_of
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.trace import Event, Trace

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


def test_a_kernel_without_names_is_told_so():
    event = Event("memset", "vector", (), (), ("k.py", 1), 0, None, {})
    with pytest.raises(KernelError, match="no instruction is called 'a'; names of this kernel: none"):
        keep(edges_of([("a", "b")]), Trace(chip_of("trn2"), "trn2", [event]))


def test_the_edges_of_a_schedule_have_kinds():
    """The kind of one edge, or of all; an edge of the schedule waits for no end."""
    runtime, schedule = nisa.dependency.runtime, nisa.dependency.schedule
    for scheduled in (
        kernel.with_schedule([("inverse", "raised")], kind=schedule),
        kernel.with_schedule([("inverse", ["raised"], schedule)], kind=runtime),
    ):
        run = simulator.run(scheduled, X)
        issued = {
            e.name: [p.name for p in e.attributes["issued_after"]]
            for e in run.trace.events
            if "issued_after" in e.attributes
        }
        assert issued == {"inverse": ["raised"]} and not waits(run)
        assert [e.name for e in run.trace.events if e.name] == ["raised", "inverse", "total"]
    assert waits(simulator.run(kernel.with_schedule([("raised", "inverse")], runtime), X)) == {"raised": ["inverse"]}
    with pytest.raises(KernelError, match="inverse at .* cannot run after total at .*, which needs it first"):
        simulator.run(kernel.with_schedule([("inverse", "total")], schedule), X)
    for wrong in ({"kind": "runtime"}, {}):
        with pytest.raises(KernelError, match="kind must be nisa.dependency.runtime or .schedule, got 'runtime'"):
            kernel.with_schedule([("raised", "inverse", *(["runtime"] if not wrong else []))], **wrong)


def test_edges_go_on_every_core_and_with_the_launch():
    scheduled = kernel.with_schedule([("raised", "inverse"), ("total", ["inverse", "raised"])])
    run = simulator.run(scheduled[2], X, target="trn3")
    assert waits(run) == {"raised": ["inverse"], "total": ["inverse", "raised"]}
    consumers = [e for e in run.trace.events if "after" in e.attributes]
    assert len(consumers) == 4 and all(p.core == e.core for e in consumers for p in e.attributes["after"])
    np.testing.assert_array_equal(nki.simulate(scheduled)(X), run.outputs)


def test_a_consumer_before_its_producer_moves_behind_it():
    run = simulator.run(kernel.with_schedule([("inverse", "raised")]), X)
    assert waits(run) == {"inverse": ["raised"]}
    assert [e.name for e in run.trace.events if e.name] == ["raised", "inverse", "total"]
    order = {id(e): i for i, e in enumerate(run.trace.events)}
    assert all(order[id(p)] < order[id(e)] for e in run.trace.events for p in e.attributes.get("after", ()))
    np.testing.assert_array_equal(run.outputs, simulator.run(kernel, X).outputs)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([("raised", "invers")], "no instruction is called 'invers'; names of this kernel: inverse, raised, total"),
        ([("inverse", "total")], "inverse at test_edges.py:.* cannot run after total at .*, which needs it first"),
        ([("raised", "inverse"), ("inverse", "raised")], "'raised' would have to run after itself"),
        ([("raised", "raised")], "'raised' would have to run after itself"),
        (["raised"], "an edge is .consumer, producer. .*; got 'raised'"),
        (["it"], "an edge is .consumer, producer. .*; got 'it'"),
        ([("raised", 1)], "an edge is .consumer, producer. .*; got .'raised', 1."),
        ([("raised", ["inverse", None])], "an edge is"),
        ([(None, "inverse")], "an edge is .consumer, producer. .*; got .None, 'inverse'."),
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

    with pytest.raises(KernelError, match=r"2 instructions are called 'inverse', at test_edges.py:\d+, test_edges"):
        simulator.run(nki.jit(twice).with_schedule([("inverse", "inverse2")]), X)


def edges(trace):
    """The edges of a trace by name."""
    return sorted((e.name, p.name) for e in trace.events for p in e.attributes.get("after", ()))


# Dynamic loops


def looped(edge):
    """A kernel whose dynamic loop runs `before` and `inside` twice, after `outside`."""

    def kernel(a):
        tile, other = nl.ndarray(a.shape, a.dtype), nl.ndarray(a.shape, a.dtype)
        handles = {"outside": nisa.dma_copy(tile, a, name="outside")}

        def body(i):
            handles["before"] = nisa.memset(other, 0.0, name="before")
            handles["inside"] = nisa.tensor_scalar(tile, tile, nl.add, 1.0, name="inside")
            edge(handles)

        nl.fori_loop(0, 2, body)
        handles["after"] = nisa.dma_copy(a, tile, name="after")
        edge(handles)

    return nki.jit(kernel)


def nothing(handles):
    pass


def test_edges_within_a_round_of_a_dynamic_loop():
    trace = simulator.run(looped(nothing).with_schedule([("inside", "before")]), X.copy()).trace
    assert edges(trace) == [("inside", "before")] * 2
    rounds = [
        (e.attributes["loop"], e.attributes["after"][0].attributes["loop"]) for e in trace.events if e.name == "inside"
    ]
    assert [a == b for a, b in rounds] == [True, True] and rounds[0] != rounds[1]
    assert [e.attributes.get("loop") for e in trace.events if e.name in ("outside", "after")] == [None, None]


@pytest.mark.parametrize(("consumer", "producer"), [("inside", "outside"), ("after", "inside"), ("outside", "before")])
def test_edges_into_and_out_of_a_dynamic_loop_say_so(consumer, producer):
    words = f"{consumer} at test_edges.py:.* cannot depend on {producer} at .*: a dynamic loop, or another round"
    with pytest.raises(NkiValidationError, match=words):
        simulator.run(looped(nothing).with_schedule([(consumer, producer)]), X.copy())
    if consumer != "outside":
        with pytest.raises(NkiValidationError, match=words):
            simulator.run(looped(lambda h: h[consumer].depends_on(h[producer]) if consumer in h else None), X.copy())


def test_an_edge_between_two_rounds_says_so():
    kept = []

    def edge(handles):
        kept.append(handles["inside"])
        if len(kept) == 2:
            handles["inside"].depends_on(kept[0])

    with pytest.raises(NkiValidationError, match="cannot depend on inside at .*: a dynamic loop, or another round"):
        simulator.run(looped(edge), X.copy())


@pytest.mark.parametrize("form", ["fori_loop", "while_loop", "dynamic_range"])
def test_events_know_the_dynamic_loops_around_them(core, form):
    with core(api="0.6") as c:
        tile = c.empty((2, 2))

        def inner(i):
            nisa.memset(tile, 0.0)

        def outer(i):
            nl.fori_loop(0, 2, inner)

        if form == "fori_loop":
            nl.fori_loop(0, 2, outer)
        elif form == "dynamic_range":
            for i in nl.dynamic_range(2):
                outer(i)
        else:
            counters = iter([nisa.register_alloc(1), nisa.register_alloc(0)])
            nl.while_loop(nisa.register_alloc(1), lambda r: (outer(r), next(counters))[1])
        nisa.memset(tile, 0.0)
        found = [e.attributes.get("loop") for e in c.trace.events if e.op == "memset"]
    assert found == [((1, 0), (2, 0)), ((1, 0), (2, 1)), ((1, 1), (3, 0)), ((1, 1), (3, 1)), None]


# depends_on and no_reorder


def test_depends_on_takes_several_and_chains(core):
    with core() as c:
        tiles = [c.empty((2, 2)) for _ in range(3)]
        a, b, last = (nisa.memset(t, 0.0) for t in tiles)
        assert last.depends_on(a, b) is last and last.attributes["after"] == [a, b]
        assert b.depends_on(a).depends_on(a).attributes["after"] == [a, a]
        for wrong in (last, "a", None):
            with pytest.raises(NkiValidationError, match="depends_on takes other instructions, as nisa calls return"):
                last.depends_on(wrong)


def test_an_edge_has_a_kind(core):
    """What a schedule edge orders is the issue alone: nothing waits for it."""
    with core() as c:
        tiles = [c.empty((2, 2)) for _ in range(2)]
        a, b = (nisa.memset(t, 0.0) for t in tiles)
        b.depends_on(a, kind=nisa.dependency.schedule)
        assert (b.attributes["issued_after"], "after" in b.attributes) == ([a], False)
        assert [list(found) for found in hazards(c.trace)] == [[], []]
        b.depends_on(a, kind=nisa.dependency.runtime)
        assert b.attributes["after"] == [a]
        assert [list(found) for found in hazards(c.trace)] == [[], [0]]
        with pytest.raises(
            NkiValidationError, match="kind must be nisa.dependency.runtime or .schedule, got 'runtime'"
        ):
            b.depends_on(a, kind="runtime")


def test_the_producer_of_an_edge_with_a_kind_may_stand_outside_the_loop(core):
    with core() as c:
        outside = nisa.memset(c.empty((2, 2)), 0.0)
        tile = c.empty((2, 2))
        nl.fori_loop(0, 1, lambda i: nisa.memset(tile, 0.0).depends_on(outside, kind=nisa.dependency.runtime) and None)
        inside = c.trace.events[-1]
        assert inside.attributes["after"] == [outside]
        with pytest.raises(NkiValidationError, match="a dynamic loop, or another round of it"):
            nisa.memset(c.empty((2, 2)), 0.0).depends_on(inside, kind=nisa.dependency.runtime)


def test_a_block_marks_what_runs_in_it_and_inner_blocks_belong_to_it(core):
    with core() as c:
        tiles = [c.empty((2, 2)) for _ in range(7)]

        def called(tile):
            nisa.memset(tile, 0.0)

        called(tiles[0])
        with nl.no_reorder():
            called(tiles[1])
            with nl.no_reorder():
                called(tiles[2])
            for t in nl.affine_range(1):
                called(tiles[3 + t])
        called(tiles[4])
        with nl.no_reorder():
            called(tiles[5])
            called(tiles[6])
        marks = [e.attributes.get("no_reorder") for e in c.trace.events]
        assert marks[0] is marks[4] is None
        assert marks[1] == marks[2] == marks[3] != marks[5] == marks[6]
        waits = [list(found) for found in hazards(c.trace)]
    assert waits == [[], [], [1], [2], [], [], [5]]


def test_a_schedule_against_a_block_says_so():
    def block(a):
        x, y = (nl.ndarray(a.shape, a.dtype) for _ in range(2))
        with nl.no_reorder():
            nisa.memset(x, 0.0, name="x")
            nisa.memset(y, 0.0, name="y")
        nisa.dma_copy(a, x)

    simulator.run(nki.jit(block).with_schedule([("y", "x")]), X.copy())
    with pytest.raises(KernelError, match="x at test_edges.py:.* cannot run after y .*, which needs it first"):
        simulator.run(nki.jit(block).with_schedule([("x", "y")]), X.copy())


@pytest.mark.parametrize(
    ("op", "attributes"), [("core_barrier", {}), ("sendrecv", {"pipe": None}), ("x", {"joint": 1})]
)
def test_what_counts_as_a_meeting(op, attributes):
    """What stands before a meeting cannot run after what stands behind it; beside nothing of the kind it can."""

    def trace(op, attributes):
        given = [("memset", "first", {}), (op, None, attributes), ("memset", "behind", {})]
        return Trace(
            chip_of("trn2"), "trn2", [Event(o, "vector", (), (), ("k.py", 1), 0, name, dict(a)) for o, name, a in given]
        )

    with pytest.raises(KernelError, match="first at .* cannot run after behind at .*, which needs it first"):
        keep(edges_of([("first", "behind")]), trace(op, attributes))
    free = trace("memset", {})
    keep(edges_of([("first", "behind")]), free)
    assert [e.name for e in free.events] == [None, "behind", "first"]


def test_the_edge_that_cannot_be_kept_is_named_and_not_one_that_can():
    trace = simulator.run(kernel, X).trace
    schedule = [("inverse", "raised"), ("raised", "total")]
    with pytest.raises(KernelError, match="raised at .* cannot run after total"):
        keep(edges_of([("total", "inverse"), ("raised", "total")]), trace)
    with pytest.raises(KernelError, match="inverse at .* cannot run after raised"):
        simulator.run(kernel.with_schedule(schedule), X)


def test_nothing_moves_across_a_meeting_of_cores():
    def meeting(a):
        x, y = (nl.ndarray(a.shape, a.dtype) for _ in range(2))
        nisa.memset(x, 0.0, name="before")
        nisa.core_barrier(a, (0, 1))
        nisa.memset(y, 0.0, name="behind")
        return a

    with pytest.raises(KernelError, match="before at .* cannot run after behind at .*, which needs it first"):
        simulator.run(nki.jit(meeting)[2].with_schedule([("before", "behind")]), X)
