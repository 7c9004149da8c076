"""Kernels as a caller sees them: jit, simulate, run, what may be passed and returned, and what happens to inputs."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import KernelError, NkiError, NkiValidationError, OutOfBounds
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.launch.kernel import default_options

with simulated_nki():
    import nki
    import nki.isa as nisa
    import nki.language as nl

A = np.arange(12, dtype=np.float32).reshape(3, 4)


@nki.jit
def scaled(a, factor=2.0):
    """a * factor"""
    tile = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=a)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tile)
    return out


# Calling


@pytest.mark.parametrize("target", ["trn1", "inf2", "trn2", "trn3", "gen2", "gen3", "gen4"])
def test_run_gives_outputs_and_trace(target):
    run = simulator.run(scaled, A, target=target)
    np.testing.assert_array_equal(run.outputs, 2 * A)
    assert run.trace.target == target and run.trace.chip is simulator.TARGETS[target]
    assert run.trace.count() == {"dma_copy": 2, "tensor_scalar": 1}
    assert [e.engine for e in run.trace.events] == ["dma", "vector", "dma"]
    assert {e.line[0] for e in run.trace.events} == {__file__}


def test_arguments_by_keyword_and_position():
    for outputs in (
        simulator.run(scaled, A, 3.0).outputs,
        simulator.run(scaled, A, factor=3.0).outputs,
        simulator.run(scaled, a=A, factor=3.0).outputs,
        simulator.run(scaled.function, A, 3.0).outputs,
        simulator.run(functools.partial(scaled, factor=3.0), A).outputs,
        simulator.run(functools.partial(scaled.function, factor=3.0), A).outputs,
        simulator.run(nki.jit(scaled.function), A, 3.0).outputs,
        simulator.run(nki.jit(mode="anything")(scaled.function), A, 3.0).outputs,
    ):
        np.testing.assert_array_equal(outputs, 3 * A)


def test_a_kernel_keeps_the_name_and_text_of_its_function():
    assert scaled.__name__ == "scaled" and scaled.__doc__ == "a * factor" and isinstance(scaled, nki.Kernel)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: simulator.run(scaled),
            r"scaled\(a, factor=2.0\) cannot be called so: missing a required argument: 'a'",
        ),
        (lambda: simulator.run(scaled, A, 1.0, 2.0), "too many positional arguments"),
        (lambda: simulator.run(scaled, A, speed=1.0), "unexpected keyword argument 'speed'"),
        (lambda: simulator.run(scaled, A, target="trn9"), "target 'trn9' is unknown; expected one of trn1, inf2"),
        (lambda: simulator.run("scaled", A), "expected a kernel, a function, got str"),
        (lambda: simulator.run(scaled, A[:0]), r"argument a has shape \(0, 4\); every axis needs at least one element"),
        (lambda: simulator.run(scaled, np.array(1.0)), r"argument a has shape \(\)"),
        (lambda: simulator.run(scaled, A.astype(np.float64)), "float64.* is not a dtype of NKI"),
        (lambda: scaled[3], "takes 1 or 2 logical cores, got 3"),
        (lambda: scaled[1, 2], r"takes 1 or 2 logical cores, got \(1, 2\)"),
        (lambda: nki.jit(platform_target="trn2"), "no platform_target since NKI 0.3"),
        (lambda: nki.jit(lnc=2), "nki.jit takes no argument lnc"),
        (lambda: scaled(A), "was called directly and there is no Neuron device; use nki.simulate"),
        (lambda: nl.ndarray((2, 2), nl.float32), "called outside a kernel"),
        (lambda: nl.program_id(0), "called outside a kernel"),
    ],
)
def test_wrong_calls_say_so(call, words):
    with pytest.raises(NkiError, match=words):
        call()


def returns(value):
    def kernel(a):
        return value(a)

    return kernel


def test_an_error_of_the_kernels_own_passes_through():
    def kernel(a):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        simulator.run(kernel, A)
    np.testing.assert_array_equal(simulator.run(scaled, A).outputs, 2 * A)  # and nothing is left behind


def test_an_error_has_operation_line_rule_and_source():
    def kernel(a):
        tile = nl.ndarray((4, 4), nl.float32)
        nisa.dma_copy(tile[:, 0:9], a)

    with pytest.raises(OutOfBounds) as e:
        simulator.run(kernel, A)
    text = str(e.value)
    assert text.startswith("test_kernel.py:") and "slice 0:9:1 of dimension 1" in text and text.endswith("NkiTensor]")
    with pytest.raises(NkiValidationError) as e:
        simulator.run(returns(lambda a: nisa.dma_copy(nl.ndarray((4, 4), nl.float32), a)), A)
    assert str(e.value).startswith("nisa.dma_copy at test_kernel.py:")
    assert e.value.op == "nisa.dma_copy" and e.value.source == "nki/api/nki/isa/__init__.py, dma_copy"


# nki.simulate, as AWS documents it


def test_simulate_takes_and_gives_arrays(monkeypatch):
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    np.testing.assert_array_equal(nki.simulate(scaled)(A), 2 * A)
    np.testing.assert_array_equal(nki.simulate(scaled.function)(A, factor=0.5), A / 2)


def test_without_rounding_the_outputs_still_have_their_dtype():
    a = A.astype(ml_dtypes.bfloat16)
    options = simulator.Options(round_low_precision=False)
    outputs = simulator.run(scaled, a, 0.3, options=options).outputs
    assert outputs.dtype == a.dtype
    np.testing.assert_array_equal(outputs, (A * np.float32(0.3)).astype(ml_dtypes.bfloat16))


# Two cores


def halves(a):
    """Each core doubles its half of the rows of one shared output."""
    rows = a.shape[0] // nl.num_programs()
    start = nl.program_id(0) * rows
    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, a.shape[1]), a.dtype)
    nisa.dma_copy(tile, a[start : start + rows])
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    nisa.dma_copy(out[start : start + rows], tile)
    return out


def test_two_cores_share_their_output():
    kernel = nki.jit(halves)
    a = np.arange(32, dtype=np.float32).reshape(8, 4)
    for launched, cores in ((kernel, 1), (kernel[1], 1), (kernel[2], 2), (kernel[(2,)], 2)):
        run = simulator.run(launched, a)
        np.testing.assert_array_equal(run.outputs, 2 * a)
        assert {e.core for e in run.trace.events} == set(range(cores))
    np.testing.assert_array_equal(nki.simulate(kernel[2])(a), 2 * a)


def test_each_core_has_its_own_chip_memory_and_registers():
    def kernel(a):
        tile, largest = nl.ndarray(a.shape, a.dtype), nl.ndarray((a.shape[0], 1), nl.float32)
        ones = nl.ndarray(a.shape, nl.uint8)
        nisa.memset(ones, 1)
        nisa.dma_copy(tile, a)
        command = nisa.reduce_cmd.reset_reduce if nl.program_id(0) == 0 else nisa.reduce_cmd.reduce
        nisa.select_reduce(tile, ones, tile, 0.0, largest, command)
        return a

    simulator.run(nki.jit(kernel), A)
    with pytest.raises(NkiValidationError, match="accumulator of the Vector Engine holds nothing"):
        simulator.run(nki.jit(kernel)[2], A)


def test_a_half_that_no_core_writes_is_found():
    def kernel(a):
        out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
        if nl.program_id(0) == 0:
            nisa.dma_copy(out[0:4], a[0:4])
        return out

    with pytest.raises(KernelError, match=r"16 of 32 elements never written, first at \[4, 0\]"):
        simulator.run(nki.jit(kernel)[2], np.ones((8, 4), np.float32))


def test_two_cores_are_one_launch_from_neuroncore_v3_on():
    with pytest.raises(simulator.KernelError, match=r"kernel\[2\] needs NeuronCore-v3 or newer, and the target is"):
        simulator.run(nki.jit(returns(lambda a: a))[2], A, target="trn1")


def test_the_launch_grid_has_one_axis():
    with pytest.raises(NkiValidationError, match="the launch grid has one axis, 0; got 1"):
        simulator.run(returns(lambda a: nl.program_id(1)), A)
    seen = []
    simulator.run(nki.jit(returns(lambda a: seen.append((nl.program_ndim(), nl.num_programs())) or a))[2], A)
    simulator.run(returns(lambda a: seen.append((nl.program_ndim(), nl.num_programs())) or a), A)
    assert seen == [(1, 2), (1, 2), (0, 1)]


# Language odds and ends


@pytest.mark.parametrize(
    ("target", "sbuf", "generation"), [("trn1", 192 * 1024, 2), ("trn2", 224 * 1024, 3), ("trn3", 256 * 1024, 4)]
)
def test_tile_size_is_the_chips(core, target, sbuf, generation):
    with core(target):
        t = nl.tile_size
        assert (t.pmax, t.psum_bank_fmax, t.psum_bank_fmax_bytes, t.psum_num_banks) == (128, 512, 2048, 8)
        assert (t.gemm_stationary_fmax, t.gemm_moving_fmax, t.bn_stats_fmax) == (128, 512, 512)
        assert (t.sbuf_fmax_bytes, t.sbuf_fmax, t.sbuf_size_bytes) == (sbuf, sbuf // 4, sbuf * 128)
        assert (t.psum_fmax, t.total_available_sbuf_size) == (512, sbuf)
        assert nisa.get_nc_version() is nisa.nc_version(generation) and nisa.get_nc_sub_version() == 0


def test_loops_are_ranges():
    for loop in (nl.affine_range, nl.sequential_range, nl.static_range):
        assert list(loop(3)) == [0, 1, 2] and list(loop(2, 8, 3)) == [2, 5]


def test_buffers():
    assert nl.is_sbuf(nl.sbuf) and nl.is_psum(nl.psum) and nl.is_hbm(nl.shared_hbm) and nl.is_hbm(nl.hbm)
    assert nl.is_on_chip(nl.psum) and not nl.is_on_chip(nl.private_hbm) and not nl.is_hbm("hbm")


def test_an_instruction_can_be_ordered_after_others(core):
    with core() as c:
        tile = c.empty((2, 2))
        first = nisa.memset(tile, 0.0, name="clear")
        second = nisa.memset(tile, 1.0).depends_on(first)
        assert second.attributes["after"] == [first] and first.name == "clear"


@pytest.mark.parametrize(("target", "kib"), [("trn1", 192), ("trn2", 224), (None, 256)])
def test_tile_sizes_outside_a_kernel_are_those_of_the_default_target(monkeypatch, target, kib):
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    if target:
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", target)
    assert nl.tile_size.pmax == 128 and nl.tile_size.sbuf_fmax_bytes == kib * 1024


def test_the_first_remark_on_each_line_is_a_warning():
    def kernel(x):
        tile, out = nl.ndarray(x.shape, x.dtype), nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(tile, x)
        for _ in range(3):
            nisa.activation(tile, nl.log, tile)
        nisa.dma_copy(out, tile)
        return out

    with pytest.warns(
        simulator.SimulatorWarning, match=r"test_kernel.py:\d+: nl.log: 8 of 8 inputs are outside"
    ) as told:
        run = simulator.run(kernel, np.zeros((2, 4), np.float32))
    assert len(told) == 1 and len(run.trace.notes) == 2  # the logarithm of the third run is of NaN


def test_a_precision_is_0_or_1(monkeypatch):
    monkeypatch.setenv("NKI_PRECISE_FP", "2")
    with pytest.raises(simulator.KernelError, match="NKI_PRECISE_FP is '2'; expected 0 or 1"):
        nki.simulate(lambda x: x)(np.zeros((2, 4), np.float32))
    for value, rounds in (("0", False), ("1", True)):
        monkeypatch.setenv("NKI_PRECISE_FP", value)
        assert default_options().round_low_precision is rounds


def test_a_version_is_asked_for_by_the_environment(monkeypatch):
    for name in ("TRIPTYCH_NKI", "NKI_COMPILER_FRONTEND"):
        monkeypatch.delenv(name, raising=False)
    assert simulator.Options().api == "0.7"
    for front_end, api in (("custom", "0.6"), ("parser", "0.6"), ("other", "0.7")):
        monkeypatch.setenv("NKI_COMPILER_FRONTEND", front_end)
        assert simulator.Options().api == api
    monkeypatch.setenv("NKI_COMPILER_FRONTEND", "custom")
    monkeypatch.setenv("TRIPTYCH_NKI", "0.3")
    assert simulator.Options().api == "0.3"


def test_a_direct_call_simulates_where_the_environment_says_so(monkeypatch):
    monkeypatch.delenv("NKI_SIMULATOR", raising=False)
    kernel, x = nki.jit(lambda x: x), np.ones((2, 4), np.float32)
    with pytest.raises(simulator.KernelError, match="was called directly and there is no Neuron device"):
        kernel(x)
    monkeypatch.setenv("NKI_SIMULATOR", "1")
    np.testing.assert_array_equal(kernel(x), x)
