"""What `triptych profile` can predict: a case of an op, or a function of a file with its arguments in words.

A subject can be called with drawn arrays, or with stand-ins that have a shape and a dtype and hold nothing.
"""

from __future__ import annotations

import ast
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness.backends import BACKENDS
from triptych.harness.backends.base import located, member
from triptych.harness.collection import load_ops
from triptych.harness.dtypes import is_float
from triptych.harness.errors import UsageError, unknown
from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.inputs import make_inputs, sizes_of
from triptych.harness.ops.op import Op
from triptych.harness.ops.selection import Selection, check_axes, dtypes_of, pick, pick_ops, sets_of
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


def subjects(arguments: Namespace) -> list[Subject]:
    """Everything that the command line selects; what a name does not mean is an error that says what exists."""
    if arguments.kernel is not None:
        path, function = loading.split_function(arguments.kernel)
        if function is not None or arguments.args:
            return [_bare(arguments, Path(path), function)]
    elif arguments.args:
        raise UsageError("--arg goes with --kernel PATH:FUNCTION; the inputs of an op are its own.")
    chosen = pick_ops(arguments.ops, load_ops(arguments.kernel))
    sets = sets_of(chosen.values())
    check_axes(arguments.axes, chosen)
    usual = "smoke" if arguments.axes else "model"  # sizes of the user's own need no sizes of a model
    selection = Selection(
        sets=pick("case set", arguments.sets, sets) or ([usual] if usual in sets else sets),
        names=arguments.names,
        dtypes=pick("dtype", arguments.dtypes, dtypes_of(chosen.values())),
        axes=arguments.axes,
        seed=arguments.seed,
    )
    found = [subject for op in chosen.values() for subject in _of_op(op, selection, arguments.kernel)]
    if not found and selection.names is not None:
        raise unknown("case", selection.names, selection.case_names(chosen.values()))
    return found


def _of_op(op: Op, selection: Selection, source: str | None) -> list[Subject]:
    """The selected cases of an op, each size once: the regime of its inputs changes no time."""
    sizes: dict[Any, dict[str, tuple[str, Case]]] = {}
    for group, case in selection.cases(op):
        same = sizes.setdefault((tuple(case.axes.items()), tuple(case.params.items())), {})
        same.setdefault(case.dtype, (group, case))
    found = []
    for same in sizes.values():
        wanted = same if selection.dtypes else [DTYPE if DTYPE in same else next(iter(same))]
        found += [_of_case(op, *same[dtype], selection, source) for dtype in wanted]
    return found


def _of_case(op: Op, group: str, case: Case, selection: Selection, source: str | None) -> Subject:
    words = [op.name, *(["--kernel", source] if source else [])]
    words += ["--cases", group, "-k", case.name, "--dtype", case.dtype]
    for axis in selection.axes:
        words += ["-a", f"{axis}={case.axes[axis]}"]

    def load() -> Any:
        path, function = located(op.nki)
        return member(loading.load_simulated(path), function, path)

    return Subject(
        op.name,
        case.name,
        case.dtype,
        load,
        drawn=lambda: (list(make_inputs(op, case).values()), dict(case.params)),
        shaped=lambda: (_stand_ins(op, case), dict(case.params)),
        words=words,
        path=located(op.nki)[0] if isinstance(op.nki, str) else None,
        unsupported=lambda target: BACKENDS["nki-sim"].supports(op, case, target),
        declared=(op, case),
        axes=case.axes,
    )


def _stand_ins(op: Op, case: Case) -> list[ShapeDtype]:
    """The shapes of a case's inputs; drawn to be seen where the op does not declare them."""
    if op.shapes is None:
        return [ShapeDtype(x.shape, x.dtype) for x in make_inputs(op, case).values()]
    return [ShapeDtype(shape, case.dtype) for shape in sizes_of(op.shapes, case).values()]


def _bare(arguments: Namespace, path: Path, function: str | None) -> Subject:
    """A function of a file that declares no op, with the arguments of --arg."""
    for option, value in (("OP", arguments.ops), ("-k", arguments.names), ("-a", arguments.axes)):
        if value:
            raise UsageError(f"{option} selects a case of an op, and --kernel with --arg names a function.")
    if not path.is_file():
        raise UsageError(f"{path} is not a file.")
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
    kernel = getattr(module, function)
    positional, named = [], {}
    for text in arguments.args:
        name, value = _argument(text)
        if name is None:
            positional.append(value)
        else:
            named[name] = value
    tensors = [value for value in (*positional, *named.values()) if isinstance(value, ShapeDtype)]
    rng = np.random.default_rng(arguments.seed)

    def call(each: Callable[[Any], Any]) -> Arguments:
        return [each(value) for value in positional], {name: each(value) for name, value in named.items()}

    return Subject(
        function,
        " ".join(arguments.args),
        ",".join(dict.fromkeys(str(tensor.dtype) for tensor in tensors)),
        lambda: kernel,
        drawn=lambda: call(lambda value: _array(value, rng)),
        shaped=lambda: call(lambda value: value),
        words=["--kernel", arguments.kernel, *(word for text in arguments.args for word in ("--arg", text))],
        path=path.resolve(),
    )


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
