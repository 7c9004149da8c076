"""`simulator.on(...)`: a chip and how it is simulated, so that every keyword of a call is the kernel's own."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from triptych.nki import isa as nisa
from triptych.nki import language as nl

from triptych import simulator
from triptych.simulator import KernelError, Options, Simulator, SimulatorWarning
from triptych.simulator.launch import execution
from triptych.simulator.launch.call import call_of
from triptych.simulator.launch.execution import Execution
from triptych.simulator.machine.deferral.deferred import DeferredMachine
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.observed import ObservedMachine
from triptych.simulator.machine.shape_only import ShapeMachine
from triptych.simulator.memory.shapes import ShapeDtype

A = np.arange(12, dtype=np.float32).reshape(3, 4)


def scaled(a, target=2.0, options=0.0, order=1.0, settings=0.0, kernel=1.0, self=1.0, arguments=0.0):
    """(a * target + options) * order + settings + kernel + self + arguments"""
    tile = nl.ndarray(a.shape, dtype=a.dtype)
    nisa.dma_copy(dst=tile, src=a)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=target, op1=nl.add, operand1=options)
    rest = settings + kernel + self + arguments
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=order, op1=nl.add, operand1=rest)
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=tile)
    return out


OWN = {"target": 3.0, "options": 1.0, "order": 2.0, "settings": 5.0, "kernel": 7.0, "self": 11.0, "arguments": 13.0}
EXPECTED = (A * 3 + 1) * 2 + 5 + 7 + 11 + 13


@pytest.mark.parametrize("target", simulator.TARGETS)
def test_a_kernels_own_parameters_are_reached_whatever_their_names(target):
    trn = simulator.on(target)
    run = trn.run(scaled, A, **OWN)
    np.testing.assert_array_equal(run.outputs, EXPECTED)
    assert run.trace.target == target == trn.target
    np.testing.assert_array_equal(trn.run(scaled, a=A, **OWN).outputs, EXPECTED)
    for run in trn.run_ranks(scaled, [{"a": A, **OWN}, (A, *OWN.values())]):
        np.testing.assert_array_equal(run.outputs, EXPECTED)
    assert trn.predict(scaled, A, **OWN).total_us == simulator.predict_trace(run.trace).total_us


def test_what_a_simulation_takes_is_said_once():
    lenient = Options(check_uninitialized=False)
    trn1 = simulator.on("trn1", options=lenient, order="program", settings={"dma_static_issue_ns": 5000})
    assert trn1 == Simulator("trn1", lenient, "program", {"dma_static_issue_ns": 5000})

    def unwritten(a):
        out = nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
        nisa.dma_copy(out, nl.ndarray(a.shape, a.dtype))
        return out

    for outputs in (trn1.run(unwritten, A).outputs, trn1.run_ranks(unwritten, [(A,)])[0].outputs):
        assert outputs.shape == A.shape
    prediction = trn1.predict(scaled, A)
    assert prediction.timeline.order == "program" and prediction.chip.dma_static_issue_ns.value == 5000
    assert prediction.total_us > simulator.on("trn1", order="program").predict(scaled, A).total_us


def test_the_functions_are_the_same_in_one_call():
    chip = {"target": "trn1", "options": Options(lint=False)}
    np.testing.assert_array_equal(simulator.run(scaled, A, **chip).outputs, 2 * A + 2)
    assert simulator.run(scaled, A, **chip).trace.target == "trn1"
    assert simulator.run_ranks(scaled, [(A,)], **chip)[0].trace.target == "trn1"
    what_if = {"order": "program", "settings": {"dma_gb_per_s": 10}}
    assert (
        simulator.predict(scaled, A, **chip, **what_if).total_us
        == simulator.on(**chip, **what_if).predict(scaled, A).total_us
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "trn9"}, "target 'trn9' is unknown; expected one of trn1, inf2"),
        ({"order": "fastest"}, "order 'fastest' is unknown; expected one of overlapped, program"),
        ({"settings": {"speed": 1}}, "'speed' is no field of a chip record; expected one of"),
    ],
)
def test_a_wrong_one_is_said_at_once(given, words):
    with pytest.raises(KernelError, match=words):
        simulator.on(**given)


# The default chip


@pytest.mark.parametrize(("variable", "target"), [(None, "trn3"), ("", "trn3"), ("trn1", "trn1"), ("gen3", "gen3")])
def test_one_default_chip(monkeypatch, variable, target):
    """AWS's, for nki.simulate, for the simulator's functions and for tile sizes outside a kernel."""
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    if variable is not None:
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", variable)
    chip = simulator.TARGETS[target]

    def generation(a):
        tile, out = nl.ndarray((1, 1), nl.int32), nl.ndarray((1, 1), nl.int32, nl.shared_hbm)
        nisa.memset(tile, nisa.get_nc_version().value)
        nisa.dma_copy(out, tile)
        return out

    assert simulator.on().target == target
    assert simulator.run(generation, A).trace.target == target
    assert simulator.run_ranks(generation, [(A,)])[0].trace.target == target
    assert simulator.predict(generation, A).target == target
    assert simulator.simulate(generation)(A)[0, 0] == chip.generation
    assert nl.tile_size.sbuf_fmax_bytes == chip.sbuf_partition_bytes.value


def test_a_wrong_target_of_the_environment_is_one_sentence(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "tpu")
    with pytest.raises(KernelError, match="NEURON_PLATFORM_TARGET_OVERRIDE is 'tpu'; expected one of trn1"):
        simulator.run(scaled, A)
    assert simulator.run(scaled, A, target="trn2").trace.target == "trn2"


def test_what_is_printed_names_the_chip():
    trn1 = simulator.on("trn1")
    assert repr(trn1.run(scaled, A)).startswith("Run(on trn1, 4 events, outputs=array([[")
    for outputs, names in ((A, [0]), ((A, A), [0, 1]), ([A], [0]), ({"x": A, "y": A}, ["x", "y"])):
        shown = replace(trn1.run(scaled, A), outputs=outputs)._repr_html_()
        assert [f"<td>output {name}</td><td>(3, 4) float32</td>" in shown for name in names] == [True] * len(names)
        assert shown.count("(3, 4) float32") == len(names)
    assert repr(trn1.predict(scaled, A)) == f"Prediction(on trn1, {trn1.predict(scaled, A).total_us:.1f} us)"


# Warnings


@pytest.mark.parametrize(
    "call",
    [
        lambda kernel: simulator.run(kernel, np.zeros((2, 4), np.float32)),
        lambda kernel: simulator.on("trn2").run(kernel, np.zeros((2, 4), np.float32)),
        lambda kernel: simulator.run_ranks(kernel, [(np.zeros((2, 4), np.float32),)]),
        lambda kernel: simulator.predict(kernel, np.zeros((2, 4), np.float32)),
        lambda kernel: simulator.simulate(kernel)(np.zeros((2, 4), np.float32)),
    ],
)
def test_a_remark_is_a_warning_where_the_simulator_was_called(call):
    def kernel(x):
        tile, out = nl.ndarray(x.shape, x.dtype), nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(tile, x)
        nisa.activation(tile, nl.log, tile)
        nisa.dma_copy(out, tile)
        return out

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(kernel)
    assert [(w.category, w.filename, w.lineno) for w in caught] == [
        (simulator.SimulatorWarning, __file__, call.__code__.co_firstlineno)
    ]


def test_a_python_without_its_lock_is_told_once_what_that_means(monkeypatch):
    def kernel(x):
        tile, out = nl.ndarray(x.shape, x.dtype), nl.ndarray(x.shape, x.dtype, nl.shared_hbm)
        nisa.dma_copy(dst=tile, src=x)
        nisa.dma_copy(dst=out, src=tile)
        return out

    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    execution._warn_of_threads.cache_clear()
    with pytest.warns(SimulatorWarning, match="without its global lock.*PYTHON_GIL=1") as told:
        for _ in range(2):
            simulator.run(kernel, np.ones((4, 8), np.float32), target="trn2")
    assert len(told) == 1 and told[0].filename == __file__


@pytest.mark.parametrize(("options", "cores", "kind"), [
    ({}, 1, DeferredMachine), ({}, 2, Machine), ({"defer": False}, 1, Machine),
    ({"round_low_precision": False}, 1, Machine), ({"observe": print}, 1, ObservedMachine),
    ({"data": False}, 1, ShapeMachine), ({"data": False, "observe": print}, 2, ShapeMachine),
])  # fmt: skip
def test_what_carries_the_instructions_out(options, cores, kind):
    call = call_of(scaled, (), {"a": A if options.get("data", True) else ShapeDtype(A.shape, "float32")})
    made = Execution(replace(call, cores=cores), "trn2", Options(**options))
    assert [type(m) for m in made.machines] == [kind] * cores and (made.rank, made.ranks) == (0, 1)
