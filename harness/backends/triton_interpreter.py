"""`triton-cpu`: the op's Triton launcher in Triton's interpreter, with its numerics made right."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from triptych.harness.backends import guarded
from triptych.harness.backends.base import Backend, KernelFault, Replay, file_of, given_back
from triptych.harness.backends.clocks import TimingBudget, time_host
from triptych.harness.backends.sealed import Sealed
from triptych.harness.backends.triton_launcher import LACKS, NO_TRITON, as_held, launcher_of, output_of
from triptych.harness.backends.triton_launches import launches
from triptych.harness.bits import first_difference
from triptych.harness.emulators import (
    EmulationError,
    OrderError,
    conformance,
    interpret,
    interpret_backwards,
    replay,
    usage,
    version_support,
)
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import layouts
from triptych.harness.ops.outputs.naming import Outputs, flatten
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing

if TYPE_CHECKING:
    from triptych.harness.emulators.interpreter.launches import Launches


class Interpreter(Backend):
    name = "triton-cpu"
    panel = family = "triton"
    lacks = LACKS
    evidence = Evidence.INTERPRETED
    slow_clock = True
    again_in_words = " with the programs of each launch in reverse order"
    imports = ("triptych.harness.emulators.running",)
    emulates = "Triton's interpreter, operation by operation"

    def missing(self) -> str | None:
        return NO_TRITON if find_spec("triton") is None else version_support()

    def __init__(self) -> None:
        self.before: WeakKeyDictionary[Problem, Launches] = WeakKeyDictionary()  # of the run on each problem

    def run(self, problem: Problem, target: str | None) -> Any:
        from triptych.harness.emulators.interpreter.launches import Launches

        before = self.before[problem] = Launches()
        returned = interpreted(problem, interpret, before)
        if problem.case.regime == "strided" and not problem.op.mutates:
            warn_of_narrow_offsets(problem, returned)
        return returned

    def run_again(self, problem: Problem, target: str | None) -> Any:
        """With the programs of each launch in reverse order: a result that depends on their order is a race.

        A launch that the run before was seen to leave the same in any order is not run again.
        """
        try:
            return interpreted(problem, interpret_backwards, self.before.get(problem))
        except KernelFault as fault:
            raise KernelFault(
                f"with each launch's programs in reverse order, as a GPU may run them, {fault}; programs that read "
                "what others write race"
            ) from None

    def launches(self) -> AbstractContextManager[list[str]]:
        from triptych.harness.emulators.running import Session

        return launches(Session)

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        """Wall time of the interpreter: it says how long a test takes, nothing about a GPU."""
        # An interpreter's time tells of the interpreter, and a call may take many seconds: one sample says enough.
        once = replace(budget, warmup_seconds=0.0, seconds=0.0, fewest=1)
        return time_host(lambda: interpreted(problem, interpret), once, self.evidence)

    def replay(self, problem: Problem, target: str | None, out: Outputs) -> Replay:
        """A run with every value in float32 but at its stores, unless the interpreter itself is to blame."""
        dtype = problem.case.dtype
        kernel = problem.op.triton
        source = None if callable(kernel) else file_of(kernel).read_text(encoding="utf-8", errors="replace")
        wrong = usage.wrong_in_source(self.selftest(), dtype, source)
        if wrong:
            text = f"Triton's interpreter computes {', '.join(wrong)} wrongly in {dtype} (see `triptych doctor`)"
            return Replay(None, None, f"{text}, and the kernel may use it. Try float32, or a GPU.")
        again = problem.named(interpreted(problem, replay))
        same = all(x is None or first_difference(out[name], x) is None for name, x in again.items())
        narrow = "" if same else "float16, bfloat16, float8 and TF32"
        return Replay(again, narrow)

    def selftest(self) -> conformance.Tested | str:
        return self.missing() or conformance.of_interpreter()

    def spoken_errors(self) -> tuple[type[BaseException], ...]:
        return (EmulationError,)


def warn_of_narrow_offsets(problem: Problem, returned: Any) -> None:
    """A warning if the kernel computes another result where rows lie so far apart that an offset needs 33 bits."""
    try:
        far = layouts.far_apart(problem.inputs)
    except OSError:
        return
    try:
        wrong = differ(interpreted(replace(problem, inputs=far, known=problem.evaluated), interpret), returned)
        said = "another result"
    except (KernelFault, EmulationError) as error:
        wrong, said = True, str(error)
    if wrong:
        warnings.warn(
            "offsets wrap where an input has 2**31 elements from first to last: with rows so far apart the kernel "
            f"gives {said}; compute them in 64 bits, as tl.program_id(0).to(tl.int64) * stride",
            stacklevel=2,
        )


def differ(a: Any, b: Any) -> bool:
    """Whether two results of a kernel have other bits in any of their arrays."""
    one, other = flatten(a), flatten(b)
    return any(isinstance(x, np.ndarray) and first_difference(x, other[name]) is not None for name, x in one.items())


def interpreted(problem: Problem, how: Callable[..., Any], launches: Launches | None = None) -> Any:
    """What the op's launcher gives, run by one of the emulator's ways; forwards where it cannot run backwards."""
    own = problem.own_inputs()
    try:
        with launcher_of(problem) as (launcher, writes), Sealed(problem.inputs):
            memory = {parameter: problem.memory_of(name) for parameter, name in writes.items()}
            written = {p: guarded.inside(guarded.pattern_buffer(*m), *m) for p, m in memory.items()}
            mutates = (*problem.changed, *written)
            arrays = {name: as_held(x) for name, x in {**own, **written}.items()}
            rest = () if launches is None else (launches,)
            returned = how(launcher, arrays, None, mutates, *rest, **problem.case.params)
    except OrderError:
        return interpreted(problem, interpret)
    return given_back(problem, output_of(returned, writes, written, problem), own)
