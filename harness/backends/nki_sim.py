"""`nki-sim`: our simulator of a NeuronCore, whose timing model predicts how long the chip takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from warnings import WarningMessage

from triptych.harness.arrays import Arrays
from triptych.harness.backends.base import Backend, Replay, check_call, given_back, kernel_of
from triptych.harness.backends.clocks import TimingBudget
from triptych.harness.emulators import conformance, usage
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.ops.outputs.naming import Outputs
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Predicted, Timing
from triptych.harness.results.timing_accuracy import LAST_VALIDATION, interval

if TYPE_CHECKING:
    from triptych.simulator import Options, Run

HARNESS = str(Path(loading.__file__).parents[1])


class Simulator(Backend):
    name = "nki-sim"
    panel = family = "nki"
    lacks = ("float64",)
    evidence = Evidence.SIMULATED
    default_targets = ("trn2",)
    imports = ("triptych.simulator",)
    emulates = "The NKI simulator, by class of instruction"

    @property
    def targets(self) -> tuple[str, ...]:
        """Every chip that has a record, by the names of its instances."""
        from triptych.simulator import CHIPS

        return tuple(target for chip in CHIPS for target in chip.targets if not target.startswith("gen"))

    def missing(self) -> str | None:
        return None

    def run(self, problem: Problem, target: str | None) -> Any:
        from triptych.simulator.lint import live

        live.forget()  # what a case is told does not depend on those that ran before it in this process
        own = problem.own_inputs()
        return given_back(problem, self.simulate(problem, own, target).outputs, own)

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        """A prediction from the trace, by the timing model with what a compiler's scheduler would overlap."""
        from triptych import simulator

        own = problem.own_inputs()
        run = self.simulate(problem, own, target)
        budget.look(given_back(problem, run.outputs, own))
        predicted = simulator.predict_trace(run.trace)
        low, high = interval(predicted.total_us, predicted.regime)
        return Predicted(
            timer="timing model",
            evidence=Evidence.PREDICTED,
            predicted_us=predicted.total_us,
            low_us=low,
            high_us=high,
            regime=predicted.regime,
            accuracy=LAST_VALIDATION,
            mfu=predicted.mfu,
            busy_share=predicted.busy,
        )

    def simulate(self, problem: Problem, inputs: Arrays, target: str | None, options: Options | None = None) -> Run:
        """The simulator's run on inputs of a problem, which the kernel may change, with its outputs and its trace."""
        from triptych import simulator

        kernel, path = kernel_of(problem.op.nki, _simulated)
        positional, named = problem.positional(inputs)
        check_call(kernel, path, problem.order or inputs, named)
        target = target or self.default_targets[0]
        with blaming_the_definition(kernel):
            return simulator.on(target, options=options).run(kernel, *positional, **named)

    def replay(self, problem: Problem, target: str | None, out: Outputs) -> Replay:
        """A run without rounding to low precision; what it issued tells what the simulator may have got wrong."""
        from triptych.simulator import Options

        def on(own: Arrays, options: Options) -> Run:
            return self.simulate(problem, own, target, options)

        def play(options: Options) -> Run:
            return on({name: x.copy() for name, x in problem.inputs.items()}, options)  # a kernel may write to them

        own = {name: x.copy() for name, x in problem.inputs.items()}
        run = on(own, Options(round_low_precision=False, lint=False))
        narrow = sorted({str(a.dtype) for a in run.trace.allocations if a.dtype.is_float and a.dtype.itemsize < 4})
        wrong = usage.wrong_among(self.selftest(), usage.issued_cells(run.trace.events))
        fault = (
            f"the simulator's self-test fails for {', '.join(wrong)} (see `triptych doctor`), which the kernel uses."
        )
        again = problem.named(given_back(problem, run.outputs, own))
        return Replay(again, ", ".join(narrow), fault if wrong else "", play)

    def selftest(self) -> conformance.Tested:
        return conformance.of_simulator()

    def spoken_errors(self) -> tuple[type[BaseException], ...]:
        from triptych.simulator import NkiError

        return (NkiError,)

    def note(self, warning: WarningMessage) -> str:
        """The simulator's remarks begin with the kernel's line."""
        from triptych.simulator import SimulatorWarning

        return str(warning.message) if isinstance(warning.message, SimulatorWarning) else super().note(warning)


@contextmanager
def blaming_the_definition(kernel: Any) -> Iterator[None]:
    """Errors of the call itself, whose line would be one of ours, name that of the kernel's definition."""
    from triptych.simulator import NkiError

    try:
        yield
    except NkiError as error:
        code = getattr(inspect.unwrap(kernel), "__code__", None)
        if error.line[0].startswith(HARNESS) and code is not None:
            error.line = (code.co_filename, code.co_firstlineno)
        raise


@cache
def _simulated(path: Path) -> ModuleType:
    return loading.load_simulated(path)
