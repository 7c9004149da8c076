"""Triton's cache, filled ahead: every kernel of a case compiled for a GPU that this process does not use.

The kernels go through Triton's own `JITFunction.run(warmup=True)`, told that it runs on the target, on tensors that
have shapes alone. So the key of what it writes is that of the launch on the GPU: source, signature, divisibility by 16,
options, target, and the Triton wheel with its `libtriton` and `ptxas` (`triton.runtime.cache.get_cache_key`). A cache
serves on another machine only if that has the same wheel, for the same Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from triptych.harness.collection import builtin
from triptych.harness.ops.case import Case
from triptych.harness.upkeep.figures.bench_gpu.calls import by_triton
from triptych.harness.upkeep.figures.bench_gpu.drawn import draw


def fill(op: str, case: Case, target: str) -> str:
    """Compile what a case launches on a target, "sm_90", if anything; an empty string, or why that cannot be."""
    try:
        with compiling(target):
            known = builtin()[op].unsupported
            if known is not None and known(case, "triton", "") is not None:
                return ""
            inputs = draw(builtin()[op], case, "meta")
            by_triton(builtin()[op], case, inputs, inputs.tensors)()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f"{op} {case.name} {case.dtype}: {lines[-1] if lines else type(error).__name__}"
    return ""


@contextmanager
def compiling(target: str) -> Iterator[None]:
    """Within, a launch compiles its kernel for the target, in each configuration of an autotuned one, and runs none."""
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    from triptych.harness.emulators.compilation import every_configuration
    from triptych.harness.emulators.devices import DEVICES, pretend
    from triptych.harness.emulators.interpreter.hosting import on_the_host
    from triptych.harness.emulators.interpreter.language import Patches
    from triptych.harness.emulators.memory import Memory

    compiled = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        named.setdefault("enable_fp_fusion", True)  # Triton's default up to 3.9, which warns unless it is said
        return compiled(self, *args, grid=grid, warmup=True, **named)

    device = DEVICES[target]
    with pretend(device), on_the_host(Memory(), device, "meta"), ExitStack() as stack:
        active: Any = driver.active
        active.get_current_stream = lambda index: 0
        patches = Patches(stack)
        patches.put(JITFunction, "run", run)
        patches.put(Autotuner, "run", every_configuration)
        yield


def target_here() -> str | None:
    """The name of this machine's GPU among those that can be compiled for; None of another."""
    import torch

    from triptych.harness.emulators.devices import DEVICES

    if torch.version.hip is not None:
        return None
    name = "sm_{}{}".format(*torch.cuda.get_device_capability())
    return name if name in DEVICES else None
