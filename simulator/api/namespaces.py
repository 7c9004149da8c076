"""The modules `nki`, `nki.isa`, `nki.language`, `nki.collectives` and `nki.typing`, built from the tables.

Any other name raises at once and says what replaced it.
"""

from __future__ import annotations

import importlib
import types
from typing import Any

from triptych.simulator import enums
from triptych.simulator.api import older, removed
from triptych.simulator.engines import COLLECTIVES, INSTRUCTIONS
from triptych.simulator.engines.collectives.replicas import ReplicaGroup
from triptych.simulator.engines.registers import register_alloc
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language import names
from triptych.simulator.language.annotations import Tensor
from triptych.simulator.language.loops import dynamic_range, fori_loop, while_loop
from triptych.simulator.launch import import_hook, kernel
from triptych.simulator.machine.machine import NkiInstruction, machine
from triptych.simulator.machine.registers import VirtualRegister

_LOOPS = (dynamic_range, fori_loop, while_loop)


def get_nc_version() -> enums.nc_version:
    """The NeuronCore generation of the target."""
    return enums.nc_version(machine().chip.generation)


def get_nc_sub_version() -> int:
    """The silicon revision: always the first."""
    return 0


def _contents() -> dict[str, dict[str, Any]]:
    isa = {
        **{name: row.issue for name, row in INSTRUCTIONS.items()},
        **{n: getattr(enums, n) for n in vars(enums) if isinstance(getattr(enums, n), type) and n != "Enum"},
        **{
            f"{e.name}_engine": e for e in enums.engine if e.name in ("tensor", "vector", "scalar", "gpsimd", "unknown")
        },
        "NkiInstruction": NkiInstruction,
        "NkiValidationError": NkiValidationError,
        "get_nc_version": get_nc_version,
        "get_nc_sub_version": get_nc_sub_version,
        "register_alloc": register_alloc,
        "VirtualRegister": VirtualRegister,
    }
    return {
        "nki": {"jit": kernel.jit, "simulate": kernel.simulate, "Kernel": kernel.Kernel},
        "nki.isa": isa,
        "nki.language": {**names.NAMESPACE, **{f.__name__: f for f in _LOOPS}},
        "nki.collectives": {**{name: row.issue for name, row in COLLECTIVES.items()}, "ReplicaGroup": ReplicaGroup},
        "nki.typing": {"tensor": Tensor},
    }


def known(qualified: str) -> dict[str, Any]:
    """The names of one module of NKI 0.6, and what they are here."""
    return _contents()[qualified]


def fill(module: types.ModuleType) -> None:
    """Give `module`, named like one that is lent (triptych.simulator.launch.import_hook), its contents."""
    qualified = module.__name__
    module.__dict__.update(older.contents(qualified))
    if qualified in import_hook.NAMES:
        module.__dict__.update(known(qualified))
    module.__doc__ = f"{qualified} of NKI 0.6, simulated by Triptych."
    module.__dict__["__triptych__"] = True

    def missing(name: str) -> Any:
        full = f"{qualified}.{name}"
        if full in (*import_hook.NAMES, *import_hook.OLDER):  # a submodule, which `import nki` alone gives too
            return importlib.import_module(full)
        if full.startswith("neuronxcc.") and not name.startswith("__"):
            raise AttributeError(f"{full} went with NKI 0.2; use {full.removeprefix('neuronxcc.')}")
        if full in removed.NAMES:
            raise AttributeError(f"{full} is not in NKI 0.6: {removed.NAMES[full]}")
        raise AttributeError(f"{full} is not a name of NKI 0.6")

    module.__dict__["__getattr__"] = missing
