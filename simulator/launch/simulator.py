"""Run a kernel on a simulated chip, on one rank or on several, and predict how long it takes there.

`on` names the chip, and its methods take a kernel's arguments alone; `run`, `run_ranks` and `predict` do both in one
call, for kernels whose parameters have other names than theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.simulator.chips import chip_of, default_target
from triptych.simulator.launch import host
from triptych.simulator.launch.call import call_of
from triptych.simulator.launch.execution import Run
from triptych.simulator.launch.ranks import calls_of, execute
from triptych.simulator.options import Options
from triptych.simulator.timing.prediction import Prediction, predict_trace, with_settings
from triptych.simulator.timing.scheduler import check_order


@dataclass(frozen=True)
class Simulator:
    """A chip and how it is simulated; `on` makes one.

    Whatever its methods are given by keyword is the kernel's, so that a kernel may have parameters of any name.
    """

    target: str
    options: Options = field(default_factory=Options)
    order: str = "overlapped"
    settings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_order(self.order)
        with_settings(chip_of(self.target), self.settings)

    def run(self, kernel: Any, /, *args: Any, **kwargs: Any) -> Run:
        """Execute `kernel` on one rank.

        Arrays of NumPy, PyTorch or JAX become HBM tensors, also inside tuples and NKIObjects; other arguments go
        through unchanged. Inputs that the kernel writes to are updated in place. Returns `Run` with `.outputs`, arrays
        of the same kind and of the kernel's dtypes, and `.trace`.

        Raises NkiError (in one sentence, with the kernel's line) for whatever the kernel does wrong.
        """
        if host.host_function(kernel) is not None:
            return host.run_host(self.run, kernel, args, kwargs)
        (only,) = execute([call_of(kernel, args, kwargs)], self.target, self.options)
        return only

    def run_ranks(self, kernel: Any, /, arguments: Sequence[tuple[Any, ...] | Mapping[str, Any]]) -> list[Run]:
        """Execute `kernel` on as many ranks as there are `arguments`: each a tuple, or a dict of keyword arguments.

        Returns one `Run` a rank, with its own outputs and trace. Ranks take turns, so that every run is the same. An
        array may be given to several ranks, which then each have a copy; only one of them may write to it.
        """
        return execute(calls_of(kernel, arguments), self.target, self.options)

    def predict(self, kernel: Any, /, *args: Any, **kwargs: Any) -> Prediction:
        """How long `kernel` takes on the chip: run it, then schedule its trace. Raises NkiError as `run` does."""
        return predict_trace(self.run(kernel, *args, **kwargs).trace, self.order, self.settings)


def on(
    target: str | None = None,
    *,
    options: Options | None = None,
    order: str = "overlapped",
    settings: Mapping[str, float] | None = None,
) -> Simulator:
    """The simulator of a chip: `simulator.on("trn2").run(kernel, a, b)`.

    target: "trn1", "inf2", "trn2", "trn3", or "gen2" to "gen4"; None is that of NEURON_PLATFORM_TARGET_OVERRIDE, else
        "trn3", as it is for nki.simulate
    options: how strict the simulator is
    order: for predictions; "overlapped" is what a compiler's scheduler reaches, "program" leaves every queue as written
    settings: for predictions; fields of the chip record to replace, for what-if questions

    Raises KernelError for a target, an order or a field that does not exist.
    """
    return Simulator(default_target() if target is None else target, options or Options(), order, settings or {})


def run(kernel: Any, *args: Any, target: str | None = None, options: Options | None = None, **kwargs: Any) -> Run:
    """Execute `kernel` on one rank, as `on(target, options=options).run(kernel, ...)` does."""
    return on(target, options=options).run(kernel, *args, **kwargs)


def run_ranks(
    kernel: Any,
    arguments: Sequence[tuple[Any, ...] | Mapping[str, Any]],
    *,
    target: str | None = None,
    options: Options | None = None,
) -> list[Run]:
    """Execute `kernel` on as many ranks as there are `arguments`, as `on(target, options=options).run_ranks` does."""
    return on(target, options=options).run_ranks(kernel, arguments)


def predict(
    kernel: Any,
    *args: Any,
    target: str | None = None,
    order: str = "overlapped",
    settings: Mapping[str, float] | None = None,
    options: Options | None = None,
    **kwargs: Any,
) -> Prediction:
    """How long `kernel` takes on `target`, as `on(target, order=order, ...).predict(kernel, ...)` says."""
    return on(target, options=options, order=order, settings=settings).predict(kernel, *args, **kwargs)
