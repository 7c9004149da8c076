"""Permutations along pairs and around rings, and the registers that say whose data is here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_parts import hbm, world

from triptych import simulator
from triptych.simulator import COLLECTIVES, KernelError, NkiError, NkiValidationError, Options, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

RANKS = (1, 2, 3, 4, 8)
FOLDS = {"add": np.add, "minimum": np.minimum, "maximum": np.maximum}


def tensors(count, shape=(2, 4), dtype="float32", buffer=None):
    return [nl.ndarray(shape, dtype, buffer or hbm()) for _ in range(count)]


# Pairs


@given(order=st.permutations(range(6)), taking_part=st.integers(1, 6), dtype=st.sampled_from(["float32", "bfloat16"]))
@settings(max_examples=25, deadline=None)
def test_a_permutation_moves_each_source_to_its_target(cast, order, taking_part, dtype):
    """The first ranks of `order`, each sent to where it stands among them sorted: any rings, also of one rank."""
    sources = order[:taking_part]
    pairs = list(zip(sources, sorted(sources), strict=True))
    xs = cast(np.random.default_rng(0).standard_normal((6, 2, 4)).astype(np.float32), dtype)

    def kernel(x, rank):
        src, dst = tensors(2, dtype=dtype)
        nisa.dma_copy(dst=src, src=x)
        ncc.collective_permute([src], [dst], pairs)
        return dst if rank in sources else src

    runs = simulator.run_ranks(kernel, [(x, rank) for rank, x in enumerate(xs)])
    came_from = {target: source for source, target in pairs}
    for rank, run in enumerate(runs):
        np.testing.assert_array_equal(run.outputs, xs[came_from.get(rank, rank)])
        assert run.trace.count().get("collective_permute", 0) == (rank in sources)


def test_a_rank_in_no_pair_does_nothing_and_waits_for_nobody():
    def kernel(x, rank):
        if rank == 2:
            src, dst = tensors(2)  # nothing written, and nothing read
            ncc.collective_permute([src], [dst], [(0, 1), (1, 0)])
            return dst
        return x

    with pytest.raises(KernelError, match="8 of 8 elements never written"):
        simulator.run_ranks(kernel, [(np.ones((2, 4), np.float32), rank) for rank in range(3)])


def test_rings_of_one_call_are_independent():
    """Ranks 0 and 1 swap three times, 2 and 3 once."""
    pairs = [(0, 1), (1, 0), (2, 3), (3, 2)]

    def kernel(x, rank):
        src, dst = tensors(2)
        nisa.dma_copy(dst=src, src=x)
        for _ in range(3 if rank < 2 else 1):
            ncc.collective_permute([src], [dst], pairs)
            src, dst = dst, src
        return src

    runs = simulator.run_ranks(kernel, [(np.full((2, 4), rank, np.float32), rank) for rank in range(4)])
    assert [run.outputs[0, 0] for run in runs] == [1, 0, 3, 2]


# Rings


@pytest.mark.parametrize("buffer", [nl.sbuf, None], ids=["sbuf", "hbm"])
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("ranks", RANKS)
def test_data_goes_around_the_ring_as_the_register_says(ranks, channels, buffer):
    """Each rank sends its number around; at each step what is here, and the register, say whose turn it is."""

    def kernel(x, me):
        group, ids = world(ranks), list(range(channels))
        here, there = tensors(channels, buffer=buffer), tensors(channels, buffer=buffer)
        seen = nl.ndarray((channels, ranks, 2), nl.int32, nl.shared_hbm)
        said = nl.ndarray((1, 1), nl.int32)
        for tile in here:
            nisa.dma_copy(dst=tile, src=x)
        for step in range(ranks):
            for c in ids:
                whose = ncc.collective_permute_implicit_current_processing_rank_id(step, group, c)
                nisa.register_store(said, whose)
                nisa.dma_copy(dst=seen[c, step, 0:1], src=said)
                nisa.dma_copy(dst=seen[c, step, 1:2], src=here[c][0:1, 0:1])
            ncc.collective_permute_implicit([[t] for t in here], [[t] for t in there], group, ids)
            here, there = there, here
        return seen

    runs = simulator.run_ranks(kernel, [(np.full((2, 4), rank, np.float32), rank) for rank in range(ranks)])
    for rank, run in enumerate(runs):
        for channel, seen in enumerate(run.outputs):
            back = 1 if channel % 2 == 0 else -1  # odd channels go backwards
            expected = [(rank - back * step) % ranks for step in range(ranks)]
            np.testing.assert_array_equal(seen, np.stack([expected, expected], axis=1))


def test_a_ring_follows_the_order_of_its_group():
    groups = [[3, 0, 5], [1, 4], [2]]

    def kernel(x):
        src, dst = tensors(2)
        nisa.dma_copy(dst=src, src=x)
        ncc.collective_permute_implicit([[src]], [[dst]], ncc.ReplicaGroup(groups))
        return dst

    runs = simulator.run_ranks(kernel, [(np.full((2, 4), rank, np.float32),) for rank in range(6)])
    assert [run.outputs[0, 0] for run in runs] == [3, 4, 2, 5, 1, 0]


def test_rings_of_several_channels_may_lie_in_sbuf():
    def kernel(x):
        left, right, dsts, passed = (tensors(2, buffer=nl.sbuf) for _ in range(4))
        out = nl.ndarray((2, 2, 2, 4), x.dtype, nl.shared_hbm)
        for c in range(2):
            nisa.dma_copy(dst=left[c], src=x[c, 0])
            nisa.dma_copy(dst=right[c], src=x[c, 1])
        by_channel = [[[t] for t in ts] for ts in (left, right, dsts, passed)]
        ncc.collective_permute_implicit_reduce(*by_channel[:3], world(2), nl.add, [0, 1])
        ncc.collective_permute_implicit(by_channel[0], by_channel[3], world(2), [0, 1])
        for c in range(2):
            nisa.dma_copy(dst=out[0, c], src=dsts[c])
            nisa.dma_copy(dst=out[1, c], src=passed[c])
        return out

    xs = np.random.default_rng(0).standard_normal((2, 2, 2, 2, 4)).astype(np.float32)  # rank, channel, operand
    for rank, run in enumerate(simulator.run_ranks(kernel, [(x,) for x in xs])):
        np.testing.assert_array_equal(run.outputs, [xs[1 - rank, :, 0] + xs[1 - rank, :, 1], xs[1 - rank, :, 0]])


@pytest.mark.parametrize("op", sorted(FOLDS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("ranks", RANKS)
def test_a_reducing_ring_passes_on_what_it_reduced(cast, ranks, dtype, op):
    rng = np.random.default_rng(ranks)
    values = rng.integers(-99, 99, (ranks, 2, 2, 2, 4)).astype(np.float32) / (1 if dtype == "int32" else 8)
    xs = cast(values, dtype)  # rank, channel, operand

    def kernel(x):
        left, right, dsts = (tensors(2, dtype=dtype) for _ in range(3))
        for c in range(2):
            nisa.dma_copy(dst=left[c], src=x[c, 0])
            nisa.dma_copy(dst=right[c], src=x[c, 1])
        by_channel = ([[t] for t in ts] for ts in (left, right, dsts))
        ncc.collective_permute_implicit_reduce(*by_channel, world(ranks), getattr(nl, op), [0, 1])
        return dsts

    runs = simulator.run_ranks(kernel, [(x,) for x in xs])
    sent = cast(FOLDS[op](xs[:, :, 0].astype(np.float64), xs[:, :, 1].astype(np.float64)).astype(np.float32), dtype)
    for rank, run in enumerate(runs):
        np.testing.assert_array_equal(run.outputs[0], sent[(rank - 1) % ranks, 0])
        np.testing.assert_array_equal(run.outputs[1], sent[(rank + 1) % ranks, 1])


def test_a_ring_in_place():
    """dst = src on one channel, and two channels in each other's place: sources are read before anything is written."""

    def kernel(x):
        a, b = tensors(2)
        nisa.dma_copy(dst=a, src=x)
        nisa.tensor_scalar(scratch := nl.ndarray((2, 4), "float32"), loaded(a), nl.add, 10.0)
        nisa.dma_copy(dst=b, src=scratch)
        ncc.collective_permute_implicit([[a], [b]], [[b], [a]], world(3), [0, 1])
        return a, b

    def loaded(t):
        tile = nl.ndarray(t.shape, t.dtype)
        nisa.dma_copy(dst=tile, src=t)
        return tile

    runs = simulator.run_ranks(kernel, [(np.full((2, 4), rank, np.float32),) for rank in range(3)])
    assert [(run.outputs[0][0, 0], run.outputs[1][0, 0]) for run in runs] == [(11, 2), (12, 0), (10, 1)]


@pytest.mark.parametrize("name", ["collective_permute", "collective_permute_implicit"])
def test_both_cores_of_a_rank_send_together(name):
    """Each core writes its half before and reads the other's after, on shared HBM."""

    def kernel(x):
        core = nl.program_id(0)
        src, dst = tensors(2)
        out = nl.ndarray((2, 4), "float32", nl.shared_hbm)
        tile = nl.ndarray((1, 4), "float32")
        nisa.dma_copy(dst=tile, src=x[core : core + 1])
        nisa.dma_copy(dst=src[core : core + 1], src=tile)
        if name == "collective_permute":
            ncc.collective_permute([src], [dst], [(0, 1), (1, 2), (2, 0)])
        else:
            ncc.collective_permute_implicit([[src]], [[dst]], world(3))
        nisa.dma_copy(dst=out[1 - core : 2 - core], src=dst[1 - core : 2 - core])
        return out

    xs = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    runs = simulator.run_ranks(nki.jit(kernel)[2], [(x,) for x in xs])
    np.testing.assert_array_equal([run.outputs for run in runs], xs[[2, 0, 1]])


# Registers


def test_rank_id_chooses_what_each_rank_reads():
    """The number is that among all ranks, whatever the groups; it is a register, which Python cannot compute with."""

    def kernel(x):
        out = nl.ndarray((2, 4), "float32", nl.shared_hbm)
        rank = ncc.rank_id()
        with pytest.raises(NkiValidationError, match="or Python arithmetic on it"):
            rank + 1
        nisa.dma_copy(dst=out, src=x.select(0, rank))
        return out

    xs = np.random.default_rng(0).standard_normal((5, 2, 4)).astype(np.float32)
    runs = simulator.run_ranks(kernel, [(xs,) for _ in xs])
    np.testing.assert_array_equal([run.outputs for run in runs], xs)
    assert runs[0].trace.events[0].op == "rank_id" and runs[0].trace.events[0].engine == "sync"
    np.testing.assert_array_equal(simulator.run(kernel, xs).outputs, xs[0])


def test_the_step_may_be_a_register_and_go_around_more_than_once():
    def kernel(x):
        out = nl.ndarray((1, 7), nl.int32, nl.shared_hbm)
        said = nl.ndarray((1, 1), nl.int32)

        def body(step):
            whose = ncc.collective_permute_implicit_current_processing_rank_id(step, world(3))
            nisa.register_store(said, whose)
            nisa.dma_copy(dst=out.select(1, step), src=said)

        nl.fori_loop(0, 7, body)
        return out

    runs = simulator.run_ranks(kernel, [(np.ones((1, 1), np.float32),) for _ in range(3)])
    np.testing.assert_array_equal(runs[2].outputs, [[2, 1, 0, 2, 1, 0, 2]])


# Poison, divergence, cost


def test_a_channel_never_written_is_reported():
    def kernel(x):
        srcs, dsts = tensors(2), tensors(2)
        nisa.dma_copy(dst=srcs[0], src=x)
        ncc.collective_permute_implicit([[t] for t in srcs], [[t] for t in dsts], world(2), [0, 1])
        return dsts

    calls = [(np.ones((2, 4), np.float32),)] * 2
    with pytest.raises(Uninitialized, match="rank 0, ncc.collective_permute_implicit at .* 't2'"):
        simulator.run_ranks(kernel, calls)
    assert len(simulator.run_ranks(kernel, calls, options=Options(check_uninitialized=False))) == 2


def test_ranks_with_different_pairs_diverge():
    def kernel(x, rank):
        src, dst = tensors(2)
        nisa.dma_copy(dst=src, src=x)
        ncc.collective_permute([src], [dst], [(0, 1), (1, 0)] if rank else [(1, 0), (0, 1)])
        return dst

    with pytest.raises(NkiError, match="the ranks diverge: .*collective_permute.*collective_permute"):
        simulator.run_ranks(kernel, [(np.ones((2, 4), np.float32), rank) for rank in range(2)])


def test_a_step_of_a_ring_costs_one_hop():
    def kernel(x):
        srcs, dsts = tensors(2, (128, 512)), tensors(2, (128, 512))
        ncc.collective_permute_implicit([[t] for t in srcs], [[t] for t in dsts], world(4), [0, 1])
        return x

    relaxed = Options(check_uninitialized=False)
    run = simulator.run_ranks(kernel, [(np.ones((1, 1), np.float32),)] * 4, target="trn2", options=relaxed)[0]
    cost = COLLECTIVES["collective_permute_implicit"].cost(run.trace.events[-1], run.trace.chip)
    assert cost == pytest.approx(1500 + 2 * 128 * 512 * 4 / (1280 / 8))


# Limits


def permute(*tensors_, pairs=((0, 1), (1, 0)), **options):
    src, dst = tensors_ or tensors(2)
    ncc.collective_permute([src], [dst], pairs, **options)


def rung(srcs=1, dsts=1, ids=(0,), group=None, **options):
    srcs, dsts = ([[t] for t in tensors(n)] if isinstance(n, int) else n for n in (srcs, dsts))
    ncc.collective_permute_implicit(srcs, dsts, group or world(2), list(ids), **options)


def rung_reduce(left=1, right=1, dsts=1, op=nl.add):
    by_channel = ([[t] for t in tensors(n)] if isinstance(n, int) else n for n in (left, right, dsts))
    ncc.collective_permute_implicit_reduce(*by_channel, world(2), op)


def whose(step=0, channel=0, group=None):
    ncc.collective_permute_implicit_current_processing_rank_id(step, group or world(2), channel)


HALF = "channels, and a group of 1 of the 2 ranks that run has 2 at most"
RINGS = "source_target_pairs must form rings"
LIMITS = {
    "pairs in sbuf": (lambda: permute(*tensors(2, buffer=nl.sbuf)), "works on HBM alone"),
    "pairs coalesced": (
        lambda: ncc.collective_permute(tensors(2), tensors(2), [(0, 1), (1, 0)]),
        r"takes one tensor in each list \(no coalescing\), got 2",
    ),
    "pairs shape": (lambda: permute(*tensors(1), *tensors(1, (4, 2))), r"what it receives, \(2, 4\), got \(4, 2\)"),
    "pairs dtype": (lambda: permute(*tensors(1), *tensors(1, dtype="int32")), "a collective does not cast"),
    "pairs priority": (lambda: permute(priority=5), "priority is 0 to 3"),
    "no pairs": (lambda: permute(pairs=[]), RINGS),
    "a chain": (lambda: permute(pairs=[(0, 1)]), RINGS),
    "a pair twice": (lambda: permute(pairs=[(0, 1), (1, 0), (0, 1)]), RINGS),
    "two targets": (lambda: permute(pairs=[(0, 1), (0, 0), (1, 0)]), RINGS),
    "two sources": (lambda: permute(pairs=[(0, 1), (1, 1)]), RINGS),
    "pairs of three": (lambda: permute(pairs=[(0, 1, 2)]), "must be a list of"),
    "pairs of names": (lambda: permute(pairs=[("a", "b")]), "must be a list of"),
    "pairs absent": (lambda: permute(pairs=[(0, 2), (2, 0)]), "names rank 2, and ranks 0 to 1 run"),
    "no channel": (lambda: rung([], [], []), "channel_ids must be consecutive integers from 0"),
    "channels from 1": (lambda: rung(ids=[1]), r"channel_ids must be consecutive integers from 0, got \[1\]"),
    "channels no list": (
        lambda: ncc.collective_permute_implicit([tensors(1)], [tensors(1)], world(2), 1),
        "channel_ids must be consecutive integers from 0, got 1",
    ),
    "channels apart": (lambda: rung(2, 2, [0, 2]), "channel_ids must be consecutive integers from 0"),
    "five channels": (lambda: rung(5, 5, range(5)), "a group of 2 of the 2 ranks that run has 4 at most"),
    "three channels in part": (lambda: rung(3, 3, range(3), ncc.ReplicaGroup([[0], [1]])), HALF),
    "tensors by channel": (lambda: rung(2), "srcs_by_channel must be a list of one tensor for each of the 1 channels"),
    "dsts by channel": (lambda: rung(1, [tensors(2)]), "dsts_by_channel must be a list of one tensor"),
    "tensors in no lists": (lambda: rung(1, tensors(1, (1, 4))), "dsts_by_channel must be a list of one tensor for"),
    "ring shape": (lambda: rung(1, [tensors(1, (4, 2))]), r"the shape of what it receives, \(2, 4\), got \(4, 2\)"),
    "ring dtype": (lambda: rung(1, [tensors(1, dtype="int32")]), "a collective does not cast"),
    "ring memory": (lambda: rung(1, [tensors(1, buffer=nl.sbuf)]), "all tensors must be in HBM, or all in SBUF"),
    "ring priority": (lambda: rung(priority=-1), "priority is 0 to 3"),
    "ring group": (lambda: rung(group=[[0, 1]]), "replica_group must be an ncc.ReplicaGroup"),
    "reduce op": (lambda: rung_reduce(op=nl.subtract), "op must be one of nl.add, nl.minimum, nl.maximum"),
    "reduce lists": (lambda: rung_reduce(right=2), "srcs1_by_channel must be a list of one tensor"),
    "reduce shapes": (lambda: rung_reduce(right=[tensors(1, (4, 2))]), r"the shape of what it receives, \(4, 2\)"),
    "reduce dtype": (lambda: rung_reduce(right=[tensors(1, dtype="int32")]), "a collective does not cast"),
    "reduce memory": (
        lambda: rung_reduce(right=[tensors(1, buffer=nl.sbuf)]),
        "all tensors must be in HBM, or all in SBUF",
    ),
    "reduce packed": (
        lambda: rung_reduce(*([tensors(1, dtype="float8_e5m2_x4")] for _ in range(3))),
        "is packed: its elements are no numbers",
    ),
    "step": (lambda: whose(-1), "iteration_id counts from 0, got -1"),
    "step of a float": (lambda: whose(1.0), "expected an integer or a register"),
    "channel": (lambda: whose(0, 4), "channel_id is 0 to 3 here, got 4"),
    "channel in part": (lambda: whose(0, 2, ncc.ReplicaGroup([[0], [1]])), "channel_id is 0 to 1 here, got 2"),
}


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("act", "message"), LIMITS.values(), ids=LIMITS)
def test_limits(act, message, target):
    def kernel(x):
        act()
        return x

    with pytest.raises(NkiValidationError, match=rf"^rank 0, ncc\.collective_permute\w* at .*{message}"):
        simulator.run_ranks(kernel, [(np.ones((1, 1), np.float32),)] * 2, target=target)
