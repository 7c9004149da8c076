"""A row of the collection on the CPU: its reference, its NKI kernel on the simulator, its Triton launcher interpreted.

Every place gets the row's inputs by name and the params that are not defaults. What it gives back must have the shapes
and dtypes that the caller declares; a result of another shape is an error, never a broadcast.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from triptych import simulator
from triptych.harness import emulators
from triptych.harness.arrays import Array
from triptych.harness.backends.base import kernel_of
from triptych.harness.collection import builtin
from triptych.harness.dtypes import is_float
from triptych.harness.functions.places import NoKernel, Place
from triptych.harness.ops import loading
from triptych.harness.ops.op import Op
from triptych.harness.precision import round_to
from triptych.simulator.launch.frameworks import UnsupportedDtype, check_dtype


@dataclass(frozen=True)
class Meant:
    """The shape and dtype of an output."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Work:
    """What a place is asked to compute.

    arrays: the row's inputs by name, without those that are None; of NumPy, or tensors of the caller's framework.
    params: without defaults.
    outputs: by name what has the shape and dtype of each: `Meant`, or empty tensors of the framework.
    mutates: the inputs that change.
    """

    row: str
    arrays: Mapping[str, Any]
    params: Mapping[str, Any]
    outputs: Mapping[str, Any]
    mutates: Sequence[str] = ()

    @property
    def op(self) -> Op:
        return rows()[self.row]


@cache
def rows() -> dict[str, Op]:
    """The collection."""
    return builtin()


def compute(work: Work, place: Place) -> list[Array]:
    """The outputs, in order, of NumPy's arrays; those that `work.mutates` names are changed in place."""
    results = ON_HOST[place.backend](work, place.target)
    check(work, place, results)
    return results


def check(work: Work, place: Place, results: Sequence[Any]) -> None:
    """RuntimeError if the outputs are not of the shapes and dtypes that are meant."""
    for (name, meant), found in zip(work.outputs.items(), results, strict=True):
        if (tuple(found.shape), found.dtype) != (tuple(meant.shape), meant.dtype):
            raise RuntimeError(
                f"{work.row} gave {name} as {tuple(found.shape)} {found.dtype} on {place.backend}, and "
                f"{tuple(meant.shape)} {meant.dtype} was expected"
            )


def check_refusal(work: Work, place: Place) -> None:
    """NoKernel if the NKI kernel refuses such shapes and dtypes, which it says on shapes alone.

    A kernel that looks at numbers is followed to where it does. The other kernels say so when they run.
    """
    if place.backend == "nki-sim":
        with refusals(work.row), suppress(simulator.NeedsData):
            for name, x in work.arrays.items():
                check_dtype(np.empty(0, x.dtype), name)
            shapes = {name: simulator.ShapeDtype(tuple(x.shape), str(x.dtype)) for name, x in work.arrays.items()}
            simulator.on(place.target).run(simulated(work.row), **shapes, **work.params)


def on_numpy(work: Work, target: str | None) -> list[Array]:
    """The reference, in float64 and rounded once."""
    wide = {name: np.array(x, np.float64) if is_float(x.dtype) else x for name, x in work.arrays.items()}
    found = listed(work.op.reference(**wide, **work.params))
    for name in work.mutates:
        work.arrays[name][...] = round_to(wide[name], work.arrays[name].dtype)
    meant = work.outputs.values()
    return [round_to(np.asarray(x), m.dtype) for x, m in zip(found, meant, strict=False)]


def on_simulator(work: Work, target: str | None) -> list[Array]:
    """The NKI kernel on a simulated chip."""
    with refusals(work.row):
        found = listed(simulator.on(target).run(simulated(work.row), **work.arrays, **work.params).outputs)
    return found[: len(work.outputs)]


def on_interpreter(work: Work, target: str | None) -> list[Array]:
    """The Triton launcher in Triton's interpreter."""
    launcher, wanted = launcher_of(work, "triton-cpu")
    memory = {
        parameter: np.full(x.shape, np.nan if is_float(x.dtype) else -1, x.dtype) for parameter, x in wanted.items()
    }
    changed = (*work.mutates, *memory)
    returned = emulators.interpret(launcher, {**work.arrays, **memory}, None, changed, **work.params)
    found = listed(returned) if returned is not None else list(memory.values())
    return found[: len(work.outputs)]


ON_HOST: dict[str, Callable[[Work, str | None], list[Array]]] = {
    "numpy": on_numpy,
    "nki-sim": on_simulator,
    "triton-cpu": on_interpreter,
}


@contextmanager
def refusals(row: str) -> Iterator[None]:
    """What a kernel says of sizes and dtypes that it is not written for, as NoKernel."""
    try:
        yield
    except (AssertionError, ValueError) as error:  # NKI kernels assert, Triton launchers raise
        raise NoKernel(f"{row}: {error}") from error
    except UnsupportedDtype as error:
        raise NoKernel(f"{row}: {error.message}") from error


@cache
def simulated(row: str) -> Any:
    """The NKI kernel of a row, loaded against the simulator whatever else is installed."""
    kernel = rows()[row].nki
    if kernel is None:
        raise NoKernel(f"{row} has no NKI kernel, which 'nki-sim' would run")
    return kernel_of(kernel, _simulated_file)[0]


@cache
def _simulated_file(path: Path) -> Any:
    return simulator.load(path)


def on_device(row: str) -> Any:
    """The NKI kernel of a row, loaded against the `nki` that is installed."""
    kernel = rows()[row].nki
    if kernel is None:
        raise NoKernel(f"{row} has no NKI kernel, and its arrays are on a Neuron device")
    return kernel_of(kernel, loading.load)[0]


def launcher_of(work: Work, where: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The Triton launcher of a row, and by the names of its parameters the outputs that it wants memory for.

    NoKernel if the row has no launcher, or one that does not take what is asked of it.
    """
    if work.op.triton is None:
        raise NoKernel(
            f"{work.row} has no Triton kernel yet, which {where} needs; there is an NKI kernel and a reference"
        )
    launcher, path = kernel_of(work.op.triton, loading.load)
    takes = inspect.signature(launcher).parameters
    outputs = {name: x for name, x in work.outputs.items() if name in takes}
    if len(work.outputs) == 1 and "out" in takes:
        outputs = {"out": next(iter(work.outputs.values()))}
    lacks = [name for name in (*work.arrays, *work.params) if name not in takes]
    if lacks:
        raise NoKernel(
            f"the Triton kernel of {work.row} takes no {', '.join(lacks)} yet, which {where} needs ({path.name})"
        )
    return launcher, outputs


def without_kernel(names: Sequence[str], place: Place) -> list[str]:
    """Which rows nobody has written a kernel of for a place."""
    if place.backend == "numpy":
        return []
    panel = "triton" if place.backend.startswith("triton") else "nki"
    return [name for name in names if getattr(rows()[name], panel) is None]


def listed(returned: Any) -> list[Any]:
    """One result or several as a list."""
    return list(returned) if isinstance(returned, (tuple, list)) else [] if returned is None else [returned]
