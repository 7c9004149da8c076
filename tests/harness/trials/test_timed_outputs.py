"""A kernel that is right when it is checked and wrong later has no time."""

import numpy as np
import pytest
from triptych.nki import isa as nisa
from triptych.nki import language as nl

import triptych
from triptych import nki
from triptych.harness.backends.base import KernelFault
from triptych.harness.judge.prepared import prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Status
from triptych.harness.trials.timed_outputs import TimedOutputs


def doubled(x):
    return x * 2


def op_of(wrong_from):
    """An op whose kernel triples from a call on."""
    calls = []

    @nki.jit
    def kernel(x):
        calls.append(1)
        out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
        tile = nl.load(x)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0 if len(calls) < wrong_from else 3.0)
        nl.store(out, tile)
        return out

    return Op("double", {"x": ("R", "C")}, doubled, [{"R": 4, "C": 8}], dtypes=("float32",), nki=kernel)


@pytest.mark.parametrize(("wrong_from", "ok"), [(1000, True), (4, False)])
def test_what_is_wrong_in_a_timed_call_has_no_time(wrong_from, ok):
    """The check itself calls a kernel three times."""
    (result,) = triptych.bench(op_of(wrong_from), backends="nki-sim", cases="smoke", isolated=False)
    assert (result.status is Status.PASSED) is ok and (result.timing is not None) is ok
    assert ok or "right when it was checked, wrong in a call that was timed (32 of 32 elements" in result.reason


def test_other_bits_may_be_right_as_well():
    problem = Problem.of(op_of(9), Case("double", "c", {"R": 4, "C": 8}, "float32"))
    right = problem.inputs["x"] * np.float32(2)
    look = TimedOutputs(prepare(problem), {"": right})
    look(right)
    look(np.nextafter(right, np.float32(100)))
    right_later = right.copy()
    right_later[0, 0] += 1
    with pytest.raises(KernelFault, match="1 of 32 elements"):
        look(right_later)


def test_a_buffer_that_later_calls_overwrite_is_compared_with_what_it_held():
    problem = Problem.of(op_of(9), Case("double", "c", {"R": 4, "C": 8}, "float32"))
    out = problem.inputs["x"] * np.float32(2)
    look = TimedOutputs(prepare(problem), {"": out})
    out[...] = 0
    with pytest.raises(KernelFault):
        look(out)


@pytest.mark.parametrize(("wrong_from", "ok"), [(10**9, True), (6, False)])
def test_tensors_are_looked_at_too(wrong_from, ok):
    pytest.importorskip("torch")
    calls = []

    def kernel(x):
        calls.append(1)
        return x * (2 if len(calls) < wrong_from else 3)

    op = Op("double", {"x": ("R", "C")}, doubled, [{"R": 4, "C": 8}], dtypes=("float32",), torch=kernel)
    (result,) = triptych.bench(op, backends="torch", cases="smoke", isolated=False)
    assert (result.status is Status.PASSED) is ok and (result.timing is not None) is ok


@pytest.mark.parametrize(("wrong_from", "ok"), [(10**9, True), (6, False)])
def test_what_a_call_changes_in_place_is_looked_at(wrong_from, ok):
    pytest.importorskip("torch")
    calls = []

    def reference(x, y):
        y += x
        return x * 2

    def kernel(x, y):
        calls.append(1)
        y += x if len(calls) < wrong_from else -x
        return x * 2

    op = Op(
        "grow",
        {"x": ("R", "C"), "y": ("R", "C")},
        reference,
        [{"R": 4, "C": 8}],
        dtypes=("float32",),
        mutates=("y",),
        torch=kernel,
    )
    (result,) = triptych.bench(op, backends="torch", cases="smoke", isolated=False)
    assert (result.status is Status.PASSED) is ok and (result.timing is not None) is ok
    assert ok or "wrong in a call that was timed (input y after the call" in result.reason


def test_an_output_that_is_left_out_stays_so():
    """Something else in its place is judged, and none in the place of an array is."""
    op = Op("pair", {"x": ("R", "C")}, lambda x: (2 * x, None), [])
    problem = Problem.of(op, Case("pair", "c", {"R": 4, "C": 8}, "float32"))
    right = problem.inputs["x"] * np.float32(2)
    look = TimedOutputs(prepare(problem), {"0": right, "1": None})
    look((right, None))
    assert look.is_checked("1", None) and not look.is_checked("1", right) and not look.is_checked("0", None)
    for returned, said in (((right, right), "which the reference leaves out"), ((None, None), "returned None")):
        with pytest.raises(KernelFault, match=said):
            look(returned)
