"""all_gather_v and all_to_all_v: parts whose sizes a tensor says when the kernel runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_parts import hbm, world

from triptych import simulator
from triptych.simulator import NkiError, NkiValidationError, OutOfBounds, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

FOUR = [[0, 1, 2, 3]]
EIGHT = [[0, 1, 2, 3], [4, 5, 6, 7]]


def metadata(rows, buffer):
    """`rows`, an argument, as a metadata tensor in `buffer`."""
    shape = (1, *rows.shape) if buffer == nl.sbuf else rows.shape
    tensor = nl.ndarray(shape, "uint32", buffer)
    nisa.dma_copy(dst=tensor, src=rows)
    return tensor


def shown(tensor, shape):
    out = nl.ndarray(shape, "uint32", nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tensor)
    return out


def by_parts(call, buffer=nl.shared_hbm, size=24, fill=True):
    """A kernel of (x, rows) that runs call([src], [dst], metadata) on two cores: dst, zero before, and the metadata."""

    def kernel(x, rows):
        src, dst = nl.ndarray(x.shape, x.dtype, hbm()), nl.ndarray((size,), x.dtype, hbm())
        nisa.dma_copy(dst=src, src=x)
        if fill:
            zero = nl.ndarray((1, size), x.dtype)
            nisa.memset(dst=zero, value=0)
            nisa.dma_copy(dst=dst, src=zero)
        table = metadata(rows, buffer)
        call([src], [dst], table)
        return dst, shown(table, rows.shape)

    return nki.jit(kernel)[2]


def gather(srcs, dsts, table, group=None, **options):
    ncc.all_gather_v(srcs, dsts, group or world(4), table, **options)


def swap(srcs, dsts, table, group=None, **options):
    ncc.all_to_all_v(srcs, dsts, group or ncc.ReplicaGroup([list(range(8))]), table, **options)


def calls(xs, rows):
    return [(x, r.astype(np.uint32)) for x, r in zip(xs, rows, strict=True)]


# Each against its definition

COUNTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=8, max_size=8)


@given(
    sizes=COUNTS,
    known=st.booleans(),
    buffer=st.sampled_from([nl.sbuf, nl.shared_hbm]),
    dtype=st.sampled_from(["float32", "bfloat16", "int8"]),
    rows=st.sampled_from([3, 4]),
)
@settings(max_examples=25, deadline=None)
def test_all_gather_v_puts_a_part_of_each_rank_into_its_slot(cast, sizes, known, buffer, dtype, rows):
    """Of rows 0 and 1 the first column counts alone; row 2 is what came, or stays; slots keep what was there."""
    xs = cast(np.random.default_rng(0).integers(1, 100, (4, 10)).astype(np.float32), dtype)
    tables = np.full((4, rows, 4), 77)
    tables[:, 0, 0], tables[:, 1, 0] = np.array(sizes[:4]).T
    kernel = by_parts(lambda s, d, t: gather(s, d, t, recv_counts_known=known), buffer)
    runs = simulator.run_ranks(kernel, calls(xs, tables))
    expected = np.zeros((4, 6), xs.dtype)
    for slot, x, (count, start) in zip(expected, xs, sizes, strict=False):
        slot[:count] = x[start : start + count]
    for run, table in zip(runs, tables, strict=True):
        np.testing.assert_array_equal(run.outputs[0], expected.reshape(-1))
        counts = table[2] if known else [count for count, _ in sizes[:4]]
        np.testing.assert_array_equal(run.outputs[1], [*table[:2], counts, *table[3:]])
        (event, *_) = [event for event in run.trace.events if event.op == "all_gather_v"]
        assert len(event.writes) == (1 if known else 2)


def test_what_came_is_written_into_a_row_that_nothing_wrote_before():
    def kernel(x, rows):
        src, dst, table = (nl.ndarray(s, k, hbm()) for s, k in (((4,), x.dtype), ((16,), x.dtype), ((3, 4), "uint32")))
        nisa.dma_copy(dst=src, src=x)
        nisa.dma_copy(dst=table[0:2], src=rows)
        gather([src], [dst], table)
        return shown(table[2], (4,))

    rows = np.array([[3, 0, 0, 0], [0, 0, 0, 0]])
    runs = simulator.run_ranks(nki.jit(kernel)[2], calls(np.ones((4, 4), np.float32), [rows] * 4))
    assert [run.outputs.tolist() for run in runs] == [[3] * 4] * 4


@given(data=st.data(), known=st.booleans(), has_rdispls=st.booleans(), buffer=st.sampled_from([nl.sbuf, nl.shared_hbm]))
@settings(max_examples=25, deadline=None)
def test_all_to_all_v_moves_each_part_to_its_slot_or_place(data, known, has_rdispls, buffer):
    """With a NeuronSwitch; with has_rdispls the receiver says where in dst each part goes."""
    n, slot = 8, 3
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    xs = rng.standard_normal((n, 20)).astype(np.float32)
    tables = np.full((n, 4, n), 77)
    tables[:, 0] = rng.integers(0, slot + 1, (n, n))
    tables[:, 1] = rng.integers(0, 18, (n, n))
    expected = np.zeros((n, n * slot), np.float32)
    for r in range(n):
        order = rng.permutation(n) if has_rdispls else range(n)
        for place, s in enumerate(order):
            tables[r, 3, s] = to = place * slot
            count, start = tables[s, 0, r], tables[s, 1, r]
            expected[r, to : to + count] = xs[s, start : start + count]
    if not has_rdispls:
        tables[:, 3] = 77
    kernel = by_parts(lambda s, d, t: swap(s, d, t, recv_counts_known=known, has_rdispls=has_rdispls), buffer, n * slot)
    runs = simulator.run_ranks(kernel, calls(xs, tables), target="trn3")
    for r, run in enumerate(runs):
        np.testing.assert_array_equal(run.outputs[0], expected[r])
        counts = tables[r, 2] if known else tables[:, 0, r]
        np.testing.assert_array_equal(run.outputs[1], [*tables[r, :2], counts, tables[r, 3]])


@pytest.mark.parametrize(("target", "cores", "ranks"), [("trn1", 1, 4), ("trn2", 1, 16), ("trn2", 2, 8)])
def test_all_to_all_v_between_nodes(target, cores, ranks):
    """Without a NeuronSwitch: two nodes of one device each; every list has the ranks of one index."""
    node = ranks // 2
    group = ncc.ReplicaGroup([[i, i + node] for i in range(node)])
    xs = np.random.default_rng(0).standard_normal((ranks, 4)).astype(np.float32)
    tables = np.tile([[1, 2], [0, 1], [0, 0]], (ranks, 1, 1))  # one element for the first, two for the second
    kernel = by_parts(lambda s, d, t: swap(s, d, t, group), size=4)[cores]
    runs = simulator.run_ranks(kernel, calls(xs, tables), target=target)
    for rank, run in enumerate(runs):
        a, b = xs[rank % node], xs[rank % node + node]
        expected = [a[0], 0, b[0], 0] if rank < node else [*a[1:3], *b[1:3]]
        np.testing.assert_array_equal(run.outputs[0], np.array(expected, np.float32))
        np.testing.assert_array_equal(run.outputs[1][2], [1, 1] if rank < node else [2, 2])


# Poison


@pytest.mark.filterwarnings("ignore:.* where nothing wrote it:triptych.simulator.SimulatorWarning")
def test_only_what_is_sent_must_be_written_and_only_what_comes_is():
    def kernel(x, rows):
        src, dst = (nl.ndarray((24,), x.dtype, hbm()) for _ in range(2))
        nisa.dma_copy(dst=src[0:3], src=x)
        table = nl.ndarray((3, 4), "uint32", nl.shared_hbm)
        nisa.dma_copy(dst=table[0:2, 0:1], src=rows)  # column 0 of rows 0 and 1 alone
        gather([src], [dst], table)
        out = nl.ndarray((8,), x.dtype, nl.shared_hbm)
        for slot in range(4):
            nisa.dma_copy(dst=out[2 * slot : 2 * slot + 2], src=dst[6 * slot : 6 * slot + 2])
        return out

    xs = np.arange(12, dtype=np.float32).reshape(4, 3)
    two_from_one = np.tile([[2], [1]], (4, 1, 1))
    runs = simulator.run_ranks(nki.jit(kernel)[2], calls(xs, two_from_one))
    np.testing.assert_array_equal(runs[3].outputs, xs[:, 1:].reshape(-1))
    with pytest.raises(Uninitialized, match="rank 0, ncc.all_gather_v at .* reads 1 of 3 .*'t2'"):
        simulator.run_ranks(nki.jit(kernel)[2], calls(xs, two_from_one + [[1], [0]]))
    with pytest.raises(Uninitialized, match="nisa.dma_copy at .* reads shared_hbm tensor 't3'"):
        simulator.run_ranks(nki.jit(kernel)[2], calls(xs, two_from_one - [[1], [0]]))


def test_metadata_never_written_is_reported():
    def kernel(x, rows):
        src, dst = (nl.ndarray((24,), x.dtype, hbm()) for _ in range(2))
        table = nl.ndarray((3, 4), "uint32", nl.shared_hbm)
        gather([src], [dst], table)
        return dst

    with pytest.raises(Uninitialized, match="rank 0, ncc.all_gather_v at .* of shared_hbm tensor 'table'"):
        simulator.run_ranks(nki.jit(kernel)[2], calls(np.ones((4, 1), np.float32), np.ones((4, 1))))


# Metadata that does not fit, found when the kernel runs


def with_table(change, call=gather, n=4, target="trn2", size=24, **options):
    """Run with one element a part, after `change` to the tables (n, 4, n)."""
    tables = np.ones((n, 4, n))
    tables[:, 3] = np.arange(n) * 3
    change(tables)
    kernel = by_parts(lambda s, d, t: call(s, d, t, **options), size=size)
    simulator.run_ranks(kernel, calls(np.ones((n, 20), np.float32), tables), target=target)


def put(row, value, rank=1, column=0):
    def change(tables):
        tables[rank, row, column] = value

    return change


MISFITS = {
    "src": (put(1, 20), gather, {}, "1 elements from rank number 1 to number 0 .* at 20 of src .* the 20 there are"),
    "slot": (put(0, 7), gather, {}, "7 elements from rank number 1 to number 0 .* beyond its slot, which ends at 12"),
    "slot of one": (put(0, 4, column=2), swap, {}, "4 elements from rank number 1 to number 2 .* which ends at 6"),
    "dst": (put(3, 24), swap, {"has_rdispls": True}, "from rank number 0 to number 1 .* at 24 of dst .* the 24 there"),
    "overlap": (put(3, 3), swap, {"has_rdispls": True}, "recv_displs put the part of rank number 1 onto another's"),
}


@pytest.mark.parametrize(("change", "call", "options", "message"), MISFITS.values(), ids=MISFITS)
def test_parts_that_do_not_fit(change, call, options, message):
    ranks = {gather: 4, swap: 8}[call]
    with pytest.raises((OutOfBounds, NkiValidationError), match=message):
        with_table(change, call, ranks, "trn3", **options)
    with_table(lambda tables: None, call, ranks, "trn3", **options)


def test_the_cores_of_a_rank_bring_the_same_metadata():
    def kernel(x, rows):
        src, dst = (nl.ndarray((24,), x.dtype, hbm()) for _ in range(2))
        table = metadata(rows, nl.sbuf)
        nisa.memset(dst=table[0:1, 1, 0:1], value=nl.program_id(0))
        gather([src], [dst], table)
        return dst

    with pytest.raises(NkiError, match=r"the cores' metadata differ in row 1: \[0\] and \[1\]"):
        simulator.run_ranks(nki.jit(kernel)[2], calls(np.ones((4, 1), np.float32), np.zeros((4, 3, 4))))


# Limits


def buffers(src=(24,), dst=(24,), dtype="float32", buffer=None):
    buffer = buffer or hbm()
    return [nl.ndarray(src, dtype, buffer)], [nl.ndarray(dst, dtype, buffer)]


def table(rows=3, ranks=4, dtype="uint32", buffer=nl.shared_hbm):
    return nl.ndarray((1, rows, ranks) if buffer == nl.sbuf else (rows, ranks), dtype, buffer)


def strided():
    wide = nl.ndarray((24, 2), "float32", hbm())
    gather([wide[:, 0]], buffers()[1], table())


LIMITS = {
    "gather in sbuf": (lambda: gather(*buffers((1, 24), (1, 24), buffer=nl.sbuf), table()), "works on HBM alone"),
    "swap in sbuf": (lambda: swap(*buffers((1, 24), (1, 24), buffer=nl.sbuf), table(3, 8)), "works on HBM alone"),
    "swap coalesced": (lambda: swap(buffers()[0] * 2, buffers()[1] * 2, table(3, 8)), "takes one tensor in each list"),
    "gather coalesced": (
        lambda: gather(buffers()[0] * 2, buffers()[1] * 2, table()),
        r"takes one tensor in each list \(no coalescing\), got 2",
    ),
    "gather with rdispls": (
        lambda: gather(*buffers(), table(4), has_rdispls=True),
        "has_rdispls=True is not supported",
    ),
    "gather of eight": (lambda: gather(*buffers(), table(3, 8), world(8)), "must be the four of one chip"),
    "gather across chips": (
        lambda: gather(*buffers(), table(), ncc.ReplicaGroup([[0, 1, 4, 5], [2, 3, 6, 7]])),
        "must be the four of one chip",
    ),
    "slots": (lambda: gather(*buffers(dst=(23,)), table()), "must hold 4 slots of one size, one a rank; got 23"),
    "strided": (strided, r"srcs\[0\] counts as a flat buffer and must be contiguous"),
    "metadata rows": (lambda: gather(*buffers(), table(2)), r"contiguous, \(3, 4\) or \(4, 4\) in shared_hbm, got \(2"),
    "metadata columns": (lambda: gather(*buffers(), table(3, 1)), r"contiguous, \(3, 4\) or \(4, 4\) in shared_hbm"),
    "metadata in sbuf": (
        lambda: gather(*buffers(), nl.ndarray((3, 4), "uint32")),
        r"contiguous, \(1, 3, 4\) or \(1, 4, 4\) in sbuf, got \(3, 4\)",
    ),
    "metadata dtype": (lambda: gather(*buffers(), table(dtype="int32")), "metadata_tensor must be uint32 in HBM or"),
    "metadata in psum": (lambda: gather(*buffers(), table(buffer=nl.psum)), "metadata_tensor must be uint32 in HBM or"),
    "no metadata": (lambda: gather(*buffers(), None), "metadata_tensor must be uint32 in HBM or SBUF, got NoneType"),
    "swap metadata": (
        lambda: swap(*buffers(), table(3, 8), has_rdispls=True),
        r"contiguous, \(4, 8\) in shared_hbm, got \(3, 8\)",
    ),
    "swap with half a device": (
        lambda: swap(*buffers(), table(3, 6), ncc.ReplicaGroup([[0, 1, 2, 3, 4, 5], [6, 7]])),
        "must be the ranks of whole devices in sequence",
    ),
    "swap out of sequence": (
        lambda: swap(*buffers(), table(3, 8), ncc.ReplicaGroup([[1, 0, 2, 3, 4, 5, 6, 7]])),
        "must be the ranks of whole devices in sequence",
    ),
    "swap between two devices": (
        lambda: swap(*buffers(), table(), ncc.ReplicaGroup([[2, 3, 4, 5], [0, 1, 6, 7]])),
        "must be the ranks of whole devices in sequence",
    ),
    "swap in one device": (lambda: swap(*buffers(), table(), world(4)), "needs ranks of more than one device"),
    "priority": (lambda: gather(*buffers(), table(), priority=9), "priority is 0 to 3"),
}


def refused(act, message, target, cores=2, ranks=8):
    def kernel(x):
        act()
        return x

    with pytest.raises(
        NkiValidationError, match=rf"^rank 0, ncc\.\w+ at test_collectives_variable.py:\d+: .*{message}"
    ):
        simulator.run_ranks(nki.jit(kernel)[cores], [(np.ones((1, 1), np.float32),)] * ranks, target=target)


@pytest.mark.parametrize(("act", "message"), LIMITS.values(), ids=LIMITS)
def test_limits(act, message):
    refused(act, message, "trn3")


BETWEEN_NODES = {
    "one node": [[0, 1, 2, 3, 4, 5, 6, 7]],
    "other indices": [[0, 5], [1, 4]],
    "part of a device": [[0, 2, 4, 6], [1, 3, 5, 7]],
    "twice a node": [[0, 1], [4, 5]],
    "another index of each node": [[0, 5]],
}


@pytest.mark.parametrize("groups", BETWEEN_NODES.values(), ids=BETWEEN_NODES)
@pytest.mark.parametrize(("target", "cores", "ranks"), [("trn1", 1, 8), ("trn2", 2, 8)])
def test_all_to_all_v_without_a_switch_is_between_nodes(groups, target, cores, ranks):
    if (groups, target) == (BETWEEN_NODES["part of a device"], "trn1"):
        return  # two cores a device: four nodes of one device
    message = "each list has the ranks of one index from different nodes"
    refused(lambda: swap(*buffers(), table(), ncc.ReplicaGroup(groups)), message, target, cores, ranks)


@pytest.mark.parametrize("target", ["trn1", "trn2"])
def test_receive_displacements_need_a_switch(target):
    message = r"has_rdispls=True needs a NeuronSwitch \(trn3\)"
    refused(lambda: swap(*buffers(), table(4, 8), has_rdispls=True), message, target, 1)


@pytest.mark.parametrize(
    ("target", "message"),
    [("trn1", "needs NeuronCore-v3"), ("trn2", "works with LNC=2 alone"), ("trn3", "works with LNC=2 alone")],
)
def test_all_gather_v_needs_two_cores(target, message):
    refused(lambda: gather(*buffers(), table()), message, target, 1)


def test_all_to_all_v_on_a_switch_needs_two_cores():
    refused(lambda: swap(*buffers(), table(3, 8)), "needs LNC=2 on NeuronCore-v4", "trn3", 1)


# In two steps (NKI 0.7)


def gather_in_two(srcs, dsts, table, between=lambda srcs, table: None):
    prepared = ncc.all_gather_v_prepare(srcs, dsts, world(4), table)
    between(srcs, table)
    return ncc.all_gather_v_trigger(prepared)


def gathered(call, buffer=nl.shared_hbm, target="trn2"):
    tables = np.full((4, 3, 4), 77)
    tables[:, 0, 0], tables[:, 1, 0] = 4, 2
    xs = np.random.default_rng(0).standard_normal((4, 10)).astype(np.float32)
    return simulator.run_ranks(by_parts(call, buffer), calls(xs, tables), target=target)


def test_two_steps_are_excluded_on_chips_with_a_switch():
    with pytest.warns(simulator.SimulatorWarning, match="all_gather_v_prepare: AWS excludes it on Trn3 UltraServers"):
        gathered(gather_in_two, target="trn3")


@pytest.mark.parametrize("buffer", [nl.shared_hbm, nl.sbuf])
def test_prepare_and_trigger_give_what_the_plain_form_gives(buffer):
    plain, two = gathered(gather, buffer), gathered(gather_in_two, buffer)
    for a, b in zip(plain, two, strict=True):
        np.testing.assert_array_equal(a.outputs[0], b.outputs[0])
    events = [e for e in two[0].trace.events if e.op.startswith("all_gather_v")]
    assert [e.op for e in events] == ["all_gather_v_prepare"] * 2 + ["all_gather_v_trigger"] * 2
    assert len(events[0].writes) == 0 and len(events[0].reads) == 2 and len(events[2].reads) == 3


def doubled(srcs, table):
    """What is sent is read by the trigger."""
    zero = nl.ndarray((1, 10), nl.float32)
    nisa.memset(zero, 3.0)
    nisa.dma_copy(dst=srcs[0], src=zero)


def test_the_trigger_reads_what_is_there_then():
    (first, *_) = gathered(lambda s, d, t: gather_in_two(s, d, t, doubled))
    assert (first.outputs[0].reshape(4, 6)[:, :4] == 3).all()


def changed(srcs, table):
    other = nl.ndarray((1, 1), nl.uint32)
    nisa.memset(other, 1)
    nisa.dma_copy(dst=table[0:1, 0:1], src=other)


def the_first_again(srcs, dsts, table):
    """A preparation is triggered twice, the second time while another one waits."""
    first = ncc.all_gather_v_prepare(srcs, dsts, world(4), table)
    ncc.all_gather_v_trigger(first)
    ncc.all_gather_v_prepare(srcs, dsts, world(4), table)
    ncc.all_gather_v_trigger(first)


TWO_STEPS = [
    (
        lambda s, d, t: ncc.all_gather_v_prepare(s, d, world(4), nl.ndarray((3, 4), "uint32", hbm())),
        "^rank 0, ncc.all_gather_v_prepare at .*reads .* elements that nothing has written",
    ),
    (lambda s, d, t: ncc.all_gather_v_prepare(s, d, world(4), t), "all_gather_v_prepare at .* was never triggered"),
    (
        lambda s, d, t: ncc.all_gather_v_trigger(None),
        "takes what all_gather_v_prepare gave .*; nothing waits",
    ),
    (
        lambda s, d, t: ncc.all_to_all_v_trigger(ncc.all_gather_v_prepare(s, d, world(4), t)),
        "takes what all_to_all_v_prepare gave .*; all_gather_v_prepare at .* waits",
    ),
    (
        the_first_again,
        "takes what all_gather_v_prepare gave and nothing triggered yet; all_gather_v_prepare at .* waits",
    ),
    (
        lambda s, d, t: [ncc.all_gather_v_prepare(s, d, world(4), t) for _ in range(2)],
        "there is one slot, and all_gather_v_prepare at .* holds it; trigger it",
    ),
    (lambda s, d, t: gather_in_two(s, d, t, changed), "metadata_tensor changed after it was prepared"),
    (
        lambda s, d, t: gather_in_two(s, d, metadata(t, nl.sbuf), lambda s, table: changed(s, table[:, 0, 0:1])),
        "metadata_tensor changed after it was prepared",
    ),
]


@pytest.mark.parametrize(("call", "words"), TWO_STEPS)
def test_what_two_steps_refuse(call, words):
    with pytest.raises(NkiError, match=words):
        gathered(call)


def test_collectives_give_their_instruction():
    def call(srcs, dsts, table):
        instruction = ncc.all_gather_v(srcs, dsts, world(4), table)
        assert isinstance(instruction, nisa.NkiInstruction) and instruction.op == "all_gather_v"

    gathered(call)
