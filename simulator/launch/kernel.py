"""Kernels as AWS documents them: `nki.jit` marks a function, `nki.simulate` runs it, and a `Kernel` can be called."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from triptych.simulator.analysis.edges import edges_of
from triptych.simulator.api.compiler import CompileConfig, SpecializationConfig, checked
from triptych.simulator.api.older import JIT_OPTIONS
from triptych.simulator.enums import dependency
from triptych.simulator.errors import KernelError
from triptych.simulator.launch import graph_calls, host
from triptych.simulator.launch.call import LaunchConfig, check_nested
from triptych.simulator.launch.simulator import on
from triptych.simulator.options import Options
from triptych.simulator.running import is_running


class Kernel:
    """A function decorated with `nki.jit`; `kernel[2]` launches it on two cores."""

    def __init__(self, function: Callable[..., Any], launch: LaunchConfig | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.launch = launch or LaunchConfig()
        self.number = graph_calls.numbered(self)

    @property
    def cores(self) -> int | None:
        """How many it is launched on; None leaves it to NEURON_LOGICAL_NC_CONFIG."""
        return self.launch.cores

    def __getitem__(self, grid: Any) -> Any:
        cores = grid[0] if isinstance(grid, tuple) and len(grid) == 1 else grid
        if cores not in (1, 2):
            raise KernelError(f"kernel[n] takes 1 or 2 logical cores, got {grid!r}")
        if graph_calls.compiler is not None and graph_calls.compiler.is_compiling():
            return lambda *args, **kwargs: graph_calls.compiler.call(self.number, cores, args, kwargs)
        return self.on_cores(cores)

    def on_cores(self, cores: int) -> Kernel:
        return Kernel(self.function, replace(self.launch, cores=cores))

    def with_schedule(self, schedule: Iterable[Sequence[Any]], kind: dependency | None = None) -> Kernel:
        """The kernel with edges [(consumer, producer or list of producers), ..] between named instructions.

        kind: of all edges, nisa.dependency.runtime or .schedule; an edge may have its own as a third entry
        """
        return Kernel(self.function, replace(self.launch, edges=edges_of(schedule, kind)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_running():  # a kernel called by a kernel is inlined under the outer one's configuration
            check_nested(self.function.__name__, self.launch.compile_config)
            return self.function(*args, **kwargs)
        if graph_calls.compiler is not None and graph_calls.compiler.is_compiling():
            return graph_calls.compiler.call(self.number, None, args, kwargs)
        launch = host.launcher()
        if launch is not None:
            return launch(self, args, kwargs)
        if os.environ.get("NKI_SIMULATOR") == "1" or host.has_device():
            return simulate(self)(*args, **kwargs)
        raise KernelError(
            f"{self.function.__name__} was called directly and there is no Neuron device; use nki.simulate(kernel)(...)"
            " or set NKI_SIMULATOR=1"
        )


def jit(
    fn: Callable[..., Any] | None = None,
    *,
    compile_config: CompileConfig | None = None,
    specialization_config: SpecializationConfig | None = None,
    **kwargs: Any,
) -> Any:
    """Mark a function as a kernel (nki.jit)."""
    if "platform_target" in kwargs:
        raise KernelError("nki.jit takes no platform_target since NKI 0.3; set NEURON_PLATFORM_TARGET_OVERRIDE")
    unknown = set(kwargs) - JIT_OPTIONS
    if unknown:
        raise KernelError(f"nki.jit takes no argument {', '.join(sorted(unknown))}")
    configs = checked(compile_config=compile_config, specialization_config=specialization_config)
    return functools.partial(jit, **configs) if fn is None else Kernel(fn, LaunchConfig(**configs))


def simulate(kernel: Any) -> Callable[..., Any]:
    """A callable that runs `kernel` on the simulator: arrays in, arrays of the same kind out.

    The chip is NEURON_PLATFORM_TARGET_OVERRIDE's, else trn3; NKI_PRECISE_FP=0 switches low-precision rounding off.
    """

    @functools.wraps(getattr(kernel, "function", kernel))
    def simulated(*args: Any, **kwargs: Any) -> Any:
        return on(options=default_options()).run(kernel, *args, **kwargs).outputs

    return simulated


def simulate_kernel(
    func: Any,
    args: Sequence[Any] = (),
    kwargs: dict[str, Any] | None = None,
    lnc: int | None = None,
    *,
    _lnc: int | None = None,
) -> Any:
    """The outputs of `func(*args, **kwargs)` on `lnc` cores; arrays that the kernel changes are changed.

    vLLM Neuron's CPU mode (vllm_neuron/nki/nki_cpu_sim.py) says `lnc`, nki-library's tests (test/utils/
    simulation_setup.py) say `_lnc`.
    """
    kernel = func if isinstance(func, Kernel) else Kernel(func)
    cores = _lnc if lnc is None else lnc
    return simulate(kernel if cores is None else kernel[cores])(*args, **(kwargs or {}))


def default_options() -> Options:
    """The options of nki.simulate: NKI_PRECISE_FP=0 keeps low precision in float32 (nki/guides/nki_simulator.rst)."""
    precise = os.environ.get("NKI_PRECISE_FP", "1")
    if precise not in ("0", "1"):
        raise KernelError(f"NKI_PRECISE_FP is {precise!r}; expected 0 or 1", source="nki/guides/nki_simulator.rst")
    return Options(round_low_precision=precise == "1")
