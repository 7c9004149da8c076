"""A row of the collection on tensors: on the CPU as arrays of NumPy, on a GPU and on a Neuron device as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from triptych.harness.arrays import from_torch, to_torch
from triptych.harness.dtypes import dtype_of
from triptych.harness.functions import rows
from triptych.harness.functions.places import ON_CPU, Place
from triptych.harness.functions.rows import Meant, Work, launcher_of, listed, refusals
from triptych.harness.pytorch.tracing import traceable


def compute(work: Work, place: Place) -> list[torch.Tensor]:
    """The outputs, in order, on the device of the tensors."""
    if place.backend in ON_CPU:
        return on_host(work, place)
    results = {"triton": on_gpu, "nki": on_neuron}[place.backend](work)
    rows.check(work, place, results)
    return results


def on_host(work: Work, place: Place) -> list[torch.Tensor]:
    """By NumPy's arrays, on the memory of the tensors."""
    arrays = {name: from_torch(x) for name, x in work.arrays.items()}
    meant = {
        name: Meant(tuple(x.shape), dtype_of(str(x.dtype).removeprefix("torch."))) for name, x in work.outputs.items()
    }
    found = rows.compute(replace(work, arrays=arrays, outputs=meant), place)
    return [to_torch(np.ascontiguousarray(x), "cpu") for x in found]


def on_gpu(work: Work) -> list[torch.Tensor]:
    """The Triton launcher on the GPU that the tensors are on."""
    launcher, wanted = launcher_of(work, "a GPU")
    return launched(launcher, wanted, work)


def traced_on_gpu(work: Work) -> list[torch.Tensor]:
    """The same on tensors without numbers, so that a compiler sees each launch."""
    launcher, wanted = launcher_of(work, "a GPU")
    return launched(traceable(launcher), wanted, work)


def launched(launcher: Callable[..., Any], wanted: Mapping[str, torch.Tensor], work: Work) -> list[torch.Tensor]:
    """What a launcher returns, or the memory that it was handed."""
    memory = {parameter: torch.empty_like(x) for parameter, x in wanted.items()}
    with refusals(work.row):
        returned = launcher(**work.arrays, **memory, **work.params)
    found = listed(returned) if returned is not None else list(memory.values())
    return found[: len(work.outputs)]


def on_neuron(work: Work) -> list[torch.Tensor]:
    """The NKI kernel on the Neuron device that the tensors are on: nki.jit takes them as they are."""
    kernel = rows.on_device(work.row)
    dense = {name: x if name in work.mutates else x.contiguous() for name, x in work.arrays.items()}
    with refusals(work.row):
        return listed(kernel(**dense, **work.params))[: len(work.outputs)]
