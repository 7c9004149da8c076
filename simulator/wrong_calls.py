"""A call that a function of NKI does not take, told in NKI's words instead of Python's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych.simulator import removed
from triptych.simulator.errors import NkiValidationError

_MODULES = {"nisa": "nki.isa", "nl": "nki.language", "ncc": "nki.collectives"}


class WrongCall(NkiValidationError, TypeError):
    """A function of NKI is called with arguments that it does not have, or without some that it needs."""


def wrong_call(
    name: str, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], error: TypeError
) -> TypeError:
    """What to raise for a TypeError that came of `f(*args, **kwargs)`: itself, unless the call is what was wrong.

    name: as kernels write it, "nisa.memset"
    """
    module, _, function = name.partition(".")
    parameters = inspect.signature(f).parameters
    try:
        inspect.signature(f).bind(*args, **kwargs)
        return error
    except TypeError as reason:
        gone = [(k, removed.argument(f"{_MODULES[module]}.{function}", k)) for k in kwargs if k not in parameters]
        told = [f"it has no {k}= any more: {instead}" for k, instead in gone if instead]
        if not told:
            told = [str(reason)]
            if module == "nisa" and "dst" in parameters and "missing" in str(reason):
                told.append(RETURNS_NOTHING)
        wrong = WrongCall(f"cannot be called so: {'; '.join(told)}; it is {name}({', '.join(parameters)})")
        wrong.op = name
        return wrong


RETURNS_NOTHING = "an instruction takes dst first, writes its result there and returns no tile"
