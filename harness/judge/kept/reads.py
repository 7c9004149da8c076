"""What a Python function reads from outside itself: globals, what it closes over, and attributes of modules.

It is read from the bytecode that runs, never from a file, which may have been saved again since. `Undetermined` is
raised for whatever could read something that cannot be seen so.
"""

from __future__ import annotations

import builtins
import dis
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

LOCAL_IMPORTS = {"numpy", "math", "torch", "jax", "ml_dtypes", "scipy"}  # whose values depend on arguments alone
# Names of what depends on files, on the clock, or on numbers drawn before; whatever object they are asked of.
HIDDEN = {
    *("open", "load", "fromfile", "from_file", "loadtxt", "genfromtxt", "fromregex", "memmap", "open_memmap"),
    *("load_library", "cpp_extension", "environ", "getenv", "ctypeslib", "manual_seed"),
    *("normal_", "uniform_", "random_", "bernoulli", "bernoulli_", "exponential_", "multinomial", "poisson", "dropout"),
    *("cauchy_", "geometric_", "log_normal_", "rrelu", "rrelu_", "gumbel_softmax", "initial_seed", "set_rng_state"),
    *(f"{kind}dropout" for kind in ("alpha_", "feature_", "feature_alpha_", "native_")),
    *(f"dropout{rank}d" for rank in (1, 2, 3)),
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "default_generator"),
    *("__globals__", "__code__", "__dict__", "__subclasses__", "f_globals", "f_locals"),
}
HIDDEN_FUNCTIONS = {  # of libraries; generators have methods of these names
    *("normal", "binomial", "seed", "get_rng_state"),
    *(f"fractional_max_pool{rank}d{what}" for rank in (2, 3) for what in ("", "_with_indices")),
}
HIDDEN_BUILTINS = {
    *("open", "input", "eval", "exec", "compile", "globals", "locals", "vars", "dir", "id", "hash", "__import__"),
    *("print", "breakpoint"),  # whose effect would be missed
}
UNKNOWN_CODE = {"STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_BUILD_CLASS", "LOAD_NAME", "IMPORT_STAR", "LOAD_LOCALS"}
OF_CLOSURE = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")


class Undetermined(Exception):
    """Nobody can tell what a value depends on."""


class Read(NamedTuple):
    """A name that code loads, and the attributes that it then asks for, one of the other."""

    name: str
    attributes: tuple[str, ...]
    closed_over: bool


def values_read(function: types.FunctionType) -> Iterator[tuple[str, types.ModuleType | None, Any]]:
    """Each value that a function reads: how it is called, the module that it was asked of, if any, and the value.

    Of a module it is what is asked of it, and not the module. Undetermined where a module is used in another way.
    """
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    for name, attributes, closed_over in reads_of(function.__code__):
        if closed_over and name not in cells:
            continue  # a local of the function for one that it defines
        value, owner = value_of(function, name, cells if closed_over else None), None
        path = name
        for attribute in attributes:
            if not isinstance(value, types.ModuleType):
                break
            if attribute == "random" or not hasattr(value, attribute):
                raise Undetermined(f"{path}.{attribute}")
            owner, value, path = value, getattr(value, attribute), f"{path}.{attribute}"
        if isinstance(value, types.ModuleType):
            raise Undetermined(f"the module {path}, which is handed on")
        yield path, owner, value


def value_of(function: types.FunctionType, name: str, cells: Mapping[str, types.CellType] | None) -> Any:
    """What a global, or with `cells` a variable that is closed over, is now."""
    try:
        if cells is not None:
            return cells[name].cell_contents
        if name in function.__globals__:
            return function.__globals__[name]
        if name in HIDDEN_BUILTINS:
            raise Undetermined(f"{name}()")
        return vars(builtins)[name]
    except (KeyError, ValueError):
        raise Undetermined(f"the name {name}, which is nothing yet") from None


@lru_cache(maxsize=4096)
def reads_of(code: types.CodeType) -> tuple[Read, ...]:
    """What a function's code, and that of the functions in it, reads by name. Undetermined for code that hides it."""
    instructions = [one for one in dis.get_instructions(code) if one.opname != "EXTENDED_ARG"]
    found: dict[Read, None] = {}
    for number, one in enumerate(instructions):
        if one.opname in UNKNOWN_CODE:
            raise Undetermined(f"{code.co_name}, for its {one.opname}")
        if one.opname == "IMPORT_NAME" and str(one.argval).partition(".")[0] not in LOCAL_IMPORTS:
            raise Undetermined(f"{code.co_name}, which imports {one.argval}")
        if one.opname == "IMPORT_NAME" and "random" in all_names(code):
            raise Undetermined(f"{code.co_name}, which may draw numbers")
        if one.opname == "LOAD_GLOBAL" or one.opname in OF_CLOSURE:
            attributes = []
            for after in instructions[number + 1 :]:
                if after.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                attributes.append(str(after.argval))
            found[Read(str(one.argval), tuple(attributes), one.opname != "LOAD_GLOBAL")] = None
    hidden = HIDDEN & set(code.co_names)
    if hidden:
        raise Undetermined(f"{code.co_name}, for its {min(hidden)}")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            own = set(code.co_cellvars)
            found.update({read: None for read in reads_of(constant) if not (read.closed_over and read.name in own)})
    return tuple(found)


def all_names(code: types.CodeType) -> set[str]:
    """The names of globals and attributes in a function's code, and in that of the functions in it."""
    inner = [all_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*inner)
