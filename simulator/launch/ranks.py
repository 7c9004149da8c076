"""Ranks: one kernel on several devices at once, each with its own memory, in one process.

A rank is one core, or both cores of a kernel launched as kernel[2]; what ranks do together is nki.collectives
(neuron-runtime/about/collectives.rst).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from triptych.simulator.collector import without_collector
from triptych.simulator.errors import KernelError
from triptych.simulator.launch.arguments import lacks_data
from triptych.simulator.launch.kernel import Launch, Run
from triptych.simulator.machine.cores import take_turns
from triptych.simulator.options import Options


def run_ranks(
    kernel: Any,
    arguments: Sequence[tuple[Any, ...] | Mapping[str, Any]],
    *,
    target: str = "trn2",
    options: Options | None = None,
) -> list[Run]:
    """Execute `kernel` on as many ranks as there are `arguments`: each a tuple, or a dict of keyword arguments.

    Returns one `Run` a rank, with its own outputs and trace. Ranks take turns, so that every run is the same. An array
    may be given to several ranks, which then each have a copy; only one of them may write to it.
    """
    if not arguments:
        raise KernelError("run_ranks needs the arguments of at least one rank")
    options = options or Options()
    if lacks_data([list(call.values()) if isinstance(call, Mapping) else call for call in arguments]):
        options = dataclasses.replace(options, data=False)
    launches = []
    for rank, call in enumerate(arguments):
        if not isinstance(call, (tuple, Mapping)):
            raise KernelError(f"the arguments of rank {rank} must be a tuple or a dict, got {type(call).__name__}")
        args, kwargs = ((), dict(call)) if isinstance(call, Mapping) else (call, {})
        launches.append(Launch(kernel, args, kwargs, target, options, rank, len(arguments)))
    with without_collector():
        results = take_turns({who: work for launch in launches for who, work in launch.works().items()})
    _check_written_once(launches)
    return [launch.finished(results) for launch in launches]


def _check_written_once(launches: Sequence[Launch]) -> None:
    """No two ranks wrote to one array of the caller's."""
    written = [(launch.rank, b.tensor.name, b.array) for launch in launches for b in launch.arguments.written()]
    for i, (rank, name, array) in enumerate(written):
        for other, again, theirs in written[i + 1 :]:
            if other != rank and np.shares_memory(array, theirs):
                raise KernelError(
                    f"rank {rank} writes to its argument {name} and rank {other} to {again}, which are one array of "
                    "yours; each rank has its own HBM: give each an array of its own"
                )
