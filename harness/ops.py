"""The op table: which ops exist, which cases they have, and the bytes that every panel computes on."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import types
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triptych.harness.records import Arrays, Case, Op, case_name, marks
from triptych.harness.regimes import rounded

MODULES = ("matmul", "attention")  # harness/opdefs/<name>.py


class OpFileError(Exception):
    """A user's file does not declare an op; its text is one sentence."""


def builtin() -> dict[str, Op]:
    """The ops of this repository by name."""
    modules = (importlib.import_module(f"triptych.harness.opdefs.{name}") for name in MODULES)
    return {op.name: op for module in modules for op in module.OPS}


def from_file(path: str | Path) -> dict[str, Op]:
    """Every `triptych.Op` that the file at `path` holds at module level, or in a list there, by name.

    The file is executed once, so that `import nki` in it means the simulator even where AWS's nki is installed.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise OpFileError(f"{path} is not a file; `triptych new` writes one")
    try:
        with np.errstate(), warnings.catch_warnings():  # what the file sets is not for the judge
            module = load_simulated(path)
    except (Exception, SystemExit) as error:
        raise OpFileError(
            f"{path.name} could not be loaded: {type(error).__name__}: {error}{at(error, path)}"
        ) from error
    ops: dict[str, Op] = {}
    for op in dict.fromkeys(declared(vars(module).values())):
        if op.name in ops:
            raise OpFileError(f"{path.name} declares two ops called {op.name!r}")
        ops[op.name] = replace(op, nki=_reference(op.nki, module, path), triton=_reference(op.triton, module, path))
    if not ops:
        raise OpFileError(
            f"{path.name} declares no op: it needs a module-level `triptych.Op`, as `triptych new` writes one"
        )
    return ops


def declared(values: Iterable[Any]) -> Iterator[Op]:
    """The ops among `values`, and in lists, tuples and dicts among them."""
    for value in values:
        if isinstance(value, Op):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            inner = value.values() if isinstance(value, dict) else value
            yield from (op for op in inner if isinstance(op, Op))


def _reference(kernel: Any, module: types.ModuleType, path: Path) -> str | None:
    """`kernel`, a string or a function of `module`, as "absolute/path.py:function"."""
    if kernel is None:
        return None
    if isinstance(kernel, str):
        file, colon, function = kernel.rpartition(":")
        if colon and not (path.parent / file).is_file():
            raise OpFileError(f"{path.name} names the kernel {kernel!r}, and there is no file {path.parent / file}")
        return f"{path.parent / file if colon else path}:{function}"
    for name, value in vars(module).items():
        if value is kernel:
            return f"{path}:{name}"
    name = getattr(kernel, "__name__", repr(kernel))
    raise OpFileError(
        f"{path.name}: the kernel {name} of an op is under no name of this file, where a later definition may have "
        'taken its own; give it one, or name that of another file as "path/to/file.py:function"'
    )


def at(error: BaseException, path: Path) -> str:
    """Where in `path` an error was raised, as " (file.py:12)"; empty if it was elsewhere."""
    if isinstance(error, SyntaxError):
        return ""
    line = None
    traceback = error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename) == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f" ({path.name}:{line})" if line else ""


def load_simulated(path: Path) -> types.ModuleType:
    """The file as a module whose `nki` is the simulator's, whatever else is installed."""
    simulator = importlib.import_module("triptych.simulator")
    module: types.ModuleType = simulator.load(path)
    return module


def load(path: Path) -> types.ModuleType:
    """The file as a module of its own, executed once per process; its `nki` is whichever Python finds."""
    name = f"triptych_file_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def cases(
    op: Op, sets: Sequence[str], dtypes: Sequence[str] | None, overrides: Mapping[str, Sequence[int]], seed: int
) -> list[Case]:
    """The cases of `sets`, each in every dtype (the template's own, unless `dtypes` asks) and every overridden size."""
    for kind, asked, existing in (
        ("case set", sets, op.cases),
        ("dtype", dtypes or (), op.dtypes),
        ("axis", overrides, op.axes),
    ):
        for name in asked:
            if name not in existing:
                raise ValueError(f"op {op.name} has no {kind} {name!r}; it has {', '.join(existing)}")
    found: dict[tuple[str, str], Case] = {}
    for template in itertools.chain.from_iterable(op.cases[name] for name in sets):
        for values in itertools.product(*overrides.values()):
            case = resized(template, dict(zip(overrides, values, strict=True)))
            for dtype in dtypes or ([case.dtype] if case.dtype else op.dtypes):
                found.setdefault((case.name, dtype), replace(case, dtype=dtype, seed=seed))
    return list(found.values())


def resized(case: Case, sizes: Mapping[str, int]) -> Case:
    """`case` with other sizes, and a name that says so."""
    if all(case.axes.get(axis) == size for axis, size in sizes.items()):
        return case
    axes = {**case.axes, **sizes}
    if case.name == case_name(case.axes, case.params, case.regime):
        return replace(case, axes=axes, name=case_name(axes, case.params, case.regime))
    changes = ",".join(f"{axis}={size}" for axis, size in sizes.items())
    if len(sizes) == len(axes):  # nothing is left of the sizes that the case is named after
        return replace(case, axes=axes, name="-".join([changes, *marks(case.params, case.regime)]))
    return replace(case, axes=axes, name=f"{case.name}@{changes}")


def make_inputs(op: Op, case: Case, draw: int = 0) -> Arrays:
    """The inputs of `case`: the same bytes for every backend, other ones for every other `draw`.

    The dtype is no part of the seed: bfloat16 inputs are the float32 ones, rounded.
    """
    rng = np.random.default_rng([case.seed, zlib.crc32(f"{op.name}/{case.name}".encode()), draw])
    arrays = op.inputs(case, rng)
    wrong = [x for x in arrays.values() if not isinstance(x, np.ndarray)] if isinstance(arrays, dict) else [arrays]
    if wrong:
        raise TypeError(f"the inputs of {op.name} must be NumPy arrays by name; got a {type(wrong[0]).__name__}")
    wide = {name: x for name, x in arrays.items() if x.dtype == np.float64}
    return {**arrays, **rounded(wide, case.dtype)}
