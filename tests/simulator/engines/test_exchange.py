"""Ranks that meet: both cores of a rank, groups, ranks that do not do the same, poison, and the trace."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_parts import hbm, world

from triptych import simulator
from triptych.simulator import KernelError, NkiError, NkiValidationError, Options, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl


# Two cores a rank


def halves_reduced(x, buffer=nl.shared_hbm, own=False):
    """Each core brings its half of x; then each stores the half of the other, or its own."""
    core = nl.program_id(0)
    half = slice(2 * core, 2 * core + 2)
    tile = nl.ndarray((2, 4), x.dtype)
    nisa.dma_copy(dst=tile, src=x[half])
    shape = (4, 4) if buffer == nl.shared_hbm else (2, 4)
    src, dst = nl.ndarray(shape, x.dtype, buffer), nl.ndarray(shape, x.dtype, buffer)
    nisa.dma_copy(dst=src[half] if buffer == nl.shared_hbm else src, src=tile)
    ncc.all_reduce([src], [dst], world(3), nl.add)
    out = nl.ndarray((4, 4), x.dtype, nl.shared_hbm)
    other = half if own else slice(2 - 2 * core, 4 - 2 * core)
    nisa.dma_copy(dst=out[other], src=dst[other] if buffer == nl.shared_hbm else dst)
    return out


X3 = np.random.default_rng(0).integers(-9, 9, (3, 4, 4)).astype(np.float32)


def test_both_cores_carry_out_one_collective_on_shared_hbm(everywhere):
    """Each core sees behind it what both had written before it, and races with nobody."""
    got, traces = everywhere(halves_reduced, X3, cores=2)
    np.testing.assert_array_equal(got, np.broadcast_to(X3.sum(0), X3.shape))
    assert [e.core for e in traces[0].events if e.op == "all_reduce"] == [0, 1]


@pytest.mark.parametrize("buffer", [nl.sbuf, nl.private_hbm])
def test_in_memory_of_its_own_each_core_has_its_own_collective(everywhere, buffer):
    got, _ = everywhere(lambda x: halves_reduced(x, buffer, own=True), X3, cores=2)
    np.testing.assert_array_equal(got, np.broadcast_to(X3.sum(0), X3.shape))


def test_behind_a_collective_each_core_reads_what_the_other_wrote_before_it(everywhere):
    def kernel(x):
        core = nl.program_id(0)
        mine, other = (slice(2 * c, 2 * c + 2) for c in (core, 1 - core))
        src, dst, out = (nl.ndarray((4, 4), x.dtype, nl.shared_hbm) for _ in range(3))
        nl.store(src[mine], nl.load(x[mine]))
        ncc.all_reduce([src], [dst], world(3), nl.add)
        nl.store(out[other], nl.load(src[other]))
        return out

    np.testing.assert_array_equal(everywhere(kernel, X3, cores=2)[0], X3)


def test_cores_that_bring_different_tensors(everywhere):
    def kernel(x):
        parts = [nl.ndarray((4, 4), x.dtype, nl.shared_hbm) for _ in range(3)]
        ncc.all_reduce([parts[nl.program_id(0)]], [parts[2]], world(3), nl.add)

    with pytest.raises(NkiValidationError, match="the cores of rank 0 bring different parts of shared HBM"):
        everywhere(kernel, X3, cores=2)


def test_cores_that_bring_different_parts_of_shared_hbm(everywhere):
    def kernel(x):
        src, dst = (nl.ndarray((2, 4), x.dtype, nl.shared_hbm) for _ in range(2))
        core = nl.program_id(0)
        ncc.all_reduce([src[core : core + 1]], [dst[core : core + 1]], world(3), nl.add)
        return dst

    with pytest.raises(NkiError, match="the cores of rank 0 bring different parts of shared HBM"):
        everywhere(kernel, X3, cores=2)


def between(source, target):
    def kernel(x):
        src, dst = nl.ndarray(x.shape, x.dtype, source), nl.ndarray(x.shape, x.dtype, target)
        nisa.dma_copy(dst=src, src=x)
        ncc.all_reduce([src], [dst], world(3), nl.add)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=dst)
        return out

    return kernel


def test_sources_and_destinations_may_lie_in_different_hbm(everywhere, monkeypatch):
    """Since NKI 0.7; on one core a shared destination asks for a variable of the environment."""
    monkeypatch.setenv("NKI_LNC1_SHARED_HBM", "1")
    for kernel, cores in (
        (between(nl.private_hbm, nl.shared_hbm), 1),
        (between(nl.private_hbm, nl.shared_hbm), 2),
        (between(nl.shared_hbm, nl.private_hbm), 2),
    ):
        np.testing.assert_array_equal(everywhere(kernel, X3, cores=cores)[0][0], X3.sum(0))
    with pytest.raises(NkiValidationError, match="on two cores all tensors must be in shared HBM, or all in private"):
        everywhere(between(nl.private_hbm, nl.shared_hbm), X3, cores=2, options=simulator.Options(api="0.6"))
    alike = everywhere(between(nl.private_hbm, nl.private_hbm), X3, cores=2, options=simulator.Options(api="0.6"))
    np.testing.assert_array_equal(alike[0][0], X3.sum(0))


@pytest.mark.parametrize(
    ("buffers", "remark"),
    [
        (
            (nl.private_hbm, nl.shared_hbm),
            "on one core dsts of a collective are in nl.private_hbm, or in shared HBM with",
        ),
        ((nl.shared_hbm, nl.private_hbm), "on one core srcs of a collective must be in nl.private_hbm"),
    ],
)
def test_on_one_core_shared_hbm_is_a_remark(everywhere, monkeypatch, buffers, remark):
    """NKI 0.7's page forbids what AWS's kernels of 0.3 do."""
    monkeypatch.delenv("NKI_LNC1_SHARED_HBM", raising=False)
    with pytest.warns(simulator.SimulatorWarning, match=remark):
        np.testing.assert_array_equal(everywhere(between(*buffers), X3)[0][0], X3.sum(0))
    with pytest.raises(NkiValidationError, match=remark):
        everywhere(between(*buffers), X3, options=simulator.Options(strict=frozenset({"collective-memory"})))
    everywhere(between(*buffers), X3, options=simulator.Options(api="0.6"))


def test_the_tensors_of_one_list_lie_in_one_hbm(everywhere):
    def kernel(x):
        a, b = (nl.ndarray(x.shape, x.dtype, buffer) for buffer in (nl.private_hbm, nl.shared_hbm))
        ncc.all_reduce([a, b], [a, a], world(3), nl.add)

    with pytest.raises(NkiValidationError, match="srcs must be all in shared HBM, or all in private HBM; got 't1' in "):
        simulator.run_ranks(kernel, [(x,) for x in X3])


# Ranks that do not do the same


def test_ranks_that_call_differently_are_told_apart(exchanged):
    def kernel(x, rank):
        if rank == 2:
            return exchanged(lambda s, d: ncc.all_gather([s], [d], world(3), 0), x, (12, 4))
        return exchanged(lambda s, d: ncc.all_reduce([s], [d], world(3), nl.maximum), x, x.shape)

    with pytest.raises(NkiError) as caught:
        simulator.run_ranks(kernel, [(x, rank) for rank, x in enumerate(X3)])
    message = str(caught.value)
    assert "the ranks diverge: ranks 0-1 call ncc.all_reduce(op=nl.maximum, ReplicaGroup([[0, 1, 2]])) of" in message
    assert "rank 2 calls ncc.all_gather(collective_dim=0" in message and message.count("test_exchange.py:") == 3


@pytest.mark.parametrize(
    ("what", "differs"),
    [
        ("shape", lambda rank: {"rows": 4 - rank}),
        ("dtype", lambda rank: {"dtype": ("float32", "bfloat16", "float32")[rank]}),
        ("op", lambda rank: {"op": (nl.add, nl.add, nl.minimum)[rank]}),
        ("order", lambda rank: {"groups": [(0, 1, 2), (0, 1, 2), (0, 2, 1)][rank]}),
    ],
)
def test_any_difference_between_the_calls_of_a_group_is_an_error(what, differs):
    def kernel(x, rows=4, dtype="float32", op=nl.add, groups=(0, 1, 2)):
        src, dst = (nl.ndarray((rows, 4), dtype, hbm()) for _ in range(2))
        nisa.dma_copy(dst=src, src=x[0:rows])
        ncc.all_reduce([src], [dst], ncc.ReplicaGroup([groups]), op)
        return dst

    with pytest.raises(NkiError, match="the ranks diverge: "):
        simulator.run_ranks(kernel, [{"x": X3[rank], **differs(rank)} for rank in range(3)])


def test_a_rank_that_never_comes_is_named(exchanged):
    def kernel(x, rank):
        if rank != 1:
            x = exchanged(lambda s, d: ncc.all_reduce([s], [d], world(3), nl.add), x, x.shape)
        return x

    with pytest.raises(KernelError) as caught:
        simulator.run_ranks(kernel, [(x, rank) for rank, x in enumerate(X3)])
    message = str(caught.value)
    assert "ranks 0, 2 wait for ncc.all_reduce at test_exchange.py:" in message
    assert "with ranks 0-2" in message and "rank 1 has ended" in message


def test_groups_that_do_not_fit_together_never_meet(exchanged):
    def kernel(x, rank):
        group = ncc.ReplicaGroup([[rank, (rank + 1) % 3]])
        return exchanged(lambda s, d: ncc.all_reduce([s], [d], group, nl.add), x, x.shape)

    with pytest.raises(KernelError, match="rank 0 waits for .* with ranks 0-1, and rank 1 .* 1-2, and rank 2 .* 0, 2;"):
        simulator.run_ranks(kernel, [(x, rank) for rank, x in enumerate(X3)])


def test_a_core_that_never_comes_is_named(everywhere):
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        if nl.program_id(0) == 0:
            ncc.all_reduce([out], [out], world(3), nl.add)
        return out

    with pytest.raises(KernelError, match="core 0 of ranks 0-2 wait for ncc.all_reduce .* core 1 of ranks 0-2 have"):
        everywhere(kernel, X3, cores=2)


def test_many_ranks_take_moments_and_are_the_same_every_time(exchanged, everywhere):
    xs = np.random.default_rng(0).standard_normal((32, 16, 8)).astype(np.float32)

    def kernel(x):
        for _ in range(4):
            x = exchanged(lambda s, d: ncc.all_reduce([s], [d], world(32), nl.add), x, x.shape)
        return x

    first, again = everywhere(kernel, xs, cores=1)[0], everywhere(kernel, xs, cores=1)[0]
    assert first.tobytes() == again.tobytes()
    np.testing.assert_allclose(first[0], xs.sum(0) * 32.0**3, rtol=1e-4, atol=1e-2)


# Poison


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_source_never_written_is_reported_for_its_rank(ranks):
    def kernel(x, rank):
        src, dst = (nl.ndarray(x.shape, x.dtype, hbm()) for _ in range(2))
        nisa.dma_copy(dst=src[0:3] if rank == 1 else src, src=x[0:3] if rank == 1 else x)
        ncc.all_reduce([src], [dst], world(ranks), nl.add)
        return dst

    calls = [(x, rank) for rank, x in enumerate(X3[:ranks])]
    with pytest.raises(Uninitialized, match=r"^rank 1, ncc.all_reduce at test_exchange.py:\d+: reads 4 of 16"):
        simulator.run_ranks(kernel, calls)
    assert len(simulator.run_ranks(kernel, calls, options=Options(check_uninitialized=False))) == ranks

    def alone(x):
        src, dst = (nl.ndarray(x.shape, x.dtype, hbm()) for _ in range(2))
        ncc.all_reduce([src], [dst], world(1), nl.add)

    with pytest.raises(Uninitialized, match=r"^ncc.all_reduce at test_exchange.py:\d+: reads 16 of 16"):
        simulator.run(alone, X3[0])


def test_what_a_collective_does_not_write_stays_unwritten(everywhere):
    def kernel(x):
        src, dst = nl.ndarray(x.shape, x.dtype, hbm()), nl.ndarray((16, 4), x.dtype, hbm())
        nisa.dma_copy(dst=src, src=x)
        ncc.all_gather([src], [dst[0:12]], world(3), 0)
        return dst

    with pytest.raises(KernelError, match=r"with 16 of 64 elements never written, first at \[12, 0\]"):
        everywhere(kernel, X3)


# Replica groups, and one rank alone


@pytest.mark.parametrize("groups", [[], [[]], [[0, 0]], [[0, 1], [1, 2]], [[-1, 0]]])
def test_a_replica_group_is_lists_of_ranks_without_overlap(groups):
    if groups:
        with pytest.raises(NkiValidationError, match="none empty and no rank twice"):
            ncc.ReplicaGroup(groups)
    else:
        assert ncc.ReplicaGroup(groups).replica_groups == ()
    with pytest.raises(NkiValidationError, match=r"lists of ranks, \[\[0, 1\], \[2, 3\]\]"):
        ncc.ReplicaGroup(["ab"])


def test_a_run_is_one_rank(exchanged):
    def kernel(x):
        return exchanged(lambda s, d: ncc.all_reduce([s], [d], world(1), nl.add), x, x.shape)

    np.testing.assert_array_equal(simulator.run(kernel, X3[0]).outputs, X3[0])
    with pytest.raises(NkiError, match=r"names rank 1, and one rank runs, 0; simulator.run_ranks\(kernel, "):
        simulator.run(lambda x: exchanged(lambda s, d: ncc.all_reduce([s], [d], world(2), nl.add), x, x.shape), X3[0])


# Trace and notes


def test_the_event_has_its_regions_its_name_and_the_ranks(exchanged, everywhere):
    def kernel(x):
        return exchanged(lambda s, d: ncc.all_gather([s], [d], world(3), 0, name="mine"), x, (12, 4))

    (event,) = [e for e in everywhere(kernel, X3)[1][2].events if e.op == "all_gather"]
    assert (event.engine, event.name, event.attributes["ranks"]) == ("dma", "mine", (0, 1, 2))
    assert [r.shape for r in event.reads] == [(4, 4)] and [r.shape for r in event.writes] == [(12, 4)]


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_a_collective_on_an_argument_is_noted(everywhere):
    def kernel(x):
        dst, out = (nl.ndarray(x.shape, x.dtype, buffer) for buffer in (hbm(), nl.shared_hbm))
        ncc.all_reduce([x], [dst], world(3), nl.add)
        nisa.dma_copy(dst=out, src=dst)
        return out

    got, traces = everywhere(kernel, X3)
    np.testing.assert_array_equal(got[1], X3.sum(0))
    (note,) = traces[0].notes
    assert "a collective on 'x', an argument of the kernel" in note
