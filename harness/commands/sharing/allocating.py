"""A function around a Triton launcher that makes the memory for its outputs, and returns them as an NKI kernel does.

Our launchers write to memory that they are handed. Which shape and dtype it has to have is read off the cases that the
kernel was checked at: a dimension of an output is that of an input which has its size in all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.harness.backends.base import kernel_of
from triptych.harness.backends.triton_launcher import LACKS, written_to
from triptych.harness.errors import UsageError
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.op import Op, named_parameters


@dataclass(frozen=True)
class Memory:
    """The memory for an output, in Python that has the inputs by their names."""

    like: str  # the input that it is made from: its dtype, unless there is another, and its device
    shape: str
    dtype: str = ""

    def __str__(self) -> str:
        dtype = f", dtype=torch.{self.dtype}" if self.dtype else ""
        return f"{self.like}.new_empty({self.shape}{dtype})"


def function(op: Op, problems: Sequence[Problem]) -> str:
    """The text of a module beside the launcher's `kernel.py` with a function of the op's name and arguments.

    problems: those that the kernel was checked at. UsageError if PyTorch lacks a dtype of theirs, or an output's shape
    is not that of inputs.
    """
    launcher, _ = kernel_of(op.triton, loading.load)
    written = written_to(launcher, problems[0])
    made = {parameter: memory(problems, output) for parameter, output in written.items()}
    known = named_parameters(op.reference)
    taken = [p for p in inspect.signature(launcher).parameters.values() if p.name in known and p.name not in made]
    signature = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in taken)
    call = ", ".join(f"{name}={name}" for name in (*(p.name for p in taken), *made))
    imports = "import torch\n\n" if any(m.dtype for m in made.values()) else ""
    lines = [
        *(f"{name} = {each}" for name, each in made.items()),
        f"kernel.{launcher.__name__}({call})",
        f"return {', '.join(made)}",
    ]
    body = "".join(f"    {line}\n" for line in lines)
    return (
        f"{imports}from . import kernel\n\n__all__ = [{op.name!r}]\n\n\n"
        f'def {op.name}({signature}):\n    """{op.summary}"""\n{body}'
    )


def memory(problems: Sequence[Problem], output: str) -> Memory:
    """What memory an output needs, so that it fits each of the problems."""
    op = problems[0].op
    inputs = [name for name in problems[0].inputs if all(name in p.inputs for p in problems)]
    shapes, dtypes = zip(*(p.memory_of(output) for p in problems), strict=True)
    lacking = {*LACKS} & {dtype.name for dtype in (*dtypes, *(x.dtype for p in problems for x in p.inputs.values()))}
    if lacking:
        raise UsageError(f"PyTorch has no dtype {min(lacking)}, which {op.name} takes or gives.")

    def all_have(found: Sequence[object], wanted: Sequence[object]) -> bool:
        return all(one == other for one, other in zip(found, wanted, strict=True))

    def size(dimension: int) -> str:
        wanted = [shape[dimension] for shape in shapes]
        for name in inputs:
            for at in range(problems[0].inputs[name].ndim):
                if all_have([p.inputs[name].shape[at] for p in problems], wanted):
                    return f"{name}.shape[{at}]"
        raise UsageError(f"{op.name} gives an output whose dimension {dimension} is that of no input.")

    alike = next((name for name in inputs if all_have([p.inputs[name].shape for p in problems], shapes)), None)
    shape = f"{alike}.shape" if alike else f"[{', '.join(map(size, range(len(shapes[0]))))}]"
    for name in sorted(inputs, key=lambda name: name != alike):  # the one of that shape first
        if all_have([p.inputs[name].dtype for p in problems], dtypes):
            return Memory(name, shape)
    if len(set(dtypes)) > 1:
        raise UsageError(f"{op.name} gives an output whose dtype is that of no input.")
    return Memory(inputs[0], shape, dtypes[0].name)
