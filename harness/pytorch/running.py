"""A row of the collection on tensors: its reference, its NKI kernel or its Triton launcher, wherever the tensors are.

Every place gets the row's inputs by name and the params that are not defaults. What it gives back is put into tensors
of the shapes and dtypes that the operator declares; a result of another shape is an error, never a broadcast.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triptych import simulator
from triptych.harness import emulators
from triptych.harness.arrays import Array, from_torch, to_torch
from triptych.harness.backends.base import kernel_of
from triptych.harness.collection import builtin
from triptych.harness.dtypes import dtype_of, is_float
from triptych.harness.ops import loading
from triptych.harness.ops.op import Op
from triptych.harness.precision import round_to
from triptych.harness.pytorch.places import NoKernel, Place
from triptych.harness.pytorch.tracing import traceable
from triptych.simulator.launch.frameworks import UnsupportedDtype

Outputs = Mapping[str, torch.Tensor]  # empty tensors by name, of the right shapes and dtypes


@dataclass(frozen=True)
class Work:
    """What a place is asked to compute.

    tensors: the row's inputs by name, without those that are None; params: without defaults.
    outputs: of the right shapes and dtypes; what is in them counts for nothing.
    mutates: the inputs that change.
    """

    row: str
    tensors: Mapping[str, torch.Tensor]
    params: Mapping[str, Any]
    outputs: Outputs
    mutates: Sequence[str] = ()

    @property
    def op(self) -> Op:
        return rows()[self.row]


@cache
def rows() -> dict[str, Op]:
    """The collection."""
    return builtin()


def compute(work: Work, place: Place) -> list[torch.Tensor]:
    """The outputs, in order, on the device of the tensors."""
    results: list[torch.Tensor] = PLACES[place.backend](work, place.target)
    for (name, meant), found in zip(work.outputs.items(), results, strict=True):
        if (found.shape, found.dtype) != (meant.shape, meant.dtype):
            raise RuntimeError(
                f"{work.row} gave {name} as {tuple(found.shape)} {found.dtype} on {place.backend}, and "
                f"{tuple(meant.shape)} {meant.dtype} was expected"
            )
    return results


def on_numpy(work: Work, target: str | None) -> list[torch.Tensor]:
    """The reference, in float64 and rounded once."""
    arrays = {name: from_torch(x) for name, x in work.tensors.items()}
    wide = {name: np.array(x, np.float64) if is_float(x.dtype) else x for name, x in arrays.items()}
    found = listed(work.op.reference(**wide, **work.params))
    for name in work.mutates:
        arrays[name][...] = round_to(wide[name], arrays[name].dtype)
    meant = work.outputs.values()
    return [tensor(round_to(np.asarray(x), numpy_dtype(m))) for x, m in zip(found, meant, strict=False)]


def on_simulator(work: Work, target: str | None) -> list[torch.Tensor]:
    """The NKI kernel on a simulated chip."""
    arrays = {name: from_torch(x) for name, x in work.tensors.items()}
    with refusals(work.row):
        found = listed(simulator.on(target).run(simulated(work.row), **arrays, **work.params).outputs)
    return [tensor(x) for x, _ in zip(found, work.outputs, strict=False)]


def on_interpreter(work: Work, target: str | None) -> list[torch.Tensor]:
    """The Triton launcher in Triton's interpreter."""
    launcher, wanted = launcher_of(work, "triton-cpu")
    arrays = {name: from_torch(x) for name, x in work.tensors.items()}
    memory = {
        parameter: np.full(tuple(x.shape), np.nan if x.is_floating_point() else -1, numpy_dtype(x))
        for parameter, x in wanted.items()
    }
    changed = (*work.mutates, *memory)
    returned = emulators.interpret(launcher, {**arrays, **memory}, None, changed, **work.params)
    found = listed(returned) if returned is not None else list(memory.values())
    return [tensor(x) for x, _ in zip(found, work.outputs, strict=False)]


def on_gpu(work: Work, target: str | None) -> list[torch.Tensor]:
    """The Triton launcher on the GPU that the tensors are on."""
    launcher, wanted = launcher_of(work, "a GPU")
    return launched(launcher, wanted, work)


def traced_on_gpu(work: Work) -> list[torch.Tensor]:
    """The same on tensors without numbers, so that a compiler sees each launch."""
    launcher, wanted = launcher_of(work, "a GPU")
    return launched(traceable(launcher), wanted, work)


def launched(launcher: Callable[..., Any], wanted: Outputs, work: Work) -> list[torch.Tensor]:
    """What a launcher returns, or the memory that it was handed."""
    memory = {parameter: torch.empty_like(x) for parameter, x in wanted.items()}
    with refusals(work.row):
        returned = launcher(**work.tensors, **memory, **work.params)
    found = listed(returned) if returned is not None else list(memory.values())
    return found[: len(work.outputs)]


def on_neuron(work: Work, target: str | None) -> list[torch.Tensor]:
    """The NKI kernel on the Neuron device that the tensors are on: nki.jit takes them as they are."""
    if work.op.nki is None:
        raise NoKernel(f"{work.row} has no NKI kernel, and its tensors are on a Neuron device")
    kernel, _ = kernel_of(work.op.nki, loading.load)
    dense = {name: x if name in work.mutates else x.contiguous() for name, x in work.tensors.items()}
    with refusals(work.row):
        return listed(kernel(**dense, **work.params))[: len(work.outputs)]


@contextmanager
def refusals(row: str) -> Iterator[None]:
    """What a kernel says of sizes and dtypes that it is not written for, as NoKernel."""
    try:
        yield
    except (AssertionError, ValueError) as error:  # NKI kernels assert, Triton launchers raise
        raise NoKernel(f"{row}: {error}") from error
    except UnsupportedDtype as error:
        raise NoKernel(f"{row}: {error.message}") from error


PLACES: dict[str, Callable[[Work, str | None], list[torch.Tensor]]] = {
    "numpy": on_numpy,
    "nki-sim": on_simulator,
    "triton-cpu": on_interpreter,
    "triton": on_gpu,
    "nki": on_neuron,
}


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


def launcher_of(work: Work, where: str) -> tuple[Callable[..., Any], Outputs]:
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
    lacks = [name for name in (*work.tensors, *work.params) if name not in takes]
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


def numpy_dtype(x: torch.Tensor) -> np.dtype[Any]:
    return dtype_of(str(x.dtype).removeprefix("torch."))


def tensor(x: Array) -> torch.Tensor:
    """An array as a tensor of its own."""
    return to_torch(np.ascontiguousarray(x), "cpu")
