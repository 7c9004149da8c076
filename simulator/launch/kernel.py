"""Kernels: `nki.jit`, `nki.simulate`, and `run`, which also returns the trace."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from triptych.simulator.analysis.capacity import check_capacity
from triptych.simulator.analysis.edges import Edges, edges_of, keep
from triptych.simulator.analysis.races import check_races
from triptych.simulator.api.older import JIT_OPTIONS
from triptych.simulator.chips import chip_of, default_target
from triptych.simulator.collector import without_collector
from triptych.simulator.errors import KernelError, NkiError
from triptych.simulator.launch.arguments import Arguments, lacks_data
from triptych.simulator.lint.live import warn
from triptych.simulator.machine.cores import Core, Who, Work, take_turns
from triptych.simulator.machine.machine import Machine
from triptych.simulator.machine.observed import ObservedMachine
from triptych.simulator.machine.shape_only import ShapeMachine
from triptych.simulator.options import Options
from triptych.simulator.running import is_running, on_machine
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.trace import Trace


class Kernel:
    """A function decorated with `nki.jit`; `kernel[2]` launches it on two cores."""

    def __init__(self, function: Callable[..., Any], cores: int = 1, schedule: Edges = ()) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.cores = cores
        self.schedule = schedule

    def __getitem__(self, grid: Any) -> Kernel:
        cores = grid[0] if isinstance(grid, tuple) and len(grid) == 1 else grid
        if cores not in (1, 2):
            raise KernelError(f"kernel[n] takes 1 or 2 logical cores, got {grid!r}")
        return Kernel(self.function, cores, self.schedule)

    def with_schedule(self, schedule: Iterable[tuple[str, str | Sequence[str]]]) -> Kernel:
        """The kernel with edges [(consumer, producer or list of producers), ..] between named instructions."""
        return Kernel(self.function, self.cores, edges_of(schedule))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_running():  # a kernel called by a kernel is a plain function
            return self.function(*args, **kwargs)
        if os.environ.get("NKI_SIMULATOR") == "1":
            return simulate(self)(*args, **kwargs)
        raise KernelError(
            f"{self.function.__name__} was called directly and there is no Neuron device; use nki.simulate(kernel)(...)"
            " or set NKI_SIMULATOR=1"
        )


def jit(fn: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    """Mark a function as a kernel (nki.jit)."""
    if "platform_target" in kwargs:
        raise KernelError("nki.jit takes no platform_target since NKI 0.3; set NEURON_PLATFORM_TARGET_OVERRIDE")
    unknown = set(kwargs) - JIT_OPTIONS
    if unknown:
        raise KernelError(f"nki.jit takes no argument {', '.join(sorted(unknown))}")
    return jit if fn is None else Kernel(fn)


class NoteWarning(UserWarning):
    """A kernel does what is allowed but documented to go wrong, or what is not documented."""


@dataclass
class Run:
    """What a simulated run leaves: its outputs, in the caller's kind and as the kernel nests them, and its trace."""

    outputs: Any
    trace: Trace


def run(kernel: Any, *args: Any, target: str = "trn2", options: Options | None = None, **kwargs: Any) -> Run:
    """Execute `kernel` on the simulator of `target`, on one rank.

    Arrays of NumPy, PyTorch or JAX become HBM tensors, also inside tuples and NKIObjects; other arguments go through
    unchanged. Inputs that the kernel writes to are updated in place. Returns `Run` with `.outputs`, arrays of the same
    kind and of the kernel's dtypes, and `.trace`.

    Raises NkiError (in one sentence, with the kernel's line) for whatever the kernel does wrong.
    """
    launch = Launch(kernel, args, kwargs, target, options or Options())
    with without_collector():
        results = take_turns(launch.works())
    return launch.finished(results)


class Launch:
    """One rank's call of a kernel: its memory, its trace and its cores."""

    def __init__(
        self,
        kernel: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        target: str,
        options: Options,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        function, cores, self.schedule, args, kwargs = _unwrapped(kernel, args, kwargs)
        if options.lint:
            warn(function)
        self.function = function
        self.rank = rank
        self.options = options
        chip = chip_of(target)
        if cores > 1 and chip.generation < 3:
            raise KernelError(
                f"kernel[{cores}] needs NeuronCore-v3 or newer, and the target is {chip.name}",
                source="about-neuron/arch/neuron-hardware/trainium2.rst",
            )
        self.trace = Trace(chip, target)
        shared: list[NkiTensor] = []
        if lacks_data((args, kwargs)):
            self.options = options = dataclasses.replace(options, data=False)
        kind = ShapeMachine if not options.data else Machine if options.observe is None else ObservedMachine
        self.machines = [kind(chip, self.trace, options, n, cores, shared, rank, ranks) for n in range(cores)]
        self.arguments = Arguments(function, args, kwargs, self.machines)
        for m in self.machines:
            m.arguments = len(self.arguments.bound)

    def works(self) -> dict[Who, Work]:
        """What each core of the rank does."""

        def work(m: Machine, core: Core) -> Any:
            m.meet = core.meet
            with on_machine(m), np.errstate(all="ignore"):
                try:
                    args, kwargs = self.arguments.calls[m.core]
                    return self.function(*args, **kwargs)
                except NkiError as e:
                    if m.ranks > 1 and e.rank is None:
                        e.rank = m.rank
                    raise

        return {(m.rank, m.core): functools.partial(work, m) for m in self.machines}

    def finished(self, results: dict[Who, Any]) -> Run:
        """What the rank leaves: its trace checked, its arguments written back, its outputs."""
        if self.options.check_capacity:
            check_capacity(self.trace)
        if self.options.check_races and len(self.machines) > 1:
            check_races(self.trace)
        keep(self.schedule, self.trace)
        _tell(self.trace.notes)
        return Run(self.arguments.outputs(results[self.rank, 0]), self.trace)


def _tell(notes: list[str]) -> None:
    """Warn of the first remark on each line of the kernel."""
    told = set()
    for note in notes:
        place = note.partition(": ")[0]
        if place not in told:
            told.add(place)
            warnings.warn(note, NoteWarning, stacklevel=4)


def _unwrapped(
    kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], int, Edges, tuple[Any, ...], dict[str, Any]]:
    """The function behind a kernel, its cores, its schedule, and its arguments with those of partials."""
    cores = 1
    schedule: Edges = ()
    while True:
        if isinstance(kernel, functools.partial):
            args, kwargs = (*kernel.args, *args), {**kernel.keywords, **kwargs}
        cores = getattr(kernel, "cores", cores)
        schedule = getattr(kernel, "schedule", schedule)
        inner = getattr(kernel, "function", None) or getattr(kernel, "func", None)
        if inner is None:
            break
        kernel = inner
    if not callable(kernel):
        raise KernelError(f"expected a kernel, a function, got {type(kernel).__name__}")
    return kernel, cores, schedule, args, kwargs


def default_options() -> Options:
    """NKI_PRECISE_FP=0 keeps low precision in float32 (nki/guides/nki_simulator.rst)."""
    precise = os.environ.get("NKI_PRECISE_FP", "1")
    if precise not in ("0", "1"):
        raise KernelError(f"NKI_PRECISE_FP is {precise!r}; expected 0 or 1", source="nki/guides/nki_simulator.rst")
    return Options(round_low_precision=precise == "1")


def simulate(kernel: Any) -> Callable[..., Any]:
    """A callable that runs `kernel` on the simulator: arrays in, arrays of the same kind out.

    The chip is NEURON_PLATFORM_TARGET_OVERRIDE's, else trn3; NKI_PRECISE_FP=0 switches low-precision rounding off.
    """

    @functools.wraps(getattr(kernel, "function", kernel))
    def simulated(*args: Any, **kwargs: Any) -> Any:
        return run(kernel, *args, target=default_target(), options=default_options(), **kwargs).outputs

    return simulated
