"""What an op's launcher launches at the sizes of a model, compiled for GPUs that are not here."""

from __future__ import annotations

import numpy as np
import pytest

from triptych.harness.collection import builtin
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.selection import Selection

pytest.importorskip("triton")

from triptych.harness.emulators.compilation import TARGETS
from triptych.harness.profiling import ahead_of_time

OPS = builtin()
ATTENTIONS = [name for name, op in OPS.items() if name.startswith("attention") and op.triton is not None]
# Options change what a program does on one GPU as on another; what differs between GPUs are the tiles of these.
COMPILED = [(name, "sm_90") for name in ATTENTIONS] + [
    (name, target) for name in ("attention", "attention_backward") for target in TARGETS if target != "sm_90"
]


@pytest.mark.parametrize("name", ["attention_lse", "attention_decode", "attention_backward"])
def test_outputs_with_axes_have_shapes_and_are_not_computed(name, monkeypatch):
    op = OPS[name]
    monkeypatch.setattr(ahead_of_time.Problem, "evaluate_all", lambda problem: pytest.fail("evaluated"))
    case = cases_of(op, ["smoke"], None, {}, 0)[0]
    problem = ahead_of_time.shaped(op, case)
    shapes = {name: x.shape for name, x in problem.inputs.items()}
    wanted = {"out": "q", "dq": "q", "dk": "k", "dv": "k", "k_cache": "k_cache", "v_cache": "v_cache"}
    for output in problem.outputs:
        shape, dtype = problem.memory_of(output)
        assert shape == (shapes["q"][:3] if output == "lse" else shapes[wanted[output]])
        assert dtype == (np.float32 if output == "lse" else problem.inputs["q"].dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), COMPILED)
def test_attention_of_a_model_has_no_heavy_spill_and_uses_the_matrix_unit(name, target):
    found = list(ahead_of_time.compilations([OPS[name]], Selection(sets=["model"], names="llama-3.1-8b/*"), [target]))
    assert found and all(one.kernel is not None and one.fault == "" for one in found), [one.fault for one in found]
    if OPS[name].dtypes != ("float32",):
        assert any(one.kernel.matrix_instructions for one in found)
