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
from triptych.simulator.launch.call import Call, call_of
from triptych.simulator.launch.execution import Execution, Run
from triptych.simulator.machine.cores import take_turns
from triptych.simulator.options import Options


def execute(calls: Sequence[Call], target: str, options: Options) -> list[Run]:
    """Execute a kernel on as many ranks as there are `calls`; they take turns. One `Run` a rank."""
    if any(lacks_data((call.args, call.kwargs)) for call in calls):
        options = dataclasses.replace(options, data=False)
    ranks = [Execution(call, target, options, rank, len(calls)) for rank, call in enumerate(calls)]
    with without_collector():
        results = take_turns({who: work for rank in ranks for who, work in rank.works().items()})
    if len(ranks) > 1:
        _check_written_once(ranks)
    return [rank.finish(results) for rank in ranks]


def calls_of(kernel: Any, arguments: Sequence[tuple[Any, ...] | Mapping[str, Any]]) -> list[Call]:
    """One call of `kernel` a rank: with a tuple of positional arguments, or a dict of arguments by keyword."""
    if not arguments:
        raise KernelError("run_ranks needs the arguments of at least one rank")
    calls = []
    for rank, given in enumerate(arguments):
        if not isinstance(given, (tuple, Mapping)):
            raise KernelError(f"the arguments of rank {rank} must be a tuple or a dict, got {type(given).__name__}")
        args, kwargs = ((), dict(given)) if isinstance(given, Mapping) else (given, {})
        calls.append(call_of(kernel, args, kwargs))
    return calls


def _check_written_once(ranks: Sequence[Execution]) -> None:
    """No two ranks wrote to one array of the caller's."""
    written = [(rank.rank, b.tensor.name, b.array) for rank in ranks for b in rank.arguments.written()]
    for i, (rank, name, array) in enumerate(written):
        for other, again, theirs in written[i + 1 :]:
            if other != rank and np.shares_memory(array, theirs):
                raise KernelError(
                    f"rank {rank} writes to its argument {name} and rank {other} to {again}, which are one array of "
                    "yours; each rank has its own HBM: give each an array of its own"
                )
