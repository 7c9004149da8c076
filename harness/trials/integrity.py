"""What a kernel must leave as it is: the functions that it is judged with, and what it is judged against.

Kernel and judge share a process, so that one that replaces `numpy.exp` replaces it for the reference of the next case
too, and both are wrong alike. An honest kernel does not; these guards are for kernels that somebody else wrote, as a
program that is rewarded for passing, and are off unless asked for (`Settings.paranoid`). Every function of NumPy, of
the clocks and of the harness is noted before a user's file is loaded, and looked at after it and after every run.
This is no protection against code that is out to deceive by any means: that could as well print a report of its own.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from triptych.harness.backends.base import KernelFault
from triptych.harness.bits import digest
from triptych.harness.judge.prepared import PreparedCase
from triptych.harness.judge.tolerance import Expected
from triptych.harness.judge.yardstick.baselines import baselines_of
from triptych.harness.ops.errors import InvalidOp
from triptych.harness.ops.op import Op

WATCHED = ("numpy", "ml_dtypes", "time", "math", "triptych.harness", "triptych.reference")
PATCHED_BY_US = ("triptych.harness.emulators",)  # sessions of the interpreter change what they restore
ALIKE = "kernel and judge would be wrong alike; keep such a change within a module of your own"


class Functions:
    """The functions by module and name, as they were when this was made."""

    def __init__(self) -> None:
        self.modules: dict[str, tuple[types.ModuleType, dict[str, Any]]] = {}
        self.codes: dict[str, tuple[types.FunctionType, types.CodeType]] = {}
        for name, module in list(sys.modules.items()):
            if within(name, WATCHED) and not within(name, PATCHED_BY_US):
                found = {key: value for key, value in vars(module).items() if callable(value)}
                self.modules[name] = module, found
                for key, value in found.items():
                    if isinstance(value, types.FunctionType):
                        self.codes[f"{name}.{key}"] = value, value.__code__

    def find_replaced(self) -> str | None:
        """The name of one that is another now, or None."""
        for name, (module, found) in self.modules.items():
            now = vars(module)
            for key, value in found.items():
                if now.get(key) is not value:
                    return f"{name}.{key}"
        return next((name for name, (function, code) in self.codes.items() if function.__code__ is not code), None)

    def check_after_loading(self, source: str | None) -> None:
        """InvalidOp if the file at `source`, which was just loaded, replaced one."""
        replaced = self.find_replaced()
        if replaced:
            raise InvalidOp(f"loading {source} replaces {replaced}, which the judge uses: {ALIKE}")


class Integrity:
    """What one problem is judged with: those functions, its op's own code, its reference and its tolerance."""

    def __init__(self, functions: Functions, prepared: PreparedCase) -> None:
        op = prepared.problem.op
        self.functions, self.expected = functions, [one.expected for one in prepared.outputs.values()]
        self.codes = [(function, function.__code__) for function in functions_of(op)]
        self.seal = list(map(seal, self.expected))

    def check(self) -> None:
        """KernelFault if any of it is not what it was."""
        own = next((function.__name__ for function, code in self.codes if function.__code__ is not code), None)
        replaced = self.functions.find_replaced() or own
        if replaced:
            raise KernelFault(f"the kernel replaced {replaced}, which it is judged with: {ALIKE}")
        if list(map(seal, self.expected)) != self.seal:
            raise KernelFault("the kernel changed the reference or the tolerance that it is judged by")


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def functions_of(op: Op) -> list[types.FunctionType]:
    """The op's reference and baselines that are Python functions, and those of their modules that they name."""
    declared: tuple[Callable[..., Any], ...] = (op.reference, *baselines_of(op).functions)
    found: dict[types.FunctionType, None] = {}
    for function in declared:
        if isinstance(function, types.FunctionType):
            found[function] = None
            named: Mapping[str, Any] = {name: function.__globals__.get(name) for name in function.__code__.co_names}
            found.update({value: None for value in named.values() if isinstance(value, types.FunctionType)})
    return list(found)


def seal(expected: Expected) -> tuple[int, int, str]:
    """What a verdict depends on, as values that change with it."""
    return digest(expected.reference), digest(expected.rounded), repr(expected.tolerance)
