"""What a backend is, and what all of them share: why a case is unsupported, and how a kernel's file is named."""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import WarningMessage

import numpy as np

from triptych.harness.arrays import Arrays
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.dtypes import is_float
from triptych.harness.emulators.conformance import Tested
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import layouts
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op
from triptych.harness.ops.outputs.naming import Outputs, Returned
from triptych.harness.precision import round_to
from triptych.harness.results.status import Evidence

if TYPE_CHECKING:
    from triptych.harness.results.timing import Timing


class KernelFault(Exception):
    """A kernel ran and broke a rule that only its backend can see; its text is one sentence."""


@dataclass(frozen=True)
class Replay:
    """A kernel once more, with every value in float32 at least: what tells its logic from its rounding.

    out: its outputs, rounded to the dtypes of the case; None where `emulator_fault` says enough.
    narrow: the dtypes whose rounding was left out, in words; empty if the kernel holds float32 alone; None if unknown.
    emulator_fault: a sentence on what the kernel uses and the emulator gets wrong.
    play: runs the kernel on the simulator under some of its options, for a comparison instruction by instruction.
    """

    out: Outputs | None
    narrow: str | None
    emulator_fault: str = ""
    play: Callable[[Any], Any] | None = None


class CannotReplay(Exception):
    """The backend has no way to run the kernel with less rounding; one sentence."""


class Backend(ABC):
    """One way to run the ops, and all that is known of it. Constructing it imports nothing heavy.

    A new backend is a subclass in a file of its own, and a row in `backends.BACKENDS`.
    """

    name: str
    panel: str  # the field of `Op` that holds what this backend runs
    family: str  # what a report colours alike: "numpy", "nki", "triton" or "torch"
    default_targets: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()  # dtypes that its language does not have
    is_reference = False  # whether what it runs is the reference itself
    promises_bits = True  # whether an op's promises of bits bind what it runs
    slow_clock = False  # whether its times say nothing about a kernel
    again_in_words = ""  # how `run_again` differs from `run`
    imports: tuple[str, ...] = ()  # what its runs import: a process that is forked into workers does so before
    emulates = ""  # the title of its self-test, where it emulates something

    @property
    def targets(self) -> tuple[str, ...]:
        """The chips that it can stand for; a backend without default targets has none."""
        return self.default_targets

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
    def run(self, problem: Problem, target: str | None) -> Any:
        """What the op's kernel returns, with an array for each tensor; see `given_back` for one that changes inputs."""

    def launches(self) -> AbstractContextManager[list[str]]:
        """Within a `with`, the kernels that runs launch and their configurations, where a launcher chooses some."""
        return nullcontext([])

    def run_again(self, problem: Problem, target: str | None) -> Any:
        """`run` once more, in another order if the kernel's programs have none of their own."""
        return self.run(problem, target)

    @abstractmethod
    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        """The timing of that run: measured samples, or a prediction that says so."""

    def replay(self, problem: Problem, target: str | None, out: Outputs) -> Replay:
        """The kernel, which gave `out`, without low-precision rounding; here, on inputs widened to float32."""
        if problem.dtype == np.float32 or not is_float(problem.dtype):
            raise CannotReplay(
                f"the inputs are {problem.dtype} already, so that the kernel cannot be run with less rounding; an "
                "emulator can: see nki-sim or triton-cpu."
            )
        wide = {
            name: layouts.astype(x, np.float32) if x.dtype == problem.dtype else x for name, x in problem.inputs.items()
        }
        returned = self.run(replace(problem, case=replace(problem.case, dtype="float32"), inputs=wide), target)
        again = {
            name: round_to(x, problem.memory_of(name)[1]) if isinstance(x, np.ndarray) else x
            for name, x in problem.named(returned).items()
        }
        return Replay(again, narrow=None)

    def selftest(self) -> Tested | str | None:
        """What the emulator of this backend gets right; why that cannot be known; None where nothing is emulated."""
        return None

    def spoken_errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions of its kernels whose text is a sentence already, with the kernel's line."""
        return ()

    def note(self, warning: WarningMessage) -> str:
        """What a kernel's run was warned of, with the line that warned."""
        return f"{os.path.basename(warning.filename)}:{warning.lineno}: {warning.message}"


def given_back(problem: Problem, value: Any, inputs: Arrays) -> Any:
    """What a kernel returned and, of one that changes some of its `inputs`, what these are now."""
    return Returned(value, {name: inputs[name] for name in problem.changed}) if problem.op.mutates else value


def split_kernel(kernel: str | Callable[..., Any] | None) -> tuple[Path, str]:
    """ "path/to/file.py:function" as the path and the function's name."""
    if not isinstance(kernel, str):
        raise KernelFault(f'the kernel must be given as "path/to/file.py:function", got {kernel!r}')
    path, _, function = kernel.rpartition(":")
    return Path(path), function


def member(module: object, function: str, path: Path) -> Any:
    """`function` of the loaded kernel file; "function[2]" is an NKI kernel on two cores."""
    name, launched, cores = function.partition("[")
    if not hasattr(module, name) or (launched and not cores.removesuffix("]").isdecimal()):
        raise KernelFault(f"{path.name} has no function {function!r}")
    return getattr(module, name)[int(cores.removesuffix("]"))] if launched else getattr(module, name)


def kernel_of(kernel: str | Callable[..., Any] | None, load: Callable[[Path], object]) -> tuple[Any, Path]:
    """The function that an op names as its kernel, or holds, and its file; `load` makes a module of a file."""
    if callable(kernel):
        return kernel, file_of(kernel)
    path, function = split_kernel(kernel)
    return member(load(path), function, path), path


def file_of(kernel: str | Callable[..., Any] | None) -> Path:
    """Where a kernel is written; in a notebook, what Python calls the cell."""
    if not callable(kernel):
        return split_kernel(kernel)[0]
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
