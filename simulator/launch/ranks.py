"""Ranks: one kernel on several devices at once, each with its own memory, in one process.

A rank is one core, or both cores of a kernel launched as kernel[2]; what ranks do together is nki.collectives
(neuron-runtime/about/collectives.rst).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from triptych.simulator.collector import without_collector
from triptych.simulator.errors import KernelError, NkiError
from triptych.simulator.launch.arguments import lacks_data, leaves
from triptych.simulator.launch.call import Call, call_of
from triptych.simulator.launch.execution import Execution, Run
from triptych.simulator.machine.cores import Who, take_turns
from triptych.simulator.options import Options
from triptych.simulator.tensors.tensor import NkiTensor


def execute(calls: Sequence[Call], target: str, options: Options) -> list[Run]:
    """Execute a kernel on as many ranks as there are `calls`; they take turns. One `Run` a rank."""
    if any(lacks_data((call.args, call.kwargs)) for call in calls):
        options = dataclasses.replace(options, data=False)
    ranks = [Execution(call, target, options, rank, len(calls)) for rank, call in enumerate(calls)]
    may_race = len(ranks) == 1 and len(ranks[0].machines) > 1 and options.check_races and options.data
    other = OtherOrder(ranks[0]) if may_race else None
    with without_collector():
        results = take_turns({who: work for rank in ranks for who, work in rank.works().items()})
    if len(ranks) > 1:
        _check_written_once(ranks)
    same = functools.partial(other.gives_the_same_as, results) if other is not None else None
    return [rank.finish(results, same) for rank in ranks]


class OtherOrder:
    """What a rank's call would leave if its cores came in the other order where nothing orders them.

    A race is an error because the results depend on it. They need not: AWS's `attention_block_tkg` appends to a cache
    with one core while the other reads it, and masks what it reads there.
    """

    def __init__(self, first: Execution) -> None:
        self.first = first
        self.before = {name: b.array.copy() for name, b in first.arguments.bound.items()}

    def gives_the_same_as(self, results: dict[Who, Any]) -> bool:
        """Whether the results are the same bit by bit, and the caller's arrays, which they are put into once more."""
        found = list(self._left(self.first, results))
        for name, b in self.first.arguments.bound.items():
            if b.array.flags.writeable:
                b.array[...] = self.before[name]
        options = dataclasses.replace(self.first.options, observe=None, check_races=False)
        with warnings.catch_warnings(), without_collector():
            warnings.simplefilter("ignore")  # of what the first run has warned of
            try:
                again = Execution(self.first.call, self.first.trace.target, options)
                results = take_turns(dict(reversed(again.works().items())))
                again.finish(results)
            except NkiError:
                return False
        return list(self._left(again, results)) == found

    def _left(self, execution: Execution, results: dict[Who, Any]) -> Iterator[bytes]:
        """The bytes of each tensor that is returned, and of each argument."""
        for returned in leaves(results[0, 0]):
            if isinstance(returned, NkiTensor):
                yield returned.array.tobytes()
        for b in execution.arguments.bound.values():
            yield b.array.tobytes()


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
    for (rank, name, array), (other, again, theirs) in itertools.combinations(written, 2):
        if other != rank and np.shares_memory(array, theirs):
            raise KernelError(
                f"rank {rank} writes to its argument {name} and rank {other} to {again}, which are one array of yours; "
                "each rank has its own HBM: give each an array of its own"
            )
