"""One rank's execution of a kernel: its memory, its trace and its cores, and what it leaves."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from triptych.simulator.analysis.capacity import capacity_of, check_capacity
from triptych.simulator.analysis.edges import keep
from triptych.simulator.analysis.races import check_races
from triptych.simulator.chips import chip_of
from triptych.simulator.compiled import in_place as in_place  # of the Python, from here on
from triptych.simulator.engines.collectives.prepared import check_triggered
from triptych.simulator.errors import HERE, KernelError, NkiError, NkiValidationError, show_line
from triptych.simulator.launch.arguments import Arguments
from triptych.simulator.launch.call import Call
from triptych.simulator.lint.live import warn
from triptych.simulator.machine.cores import Core, Who, Work
from triptych.simulator.machine.deferral.deferred import DeferredMachine
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.observed import ObservedMachine
from triptych.simulator.machine.shape_only import ShapeMachine
from triptych.simulator.options import Options
from triptych.simulator.running import on_machine
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.timing import predict_trace
from triptych.simulator.timing.reading.picture import table
from triptych.simulator.trace import Trace


class SimulatorWarning(UserWarning):
    """A kernel does what is allowed but documented to go wrong, or what is not documented."""


@dataclass(repr=False)
class Run:
    """What a simulated run leaves.

    outputs: arrays of the kind that the caller gave (NumPy's, PyTorch's or JAX's), in the tuples, lists and dicts in
        which the kernel returns its tensors
    trace: every instruction that ran
    """

    outputs: Any
    trace: Trace

    def __repr__(self) -> str:
        return f"Run(on {self.trace.target}, {len(self.trace.events)} events, outputs={self.outputs!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the outputs by shape, and when the chip would do what."""
        found = self.outputs if isinstance(self.outputs, (tuple, list)) else [self.outputs]
        arrays = self.outputs.items() if isinstance(self.outputs, dict) else enumerate(found)
        rows = [
            (f"output {name}", f"{tuple(x.shape)} {x.dtype}" if hasattr(x, "shape") else type(x).__name__)
            for name, x in arrays
        ]
        return table(rows) + str(predict_trace(self.trace)._repr_html_())


class Execution:
    """A call of a kernel by one rank, on machines that are ready for it."""

    def __init__(self, call: Call, target: str, options: Options, rank: int = 0, ranks: int = 1) -> None:
        if options.lint:
            warn(call.function, options.api)
        chip = chip_of(target)
        if call.cores > 1 and chip.generation < 3:
            raise KernelError(
                f"kernel[{call.cores}] needs NeuronCore-v3 or newer, and the target is {chip.name}",
                source="about-neuron/arch/neuron-hardware/trainium2.rst",
            )
        self.call = call
        self.rank, self.ranks = rank, ranks
        self.options = options
        self.trace = Trace(chip, target)
        shared: list[NkiTensor] = []
        kind = _machine_for(options, call.cores)
        self.machines = [
            kind(chip, self.trace, options, core, call.cores, shared, rank, ranks) for core in range(call.cores)
        ]
        for m in self.machines:
            m.compile_config = call.launch.compile_config
            specialization = call.launch.specialization_config
            m.allows_nested_config = specialization is not None and specialization.allow_nested_config_override
        self.arguments = Arguments(call.function, call.args, call.kwargs, self.machines)
        for m in self.machines:
            m.arguments = len(self.arguments.bound)

    def works(self) -> dict[Who, Work]:
        def work(m: Machine, core: Core) -> Any:
            m.meet = core.meet
            with self._named(), on_machine(m), np.errstate(all="ignore"):
                args, kwargs = self.arguments.calls[m.core]
                try:
                    return self.call.function(*args, **kwargs)
                finally:
                    m.settle()

        return {(m.rank, m.core): functools.partial(work, m) for m in self.machines}

    def finish(self, results: dict[Who, Any], same_in_other_order: Callable[[], bool] | None = None) -> Run:
        """Check the trace, bring the caller's arrays up to date, and return what the rank leaves.

        results: what the kernel's function returned on each core
        same_in_other_order: says, once the arrays are up to date, whether they and the results would be the same with
            the cores in the other order; None if nobody knows
        """
        with self._named():
            for m in self.machines:
                check_triggered(m)
            if self.options.check_capacity and not self._fits():
                check_capacity(self.trace)
            race = self._race()
            if race is not None and (same_in_other_order is None or self.options.forbids("race-without-effect")):
                raise race
            keep(self.call.launch.edges, self.trace)
            _warn_of(self.trace.notes)
            _warn_of_threads()
            try:
                run = Run(self.arguments.outputs(results[self.rank, 0]), self.trace)
            except NkiError as error:
                raise race or error from None
            if race is not None and same_in_other_order is not None:
                if not same_in_other_order():
                    raise race
                _warn_of([f"{show_line(race.line)}: {race.message}; whoever comes first, the results are the same"])
            return run

    def _fits(self) -> bool:
        """Whether one core surely has the room, because all that its kernel ever held at once fits."""
        return len(self.machines) == 1 and all(
            held.peak <= capacity_of(self.trace.chip, buffer) for buffer, held in self.machines[0].held.items()
        )

    def _race(self) -> NkiValidationError | None:
        if not self.options.check_races or len(self.machines) == 1:
            return None
        try:
            check_races(self.trace)
        except NkiValidationError as race:
            return race
        return None

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors know the rank, where there are several."""
        try:
            yield
        except NkiError as e:
            if self.ranks > 1 and e.rank is None:
                e.rank = self.rank
            raise


def _machine_for(options: Options, cores: int) -> type[Machine]:
    """What carries the instructions out."""
    if not options.data:
        return ShapeMachine
    if options.observe is not None:
        return ObservedMachine
    return DeferredMachine if options.defer and options.round_low_precision and cores == 1 else Machine


def _warn_of(notes: list[str]) -> None:
    """Warn of the first remark on each line of the kernel, where the simulator was called."""
    told = set()
    for note in notes:
        place = note.partition(": ")[0]
        if place not in told:
            told.add(place)
            warnings.warn(note, SimulatorWarning, stacklevel=_stacklevel())


@functools.cache
def _warn_of_threads() -> None:
    """Warn, once, where Python runs without its global lock, as its free-threaded builds do."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        warnings.warn(
            "this Python runs without its global lock, and the simulator was tested with it: a kernel and its cores "
            "run one at a time, but kernels in several threads share what is kept of calls; run all in one thread, or "
            "set PYTHON_GIL=1",
            SimulatorWarning,
            stacklevel=_stacklevel(),
        )


def _stacklevel() -> int:
    """How many frames above the function that asks the simulator was called, as `warnings.warn` counts them."""
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        level, frame = level + 1, frame.f_back
    return level
