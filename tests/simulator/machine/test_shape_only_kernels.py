"""A run without data leaves the trace of a run with data: kernels of ours, cores and ranks, each error of use."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from kernel_parts import in_hbm, in_sbuf
from shape_only_parts import X, both, refused, story

from triptych import simulator
from triptych.simulator import NeedsData, NkiError, NkiValidationError, Options, ShapeDtype, Uninitialized
from triptych.simulator.dtypes import TABLE
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.collectives as ncc
    import nki.isa as nisa
    import nki.language as nl

KERNELS = Path(__file__).parents[3] / "kernels" / "nki"


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_our_matmuls(target, dtype):
    file = simulator.load(KERNELS / "matmul.py")
    for k, m, n in ((128, 128, 512), (1300, 200, 1100), (1, 1, 1)):
        for kernel in (file.matmul_tiled, file.matmul):
            both(kernel, np.ones((k, m), TABLE[dtype].np), np.ones((k, n), TABLE[dtype].np), target=target)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("causal", [False, True])
def test_our_attention(target, causal):
    attention = simulator.load(KERNELS / "attention_online.py").attention_online
    for heads, queries, keys, d in ((2, 300, 1400, 64), (1, 130, 20, 128)):
        q, kv = np.ones((1, heads, queries, d), np.float32), np.ones((1, 1, keys, d), np.float32)
        both(attention, q, kv, kv, causal=causal, target=target)


def test_accumulation_is_known_by_what_was_written():
    """accumulate=None asks per call: the same instruction reads its dst or not; and half a tile may be begun."""

    def kernel(x):
        a = in_sbuf(x)
        dst = nl.ndarray((64, 2, 64), nl.float32, nl.psum)
        for bank in (0, 0, 1):
            nisa.nc_matmul(dst[:, bank, :], a, a)
        nisa.nc_matmul(dst[:, :, :32], a, a)
        for _ in range(2):
            part = nl.ndarray((64, 64), nl.float32, nl.psum)
            nisa.nc_matmul(part[:, :32], a, a[:, :32])
            nisa.nc_matmul(part, a, a)  # onto half: only a part is added to
        copied = nl.ndarray((64, 2, 64), nl.float32)
        nisa.tensor_copy(copied, dst)
        return in_hbm(copied.reshape((64, 128)))

    reads = [len(e.reads) for e in both(kernel, X, target="trn1").events if e.op == "nc_matmul"]
    assert reads == [2, 3, 2, 3, 2, 3, 2, 3]


def test_accumulators_hold_a_value_from_a_reset_on():
    def kernel(x, idle):
        a = in_sbuf(x)
        dst, total = nl.ndarray(x.shape, nl.float32), nl.ndarray((128, 1), nl.float32)
        options = {"op0": nl.add, "operand0": 1.0, "reduce_op": nl.add}
        for command in (nisa.reduce_cmd.reset_reduce, nisa.reduce_cmd.reduce, nisa.reduce_cmd.reduce):
            nisa.tensor_scalar_reduce(dst, a, reduce_res=total, reduce_cmd=command, **options)
        if idle:
            forgets = nl.ndarray((128, 64), nl.uint8)
            nisa.memset(forgets, 1)
            nisa.select_reduce(dst, forgets, a, 0.0)
            nisa.tensor_scalar_reduce(dst, a, reduce_res=total, reduce_cmd=nisa.reduce_cmd.reduce, **options)
        return in_hbm(total)

    both(kernel, X, False)
    for x in (X, ShapeDtype((128, 64), "float32")):
        with pytest.raises(NkiValidationError, match="accumulator of the Vector Engine holds nothing on partition 0"):
            simulator.run(kernel, x, True)


def test_tensors_with_addresses_share_bytes():
    def kernel(x):
        a = nl.ndarray(x.shape, x.dtype, nl.sbuf, address=(0, 1024))
        nisa.dma_copy(dst=a, src=x)
        low = nl.ndarray((64, 32), nl.int32, nl.sbuf, address=(64, 1024))
        banks = []
        for _ in range(2):
            bank = nl.ndarray((64, 64), nl.float32, nl.psum, address=(0, 2048))
            nisa.nc_matmul(bank, a, a)
            nisa.nc_matmul(bank, a, a)
            banks.append(bank)
        copied = nl.ndarray((64, 64), nl.float32)
        nisa.tensor_copy(copied, banks[-1])
        return in_hbm(low), in_hbm(copied)

    assert [len(e.reads) for e in both(kernel, X).events if e.op == "nc_matmul"] == [2, 3, 2, 3]


def test_an_address_is_poisoned_by_the_next_tensor_there():
    def kernel(x):
        a = nl.ndarray(x.shape, x.dtype, nl.sbuf, address=(0, 0))
        nisa.dma_copy(dst=a, src=x)
        del a
        return in_hbm(nl.ndarray((64, 80), nl.float32, nl.sbuf, address=(64, 16)))

    strict = simulator.Options(strict=True)
    words = "reads 5120 of 5120 elements that nothing has written"
    refused(kernel, X, match=words, error=Uninitialized, options=strict)


def test_what_a_kernel_leaves_unwritten_is_found():
    def kernel(x):
        out = nl.ndarray((4, 128, 64), nl.float32, nl.shared_hbm)
        for i in (0, 1, 3):
            nisa.dma_copy(dst=out[i], src=x)
        nisa.dma_copy(dst=out[2, :100, :], src=x[:100])
        nisa.dma_copy(dst=out[2, 100:, 1:], src=x[100:, 1:])
        return out

    refused(kernel, X, match=r"28 of 32768 elements never written, first at \[2, 100, 0\]", error=NkiError)


def test_a_kernel_that_needs_too_much_sbuf_is_refused():
    def kernel(x):
        tiles = [nl.ndarray((128, 32 * 1024), nl.float32) for _ in range(2)]
        for t in tiles:
            nisa.memset(t, 0.0)
        nisa.tensor_copy(tiles[0], tiles[1])
        return in_hbm(tiles[0])

    refused(kernel, X, match="needs 262144 bytes of each sbuf partition")


def test_operands_that_overlap_are_seen_behind_a_call_of_one_form_that_do_not():
    def kernel(x):
        a, b = in_sbuf(x), in_sbuf(x)
        for source in (b, a):
            nisa.tensor_copy(a[:, 1:33], source[:, 0:32])

    refused(kernel, X, match="overlaps .*, which is read at other elements or in another order")


def test_equal_arguments_of_different_types_are_different_calls():
    def kernel(x, value):
        a = nl.ndarray(x.shape, nl.int32)
        for v in (1, np.int32(1), True, value):
            nisa.memset(a, v)
        return in_hbm(a)

    assert [type(e.attributes["value"]) for e in both(kernel, X, 2).events[:3]] == [int, np.int32, bool]
    refused(lambda x: kernel(x, 1.5), X, match="value must be an integer that int32 holds, got 1.5")


def test_each_line_and_name_is_the_calls_own():
    def kernel(x):
        a = in_sbuf(x)
        for i in range(3):
            nisa.tensor_copy(a, a, name=f"copy{i}")
        nisa.tensor_copy(a, a)
        return in_hbm(a)

    events = both(kernel, X).events[1:5]
    assert [e.name for e in events] == ["copy0", "copy1", "copy2", None]
    assert events[0].line == events[2].line != events[3].line


def test_an_edge_between_events_is_its_own():
    def kernel(x):
        a = in_sbuf(x)
        copies = [nisa.tensor_copy(a, a) for _ in range(3)]
        copies[2].depends_on(copies[0], kind=nisa.dependency.runtime)
        copies[2].depends_on(copies[1], kind=nisa.dependency.runtime)
        return in_hbm(a)

    events = simulator.run(kernel, ShapeDtype((128, 64), "float32")).trace.events[1:4]
    assert [e.attributes.get("after") for e in events] == [None, None, events[:2]]


def test_loops_and_addresses_of_known_registers_need_no_data():
    def kernel(x):
        a = in_sbuf(x)
        out = nl.ndarray((4, 128, 16), nl.float32, nl.shared_hbm)

        def body(i):
            part = nl.ndarray((128, 1, 16), nl.float32)
            nisa.tensor_copy(
                part, a.reshape_dim(1, (4, 16)).ap([[64, 128], [16, 1], [1, 16]], scalar_offset=i, indirect_dim=1)
            )
            nisa.dma_copy(dst=out.select(0, i), src=part.reshape((128, 16)))
            nisa.affine_select(part, [[1, 16]], 1, part, 0.0, offset=i)

        nl.fori_loop(0, 4, body)
        return out

    events = both(kernel, X).events
    assert len({e.reads[0].offset for e in events if e.op == "tensor_copy"}) == 4


def needs_data(kernel, *shapes, target="trn2", cores=1):
    for options in (None, Options(data=False)):
        given = [ShapeDtype(*s) if options is None else np.zeros(s[0], TABLE[s[1]].np) for s in shapes]
        with pytest.raises(NeedsData, match="this run has shapes alone.*; run it with arrays") as e:
            simulator.run(nki.jit(kernel)[cores], *given, target=target, options=options)
        assert e.value.op and "test_shape_only_kernels.py:" in str(e.value)


def test_what_depends_on_data_says_so():
    def looped(n):
        r = nisa.register_alloc()
        nisa.register_load(r, n)
        nl.while_loop(r, lambda r: r)

    def selected(n):
        rows = nl.ndarray((16, 1), nl.int32)
        nisa.dma_copy(dst=rows, src=n)
        nisa.dma_copy(dst=nl.ndarray((16, 1), nl.int32), src=n.vector_select(0, rows))

    def moved(n):
        index, t = in_sbuf(n)[0:1], in_sbuf(n)
        nisa.tensor_copy(nl.ndarray((16, 1), nl.int32), t.reshape((16, 1, 1)).select(1, index))

    def gathered(n):
        t, index = nl.ndarray((32, 8), nl.float32), nl.ndarray((32, 1), nl.uint16)
        nisa.memset(t, 0.0)
        nisa.memset(index, 0)
        nisa.tensor_copy(nl.ndarray((32, 8), nl.float32), t.indirect(index, 8))

    needs_data(looped, ((1,), "int32"))
    needs_data(selected, ((16, 1), "int32"))
    needs_data(moved, ((16, 1), "int32"))
    needs_data(gathered, ((16, 1), "int32"), target="trn3")


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
def test_what_shows_values_says_that_there_are_none(capsys):
    def kernel(x):
        a = in_sbuf(x)
        nl.device_print("x", x)
        assert nl.equal(a, a)
        return in_hbm(a)

    both(kernel, X)
    assert capsys.readouterr().out.endswith("x (no values: this run has shapes alone)\n")


def test_checks_of_values_are_left_out():
    """A transpose by what may be the identity, bounds that may be in order; and notes on values are not made."""

    def kernel(x, bounds):
        a, b = in_sbuf(x), in_sbuf(bounds)
        dst = nl.ndarray((128, 128), nl.float32, nl.psum)
        nisa.nc_matmul(dst, a, a, is_transpose=True)
        random = nl.ndarray((128, 8), nl.float32)
        nisa.rand2(random, b[:, 0:1], b[:, 1:2])
        nisa.activation(random, nl.reciprocal, random)
        nisa.tensor_copy(nl.ndarray((128, 8), nl.int8), random)
        return in_hbm(random)

    eye, bounds = np.eye(128, dtype=np.float32), np.tile(np.float32([1, 2]), (128, 1))
    assert not both(kernel, eye, bounds, target="trn3").notes


# Arguments and outputs


class Config(nl.NKIObject):
    weight: object = None
    factor: float = 1.0


def scaled(x, pair, config, named=None):
    a = in_sbuf(x)
    for other in (pair[0], config.weight, named["bias"]):
        nisa.tensor_tensor(a, a, in_sbuf(other), nl.add)
    nisa.tensor_scalar(a, a, nl.multiply, config.factor)
    return {"out": in_hbm(a), "pair": (in_hbm(a), None)}


def test_stand_ins_may_lie_where_arrays_may_and_mix_with_them():
    run = simulator.run(nki.jit(scaled), X, (X, 3), Config(weight=ShapeDtype(X.shape, np.float32)), named={"bias": X})
    shape = ShapeDtype((128, 64), "float32")
    assert run.outputs == {"out": shape, "pair": (shape, None)}
    assert [a.name for a in run.trace.allocations[:4]] == ["x", "pair[0]", "config.weight", "named['bias']"]


def test_without_data_arrays_stay_as_they_are():
    def kernel(x):
        nisa.dma_copy(dst=x, src=in_sbuf(x))

    x = np.ones((128, 64), np.float32)
    x.setflags(write=False)
    run = simulator.run(kernel, x, options=Options(data=False))
    assert run.outputs is None and (x == 1).all() and len(run.trace.events) == 2


def test_a_stand_in_is_a_shape_and_a_dtype():
    s = ShapeDtype([np.int64(4), 8], np.float16)
    assert (s.shape, s.dtype, s.ndim, s.nbytes) == ((4, 8), nl.float16, 2, 64)
    assert s == ShapeDtype((4, 8), "float16") != ShapeDtype((4, 8), "bfloat16") and len({s, s}) == 1
    with pytest.raises(NkiError, match="a shape is a sequence of integers, got 5"):
        ShapeDtype(5, "float32")
    with pytest.raises(NkiError, match="float64"):
        ShapeDtype((5,), "float64")
    with pytest.raises(NkiError, match=r"argument x has shape \(\); every axis needs"):
        simulator.run(lambda x: in_hbm(x), ShapeDtype((), "float32"))


# Cores and ranks


def test_two_cores_exchange_and_wait_for_each_other():
    def kernel(x):
        a, b = in_sbuf(x), nl.ndarray(x.shape, x.dtype)
        shared = nl.ndarray((2, *x.shape), x.dtype, nl.shared_hbm)
        me = nl.program_id(0)
        for i in range(2):
            nisa.sendrecv(a, b, 1 - me, 1 - me, i)
            nisa.tensor_copy(a, b)
        nisa.sendrecv_compute(b, a, 1 - me, 1 - me, nl.add)
        nisa.dma_copy(dst=shared[me], src=a)
        nisa.core_barrier(shared, (0, 1))
        other = in_sbuf(shared[1 - me])
        nisa.tensor_copy(other, other)
        out = nl.ndarray((2, *x.shape), x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out[me], src=other)
        return out

    events = both(nki.jit(kernel)[2], X).events
    assert {e.attributes["epoch"] for e in events if e.op == "tensor_copy"} == {0, 1}


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("address", [None, (0, 64)])
def test_padding_goes_to_the_other_core_with_a_remark(address):
    def kernel(x):
        core = nl.program_id(0)
        mine, theirs = nl.ndarray((32, 8), x.dtype, address=address), nl.ndarray((32, 8), x.dtype)
        nisa.dma_copy(dst=mine[0:20], src=x[0:20, 0:8])
        nisa.sendrecv(mine, theirs, 1 - core, 1 - core, 0)
        nisa.sendrecv_compute(mine, mine, 1 - core, 1 - core, nl.maximum)
        out = nl.ndarray((2, 20, 8), x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out[core], src=theirs[0:20])
        return out

    run = simulator.run(nki.jit(kernel)[2], ShapeDtype((128, 64), "float32"), target="trn2")
    assert run.outputs == ShapeDtype((2, 20, 8), "float32")
    assert any("nisa.sendrecv reads sbuf tensor" in note for note in run.trace.notes)
    assert not any("'theirs'" in note for note in run.trace.notes)


def test_a_race_of_two_cores_is_found():
    def kernel(x):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=in_sbuf(x))
        if nl.program_id(0) == 1:
            in_sbuf(out)
            other = nl.ndarray((64, x.shape[1]), x.dtype)
            nisa.memset(dst=other, value=7.0)
            nisa.dma_copy(dst=out[0:64], src=other)
        return out

    refused(nki.jit(kernel)[2], X, match="race on")


def test_ranks_exchange():
    group = ncc.ReplicaGroup([[0, 1]])

    def kernel(x):
        src, total = (nl.ndarray(x.shape, x.dtype, nl.private_hbm) for _ in range(2))
        every, out = (nl.ndarray((256, 64), x.dtype, buffer) for buffer in (nl.private_hbm, nl.shared_hbm))
        nisa.dma_copy(dst=src, src=x)
        ncc.all_reduce([src], [total], group, nl.add)
        ncc.all_gather([total], [every], group, 0)
        ncc.collective_permute([total], [src], [(0, 1), (1, 0)])
        nisa.dma_copy(dst=out, src=every)
        return out

    runs = [simulator.run_ranks(kernel, [(x,), (X,)]) for x in (X, ShapeDtype((128, 64), "float32"))]
    for with_data, without in zip(*runs, strict=True):
        assert story(with_data.trace) == story(without.trace) and with_data.trace.notes == without.trace.notes
        assert without.outputs == ShapeDtype((256, 64), "float32")


def test_parts_whose_sizes_are_data_need_it():
    def kernel(x, sizes):
        src, dst = (nl.ndarray(x.shape, x.dtype, nl.private_hbm) for _ in range(2))
        nisa.dma_copy(dst=src, src=x)
        ncc.all_to_all_v([src], [dst], ncc.ReplicaGroup([[0, 2], [1, 3]]), sizes)

    shapes = (ShapeDtype((128, 64), "float32"), ShapeDtype((3, 2), "uint32"))
    with pytest.raises(NeedsData, match="ncc.all_to_all_v at .*needs the values of .*'sizes'"):
        simulator.run_ranks(kernel, [shapes] * 4, target="trn1")


# Size


def test_tensors_of_gigabytes_take_no_memory():
    """4 GiB of arguments, of which a kernel copies, multiplies and writes parts."""

    def kernel(x, y):
        out = nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=out, src=y)
        tile = in_sbuf(x[:128, 0:2048])
        for column in range(0, 1 << 14, 2048):
            nisa.dma_copy(dst=out[1 << 14 : (1 << 14) + 128, column : column + 2048], src=tile)
        return out

    big = ShapeDtype((1 << 15, 1 << 15), "bfloat16")
    tracemalloc.start()
    try:
        run = simulator.run(kernel, big, big)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert big.nbytes == 2 << 30 and peak < 8 << 20 and run.outputs == big


def test_memory_grows_with_the_instructions():
    """About 460 bytes an instruction, as docs/simulator.md says."""
    matmul = simulator.load(KERNELS / "matmul.py").matmul
    sizes = []
    tracemalloc.start()
    try:
        for n in (1024, 2048):
            x = ShapeDtype((n, n), "bfloat16")
            run = simulator.run(matmul, x, x)
            sizes.append((len(run.trace.events), tracemalloc.get_traced_memory()[0]))
            del run
    finally:
        tracemalloc.stop()
    (few, less), (many, more) = sizes
    assert (more - less) / (many - few) < 600
