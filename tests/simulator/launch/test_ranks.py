"""Ranks without collectives: what each has for itself, whose error it is, and what the caller's arrays see."""

from __future__ import annotations

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import KernelError, NkiError, Options
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.machine.table import COLLECTIVES

with simulated_nki():
    import nki
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

RANKS = 3
X = np.arange(RANKS * 8, dtype=np.float32).reshape(RANKS, 2, 4)


def doubled(x, times=2.0, target=None):
    """times * x, into a new tensor or into `target`."""
    tile = nl.ndarray(x.shape, x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(tile, tile, nl.multiply, times)
    out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm) if target == None else target  # noqa: E711
    nisa.dma_copy(dst=out, src=tile)
    return out


def test_each_rank_has_its_own_arguments_outputs_and_trace():
    runs = simulator.run_ranks(doubled, [(X[0],), (X[1], 3.0), {"x": X[2], "times": 4.0}], target="trn3")
    np.testing.assert_array_equal([run.outputs for run in runs], X * np.float32([2, 3, 4]).reshape(3, 1, 1))
    assert [run.trace.count()["dma_copy"] for run in runs] == [2, 2, 2] and runs[0].trace.target == "trn3"
    assert runs[0].trace is not runs[1].trace


def test_ranks_of_two_cores():
    def kernel(x):
        core = nl.program_id(0)
        mine, theirs = nl.ndarray((1, 4), x.dtype), nl.ndarray((1, 4), x.dtype)
        nisa.dma_copy(dst=mine, src=x[core : core + 1])
        nisa.sendrecv(mine, theirs, 1 - core, 1 - core, 0)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out[core : core + 1], src=theirs)
        return out

    runs = simulator.run_ranks(nki.jit(kernel)[2], [(x,) for x in X])
    np.testing.assert_array_equal([run.outputs for run in runs], X[:, ::-1])


def test_a_collective_takes_its_time_in_a_prediction():
    def kernel(x, group):
        mine, total = (nl.ndarray(x.shape, x.dtype, nl.private_hbm) for _ in range(2))
        nisa.dma_copy(dst=mine, src=x)
        ncc.all_reduce([mine], [total], group, nl.add)
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=total)
        return out

    runs = simulator.run_ranks(kernel, [(x, ncc.ReplicaGroup([[*range(RANKS)]])) for x in X])
    (event,) = [event for event in runs[0].trace.events if event.op == "all_reduce"]
    cost = COLLECTIVES["all_reduce"].cost(event, runs[0].trace.chip)
    assert simulator.predict_trace(runs[0].trace).total_us > cost / 1e3 > 0


def test_one_rank_is_a_run():
    (run,) = simulator.run_ranks(doubled, [(X[0],)])
    np.testing.assert_array_equal(run.outputs, simulator.run(doubled, X[0]).outputs)


def test_an_error_names_its_rank_and_the_others_do_not_begin():
    begun = []

    def kernel(x, fails):
        begun.append(fails)  # triptych: allow outer-state
        if fails:
            nisa.tensor_scalar(nl.ndarray((2, 4), nl.float32), nl.ndarray((2, 4), nl.float32), nl.add, 1.0)
        return doubled(x)

    with pytest.raises(NkiError, match=r"^rank 1, nisa.tensor_scalar at test_ranks.py:\d+: reads 8 of 8 elements"):
        strict = simulator.Options(strict=True)
        simulator.run_ranks(kernel, [(x, rank == 1) for rank, x in enumerate(X)], options=strict)
    assert begun == [False, True]
    with pytest.raises(NkiError, match="^rank 1, "):
        simulator.run_ranks(kernel, [(x, rank == 1) for rank, x in enumerate(X[:2])], options=strict)
    with pytest.raises(NkiError, match=r"^nisa.tensor_scalar at"):
        simulator.run_ranks(kernel, [(X[0], True)], options=strict)


def test_what_is_wrong_at_the_end_names_its_rank_too():
    def kernel(x, fails):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        if not fails:
            nisa.dma_copy(dst=out, src=x)
        return out

    with pytest.raises(NkiError, match=r"^rank 1, .*returns 'out' .* never written"):
        simulator.run_ranks(kernel, [(x, rank == 1) for rank, x in enumerate(X)])


def test_cores_of_one_rank_that_never_meet():
    def kernel(x, rank):
        if rank == 1 and nl.program_id(0) == 0:
            nisa.core_barrier(nl.ndarray((2, 4), nl.float32, nl.shared_hbm), (0, 1))
        return x

    with pytest.raises(KernelError) as caught:
        simulator.run_ranks(nki.jit(kernel)[2], [(x, rank) for rank, x in enumerate(X)])
    message = str(caught.value)
    assert "ranks 0, 2 and core 1 of rank 1 have ended, and core 0 of rank 1 waits for barrier on t1" in message
    assert " at test_ranks.py:" in message and "with rank 1;" in message


def test_arguments_that_a_kernel_writes_are_updated():
    def kernel(x, target):
        return doubled(x, 2.0, target)

    targets = np.zeros_like(X)
    simulator.run_ranks(kernel, [(x, t) for x, t in zip(X, targets, strict=True)])
    np.testing.assert_array_equal(targets, 2 * X)


def test_an_array_given_to_several_ranks_may_be_read_by_all_and_written_by_one():
    weights = X[0].copy()

    def kernel(x, rank):
        out = doubled(x)
        return doubled(out, 1.0, x) if rank == 1 else out

    runs = simulator.run_ranks(kernel, [(weights, rank) for rank in range(RANKS)])
    np.testing.assert_array_equal([run.outputs for run in runs], [2 * X[0]] * RANKS)
    np.testing.assert_array_equal(weights, 2 * X[0])


def test_an_array_that_two_ranks_write_is_refused():
    whole = X[:2].reshape(4, 4).copy()

    def kernel(x):
        return doubled(x, 2.0, x)

    with pytest.raises(KernelError, match="rank 0 writes to its argument x and rank 1 to x, which are one array"):
        simulator.run_ranks(kernel, [(whole[:3],), (whole[2:],)])
    np.testing.assert_array_equal(whole, X[:2].reshape(4, 4))  # nothing was written back


def test_a_leniency_holds_for_every_rank():
    def kernel(x):
        out = nl.ndarray((2, 4), nl.float32, nl.shared_hbm)
        tile = nl.ndarray((2, 4), nl.float32)
        nisa.tensor_copy(tile, nl.ndarray((2, 4), nl.float32))
        nisa.dma_copy(dst=out, src=tile)
        return out

    assert len(simulator.run_ranks(kernel, [(x,) for x in X], options=Options(check_uninitialized=False))) == RANKS


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "at least one rank"), ([X[0]], "rank 0 must be a tuple or a dict, got ndarray")]
)
def test_arguments_that_say_nothing(arguments, message):
    with pytest.raises(KernelError, match=message):
        simulator.run_ranks(doubled, arguments)
