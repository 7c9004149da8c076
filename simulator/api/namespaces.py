"""What the names of `nki.isa`, `nki.language`, `nki.collectives` and `nki.typing` are here, built from the tables."""

from __future__ import annotations

import functools
from typing import Any

from triptych.simulator import enums
from triptych.simulator.api import compiler, older
from triptych.simulator.engines import COLLECTIVES, INSTRUCTIONS
from triptych.simulator.engines.collectives.replicas import ReplicaGroup
from triptych.simulator.engines.registers import register_alloc
from triptych.simulator.engines.scalars import load_scalar, store_scalar
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.language import names
from triptych.simulator.language.annotations import Tensor
from triptych.simulator.language.loops import dynamic_range, fori_loop, while_loop
from triptych.simulator.machine.machine import NkiInstruction, machine
from triptych.simulator.machine.registers import VirtualRegister
from triptych.simulator.machine.scalars import NkiScalar

_LOOPS = (dynamic_range, fori_loop, while_loop)


def get_nc_version() -> enums.nc_version:
    """The NeuronCore generation of the target."""
    return enums.nc_version(machine().chip.generation)


def get_nc_sub_version() -> int:
    """The silicon revision: always the first."""
    return 0


@functools.cache
def _current() -> dict[str, dict[str, Any]]:
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
        "scalar_load": load_scalar,
        "scalar_store": store_scalar,
        "NkiScalar": NkiScalar,
        "VirtualRegister": VirtualRegister,
    }
    return {
        "nki.isa": isa,
        "nki.language": {**names.NAMESPACE, **{f.__name__: f for f in _LOOPS}},
        "nki.collectives": {**{name: row.issue for name, row in COLLECTIVES.items()}, "ReplicaGroup": ReplicaGroup},
        "nki.typing": {"tensor": Tensor},
        "nki.compiler": compiler.CONTENTS,
    }


def current(module: str) -> dict[str, Any]:
    """The names of one module of NKI, and what they are here.

    `nki` itself has none of its own: `jit`, `simulate` and `Kernel` launch kernels, and triptych.simulator.launch adds
    them.
    """
    return _current().get(module, {})


def contents(module: str) -> dict[str, Any]:
    """The names of a module: those of NKI, and those that are kept for older kernels."""
    return {**older.contents(module), **current(module)}


def absence(name: str) -> str:
    """Why a dotted name is not in NKI, and what to use instead."""
    from triptych.simulator.api import absent  # late: a kernel that is right needs none

    return absent.absence(name, contents(name.rpartition(".")[0]))
