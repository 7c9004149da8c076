"""Look-ups of nki's own names: which exist, how they are called, and since which generation."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from triptych.simulator.engines import INSTRUCTIONS
from triptych.simulator.operands.operators import OPS

STUBS = "nki/api/nki/{isa,language,collectives}/__init__.py"
MIGRATION = "nki/migration/index.rst"
RELEASE_NOTES = "release-notes/components/nki.rst"
_SHORT = {"nki.isa": "nisa", "nki.language": "nl", "nki.collectives": "nki.collectives"}

# Options that not every generation has, beside the instructions and operators whose tables say it.
_OPTIONS = {"nki.isa.matmul_perf_mode.double_row": 3, "nki.isa.dge_mode.hwdge": 3}


def names(module: str) -> dict[str, Any]:
    """The names of a module of NKI, with what they are in the simulator."""
    from triptych.simulator.api import namespaces  # late: the simulator is imported without the language

    return namespaces.current(module)


def split(name: str) -> tuple[str, str, str]:
    """(module, name in it, what follows) of a dotted name of NKI; empty strings for another name."""
    for module in _SHORT:
        if name.startswith(module + "."):
            first, _, rest = name[len(module) + 1 :].partition(".")
            return module, first, rest
    return "", "", ""


def short(name: str) -> str:
    """A dotted name as kernels write it: nl.load."""
    module, first, rest = split(name)
    return ".".join(filter(None, (_SHORT[module], first, rest))) if module else name


@functools.cache
def signature(name: str) -> inspect.Signature | None:
    """The parameters of a function of NKI, if the simulator has it."""
    module, first, rest = split(name)
    found = names(module).get(first) if not rest else None
    found = getattr(found, "wrapper", found)  # an operator's call form
    return inspect.signature(found) if callable(found) and not isinstance(found, type) else None


# Engines that an instruction has on later generations alone, by the rules of its effect.
_ENGINE_SINCE = {("tensor_copy", "scalar"): 3, ("tensor_scalar", "scalar"): 3}


def engines_of(name: str) -> tuple[str, ...]:
    """The engines that an instruction of nki.isa may be asked to run on; none for another name."""
    module, first, rest = split(name)
    row = INSTRUCTIONS.get(first) if module == "nki.isa" and not rest else None
    return () if row is None else tuple(e.name for e in row.engines)


def engine_since(name: str, engine: str) -> int:
    """The first NeuronCore generation on which an instruction runs on an engine that it has."""
    return _ENGINE_SINCE.get((split(name)[1], engine), 2)


@functools.cache
def since(name: str) -> int:
    """The first NeuronCore generation that has a name of NKI."""
    module, first, rest = split(name)
    if module == "nki.isa" and first in INSTRUCTIONS and not rest:
        return INSTRUCTIONS[first].since
    if module == "nki.language" and first in OPS and not rest and OPS[first].act is None:  # activations are in all
        return OPS[first].since
    return _OPTIONS.get(name, 2)
