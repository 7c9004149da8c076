"""What a backend is, and what all of them share: why a case is unsupported, and how a kernel's file is named."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from triptych.harness.arrays import Array, Arrays
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class KernelFault(Exception):
    """A kernel ran and broke a rule that only its backend can see; its text is one sentence."""


class Backend(ABC):
    """One way to run the ops. Constructing it imports nothing heavy."""

    name: str
    panel: str  # the field of `Op` that holds what this backend runs
    targets: tuple[str, ...] = ()
    default_targets: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()  # dtypes that its language does not have

    @property
    @abstractmethod
    def evidence(self) -> Evidence:
        """What kind of machine the numbers come from."""

    @abstractmethod
    def missing(self) -> str | None:
        """None if the backend can run here, else one sentence why not. Quick."""

    def supports(self, op: Op, case: Case, target: str | None) -> str | None:
        """None if the op's kernel takes this case, else one sentence why not."""
        if getattr(op, self.panel) is None:
            return f"op {op.name} has no {self.panel} panel"
        if case.dtype not in op.dtypes:
            return f"op {op.name} is declared for {', '.join(op.dtypes)}, not for {case.dtype}"
        if case.dtype in self.lacks:
            return f"{self.name} has no dtype {case.dtype}"
        return op.unsupported(case, self.name, target or "") if op.unsupported else None

    @abstractmethod
    def run(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        """The output of the op's kernel on `inputs`."""

    def run_again(self, op: Op, case: Case, inputs: Arrays, target: str | None) -> Array:
        """`run` once more, in another order if the kernel's programs have none of their own."""
        return self.run(op, case, inputs, target)

    @abstractmethod
    def time(self, op: Op, case: Case, inputs: Arrays, target: str | None, budget: TimingBudget) -> Timing:
        """The timing of that run: measured samples, or a prediction that says so."""


def located(kernel: str | Callable[..., Any] | None) -> tuple[Path, str]:
    """ "path/to/file.py:function" as the path and the function's name."""
    if not isinstance(kernel, str):
        raise KernelFault(f'the kernel must be given as "path/to/file.py:function", got {kernel!r}')
    path, _, function = kernel.rpartition(":")
    return Path(path), function


def member(module: object, function: str, path: Path) -> Any:
    """`function` of the loaded kernel file."""
    if not hasattr(module, function):
        raise KernelFault(f"{path.name} has no function {function!r}")
    return getattr(module, function)


def kernel_of(kernel: str | Callable[..., Any] | None, load: Callable[[Path], object]) -> tuple[Any, Path]:
    """The function that an op names as its kernel, or holds, and its file; `load` makes a module of a file."""
    if callable(kernel):
        return kernel, file_of(kernel)
    path, function = located(kernel)
    return member(load(path), function, path), path


def file_of(kernel: str | Callable[..., Any] | None) -> Path:
    """Where a kernel is written; in a notebook, what Python calls the cell."""
    if not callable(kernel):
        return located(kernel)[0]
    code = getattr(inspect.unwrap(kernel), "__code__", None)
    return Path(code.co_filename if code else "")


def check_call(function: Any, path: Path, positional: Iterable[str], named: Iterable[str]) -> None:
    """KernelFault if the kernel's signature does not take the op's inputs and params as they are given."""
    positional, named = list(positional), list(named)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # it has none to ask
    try:
        signature.bind(*positional, **dict.fromkeys(named))
    except TypeError as error:
        call = ", ".join([*positional, *(f"{name}=" for name in named)])
        raise KernelFault(
            f"{path.name} has {function.__name__}{signature}, which is called as {function.__name__}({call}), after "
            f"the op's inputs and params: {error}"
        ) from None
