"""Every kernel of the collection leaves one trace, whether the simulator computes it or has its shapes alone.

And the same bits, whether it computes at each instruction or puts off what it can, compiled or not.
"""

from __future__ import annotations

import numpy as np
import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.collection import builtin
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.simulator import NeedsData, Options
from triptych.simulator.compiled import in_place

OPS = builtin()
NEEDS_DATA = {  # a bound or an address of theirs is an input's value
    "attention",
    "attention_decode",
    "attention_decode_fp8",
    "attention_decode_fp8_paged",
    "attention_decode_paged",
    "attention_lse",
    "attention_mask",
    "attention_packed",
    "attention_prefill",
    "attention_sinks",
    "attention_softcap",
    "attention_window",
    "cross_entropy",
}
OF_TRN3 = {"matmul_mx"}  # that no earlier chip runs
NAMES = sorted(name for name, op in OPS.items() if op.nki is not None)


def story(trace):
    """All that a trace says of its events; `written` are checksums of values."""
    fields = ("op", "engine", "reads", "writes", "line", "core", "name")
    events = [
        (*[getattr(e, f) for f in fields], {k: e.attributes[k] for k in e.attributes if k != "written"})
        for e in trace.events
    ]
    return trace.allocations, events


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_leaves_one_trace_with_data_and_without(name):
    op, simulator = OPS[name], BACKENDS["nki-sim"]
    problem = Problem.of(op, cases_of(op, ["smoke"], [op.dtypes[0]], {}, 0)[0])
    target = "trn3" if name in OF_TRN3 else "trn2"
    with_data = simulator.simulate(problem, problem.own_inputs(), target).trace
    shapes = Options(data=False)
    if name in NEEDS_DATA:
        with pytest.raises(NeedsData):
            simulator.simulate(problem, problem.own_inputs(), target, shapes)
    else:
        assert story(simulator.simulate(problem, problem.own_inputs(), target, shapes).trace) == story(with_data)


def left_by(name, case, options):
    """All that a run of an op's kernel leaves: the bits of outputs and of arguments, and the trace."""
    problem = Problem.of(OPS[name], case)
    own = problem.own_inputs()
    run = BACKENDS["nki-sim"].simulate(problem, own, "trn3" if name in OF_TRN3 else "trn2", options)
    outputs = run.outputs if isinstance(run.outputs, tuple) else (run.outputs,)
    for event in run.trace.events:
        event.attributes.pop("registers", None)  # events, which are equal to themselves alone
    return [np.asarray(a).tobytes() for a in (*outputs, *own.values())], story(run.trace), run.trace.notes


@pytest.mark.filterwarnings("ignore::triptych.simulator.SimulatorWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_leaves_the_same_at_once_and_put_off_compiled_and_in_python(name, monkeypatch):
    for dtype in OPS[name].dtypes:
        for case in cases_of(OPS[name], ["smoke"], [dtype], {}, 0):
            put_off = left_by(name, case, Options())
            assert left_by(name, case, Options(defer=False)) == put_off
            with monkeypatch.context() as m:
                for (owner, method), in_python in zip(in_place.REPLACED, in_place.IN_PYTHON, strict=True):
                    m.setattr(owner, method, in_python)
                assert left_by(name, case, Options()) == put_off
