"""What a kernel must leave as it is: the functions that it is judged with, and what it is judged against.

Kernel and judge share a process, so that one that replaces `numpy.exp` for itself replaces it for the reference of the
next case too, and both are wrong alike. Every function of NumPy, of the clocks and of the harness is noted before a
user's file is loaded, and looked at after it and after every run. This finds what a kernel does by mistake or for
convenience. It is no protection against code that is out to deceive: that could as well print a report of its own.
"""

from __future__ import annotations

import sys
import types
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.judge.baselines import baselines_of
from triptych.harness.judge.tolerance import Expected
from triptych.harness.ops.op import Op

WATCHED = ("numpy", "ml_dtypes", "time", "math", "triptych.harness", "triptych.reference")
PATCHED_BY_US = ("triptych.harness.emulators",)  # sessions of the interpreter change what they restore


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

    def replaced(self) -> str | None:
        """The name of one that is another now, or None."""
        for name, (module, found) in self.modules.items():
            now = vars(module)
            for key, value in found.items():
                if now.get(key) is not value:
                    return f"{name}.{key}"
        return next((name for name, (function, code) in self.codes.items() if function.__code__ is not code), None)


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


class Definition:
    """The code of an op's reference and baselines, and of the functions that they call by name."""

    def __init__(self, op: Op) -> None:
        self.codes = [(function, function.__code__) for function in called((op.reference, *baselines_of(op).functions))]

    def replaced(self) -> str | None:
        return next((function.__name__ for function, code in self.codes if function.__code__ is not code), None)


def called(functions: tuple[Callable[..., Any], ...]) -> list[types.FunctionType]:
    """The Python functions among `functions`, and those of their modules that they name."""
    found: dict[types.FunctionType, None] = {}
    for function in functions:
        if isinstance(function, types.FunctionType):
            found[function] = None
            named: Mapping[str, Any] = {name: function.__globals__.get(name) for name in function.__code__.co_names}
            found.update({value: None for value in named.values() if isinstance(value, types.FunctionType)})
    return list(found)


ALIKE = "kernel and judge would be wrong alike; keep such a change within a module of your own"


def seal(expected: Expected) -> tuple[int, int, str]:
    """What a verdict depends on, as numbers that change with it."""
    return digest(expected.reference), digest(expected.rounded), repr(expected.tolerance)


def digest(x: Array) -> int:
    flat: Any = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    return zlib.crc32(flat)
