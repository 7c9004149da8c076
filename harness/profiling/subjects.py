"""What `triptych profile` can predict: a case of an op, or a function of a file with its arguments in words.

A subject can be called with drawn arrays, or with stand-ins that have a shape and a dtype and hold nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import file_of, kernel_of
from triptych.harness.dtypes import is_float
from triptych.harness.errors import UsageError, unknown
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import sizes_of
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection
from triptych.simulator import ShapeDtype, dtypes

DTYPE = "bfloat16"  # of an op, unless another is asked for
TENSOR = re.compile(r"(\d+(?:x\d+)*):(\w+)")
NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)", re.DOTALL)
Arguments = tuple[list[Any], dict[str, Any]]  # positional and by keyword


@dataclass(frozen=True)
class Subject:
    """A kernel and what it is called with."""

    op: str
    case: str
    dtype: str
    load: Callable[[], Any]  # the kernel
    drawn: Callable[[], Arguments]  # arrays
    shaped: Callable[[], Arguments]  # stand-ins for them
    words: Sequence[str]  # of a command line that selects it alone
    path: Path | None  # of the kernel
    unsupported: Callable[[str], str | None] = lambda target: None  # why a target cannot run it
    declared: tuple[Op, Case] | None = None
    axes: Mapping[str, int] = field(default_factory=dict)

    def at(self, error: BaseException) -> str:
        """Where in the kernel's file an error was raised, as " (file.py:12)"."""
        return loading.at(error, self.path) if self.path else ""


def of_ops(ops: Iterable[Op], selection: Selection, sources: Mapping[str, str]) -> list[Subject]:
    """The cases that a selection picks of these ops; `sources` are the files of those that a user's file declares."""
    return [subject for op in ops for subject in _of_op(op, selection, sources.get(op.name))]


def _of_op(op: Op, selection: Selection, source: str | None) -> list[Subject]:
    return [_of_case(op, group, case, selection, source) for group, case in sizes_once(op, selection)]


def sizes_once(op: Op, selection: Selection) -> list[tuple[str, Case]]:
    """The selected cases of an op with their sets, each size once: the regime of its inputs changes no time.

    In bfloat16, or else the op's first dtype, unless the selection asks for some.
    """
    sizes: dict[Any, dict[str, tuple[str, Case]]] = {}
    for group, case in selection.cases(op):
        same = sizes.setdefault((tuple(case.axes.items()), tuple(case.params.items())), {})
        same.setdefault(case.dtype, (group, case))
    found = []
    for same in sizes.values():
        wanted = same if selection.dtypes else [DTYPE if DTYPE in same else next(iter(same))]
        found += [same[dtype] for dtype in wanted]
    return found


def _of_case(op: Op, group: str, case: Case, selection: Selection, source: str | None) -> Subject:
    words = [op.name, *(["--kernel", source] if source else [])]
    words += ["--cases", group, "-k", case.name, "--dtype", case.dtype]
    for axis in selection.axes:
        words += ["-a", f"{axis}={case.axes[axis]}"]

    def load() -> Any:
        return kernel_of(op.nki, loading.load_simulated)[0]

    return Subject(
        op.name,
        case.name,
        case.dtype,
        load,
        drawn=lambda: _drawn(op, case),
        shaped=lambda: _stand_ins(op, case),
        words=words,
        path=file_of(op.nki) if op.nki is not None else None,
        unsupported=lambda target: BACKENDS["nki-sim"].supports(op, case, target),
        declared=(op, case),
        axes=case.axes,
    )


def _drawn(op: Op, case: Case) -> Arguments:
    problem = Problem.of(op, case)
    return problem.positional(problem.own_inputs())


def _stand_ins(op: Op, case: Case) -> Arguments:
    """The shapes of a case's inputs; drawn to be seen where the op does not declare them."""
    if op.shapes is None:
        positional, named = _drawn(op, case)
        return [ShapeDtype(x.shape, x.dtype) if isinstance(x, np.ndarray) else x for x in positional], named
    shapes = sizes_of(op.shapes, case).items()
    return [ShapeDtype(shape, op.dtype_of_input(name, case)) for name, shape in shapes], dict(case.params)


def of_function(source: str, path: Path, function: str | None, words: Sequence[str], seed: int) -> Subject:
    """A function of a file that declares no op, with arguments in words.

    Parameters:
        source: how the command line names it, as PATH or PATH:FUNCTION.
        function: None for the only kernel of the file.
        words: `[NAME=]4096x128:bfloat16` or `[NAME=]LITERAL` of each argument.
        seed: of the arrays that are drawn for tensors.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file.")
    name, kernel = _kernel(path, function)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for word in words:
        key, value = _argument(word)
        if key is None:
            positional.append(value)
        else:
            named[key] = value
    tensors = [value for value in (*positional, *named.values()) if isinstance(value, ShapeDtype)]
    rng = np.random.default_rng(seed)

    def call(each: Callable[[Any], Any]) -> Arguments:
        return [each(value) for value in positional], {key: each(value) for key, value in named.items()}

    return Subject(
        name,
        " ".join(words),
        ",".join(dict.fromkeys(str(tensor.dtype) for tensor in tensors)),
        lambda: kernel,
        drawn=lambda: call(lambda value: _array(value, rng)),
        shaped=lambda: call(lambda value: value),
        words=["--kernel", source, *(part for word in words for part in ("--arg", word))],
        path=path.resolve(),
    )


def _kernel(path: Path, function: str | None) -> tuple[str, Any]:
    """The name and the kernel of a file; an error that lists its kernels where the name means none."""
    try:
        module = loading.load_simulated(path.resolve())
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{path} could not be loaded: {type(error).__name__}: {error}{loading.at(error, path.resolve())}."
        ) from error
    kernels = [name for name, value in vars(module).items() if isinstance(value, simulator.Kernel)]
    if function is None and len(kernels) == 1:
        function = kernels[0]
    if function is None or not callable(getattr(module, function, None)):
        wanted = f"has no function {function}" if function else "holds no single kernel"
        raise UsageError(f"{path} {wanted}; name one, as {path}:function. Its kernels: {', '.join(kernels) or 'none'}.")
    return function, getattr(module, function)


def _argument(text: str) -> tuple[str | None, Any]:
    """`[NAME=]4096x128:bfloat16` or `[NAME=]LITERAL` as (name, value)."""
    named = NAMED.fullmatch(text)
    name, word = named.groups() if named else (None, text)
    tensor = TENSOR.fullmatch(word)
    if tensor:
        sizes, dtype = tensor.groups()
        if dtype not in dtypes.TABLE:
            raise unknown("dtype", dtype, dtypes.TABLE)
        return name, ShapeDtype(tuple(map(int, sizes.split("x"))), dtype)
    try:
        return name, ast.literal_eval(word)
    except (ValueError, SyntaxError):
        raise UsageError(
            f"--arg takes a tensor, as 4096x128:bfloat16, or a Python literal, as 0.5 or causal=True; got {text!r}."
        ) from None


def _array(value: Any, rng: np.random.Generator) -> Any:
    """An array for a stand-in: standard normal numbers, or zeros, which as indices are within bounds."""
    if not isinstance(value, ShapeDtype):
        return value
    storage = value.dtype.np
    if not is_float(storage):
        return np.zeros(value.shape, storage)
    return rng.standard_normal(value.shape, dtype=np.float32).astype(storage)
