"""all_reduce, all_gather, reduce_scatter and all_to_all against NumPy, on any number of ranks, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_parts import hbm, world

from triptych import simulator
from triptych.simulator import COLLECTIVES, NkiValidationError, Options
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

RANKS = (1, 2, 3, 4, 8)
DTYPES = ("float32", "bfloat16", "float8_e5m2", "int32", "uint8")
FOLDS = {"add": np.add, "minimum": np.minimum, "maximum": np.maximum}
GROUPS = {
    "one": (3, [[0, 1, 2]]),
    "in another order": (4, [[2, 0, 3, 1]]),
    "two": (8, [[0, 1, 2, 3], [4, 5, 6, 7]]),
    "of different sizes": (6, [[5, 0, 2], [1, 4], [3]]),
}


def numbers(seed, shape, dtype, cast):
    """Multiples of 1/16 up to 8, rounded to `dtype`: float32 adds a few of them exactly."""
    return cast(np.random.default_rng(seed).integers(-128, 128, shape).astype(np.float32) / 16, dtype)


def exact(x):
    return x.astype(np.float64)


# The four, each against its definition


@pytest.fixture(scope="session", name="reduced_everywhere")
def reduced_everywhere_fixture(exchanged, everywhere):
    def reduced_everywhere(xs, op, buffer=None, **how):
        group, fold = world(len(xs)), getattr(nl, op)
        return everywhere(
            lambda x: exchanged(lambda s, d: ncc.all_reduce([s], [d], group, fold), x, x.shape, buffer), xs, **how
        )

    return reduced_everywhere


@given(
    ranks=st.sampled_from(RANKS),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(DTYPES),
    op=st.sampled_from(sorted(FOLDS)),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_all_reduce_is_a_sum_minimum_or_maximum_over_ranks(reduced_everywhere, cast, ranks, shape, dtype, op, seed):
    xs = numbers(seed, (ranks, *shape), dtype, cast)
    got, _ = reduced_everywhere(xs, op)
    expected = cast(FOLDS[op].reduce(exact(xs)).astype(np.float32), dtype)
    np.testing.assert_array_equal(got, np.broadcast_to(expected, got.shape))


@given(
    ranks=st.sampled_from(RANKS),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_all_gather_concatenates(exchanged, everywhere, cast, ranks, shape, dtype, seed):
    xs = numbers(seed, (ranks, *shape), dtype, cast)
    call = lambda s, d: ncc.all_gather([s], [d], world(ranks), 0)  # noqa: E731
    got, _ = everywhere(lambda x: exchanged(call, x, (ranks * shape[0], *shape[1:])), xs)
    for mine in got:
        np.testing.assert_array_equal(mine, np.concatenate(list(xs)))


@given(
    ranks=st.sampled_from(RANKS),
    part=st.integers(1, 3),
    rest=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    dtype=st.sampled_from(DTYPES),
    op=st.sampled_from(sorted(FOLDS)),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_reduce_scatter_is_a_part_of_the_reduction(exchanged, everywhere, cast, ranks, part, rest, dtype, op, seed):
    xs = numbers(seed, (ranks, ranks * part, *rest), dtype, cast)
    call = lambda s, d: ncc.reduce_scatter([s], [d], world(ranks), 0, getattr(nl, op))  # noqa: E731
    got, _ = everywhere(lambda x: exchanged(call, x, (part, *rest)), xs)
    expected = cast(FOLDS[op].reduce(exact(xs)).astype(np.float32), dtype)
    np.testing.assert_array_equal(np.concatenate(list(got)), expected)


@given(
    ranks=st.sampled_from(RANKS),
    part=st.integers(1, 3),
    rest=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_all_to_all_is_a_transpose_of_parts(exchanged, everywhere, cast, ranks, part, rest, dtype, seed):
    xs = numbers(seed, (ranks, ranks, part, *rest), dtype, cast)
    flat = (ranks * part, *rest)
    call = lambda s, d: ncc.all_to_all([s], [d], world(ranks), 0)  # noqa: E731
    got, _ = everywhere(lambda x: exchanged(call, x, flat), xs.reshape(ranks, *flat))
    np.testing.assert_array_equal(got.reshape(xs.shape), np.swapaxes(xs, 0, 1))


# In SBUF


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dim", [0, 1])
def test_all_gather_in_sbuf_goes_along_either_dimension(exchanged, everywhere, ranks, dim):
    xs = np.random.default_rng(0).standard_normal((ranks, 5, 6)).astype(np.float32)
    shape = (5 * ranks, 6) if dim == 0 else (5, 6 * ranks)
    call = lambda s, d: ncc.all_gather([s], [d], world(ranks), dim)  # noqa: E731
    got, traces = everywhere(lambda x: exchanged(call, x, shape, nl.sbuf), xs)
    for mine in got:
        np.testing.assert_array_equal(mine, np.concatenate(list(xs), axis=dim))
    assert {r.allocation.buffer for e in traces[0].events if e.op == "all_gather" for r in e.reads} == {"sbuf"}


@pytest.mark.parametrize("ranks", RANKS)
def test_reductions_in_sbuf(exchanged, everywhere, reduced_everywhere, ranks):
    xs = np.random.default_rng(0).integers(-9, 9, (ranks, 2 * ranks, 6)).astype(np.float32)
    got, _ = reduced_everywhere(xs, "add", nl.sbuf)
    np.testing.assert_array_equal(got, np.broadcast_to(xs.sum(0), xs.shape))
    call = lambda s, d: ncc.reduce_scatter([s], [d], world(ranks), 0, nl.add)  # noqa: E731
    got, _ = everywhere(lambda x: exchanged(call, x, (2, 6), nl.sbuf), xs)
    np.testing.assert_array_equal(np.concatenate(list(got)), xs.sum(0))


# Groups


@pytest.mark.parametrize(("ranks", "groups"), GROUPS.values(), ids=GROUPS)
def test_a_collective_stays_in_its_group_and_keeps_its_order(exchanged, ranks, groups):
    xs = np.arange(ranks * 2, dtype=np.float32).reshape(ranks, 2)
    group = ncc.ReplicaGroup(groups)

    def kernel(x, mine):
        gathered = exchanged(lambda s, d: ncc.all_gather([s], [d], group, 0), x, (2 * len(mine),))
        scattered = exchanged(lambda s, d: ncc.reduce_scatter([s], [d], group, 0, nl.add), gathered, (2,))
        return gathered, scattered

    mine = [tuple(next(g for g in groups if rank in g)) for rank in range(ranks)]
    runs = simulator.run_ranks(kernel, [(xs[rank], mine[rank]) for rank in range(ranks)])
    for rank, run in enumerate(runs):
        np.testing.assert_array_equal(run.outputs[0], np.concatenate([xs[other] for other in mine[rank]]))
        np.testing.assert_array_equal(run.outputs[1], xs[rank] * len(mine[rank]))


def test_groups_do_not_wait_for_each_other(exchanged):
    """Ranks 0 and 1 meet twice, ranks 2 and 3 once, and 4 never."""
    group = ncc.ReplicaGroup([[0, 1], [2, 3], [4]])

    def kernel(x, rank):
        for _ in range((2, 2, 1, 1, 0)[rank]):
            x = exchanged(lambda s, d: ncc.all_reduce([s], [d], group, nl.add), x, x.shape)
        return x

    runs = simulator.run_ranks(kernel, [(np.ones((2, 2), np.float32), rank) for rank in range(5)])
    assert [run.outputs[0, 0] for run in runs] == [4, 4, 2, 2, 1]


# Numerics


def test_a_reduction_rounds_once(reduced_everywhere):
    """1 + 8 times 2^-9 is 1 + 2^-6 in bfloat16 when rounded once, and 1 when every step is rounded."""
    xs = np.full((9, 1, 1), 2.0**-9, nl.bfloat16.np)
    xs[0] = 1
    got, _ = reduced_everywhere(xs, "add")
    np.testing.assert_array_equal(got.astype(np.float32), np.float32(1 + 2**-6))


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [("int32", [2**30, 1, -3], 2**30 - 2), ("uint8", [200, 100, 5], 255), ("int8", [-100, -100, 3], -128)],
)
def test_integers_add_exactly_and_saturate(reduced_everywhere, dtype, values, expected):
    xs = np.array(values, dtype).reshape(3, 1, 1)
    assert set(reduced_everywhere(xs, "add")[0].reshape(-1).tolist()) == {expected}


@pytest.mark.parametrize("op", sorted(FOLDS))
def test_nan_and_infinity_pass_through_a_reduction(reduced_everywhere, op):
    xs = np.array([[[np.nan, np.inf, 1]], [[1, 1, -np.inf]]], np.float32)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(reduced_everywhere(xs, op)[0][0], FOLDS[op].reduce(xs))


def test_without_rounding_low_precision_stays_in_float32(reduced_everywhere):
    xs = np.full((2, 1, 1), 1 / 3, nl.bfloat16.np)
    got, _ = reduced_everywhere(xs, "add", options=Options(round_low_precision=False))
    np.testing.assert_array_equal(got.astype(np.float32), (xs + xs).astype(np.float32)[:1].repeat(2, 0))


def test_packed_elements_move_as_they_are(everywhere):
    def kernel(x):
        src, dst = (nl.ndarray((n, 4), "float8_e5m2_x4", hbm()) for n in (2, 4))
        nisa.dma_copy(dst=src.view("uint32"), src=x)
        ncc.all_gather([src], [dst], world(2), 0)
        out = nl.ndarray((4, 4), "uint32", nl.shared_hbm)
        nisa.dma_copy(dst=out, src=dst.view("uint32"))
        return out

    xs = np.arange(16, dtype=np.uint32).reshape(2, 2, 4) * 0x01030507
    np.testing.assert_array_equal(everywhere(kernel, xs)[0][1], xs.reshape(4, 4))


# Views, lists, aliasing


def test_sources_and_destinations_may_be_views(everywhere):
    def kernel(x):
        tile, into = nl.ndarray((8, 8), x.dtype), nl.ndarray((8, 40), x.dtype)
        nisa.dma_copy(dst=tile, src=x)
        nisa.memset(dst=into, value=0.0)
        ncc.all_gather([tile[2:6, 1:7:2]], [into[0:4, 3:21:2]], world(3), 1)
        out = nl.ndarray((8, 40), x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=into)
        return out

    xs = np.random.default_rng(0).standard_normal((3, 8, 8)).astype(np.float32)
    expected = np.zeros((8, 40), np.float32)
    expected[0:4, 3:21:2] = np.concatenate([x[2:6, 1:7:2] for x in xs], axis=1)
    np.testing.assert_array_equal(everywhere(kernel, xs)[0][2], expected)


@pytest.mark.parametrize("name", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_several_tensors_in_hbm_are_exchanged_each_for_itself(name):
    def one(srcs, dsts):
        extra = () if name == "all_reduce" else (0,)
        op = {"op": nl.add} if name in ("all_reduce", "reduce_scatter") else {}
        getattr(ncc, name)(srcs, dsts, world(2), *extra, **op)

    shapes = {"all_gather": (8, 3), "reduce_scatter": (2, 3)}

    def kernel(x, together):
        srcs = [nl.ndarray((4, 3), dtype, hbm()) for dtype in ("float32", "bfloat16")]
        dsts = [nl.ndarray(shapes.get(name, (4, 3)), dtype, hbm()) for dtype in ("float32", "bfloat16")]
        for src in srcs:
            nisa.dma_copy(dst=src, src=x)
        if together:
            one(srcs, dsts)
        else:
            for src, dst in zip(srcs, dsts, strict=True):
                one([src], [dst])
        return dsts

    xs = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    coalesced, alone = (simulator.run_ranks(kernel, [(x, t) for x in xs]) for t in (True, False))
    for a, b in zip(coalesced, alone, strict=True):
        for mine, theirs in zip(a.outputs, b.outputs, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert a.trace.count()[name] == 1 and b.trace.count()[name] == 2


@pytest.mark.parametrize("name", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_a_destination_may_be_a_source(name):
    """In place, and with the sources in each other's place: sources are read before anything is written."""

    def kernel(x):
        a, b = (nl.ndarray((4, 2), x.dtype, hbm()) for _ in range(2))
        nisa.dma_copy(dst=a, src=x[0])
        nisa.dma_copy(dst=b, src=x[1])
        if name == "all_reduce":
            ncc.all_reduce([a, b], [b, a], world(2), nl.add)
        elif name == "all_to_all":
            ncc.all_to_all([a, b], [b, a], world(2), 0)
        elif name == "all_gather":
            ncc.all_gather([a[0:2], b[0:2]], [b, a], world(2), 0)
        else:
            ncc.reduce_scatter([a, b], [b[0:2], a[0:2]], world(2), 0, nl.add)
        return a, b

    xs = np.random.default_rng(0).integers(0, 9, (2, 2, 4, 2)).astype(np.float32)
    runs = simulator.run_ranks(kernel, [(x,) for x in xs])
    for rank, run in enumerate(runs):
        part = slice(2 * rank, 2 * rank + 2)
        of = {
            "all_reduce": lambda x: x.sum(0),
            "all_to_all": lambda x, part=part: np.concatenate([x[0, part], x[1, part]]),
            "all_gather": lambda x: np.concatenate([x[0, :2], x[1, :2]]),
            "reduce_scatter": lambda x, part=part: x.sum(0)[part],
        }[name]
        for got, source in zip(run.outputs, (xs[:, 1], xs[:, 0]), strict=True):
            np.testing.assert_array_equal(got[: len(of(source))], of(source))


# Limits


def pair(shape=(4, 4), into=None, buffer=None, dtype="float32", other=None):
    buffer = buffer or hbm()
    return nl.ndarray(shape, dtype, buffer), nl.ndarray(into or shape, other or dtype, buffer)


def reduce_pair(*tensors, op=nl.add, group=None, **options):
    src, dst = tensors or pair()
    ncc.all_reduce([src], [dst], group or world(2), op, **options)


def gather_pair(src, dst, dim=0):
    ncc.all_gather([src], [dst], world(2), dim)


def scatter_pair(src, dst, dim=0):
    ncc.reduce_scatter([src], [dst], world(2), dim, nl.add)


def swap_pair(src, dst, dim=0):
    ncc.all_to_all([src], [dst], world(2), dim)


def dynamic():
    src, dst = pair((1, 4), (4,))
    reduce_pair(src.select(0, nisa.register_alloc(0)), dst)


LIMITS = {
    "no list": (lambda: ncc.all_reduce(*pair(), world(2), nl.add), "srcs must be a list of tensors"),
    "empty list": (lambda: ncc.all_reduce([], [], world(2), nl.add), "srcs must be a list of tensors"),
    "no tensor": (lambda: reduce_pair(1, 2), r"srcs\[0\] must be a tensor in HBM or SBUF, got int 1"),
    "psum": (lambda: reduce_pair(*pair(buffer=nl.psum)), r"srcs\[0\] must be a tensor in HBM or SBUF"),
    "dynamic": (dynamic, r"srcs\[0\] has a dynamic address"),
    "lengths": (
        lambda: ncc.all_reduce(list(pair()), [pair()[0]], world(2), nl.add),
        "srcs and dsts must be as many, got 2 and 1",
    ),
    "dtypes": (lambda: reduce_pair(*pair(other="bfloat16")), r"srcs\[0\] is float32 and dsts\[0\] bfloat16"),
    "mixed memories": (
        lambda: reduce_pair(pair()[0], pair(buffer=nl.sbuf)[0]),
        "all tensors must be in HBM, or all in SBUF; got 't1' in private_hbm, 't3' in sbuf",
    ),
    "coalesced in sbuf": (
        lambda: ncc.all_reduce(list(pair(buffer=nl.sbuf)), list(pair(buffer=nl.sbuf)), world(2), nl.add),
        "takes one tensor in SBUF; 2 at once",
    ),
    "three dimensions in sbuf": (
        lambda: reduce_pair(*pair((4, 2, 2), buffer=nl.sbuf)),
        "has a partition and one free dimension here",
    ),
    "op": (lambda: reduce_pair(op=nl.multiply), "op must be one of nl.add, nl.minimum, nl.maximum, got nl.multiply"),
    "packed": (lambda: reduce_pair(*pair(dtype="float8_e5m2_x4")), "is packed: its elements are no numbers"),
    "reduce shapes": (lambda: reduce_pair(*pair((4, 4), (4, 5))), r"dst must be \(4, 4\) for a src of \(4, 4\)"),
    "gather shapes": (lambda: gather_pair(*pair()), r"dst must be \(8, 4\) for a src of \(4, 4\), got \(4, 4\)"),
    "gather dim in hbm": (lambda: gather_pair(*pair((4, 4), (4, 8)), 1), "collective_dim must be 0 here, got 1"),
    "gather dim in sbuf": (
        lambda: gather_pair(*pair((4, 4), (4, 8), nl.sbuf), 2),
        "collective_dim must be 0 or 1 here, got 2",
    ),
    "scatter dim": (lambda: scatter_pair(*pair((4, 4), (4, 2), nl.sbuf), 1), "collective_dim must be 0 here, got 1"),
    "scatter parts": (lambda: scatter_pair(*pair((5, 4), (2, 4))), "dimension 0 of srcs must be a multiple of the 2"),
    "scatter shapes": (lambda: scatter_pair(*pair()), r"dst must be \(2, 4\) for a src of \(4, 4\)"),
    "swap in sbuf": (lambda: swap_pair(*pair(buffer=nl.sbuf)), "works on HBM alone"),
    "swap dim": (lambda: swap_pair(*pair(), 1), "collective_dim must be 0 here, got 1"),
    "swap parts": (lambda: swap_pair(*pair((5, 4))), "dimension 0 of srcs must be a multiple of the 2 ranks"),
    "swap shapes": (lambda: swap_pair(*pair((4, 4), (4, 3))), r"dst must be \(4, 4\)"),
    "no group": (lambda: reduce_pair(group=[[0, 1]]), r"replica_group must be an ncc.ReplicaGroup, got \[\[0, 1\]\]"),
    "absent rank": (lambda: reduce_pair(group=world(3)), "names rank 2, and ranks 0 to 1 run"),
    "not in the group": (lambda: reduce_pair(group=ncc.ReplicaGroup([[1]])), "rank 0 calls and is in no list of"),
    "priority": (lambda: reduce_pair(priority=4), "priority is 0 to 3 and needs NeuronCore-v4, got 4"),
}


def on_two_ranks(act, target):
    def kernel(x):
        act()
        return x

    simulator.run_ranks(kernel, [(np.ones((1, 1), np.float32),)] * 2, target=target)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize(("act", "message"), LIMITS.values(), ids=LIMITS)
def test_limits(act, message, target):
    with pytest.raises(NkiValidationError, match=rf"^rank 0, ncc\.\w+ at test_collectives_equal.py:\d+: .*{message}"):
        on_two_ranks(act, target)


def test_a_priority_needs_v4(exchanged, everywhere):
    def kernel(x):
        return exchanged(lambda s, d: reduce_pair(s, d, priority=0), x, x.shape)

    assert everywhere(kernel, np.ones((2, 4, 4), np.float32), target="trn3")[0].shape == (2, 4, 4)
    for target in ("trn1", "trn2"):
        with pytest.raises(NkiValidationError, match="priority is 0 to 3 and needs NeuronCore-v4, got 0"):
            everywhere(kernel, np.ones((2, 4, 4), np.float32), target=target)


# Costs: steps of 1.5 us, and bytes over a core's share of the device's links

COSTS = [  # op, ranks, bytes of the source, steps, bytes sent
    ("all_gather", 4, 1024, 2, 3 * 1024),
    ("reduce_scatter", 4, 1024, 2, 3 * 256),
    ("all_reduce", 4, 1024, 4, 2 * 3 * 256),
    ("all_to_all", 4, 1024, 2, 3 * 256),
    ("all_gather", 4, 2**20, 3, 3 * 2**20),  # recursive doubling: log2(4) + 1 steps
    ("reduce_scatter", 4, 2**26, 2, 3 * 2**24),  # a ring of every other rank: 4 / 2 steps
]


@pytest.mark.parametrize(("name", "ranks", "size", "steps", "sent"), COSTS)
@pytest.mark.parametrize(("target", "link"), [("trn1", 384 / 2), ("trn2", 1280 / 8), ("trn3", 2560 / 8)])
def test_cost(everywhere, name, ranks, size, steps, sent, target, link):
    rows = {"all_gather": (1, ranks), "reduce_scatter": (ranks, 1)}.get(name, (ranks, ranks))

    def kernel(x):
        src, dst = (nl.ndarray((n, size // rows[0] // 4), "float32", hbm()) for n in rows)
        op = {"op": nl.add} if "reduce" in name else {}
        getattr(ncc, name)([src], [dst], world(ranks), *(() if name == "all_reduce" else (0,)), **op)
        return x

    relaxed = Options(check_uninitialized=False)
    _, traces = everywhere(kernel, np.ones((ranks, 1, 1), np.float32), target=target, options=relaxed)
    cost = COLLECTIVES[name].cost(traces[0].events[-1], traces[0].chip)
    assert cost == pytest.approx(steps * 1500 + sent / link)
