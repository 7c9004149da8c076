"""`triton`: the op's Triton launcher on a CUDA or ROCm device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from warnings import WarningMessage

import numpy as np

from triptych.harness import extras
from triptych.harness.arrays import Array, from_torch, to_torch
from triptych.harness.backends import guarded
from triptych.harness.backends.base import Backend, file_of, given_back
from triptych.harness.backends.clocks import TimingBudget, event_timer, time_cuda
from triptych.harness.backends.configurations import kept as disk
from triptych.harness.backends.configurations import offers
from triptych.harness.backends.configurations.kept import Kept, Key
from triptych.harness.backends.configurations.offers import Setting
from triptych.harness.backends.gpu import gpu_here, node_here
from triptych.harness.backends.pytorch import from_tensors, restoring
from triptych.harness.backends.sealed import Sealed
from triptych.harness.backends.triton_launcher import LACKS, NO_TRITON, as_held, held_dtype, launcher_of, output_of
from triptych.harness.backends.triton_launches import launches
from triptych.harness.errors import UsageError
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import layouts
from triptych.harness.ops.outputs.naming import in_words
from triptych.harness.results.status import Evidence
from triptych.harness.results.timing import Timing


class KeptConfiguration(UserWarning):
    """A kernel ran in a configuration that was kept, or what was kept is of no use."""


@dataclass(frozen=True)
class Calling:
    """A launcher, its call, what restores inputs that the call changes, and what makes arrays of its value."""

    launcher: Any
    call: Callable[[], Any]
    restore: Callable[[], None]
    outputs: Callable[[Any], Any]


class TritonDevice(Backend):
    name = "triton"
    panel = family = "triton"
    lacks = LACKS
    evidence = Evidence.DEVICE
    setting: Setting | None = None  # in force; None: what is kept

    def missing(self) -> str | None:
        if find_spec("triton") is None:
            return NO_TRITON
        if find_spec("torch") is None:
            return "PyTorch is not installed, which hands Triton its device memory: pip install 'triptych[torch]'"
        if gpu_here():
            return None
        why = extras.why_not("torch") if node_here() else None
        return why or "there is no CUDA or ROCm device here that PyTorch can use"

    def run(self, problem: Problem, target: str | None) -> Any:
        import torch

        inputs = problem.inputs
        buffers = {name: guarded.guarded_copy(x)[0] for name, x in inputs.items()}
        with launcher_of(problem) as (_, writes):
            memory = {parameter: problem.memory_of(name) for parameter, name in writes.items()}
        buffers |= {parameter: guarded.pattern_buffer(*m) for parameter, m in memory.items()}
        tensors = {name: _signed(flat).to("cuda") for name, flat in buffers.items()}
        views = {
            name: _between(tensors[name], (-1,), x.dtype).as_strided(x.shape, layouts.strides_of(x))
            for name, x in inputs.items()
        }
        torch.cuda.synchronize()
        views |= {parameter: _between(tensors[parameter], *m) for parameter, m in memory.items()}
        with launcher_of(problem) as (launcher, _), self.configured(problem, launcher, tell=True):
            returned = launcher(**views, **problem.case.params)
        written_to = [tensors[name] for name in (*memory, *problem.changed)]
        if written_to:
            guarded.check_streams(torch.cuda, lambda: np.concatenate([_bytes(tensor) for tensor in written_to]))
        back = {name: t.cpu().numpy().view(buffers[name].dtype) for name, t in tensors.items()}
        for name in inputs:
            guarded.check_margins(back[name], f"input {name}")
        now = {name: guarded.inside_like(back[name], x) for name, x in inputs.items()}
        Sealed(inputs).check({name: x for name, x in now.items() if name not in problem.op.mutates})
        for parameter, name in writes.items():
            guarded.check_margins(back[parameter], in_words(name))
        written = {parameter: guarded.inside(back[parameter], *m) for parameter, m in memory.items()}
        return given_back(problem, output_of(from_tensors(returned), writes, written, problem), now)

    def launches(self) -> AbstractContextManager[list[str]]:
        return launches()

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Timing:
        with self.calling(problem) as made, self.configured(problem, made.launcher):
            return time_cuda(made.call, budget.looking_at(made.outputs), made.restore)

    @contextmanager
    def calling(self, problem: Problem) -> Iterator[Calling]:
        """The launcher on tensors of the device."""
        tensors = {name: to_torch(as_held(x), "cuda") for name, x in problem.own_inputs().items()}
        restore = restoring(problem, tensors)
        with launcher_of(problem) as (launcher, writes):
            for parameter, name in writes.items():
                tensors[parameter] = to_torch(as_held(np.zeros(*problem.memory_of(name))), "cuda")

            def outputs(returned: Any) -> Any:
                written = {p: from_torch(tensors[p]).view(problem.memory_of(name)[1]) for p, name in writes.items()}
                now = {name: from_torch(tensors[name]).view(problem.inputs[name].dtype) for name in problem.changed}
                return given_back(problem, output_of(from_tensors(returned), writes, written, problem), now)

            yield Calling(launcher, lambda: launcher(**tensors, **problem.case.params), restore, outputs)

    @contextmanager
    def sampler(self, problem: Problem) -> Iterator[Callable[[Setting], float]]:
        """What takes the time of one call in a configuration, in microseconds."""
        one = event_timer()
        with self.calling(problem) as made:

            def sample(setting: Setting) -> float:
                made.restore()
                with self.under(setting), self.configured(problem, made.launcher):
                    return one(made.call)

            yield sample

    def gpu(self) -> tuple[str, Any]:
        """What the device is called, and what Triton compiles for on it."""
        import torch
        from triton.runtime.driver import driver

        return torch.cuda.get_device_name(), driver.active.get_current_target()

    def architecture(self) -> str:
        """The architecture whose configurations are for the device."""
        return offers.architecture_of(self.gpu()[1])

    def is_compiled_for(self) -> bool:
        """Whether what is compiled for that architecture where no device is, is what runs on this one."""
        from triptych.harness.emulators.devices import DEVICES

        return bool(DEVICES[self.architecture()].arch == self.gpu()[1].arch)

    @contextmanager
    def under(self, setting: Setting) -> Iterator[None]:
        """Within, launchers run in this configuration, whatever is kept."""
        before, self.setting = self.setting, setting
        try:
            yield
        finally:
            self.setting = before

    @contextmanager
    def configured(self, problem: Problem, launcher: Any, tell: bool = False) -> Iterator[None]:
        """Within, a launcher runs in the configuration that is in force, else in the one that is kept for the problem.

        tell: warn of a kept one.
        """
        setting = self.setting
        if setting is None:
            found, complaint = self.kept(problem)
            setting = found.setting if found else {}
            if found:
                complaint = f"--tune kept this configuration on {found.utc[:10]}: {offers.in_words(setting)}"
            if tell and complaint:
                warnings.warn(complaint, KeptConfiguration, stacklevel=2)
        with offers.in_force(launcher, self.architecture(), setting):
            yield

    def kept(self, problem: Problem) -> tuple[Kept | None, str]:
        """The configuration that is kept for a problem, if any, and a sentence on a file that is none."""
        return disk.read(self.key(problem)) if file_of(problem.op.triton).is_file() else (None, "")

    def keep(self, problem: Problem, found: Kept) -> None:
        """Keep a configuration for later runs. UsageError where that cannot be."""
        if not file_of(problem.op.triton).is_file():
            raise UsageError("the kernel is in no file, by which it would be known again.")
        disk.write(self.key(problem), found)

    def key(self, problem: Problem) -> Key:
        import triton

        return disk.key_of(problem, self.gpu()[0], triton.__version__)

    def note(self, warning: WarningMessage) -> str:
        return str(warning.message) if warning.category is KeptConfiguration else super().note(warning)


def _bytes(tensor: Any) -> Array:
    here: Array = tensor.cpu().numpy().view(np.uint8)
    return here


def _signed(flat: Array) -> Any:
    import torch

    return torch.from_numpy(flat.view(f"i{flat.itemsize}"))


def _between(tensor: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """The tensor between the margins of a patterned buffer on the device."""
    import torch

    inside = tensor[guarded.MARGIN : tensor.numel() - guarded.MARGIN]
    return inside.view(getattr(torch, held_dtype(dtype).name)).reshape(shape)
