"""A fingerprint of a value: bytes that change with whatever the value, called or read, may give.

    numbers, texts, arrays, containers      their type and content
    functions                               their bytecode, defaults, and all that they read (`reads`), in this way
    what libraries and the judge have       its name; versions, and a digest of the judge, are in every key (`key`)

Everything else is `Undetermined`: it is not guessed at.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from collections.abc import Mapping
from enum import Enum
from hashlib import sha256
from typing import Any

import numpy as np

from triptych.harness.judge.kept.reads import (
    HIDDEN,
    HIDDEN_BUILTINS,
    HIDDEN_FUNCTIONS,
    LOCAL_IMPORTS,
    Undetermined,
    values_read,
)

OURS = ("triptych.harness.judge", "triptych.harness.ops", "triptych.harness.collection", "triptych.reference")
GROUND = ("arrays", "dtypes", "precision", "bits")  # files of `triptych.harness`
PURE = {"builtins", "cmath", "collections", "dataclasses", "enum", "functools", "_functools", "itertools", "operator"}
LIBRARIES = {*LOCAL_IMPORTS, *PURE, "_operator", "typing", "jaxlib", "einops"}
STATEFUL = {"random", "ops", "_ops", "library", "hub"}  # modules of libraries whose values others may change
LARGEST = 2**26  # bytes of an array that a function reads
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), range)


def fingerprint(value: Any) -> bytes:
    """The fingerprint of a value. Undetermined, with what of it is."""
    return with_libraries(value)[0]


def with_libraries(value: Any) -> tuple[bytes, set[str]]:
    """The fingerprint of a value, and the libraries that it uses."""
    digest, walk = sha256(), _Walk()
    try:
        for part in walk.parts(value):
            digest.update(len(part).to_bytes(8, "little") + part)
    except Undetermined:
        raise
    except Exception as error:  # of a class that answers in ways of its own
        raise Undetermined(f"what raises {type(error).__name__} when it is looked at") from error
    return digest.digest(), walk.libraries & LIBRARIES


class _Walk:
    """One way through a value; what is met again is a number, so that circles end."""

    def __init__(self) -> None:
        self.met: dict[int, Any] = {}  # by id; the value keeps the id its own
        self.libraries: set[str] = set()  # and other names

    def parts(self, value: Any, name: str = "") -> list[bytes]:
        """The parts of a value, in an order that is the same in every process."""
        kind: type = type(value)
        if kind in PLAIN:
            return [kind.__name__.encode(), repr(value).encode()]
        if id(value) in self.met:
            return [b"met", str(list(self.met).index(id(value))).encode()]
        self.met[id(value)] = value
        if kind in (tuple, list):
            return [kind.__name__.encode(), str(len(value)).encode(), *self.all(value)]
        if kind is slice:  # of numbers it is a constant of code since Python 3.14
            return [b"slice", *self.all((value.start, value.stop, value.step))]
        if isinstance(value, Mapping) and kind in (dict, types.MappingProxyType):
            return [b"dict", str(len(value)).encode(), *self.all(value.keys()), *self.all(value.values())]
        if kind in (set, frozenset):
            if not all(type(one) in PLAIN for one in value):
                raise Undetermined("a set of more than numbers and texts")
            return [b"set", *sorted(b"".join(self.parts(one)) for one in value)]
        if isinstance(value, np.dtype):
            return [b"dtype", value.str.encode(), value.name.encode()]
        if isinstance(value, np.generic) or kind is np.ndarray:
            return self.array(np.asarray(value), kind)
        if kind is types.CodeType:
            return self.code(value)
        if kind is types.MethodType:
            return [b"method", *self.parts(value.__func__), *self.parts(value.__self__)]
        if kind is functools.partial:
            return [b"partial", *self.parts(value.func), *self.parts(value.args), *self.parts(value.keywords)]
        if named_by_us(value):
            self.libraries.add(value.__module__.partition(".")[0])
            return [b"named", f"{value.__module__}.{value.__qualname__}".encode()]
        if kind is types.FunctionType:
            return self.function(value)
        if isinstance(value, functools._lru_cache_wrapper):  # which remembers no more than what it would compute
            return self.parts(value.__wrapped__)
        if isinstance(value, np.ufunc) and vars(np).get(value.__name__) == value:
            return [b"ufunc", value.__name__.encode()]
        if named_by_us(kind) and (dataclasses.is_dataclass(value) or isinstance(value, Enum)):
            return [b"record", kind.__qualname__.encode(), *self.parts(dict(vars(value)))]
        raise Undetermined(name or f"a {kind.__name__}")

    def all(self, values: Any) -> list[bytes]:
        return [part for value in values for part in self.parts(value)]

    def array(self, x: Any, kind: type) -> list[bytes]:
        if x.dtype.hasobject or x.nbytes > LARGEST:
            raise Undetermined(f"an array of {x.nbytes} bytes of {x.dtype}")
        return [
            kind.__name__.encode(),
            x.dtype.str.encode(),
            x.dtype.name.encode(),
            repr(x.shape).encode(),
            x.tobytes(),
        ]

    def code(self, code: types.CodeType) -> list[bytes]:
        self.libraries.update(name.partition(".")[0] for name in code.co_names)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        table = getattr(code, "co_exceptiontable", b"")
        return [b"code", code.co_code, table, repr((counts, names)).encode(), *self.all(code.co_consts)]

    def function(self, function: types.FunctionType) -> list[bytes]:
        found = [b"function", function.__name__.encode(), *self.parts(function.__code__)]
        found += self.all((function.__defaults__, function.__kwdefaults__, dict(function.__dict__)))
        annotations = repr(function.__annotations__)
        if " at 0x" in annotations:
            raise Undetermined(f"the annotations of {function.__name__}")
        found.append(annotations.encode())
        for path, owner, value in values_read(function):
            found.append(path.encode())
            if owner is not None:
                self.libraries.add(owner.__name__.partition(".")[0])
            if owner is not None and is_builtin_of(owner, value):
                name = getattr(value, "__name__", "")
                found.append(f"{owner.__name__}: {type(value).__qualname__} {name}".encode())
            else:
                found += self.parts(value, path)
        return found


def is_builtin_of(owner: types.ModuleType, value: Any) -> bool:
    """Whether a value of a library's module is one in C, which often knows no name of its own."""
    known = (*PLAIN, np.ndarray, types.FunctionType, types.MethodType, functools.partial)
    return of_library(owner.__name__) and type(value) not in known and named_by_us(type(value))


def named_by_us(value: Any) -> bool:
    """Whether a function or class is what a library or the judge has under its name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not (of_library(module) or of_judge(module)):
        return False
    if name.rpartition(".")[2] in HIDDEN | HIDDEN_FUNCTIONS or (module == "builtins" and name in HIDDEN_BUILTINS):
        raise Undetermined(f"{module}.{name}")
    if type(value) is types.BuiltinFunctionType:
        name = value.__name__  # those of PyTorch say that they are of a class, which has another name
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def of_library(module: str) -> bool:
    """Whether a module's values are determined by its version."""
    root, *rest = module.split(".")
    return root in LIBRARIES and STATEFUL.isdisjoint(rest)


def of_judge(module: str) -> bool:
    """Whether a module's values are determined by the digest of the judge."""
    return module in {f"triptych.harness.{name}" for name in GROUND} or any(
        module == room or module.startswith(f"{room}.") for room in OURS
    )
