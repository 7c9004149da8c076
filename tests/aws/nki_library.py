"""aws-neuron/nki-library at tag 2.29 (NKI 0.3): its kernels, with the inputs and references of its own tests.

The tests are written for AWS's hardware: each makes inputs, names a kernel and a reference in PyTorch or NumPy, and
hands all of it to an orchestrator, which here is our `Judge`.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import os
import random
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aws import stand_ins
from aws.nki_library_checks import CHECKS, Check
from aws.nki_library_judge import Judge
from aws.table import Case, Ran
from triptych.simulator import Options

TESTS = "test.integration.nkilib."


def recognises(path: Path) -> bool:
    return (path / "src" / "nkilib_src" / "nkilib").is_dir()


def cases(path: Path) -> Iterator[Case]:
    """Every case of CHECKS, its module imported when its turn comes."""
    needed(path)
    for check in CHECKS:
        for index in check.which:
            yield case_of(check, index)


def needed(path: Path) -> None:
    """Make the checkout importable, and AWS's tools that are not here as importable as they need to be."""
    os.environ["NKILIB_LOG_LEVEL"] = "OFF"
    if not (path / "test" / "integration").is_dir():
        raise SystemExit(f"{path} has no folder test/integration; give a whole checkout of nki-library at tag 2.29")
    for name in [n for n in sys.modules if n.partition(".")[0] == "test"]:
        del sys.modules[name]  # Python's own tests have the same name
    sys.path[:0] = [str(path), str(path / "src")]
    stand_ins.install()
    common = importlib.import_module("nkilib_src.nkilib.core.utils.mx_torch_common")
    quantize = common.quantize_to_mx  # knows packed dtypes by name, which NumPy's of ours do not print
    common.quantize_to_mx = lambda data, dtype: quantize(data, stand_ins.packed_name(dtype) or dtype)


def case_of(check: Check, index: int) -> Case:
    def run(options: Options) -> Sequence[Ran]:
        module = importlib.import_module(TESTS + check.module)
        method = find(module, check.test)
        chosen = copy.deepcopy(smallest(method)[index])
        for name, value in check.change.items():
            put(chosen, name, value)
        judge = Judge(options)
        arguments = fixtures(method, judge, check.target) | chosen
        np.random.seed(0)
        random.seed(0)
        try:
            method(**arguments)
        except BaseException as skipped:
            if type(skipped).__name__ != "Skipped":  # pytest's, which is no Exception
                raise
            raise LookupError(f"{check.test} skips these parameters: {skipped}") from None
        if not judge.ran:
            raise LookupError(f"{check.test} took the parameters for a negative test and ran no kernel")
        return judge.ran

    label = f"{check.test.removeprefix('test_')}[{index}]"
    if check.change:
        label += " with " + ", ".join(f"{k}={v}" for k, v in check.change.items())
    return Case(check.module.rpartition("test_")[2], label, run, check.api, check.fails, check.zeros)


def find(module: types.ModuleType, method: str) -> Any:
    """A test by its name: a method of one of the module's classes, or a function."""
    for value in (module, *vars(module).values()):
        if hasattr(value, method) and getattr(value, "__module__", module.__name__) == module.__name__:
            return getattr(value() if inspect.isclass(value) else value, method)
    raise LookupError(f"{module.__name__} has no {method}; is this tag 2.29?")


def fixtures(method: Any, judge: Judge, target: str) -> dict[str, Any]:
    """What pytest would give the method beside its parameters."""
    common = importlib.import_module("test.utils.common_dataclasses")
    node = types.SimpleNamespace(callspec=types.SimpleNamespace(id=""), name="")
    given = {
        "test_manager": judge,
        "collector": Ignored(),
        "platform_target": common.Platforms[target.upper()],
        "request": types.SimpleNamespace(node=node),
        "is_negative_test_case": False,
    }
    return {name: value for name, value in given.items() if name in inspect.signature(method).parameters}


class Ignored:
    """A collector of metrics that keeps none."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


# Parameters


def smallest(method: Any) -> list[dict[str, Any]]:
    """The parameter sets of a test, by the product of their sizes."""
    return sorted(itertools.islice(parameter_sets(method), 400), key=size)


def parameter_sets(method: Any) -> Iterator[dict[str, Any]]:
    axes: list[Iterable[dict[str, Any]]] = []
    for mark in getattr(method, "pytestmark", []):
        if mark.name == "parametrize":
            axes.append(list(parametrized(*mark.args[:2])))
        elif mark.name == "coverage_parametrize":
            axes.append(list(itertools.islice(covered(mark.kwargs), 200)))
    ranged = next((v for v in vars(method).values() if type(v).__name__ == "RangeTestConfig"), None)
    if ranged is not None:
        harness = importlib.import_module("test.utils.ranged_test_harness")
        random.seed(0)
        _, tests = harness.RangeTestHarness(ranged).get_unique_test_cases()
        axes.append([{"range_test_options": t} for t in sorted(tests, key=size) if not t.is_negative_test_case][:200])
    for chosen in itertools.product(*axes):
        yield {name: value for part in chosen for name, value in part.items()}


def parametrized(names: Any, values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """One dict for each entry of pytest.mark.parametrize that is not skipped."""
    keys = [n.strip() for n in names.split(",") if n.strip()] if isinstance(names, str) else list(names)
    for value in values:
        entry = (value,) if len(keys) == 1 else value
        if hasattr(value, "marks"):
            if any(m.name == "skip" for m in value.marks):
                continue
            entry = value.values
        yield dict(zip(keys, entry, strict=True))


def covered(axes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The valid combinations of nki-library's own coverage_parametrize."""
    names = [n for n, v in axes.items() if isinstance(v, (list, tuple)) or hasattr(v, "values")]
    accept = axes.get("filter")
    for combination in itertools.product(*(getattr(axes[n], "values", axes[n]) for n in names)):
        chosen = dict(zip(names, combination, strict=True))
        if accept is None or getattr(accept(**chosen), "name", "VALID") == "VALID":
            yield chosen


def size(value: Any) -> float:
    """The product of the integers in a parameter set, as deep as they are."""
    if hasattr(value, "tensors"):
        value = value.tensors
    if hasattr(value, "__dict__") and not inspect.isclass(value) and not isinstance(value, np.dtype):
        value = vars(value)
    if isinstance(value, dict):
        return float(np.prod([size(v) for v in value.values()]))
    if isinstance(value, (list, tuple)):
        return float(np.prod([size(v) for v in value]))
    return float(max(value, 1)) if type(value) is int else 1.0


def put(parameters: dict[str, Any], name: str, value: Any) -> None:
    """Replace a parameter, or an entry of the dimensions of a ranged test."""
    if name in parameters:
        parameters[name] = value
        return
    for dimensions in parameters["range_test_options"].tensors.values():
        if name in dimensions:
            dimensions[name] = value
            return
    raise LookupError(f"no parameter {name}")
