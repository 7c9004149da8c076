"""What a kernel is judged with is noted, and a change of any of it is seen."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from triptych.harness.backends.base import KernelFault
from triptych.harness.judge.prepared import prepare
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.case import Case
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op
from triptych.harness.trials import integrity
from triptych.harness.trials.integrity import Functions, Integrity


def helper(x):
    return 2.0 * x


def doubled(x):
    return helper(x)


def honest(x):
    return x + x


@pytest.fixture
def module(monkeypatch):
    """A module that is watched, with a function, a builtin and a number."""
    made = types.ModuleType("triptych.harness.made_up")
    made.function, made.builtin, made.number = (lambda: 1), len, 3
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def test_what_was_not_replaced_is_not_told(module):
    functions = Functions()
    module.number = 4  # no function
    module.new = print  # was not there
    assert functions.find_replaced() is None
    functions.check_after_loading("mine.py")


@pytest.mark.parametrize("name", ["function", "builtin"])
def test_a_function_that_is_another_is_told(module, name):
    functions = Functions()
    setattr(module, name, abs)
    assert functions.find_replaced() == f"triptych.harness.made_up.{name}"
    delattr(module, name)
    assert functions.find_replaced() == f"triptych.harness.made_up.{name}"
    with pytest.raises(InvalidOp, match=f"loading mine.py replaces triptych.harness.made_up.{name}"):
        functions.check_after_loading("mine.py")


def test_a_function_with_other_code_is_told(module):
    functions = Functions()
    module.function.__code__ = (lambda: 2).__code__
    assert functions.find_replaced() == "triptych.harness.made_up.function"


def test_modules_of_others_and_of_the_interpreter_that_we_patch_are_not_watched():
    watched = Functions().modules
    assert {"numpy", "numpy.linalg", "time", "math", "triptych.harness.trials.integrity"} <= set(watched)
    assert not [name for name in watched if name.startswith(("pytest", "triptych.harness.emulators"))]


def prepared_of():
    op = Op("op", {"x": ("M",)}, doubled, {}, honest=(honest,))
    return prepare(Problem.of(op, Case("op", "c", {"M": 100}, "float32")))


def test_an_op_is_judged_with_its_reference_its_baselines_and_what_they_name():
    found = integrity.functions_of(prepared_of().problem.op)
    assert found[:1] == [doubled] and set(found) == {doubled, helper, honest}
    of_c = Op("op", {"x": ("M",)}, np.exp, {}, honest=(honest,))
    assert integrity.functions_of(of_c) == [honest], "C has no code to look at"


def test_nothing_that_changed_is_no_fault():
    Integrity(Functions(), prepared_of()).check()


@pytest.mark.parametrize("function", [doubled, helper, honest])
def test_the_ops_own_code_is_looked_at(monkeypatch, function):
    watch = Integrity(Functions(), prepared_of())
    monkeypatch.setattr(function, "__code__", (lambda x: x).__code__)
    with pytest.raises(KernelFault, match=f"the kernel replaced {function.__name__}, which it is judged with"):
        watch.check()


def test_a_function_of_ours_is_looked_at_too(module):
    watch = Integrity(Functions(), prepared_of())
    module.function = abs
    with pytest.raises(KernelFault, match=r"the kernel replaced triptych\.harness\.made_up\.function"):
        watch.check()


@pytest.mark.parametrize("what", ["reference", "rounded"])
def test_the_reference_is_looked_at(what):
    prepared = prepared_of()
    watch = Integrity(Functions(), prepared)
    array = getattr(prepared.first.expected, what)
    array.flags.writeable = True
    array[7] += 1
    with pytest.raises(KernelFault, match="changed the reference or the tolerance"):
        watch.check()


def test_so_is_the_tolerance():
    expected = prepared_of().first.expected
    other = replace(expected, tolerance=type(expected.tolerance)(**{**_fields(expected.tolerance), "max_abs": 1.0}))
    assert integrity.seal(expected) != integrity.seal(other)


def _fields(tolerance):
    return {name: getattr(tolerance, name) for name in tolerance.__struct_fields__}


@pytest.mark.parametrize(
    ("module", "inside"), [("numpy", True), ("numpy.linalg", True), ("numpyx", False), ("x.numpy", False)]
)
def test_a_module_is_within_its_package(module, inside):
    assert integrity.within(module, ("math", "numpy")) is inside
