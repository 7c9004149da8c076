"""Which tasks are one chain, and what a seat must have for it; how many seats a node has and what each holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.harness.cluster.seat import CPU, GPU, NEURON, About
from triptych.harness.results.status import Evidence
from triptych.harness.running.runner import Chain, by_case
from triptych.harness.running.tasks import Task
from triptych.harness.running.workers.cores import LEAST_MEMORY

Wanted = Mapping[str, Evidence]  # backends that a seat must have, with the evidence that they have there


@dataclass(frozen=True)
class Placed:
    """Tasks by their number: those that are done together, and those that no seat can do, with why."""

    chains: Sequence[Chain]
    wanted: Mapping[int, Wanted]
    missing: Mapping[int, str]


def placed(tasks: Sequence[Task], abouts: Sequence[About]) -> Placed:
    """The tasks of a case in one chain, for a seat that has all of their backends; in several where none has.

    Of seats that have as many, those are wanted where more of them run on a device. Chains for a device come first.
    """
    kinds: list[Wanted] = []
    for about in abouts:
        if about.evidence not in kinds:
            kinds.append(about.evidence)
    chains: list[tuple[Wanted, Chain]] = []
    missing: dict[int, str] = {}
    for group in by_case(tasks):
        left = []
        for i in group:
            name = tasks[i].backend
            if any(name in kind for kind in kinds):
                left.append(i)
            else:
                missing[i] = next(why for about in abouts if (why := about.missing[name]))
        while left:
            names = {tasks[i].backend for i in left}
            kind = max(kinds, key=lambda kind: _worth(kind, names))
            wanted = {name: kind[name] for name in names if name in kind}
            chains.append((wanted, [i for i in left if tasks[i].backend in wanted]))
            left = [i for i in left if tasks[i].backend not in wanted]
    chains.sort(key=lambda one: not _on_device(one[0]))
    return Placed([chain for _, chain in chains], {i: wanted for wanted, chain in chains for i in chain}, missing)


def _worth(kind: Wanted, names: set[str]) -> tuple[int, int]:
    return sum(name in kind for name in names), sum(kind.get(name) is Evidence.DEVICE for name in names)


def _on_device(wanted: Wanted) -> bool:
    return Evidence.DEVICE in wanted.values()


def holdings(resources: Mapping[str, float]) -> list[tuple[str, int]]:
    """What each seat of a node holds beside a core, as (resource, how many of it), those with a device first.

    A seat for each GPU; one for all NeuronCores, which have one user; the rest of the cores, as many as find memory.
    """
    cores = int(resources.get("CPU", 0))
    found = [(GPU, 1)] * int(resources.get("GPU", 0))
    if neuron := int(resources.get("neuron_cores", 0)):
        found.append((NEURON, neuron))
    found = found[:cores]
    rest = cores - len(found)
    if rest and (memory := resources.get("memory")) is not None:
        rest = max(0 if found else 1, min(rest, int(memory // LEAST_MEMORY) - len(found)))
    return found + [(CPU, 0)] * rest


def in_turns(of_nodes: Sequence[Sequence[tuple[str, int]]], most: int | None) -> list[tuple[int, str, int]]:
    """(node, resource, how many) of each seat: devices first, then from each node in turn; no more than `most`."""
    every = [(turn, node, *seat) for node, seats in enumerate(of_nodes) for turn, seat in enumerate(seats)]
    every.sort(key=lambda seat: ((GPU, NEURON, CPU).index(seat[2]), seat[0], seat[1]))
    return [seat[1:] for seat in every[:most]]
