"""Ops of a user, from source, for the tests of what is kept."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.op import Op

SOURCE = """
import numpy as np
import helpers

SCALE = 2.0
TABLE = np.arange(3.0)
FIRST = slice(0, 1)
CALLS = []

def shifted(x):
    return x + SHIFT

SHIFT = 1.0

def made(offset, power=1):
    def reference(x):
        return np.exp(-np.abs(shifted(x) * SCALE + TABLE[FIRST] + offset)) ** power + helpers.more(x)
    return reference

reference = made(0.5)
"""


def executed(source: str, helper: str = "def more(x):\n    return x * 0.25") -> types.ModuleType:
    """A user's module and its helper, from source."""
    module, helpers = types.ModuleType("users"), types.ModuleType("helpers")
    exec(compile(helper, "helpers.py", "exec"), vars(helpers))
    exec(compile(source.replace("import helpers\n", ""), "users.py", "exec"), vars(module))
    vars(module)["helpers"] = helpers
    return module


def op_of(reference: Callable[..., Any], **fields: Any) -> Op:
    given = {"inputs": {"x": ("R", "C")}, "cases": [{"R": 24, "C": 40}], **fields}
    return Op(name="users", reference=reference, **given)


def problem_of(op: Op, dtype: str = "float32", seed: int = 0, **changes: Any) -> Problem:
    case = cases_of(op, [next(iter(op.declared_sets))], [dtype], {}, seed)[0]
    return Problem.of(op, replace(case, **changes))
