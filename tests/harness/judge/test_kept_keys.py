"""What is kept is never found once anything that determines it changed: keys, and what nobody can tell a key of."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
from users_source import SOURCE, executed, op_of, problem_of

from triptych.harness.collection import builtin
from triptych.harness.judge.kept import key
from triptych.harness.judge.kept.fingerprint import fingerprint, with_libraries
from triptych.harness.judge.kept.reads import Undetermined
from triptych.harness.ops.outputs.kinds import Output
from triptych.harness.ops.shapes import Input


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if our files had not been saved for a while."""
    monkeypatch.setattr(key, "_imported", 1e11)
    key.judge.cache_clear()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x) * SCALE", "x) / SCALE"),  # the reference
        ("SCALE = 2.0", "SCALE = 2.5"),  # a constant
        ("x + SHIFT", "x - SHIFT"),  # a function that it calls
        ("SHIFT = 1.0", "SHIFT = 1"),  # a constant of such, and its type
        ("arange(3.0)", "ones(3)"),  # an array
        ("slice(0, 1)", "slice(0, 1, 2)"),  # a slice
        ("made(0.5)", "made(0.25)"),  # what it closes over
        ("power=1", "power=2"),
        ("np.exp(", "np.cosh("),
    ],
)
def test_a_changed_reference_is_another(before: str, after: str) -> None:
    assert before in SOURCE
    first, second = (executed(source).reference for source in (SOURCE, SOURCE.replace(before, after)))
    assert fingerprint(first) != fingerprint(second)


def test_a_changed_helper_module_is_another_reference() -> None:
    first, second = executed(SOURCE), executed(SOURCE, "def more(x):\n    return x * 0.5")
    assert fingerprint(first.reference) != fingerprint(second.reference)
    assert fingerprint(first.reference) == fingerprint(executed(SOURCE).reference)


def test_a_patched_function_of_numpy_is_another_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = executed(SOURCE).reference
    before = fingerprint(reference)
    for other in (lambda x: x, np.sin):
        monkeypatch.setattr(np, "exp", other)
        assert fingerprint(reference) != before
        monkeypatch.undo()


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerance": {"budget": 3}},
        {"honest": (lambda x: x,)},
        {"corruptions": {"negated": lambda case, inputs, reference: (..., -reference)}},
        {"outputs": {"": Output(dtype="float32")}},
        {"strict_nonfinite": True},
        {"inputs": {"x": Input(("R", "C"), low=0, high=1)}},
        {"inputs": lambda case, rng: {"x": rng.standard_normal((24, 40)) + 1}},
        {"out": ("R", "C")},
    ],
)
def test_another_declaration_is_another_key(changes: dict[str, Any]) -> None:
    reference = executed(SOURCE).reference
    plain = key.key_of(problem_of(op_of(reference)), "")
    assert key.key_of(problem_of(op_of(reference)), "") == plain
    assert key.key_of(problem_of(op_of(reference, **changes)), "") != plain


def test_another_kernel_is_no_other_key() -> None:
    reference = executed(SOURCE).reference
    plain = key.key_of(problem_of(op_of(reference)), "")
    assert key.key_of(problem_of(op_of(reference, nki="kernel.py:f", dtypes=("float32",))), "") == plain


def test_seed_dtype_regime_inputs_and_what_is_kept_are_in_the_key() -> None:
    op = op_of(executed(SOURCE).reference)
    keys = [
        key.key_of(problem_of(op), ""),
        key.key_of(problem_of(op, seed=1), ""),
        key.key_of(problem_of(op, dtype="bfloat16"), ""),
        key.key_of(problem_of(op, regime="large"), ""),
        key.key_of(problem_of(op), "another"),
        key.key_of(problem_of(op).on({"x": problem_of(op).inputs["x"] + 1}), ""),
    ]
    assert len(set(keys)) == len(keys)


def test_versions_the_judge_and_switches_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(op_of(executed(SOURCE).reference))
    keys = [key.key_of(problem, "")]
    for change in (
        lambda: monkeypatch.setattr(np, "__version__", "9.9.9"),
        lambda: monkeypatch.setenv("OPENBLAS_CORETYPE", "none that there is"),
        lambda: monkeypatch.setattr(key, "judge", lambda: "another"),
        lambda: monkeypatch.setattr(key, "machine", lambda: "another"),
        lambda: monkeypatch.setattr(key, "states", lambda libraries: [("rounding", "toward zero")]),
    ):
        change()
        keys.append(key.key_of(problem, ""))
        monkeypatch.undo()
    assert len(set(keys)) == len(keys)


def test_a_file_of_the_judge_that_was_saved_since_is_not_taken_for_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key, "_imported", 0.0)
    key.judge.cache_clear()
    with pytest.raises(Undetermined, match="saved just now"):
        key.judge()
    key.judge.cache_clear()


HIDDEN = """
import os, random, time
import numpy as np
from numpy import load as read
counter = 0
GENERATOR = np.random.default_rng(0)
say = print

class Config:
    scale = 2.0

config = Config()
vectorised = np.vectorize(lambda x: x * 2, otypes=[np.float64])

def file(x): return x * np.load("scale.npy")
def renamed(x): return x * read("scale.npy")
def opened(x): return x * float(open("scale.txt").read())
def variable(x): return x * float(os.environ["SCALE"])
def clock(x): return x * time.time()
def drawn(x): return x * np.random.default_rng().random()
def generator(x): return x * GENERATOR.random()
def plain(x): return x * random.random()
def printed(x): say(x); return x
def an_object(x): return x * config.scale
def a_vectorised_function(x): return vectorised(x)
def a_module(x): return x * getattr(np, "pi")
def evaluated(x): return eval("x * 2")
def imported(x):
    import random
    return x * random.random()
def drawn_within(x):
    import numpy
    return x * (lambda: numpy.random.rand())()
def counts(x):
    global counter
    counter += 1
    return x * counter
"""


@pytest.mark.parametrize("name", [line.split("(")[0][4:] for line in HIDDEN.splitlines() if line.startswith("def ")])
def test_what_may_depend_on_something_else_is_never_kept(name: str) -> None:
    module = types.ModuleType("hidden")
    exec(compile(HIDDEN, "hidden.py", "exec"), vars(module))
    with pytest.raises(Undetermined):
        fingerprint(vars(module)[name])


def test_the_collection_is_known_throughout() -> None:
    for op in builtin().values():
        fingerprint(key.declared(op))


def test_another_process_has_the_same_fingerprint() -> None:
    """With another hash seed, so that no order of a set is in it."""
    source = (
        SOURCE
        + "\nNAMES = {'a', 'b', 'c'}\ndef named(x):\n    return reference(x) * len(NAMES) * ('a' in {'a', 'b'})\n"
    )
    text = (
        "from users_source import executed; from triptych.harness.judge.kept.fingerprint import fingerprint; "
        f"print(fingerprint(executed({source!r}).named).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {fingerprint(executed(source).named).hex()}


def test_the_libraries_that_a_reference_uses_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no others: whether PyTorch is imported does not matter to a reference in NumPy."""
    torch = types.ModuleType("torch")
    vars(torch).update(softmax=len, __version__="1")
    monkeypatch.setitem(sys.modules, "torch", torch)
    source = "import torch as t\nfrom torch import softmax as s\ndef asked(x): return t.softmax(x)\n"
    source += "def imported(x):\n    import torch.nn as nn\n    return nn.functional.softmax(x)\n"
    source += "def calls(x): return asked(x)\n"
    module: dict[str, Any] = {}
    exec(compile(source, "users.py", "exec"), module)
    for name in ("asked", "imported", "calls"):
        assert "torch" in with_libraries(module[name])[1]
    assert with_libraries(executed(SOURCE).reference)[1] & {"torch", "jax", "numpy"} == {"numpy"}
    assert dict(key.versions({"torch"})) == {"torch": "1"}


TORCH = """
import torch
import torch.nn.functional as F
from torch import rand as drawn

def same(x): return torch.rsqrt(x.square().mean(dim=-1, keepdim=True)) * F.gelu(x) + torch.arange(4) + F.silu(x)
def other(x): return torch.sqrt(x.square().mean(dim=-1, keepdim=True)) * F.gelu(x) + torch.arange(4) + F.silu(x)
def draws(x): return x + torch.normal(0.0, 1.0, x.shape)
def draws_too(x): return x + drawn(x.shape)
def drops(x): return F.dropout(x)
def drops_too(x): return torch.alpha_dropout(x, 0.5, True)
"""


def test_functions_of_pytorch_are_known_by_their_names_and_those_that_draw_are_not() -> None:
    pytest.importorskip("torch")
    module: dict[str, Any] = {}
    exec(compile(TORCH, "users.py", "exec"), module)
    found, libraries = with_libraries(module["same"])
    assert found != fingerprint(module["other"]) and "torch" in libraries
    for name in ("draws", "draws_too", "drops", "drops_too"):
        with pytest.raises(Undetermined):
            fingerprint(module[name])
