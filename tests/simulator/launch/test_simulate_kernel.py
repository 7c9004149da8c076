"""`nki.simulator.simulate_kernel` as vLLM Neuron's CPU mode calls it: every argument by keyword, on two cores.

Its arrays share memory with PyTorch's tensors: a bfloat16 or float8 tensor is viewed as integers, and these as
ml_dtypes' numbers. What comes back is known by the name of its dtype. Caches are changed in place, and what is returned
of them is thrown away. Among the arguments are None, members of Python's enumerations and a dtype of PyTorch's.
"""

from __future__ import annotations

import enum
import warnings

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiError, Options
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl
    from nki.simulator import simulate_kernel

X = np.arange(8, dtype=np.float32).reshape(2, 4)
LENGTH, PLACES, D = 5, 8, 16


class Quantization(enum.Enum):
    NONE = 0
    STATIC = 1


@pytest.fixture(autouse=True)
def on_trn2(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")


def scaled(x, factor=1.0):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(nl.load(x), factor))
    return out


def cores(x):
    out = nl.ndarray((1, 1), nl.int32, buffer=nl.shared_hbm)
    count = nl.ndarray((1, 1), nl.int32)
    nisa.memset(count, nl.num_programs())
    nisa.dma_copy(dst=out, src=count)
    return out


def appended(cache, new, mask, sink=None, softmax_dtype=nl.float32, kind=Quantization.NONE, masked=True):
    """out[1, D]: the sum of the cache's rows where mask[PLACES, 1] is 1, and of the new one; the cache then has it too.

    Core 0 reads all of the cache while core 1 writes the new row, as attention_block_tkg does; softmax_dtype is unused.
    """
    assert sink is None and kind == Quantization.NONE
    out = nl.ndarray((1, D), nl.float32, buffer=nl.shared_hbm)
    row = nl.ndarray((1, D), cache.dtype)
    nisa.dma_copy(dst=row, src=new)
    if nl.program_id(0) == 1:
        nisa.dma_copy(dst=cache[LENGTH : LENGTH + 1, :], src=row)
    else:
        rows = nl.ndarray((PLACES, D), cache.dtype)
        nisa.dma_copy(dst=rows, src=cache)
        seen = nl.ndarray((PLACES, 1), nl.float32)
        nisa.dma_copy(dst=seen, src=mask)
        wide = nl.ndarray((PLACES, D), nl.float32)
        nisa.tensor_scalar(dst=wide, data=rows, op0=nl.multiply, operand0=seen if masked else 1.0)
        ones = nl.ndarray((PLACES, 1), nl.float32)
        nisa.memset(dst=ones, value=1.0)
        total = nl.ndarray((1, D), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=total, stationary=ones, moving=wide)
        result = nl.ndarray((1, D), nl.float32)
        nisa.tensor_tensor(dst=result, data1=total, data2=row, op=nl.add)
        nisa.dma_copy(dst=out, src=result)
    return out, cache


def test_arguments_come_in_all_the_ways_in_which_they_are_given():
    np.testing.assert_array_equal(simulate_kernel(scaled, (X,), {"factor": 2.0}, 1), 2 * X)
    np.testing.assert_array_equal(simulate_kernel(nki.jit()(scaled), (), {"x": X, "factor": 3.0}, lnc=1), 3 * X)
    assert simulate_kernel(cores, (), {"x": X}, lnc=2).item() == 2
    assert simulate_kernel(cores, args=[], kwargs={"x": X}, _lnc=2).item() == 2
    assert simulate_kernel(cores, (X,)).item() == 1
    assert simulate_kernel(nki.jit(cores)[2], (X,)).item() == 2
    assert simulate_kernel(nki.jit(cores)[2], (X,), lnc=1).item() == 1


def decode_arguments():
    """The cache's tensor, and all arguments of `appended`."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    cache, new = (torch.randn(rows, D).to(torch.bfloat16) for rows in (PLACES, 1))
    given = {
        name: x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16) for name, x in (("cache", cache), ("new", new))
    }
    mask = (torch.arange(PLACES)[:, None] < LENGTH).to(torch.float32).numpy()
    mask.flags.writeable = False
    return cache, {
        **given,
        "mask": mask,
        "sink": None,
        "softmax_dtype": torch.float32,
        "kind": Quantization.NONE,
        "masked": True,
    }


def test_a_cache_is_changed_where_it_lies_and_a_race_that_shows_nowhere_is_a_remark():
    cache, given = decode_arguments()
    before = cache.clone()
    wanted = given["cache"][:LENGTH].astype(np.float32).sum(0, keepdims=True) + given["new"].astype(np.float32)
    with pytest.warns(
        simulator.SimulatorWarning, match="race on 'cache'.*whoever comes first, the results are the same"
    ):
        out, returned = simulate_kernel(appended, (), given, lnc=2)
    np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=1e-6)
    assert returned.dtype.name == "bfloat16"
    np.testing.assert_array_equal(cache[LENGTH].float().numpy(), given["new"][0].astype(np.float32))
    kept = [place for place in range(PLACES) if place != LENGTH]
    assert (cache[kept] == before[kept]).all()


def test_so_it_is_with_a_cache_that_is_not_dense():
    _, given = decode_arguments()
    apart = np.zeros((2 * PLACES, D), given["cache"].dtype)
    apart[::2] = given["cache"]
    with pytest.warns(simulator.SimulatorWarning, match="the results are the same"):
        simulate_kernel(appended, (), {**given, "cache": apart[::2]}, lnc=2)
    np.testing.assert_array_equal(apart[2 * LENGTH], given["new"][0])
    assert not apart[1::2].any()


def chosen(index, x):
    """Core 1 chooses a row of x by the index that core 0 puts meanwhile."""
    out = nl.ndarray((1, x.shape[1]), x.dtype, nl.shared_hbm)
    if nl.program_id(0) == 0:
        one = nl.ndarray((1, 1), nl.int32)
        nisa.memset(one, 1)
        nisa.dma_copy(index, one)
    else:
        own, register = nl.ndarray((1, 1), nl.int32), nisa.register_alloc()
        nisa.dma_copy(own, index)
        nisa.register_load(register, own)
        nisa.dma_copy(out, x.ap([[x.shape[1], 1], [1, x.shape[1]]], scalar_offset=register))
    return out


@pytest.mark.parametrize("before", [0, 1, 99])
def test_a_race_is_an_error_if_in_the_other_order_the_results_differ_or_there_are_none(before):
    """Index 99 is out of bounds."""
    run, index = simulator.on("trn2").run, np.array([[before]], np.int32)
    if before == 1:
        with pytest.warns(simulator.SimulatorWarning, match="the results are the same"):
            np.testing.assert_array_equal(run(nki.jit(chosen)[2], index, X).outputs, X[1:2])
    else:
        with pytest.raises(NkiError, match="race on 'index'"):
            run(nki.jit(chosen)[2], index, X)


RETURNED = {
    "a list": lambda out: [out],
    "a dict": lambda out: {"out": out},
    "a dict in a tuple": lambda out: (None, {"out": out}),
    "a list in a dict": lambda out: {"out": [out]},
}


@pytest.mark.parametrize("returned", RETURNED.values(), ids=RETURNED)
def test_a_race_shows_wherever_the_results_stand_in_what_is_returned(returned):
    def kernel(index, x):
        return returned(chosen(index, x))

    with pytest.raises(NkiError, match="race on 'index'"):
        simulator.on("trn2").run(nki.jit(kernel)[2], np.array([[0]], np.int32), X)


def test_what_a_kernel_warns_of_it_warns_of_once_though_its_cores_run_in_both_orders():
    def warning(index, x):
        warnings.warn("said by the kernel", UserWarning, stacklevel=1)
        return chosen(index, x)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        simulator.on("trn2").run(nki.jit(warning)[2], np.array([[1]], np.int32), X)
    assert ["said by the kernel" in str(w.message) for w in found].count(True) == 2  # once a core


def test_a_race_that_shows_is_an_error_and_so_is_any_where_it_is_asked_for():
    _, given = decode_arguments()
    with pytest.raises(NkiError, match="race on 'cache'"):
        simulate_kernel(appended, (), {**given, "masked": False}, lnc=2)
    _, given = decode_arguments()
    strict = Options(strict=frozenset({"race-without-effect"}))
    with pytest.raises(NkiError, match="race on 'cache'"):
        simulator.on("trn2", options=strict).run(nki.jit(appended)[2], **given)


def test_float8_of_pytorch_is_the_chips_float8():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[0.5, -240.0, 1.75, 0.0]]).to(torch.float8_e4m3fn)
    given = x.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn).view(ml_dtypes.float8_e4m3)
    out = simulate_kernel(scaled, (), {"x": given, "factor": 0.5}, lnc=1)
    assert out.dtype.name == "float8_e4m3"
    np.testing.assert_array_equal(out.astype(np.float32), [[0.25, -120.0, 0.875, 0.0]])
