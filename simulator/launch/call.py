"""A call of a kernel, unwrapped: the function behind it, its arguments, and how it is launched."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from triptych.simulator.analysis.edges import Edges
from triptych.simulator.api.compiler import CompileConfig, SpecializationConfig
from triptych.simulator.errors import KernelError
from triptych.simulator.machine.machine import machine


@dataclass(frozen=True)
class LaunchConfig:
    """How a kernel is launched and compiled."""

    cores: int | None = None  # None leaves it to NEURON_LOGICAL_NC_CONFIG
    edges: Edges = ()  # between named instructions, which `with_schedule` asks for
    compile_config: CompileConfig | None = None
    specialization_config: SpecializationConfig | None = None


@dataclass(frozen=True)
class Call:
    """A kernel's function with what one rank calls it with."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cores: int
    launch: LaunchConfig


def environment_cores() -> int | None:
    """The logical cores of NEURON_LOGICAL_NC_CONFIG, 1 or 2; None where it is not set (nki/api/lnc of SDK 2.33.1)."""
    value = os.environ.get("NEURON_LOGICAL_NC_CONFIG")
    if value not in (None, "", "1", "2"):
        raise KernelError(f"NEURON_LOGICAL_NC_CONFIG is {value!r}; expected 1 or 2", source=_LNC)
    return int(value) if value else None


def check_nested(name: str, config: CompileConfig | None) -> None:
    """A kernel inside another is compiled under the outer one's configuration, from which its own must not differ."""
    m = machine()
    if config is None or config == m.compile_config:
        return
    message = f"{name} is called inside another kernel, whose compile_config differs: {config} in {m.compile_config}"
    if not m.allows_nested_config:
        raise KernelError(
            f"{message}; SpecializationConfig(allow_nested_config_override=True) lets the outer one stand",
            source="nki.compiler.SpecializationConfig.html of SDK 2.33",
        )
    m.note_once(f"{message}, which stands")


_LNC = "nki/get-started/about/lnc.html of SDK 2.33.1"


def call_of(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Unwrap a call.

    kernel: a `Kernel`, a plain function, or a partial of either, whose arguments come before `args` and under `kwargs`

    Raises KernelError if it cannot be called.
    """
    launch = LaunchConfig()
    while True:
        if isinstance(kernel, functools.partial):
            args, kwargs = (*kernel.args, *args), {**kernel.keywords, **kwargs}
        own = getattr(kernel, "launch", None)
        if isinstance(own, LaunchConfig):
            launch = replace(own, cores=own.cores or launch.cores)
        inner = getattr(kernel, "function", None) or getattr(kernel, "func", None)
        if inner is None:
            break
        kernel = inner
    if not callable(kernel):
        raise KernelError(f"expected a kernel, a function, got {type(kernel).__name__}")
    cores, around = launch.cores, environment_cores()
    if cores is not None and around is not None and cores != around:
        raise KernelError(
            f"the kernel is launched on {cores} and NEURON_LOGICAL_NC_CONFIG asks for {around}: the LNC degree of a "
            "kernel and of its compiler must be one (NCC_EVRF066)",
            source=_LNC,
        )
    return Call(kernel, args, kwargs, cores or around or 1, launch)
