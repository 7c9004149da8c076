"""Which kernels a launcher launches, and in which configuration: of what an autotuner tried, what it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def launches(interpreter: Any = None) -> Iterator[list[str]]:
    """What is launched within, each kernel and configuration once.

    interpreter: the class whose `launch` stands in the place of a GPU's.
    """
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    found: list[str] = []
    trying = 0  # autotuners under way
    of_gpu, of_tuner, interpreted = JITFunction.run, Autotuner.run, getattr(interpreter, "launch", None)

    def note(kernel: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        said = configuration(kernel, args, named)
        if not trying and said not in found:
            found.append(said)

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        if not warmup:
            note(self, args, named)
        return of_gpu(self, *args, grid=grid, warmup=warmup, **named)

    def launch(self: Any, kernel: Any, args: tuple[Any, ...], grid: Any, named: dict[str, Any]) -> None:
        note(kernel, args, named)
        assert interpreted is not None
        interpreted(self, kernel, args, grid, named)

    def tune(self: Any, *args: Any, **named: Any) -> Any:
        nonlocal trying
        trying += 1
        try:
            result = of_tuner(self, *args, **named)
        finally:
            trying -= 1
        note(kernel_of(self), args, {**named, **self.best_config.all_kwargs()})
        return result

    with ExitStack() as stack:
        stack.enter_context(patch.object(JITFunction, "run", run))
        stack.enter_context(patch.object(Autotuner, "run", tune))
        if interpreter is not None:
            stack.enter_context(patch.object(interpreter, "launch", launch))
        yield found


def kernel_of(tuner: Any) -> Any:
    """The kernel below what decorates it: `triton.autotune`, `triton.heuristics`."""
    while not hasattr(tuner, "params") and hasattr(tuner, "fn"):
        tuner = tuner.fn
    return tuner


def configuration(kernel: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> str:
    """`_kernel BLOCK=64 num_warps=4`: the constants that the kernel declares, and the compiler's options."""
    parameters = parameters_of(kernel)
    names = [p.name for p in parameters]
    given = {p.name: named.get(p.name, p.default) for p in parameters} | dict(zip(names, args, strict=False))
    values = {p.name: given[p.name] for p in parameters if p.is_constexpr}
    values |= {name: value for name, value in named.items() if name not in given and name not in ("grid", "warmup")}
    plain = {name: getattr(value, "value", value) for name, value in values.items()}
    said = [f"{name}={value}" for name, value in plain.items() if isinstance(value, (bool, int, float, str))]
    return " ".join([kernel.__name__, *said])


def parameters_of(kernel: Any) -> Any:
    """What Triton knows of a kernel's parameters; one that was decorated to be interpreted keeps it elsewhere."""
    if hasattr(kernel, "params"):
        return kernel.params
    from triptych.harness.emulators.interpreter import launching

    return launching.parameters_of(kernel)
