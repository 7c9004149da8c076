"""A worker's place on a node, from inside: what is here, and the worker process that performs tasks.

It runs in a process of the cluster's, which a kernel's process is a child of: a kernel that hangs or kills itself costs
its own task, within the limits of time and memory that hold on one machine. It knows nothing of Ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych.harness.backends import BACKENDS
from triptych.harness.cluster.travel import Luggage, unpacked
from triptych.harness.results import environment
from triptych.harness.results.origin import Node
from triptych.harness.results.result import Result
from triptych.harness.results.status import Evidence
from triptych.harness.running import memory_limit
from triptych.harness.running.process import WorkerProcess
from triptych.harness.running.tasks import Settings, Task

CPU, GPU, NEURON = "CPU", "GPU", "neuron_cores"  # what a seat holds, as Ray's resources are called
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}  # from a seat without one
VISIBLE = {GPU: tuple(HIDDEN), NEURON: ("NEURON_RT_VISIBLE_CORES",)}  # which devices of the node are a seat's


@dataclass(frozen=True)
class About:
    """What is to know of a seat: its node, and which backends are there with which evidence."""

    node: Node
    missing: Mapping[str, str | None]  # why a backend is not there, by name
    evidence: Mapping[str, Evidence]  # of each backend that is there
    memory: int | None  # bytes that workers of the node may take together
    device: str  # the accelerator that the seat holds, in words; empty for none


class Seat:
    """What the cluster starts on a node.

    name: the node's
    holds: what of the node is this seat's alone, beside a core: `CPU` (nothing), `GPU` or `NEURON`
    variables: of the environment that whoever asks has, for what decides results
    """

    def __init__(self, name: str, holds: str, variables: Mapping[str, str]) -> None:
        os.environ.update(variables)
        if holds != GPU:
            os.environ.update(HIDDEN)
        self.name, self.holds = name, holds
        self.worker = WorkerProcess()
        self.function: Callable[[int], Any] = lambda number: None
        self.folders: dict[str, tuple[str, str]] = {}  # by digest: here, and where the files came from

    def about(self) -> About:
        node = environment.node(self.name)
        missing = {name: self._missing(name) for name in BACKENDS}
        here = [name for name, why in missing.items() if not why]
        evidence = {name: BACKENDS[name].evidence for name in here}
        return About(node, missing, evidence, memory_limit.default(), self._device(node))

    def is_there(self) -> bool:
        """Whether it has started; it knows nothing that another seat of its node does not say."""
        return True

    def _missing(self, name: str) -> str | None:
        """Why a backend is not here: for one of a device also that this seat does not hold it."""
        why = BACKENDS[name].missing()
        if why or self.holds != CPU or BACKENDS[name].evidence is not Evidence.DEVICE:
            return why
        return f"node {self.name} has its device, and Ray was not told: start it there with --num-gpus or --resources"

    def _device(self, node: Node) -> str:
        if self.holds == CPU:
            return ""
        visible = next((os.environ[name] for name in VISIBLE[self.holds] if os.environ.get(name)), "")
        if self.holds == NEURON:
            return f"NeuronCores {visible}".strip()
        first = visible.partition(",")[0]
        index = int(first) if first.isdecimal() and int(first) < len(node.gpus) else 0
        name = node.gpus[index].get("name", "") if node.gpus else ""
        return ", ".join(filter(None, (name, f"GPU {visible}" if visible else "")))

    def unpack(self, luggage: Luggage) -> None:
        """Have the files here that tasks of this digest name."""
        self.folders[luggage.digest] = (str(unpacked(luggage)), luggage.root)

    def perform(self, task: Task, digest: str, settings: Settings, timeout_s: float) -> Result:
        """The task's result, whatever it does to the worker process.

        digest: of the files among which the task's source is; empty for a task of triptych's own
        """
        if task.source is None:
            return self.worker.perform(task, settings, timeout_s)
        here, there = self.folders[digest]
        result = self.worker.perform(replace(task, source=os.path.join(here, task.source)), settings, timeout_s)
        return Result.from_dict(renamed(result.to_dict(), here, there)) if here in repr(result) else result

    def learn(
        self, make: Callable[..., Callable[[int], Any]], places: Sequence[str], arguments: tuple[Any, ...], digest: str
    ) -> None:
        """Make the function that `call` evaluates.

        places: of the files that it is made of, in the luggage of this digest
        """
        here = self.folders[digest][0] if places else ""
        self.function = make([os.path.join(here, place) for place in places], *arguments)

    def call(self, number: int) -> Any:
        """The function of a number, in this process."""
        return self.function(number)

    def stop(self) -> None:
        """End the worker process; a further task starts another."""
        self.worker.stop()


def renamed(value: Any, here: str, there: str) -> Any:
    """A plain value whose texts name files as where they came from."""
    if isinstance(value, str):
        return value.replace(here, there)
    if isinstance(value, dict):
        return {key: renamed(inner, here, there) for key, inner in value.items()}
    return [renamed(inner, here, there) for inner in value] if isinstance(value, list) else value
