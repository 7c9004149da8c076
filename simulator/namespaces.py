"""The modules `nki`, `nki.isa`, `nki.language`, `nki.collectives` and `nki.typing`, built from the tables.

A name of NKI 0.6 that is not simulated yet is there and raises when it is called, so that a kernel which imports it and
does not use it runs. Any other name raises at once and says what replaced it.
"""

from __future__ import annotations

import types
from typing import Any, NoReturn

from triptych.simulator import enums, kernel, language, registers, removed
from triptych.simulator.engines import INSTRUCTIONS
from triptych.simulator.errors import NkiValidationError, NotSimulated
from triptych.simulator.machine import NkiInstruction, machine
from triptych.simulator.tensor import NkiTensor

# Functions of NKI 0.6 beyond those that the tables hold (nki/api/nki/*/__init__.py).
_LATER = {
    "nki.isa": "",
    "nki.collectives": """all_gather all_gather_v all_reduce all_to_all all_to_all_v collective_permute
        collective_permute_implicit collective_permute_implicit_current_processing_rank_id
        collective_permute_implicit_reduce rank_id reduce_scatter ReplicaGroup""",
}

_LOOPS = (registers.dynamic_range, registers.fori_loop, registers.while_loop)


def get_nc_version() -> enums.nc_version:
    """The NeuronCore generation of the target."""
    return enums.nc_version(machine().chip.generation)


def get_nc_sub_version() -> int:
    """The silicon revision: always the first."""
    return 0


def _later(qualified: str) -> Any:
    def absent(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotSimulated(f"{qualified} is a name of NKI 0.6 that this simulator does not have yet")

    absent.__name__ = absent.__qualname__ = qualified.rpartition(".")[2]
    return absent


class _Typing:
    """`nki.typing.tensor[shape]`: an annotation, without effect."""

    def __class_getitem__(cls, shape: Any) -> type[NkiTensor]:
        return NkiTensor


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
        "register_alloc": registers.register_alloc,
        "VirtualRegister": registers.VirtualRegister,
    }
    return {
        "nki": {"jit": kernel.jit, "simulate": kernel.simulate, "Kernel": kernel.Kernel},
        "nki.isa": isa,
        "nki.language": {**language.NAMESPACE, **{f.__name__: f for f in _LOOPS}},
        "nki.collectives": {},
        "nki.typing": {"tensor": _Typing},
    }


def names() -> tuple[str, ...]:
    return ("nki", "nki.isa", "nki.language", "nki.collectives", "nki.typing")


def known(qualified: str) -> dict[str, Any]:
    """The names of one module, and what they are here."""
    contents = _contents()[qualified]
    for later in _LATER.get(qualified, "").split():
        contents.setdefault(later, _later(f"{qualified}.{later}"))
    return contents


def fill(module: types.ModuleType) -> None:
    """Give `module`, named like one of `names()`, its contents."""
    qualified = module.__name__
    module.__dict__.update(known(qualified))
    module.__doc__ = f"{qualified} of NKI 0.6, simulated by Triptych."
    module.__dict__["__triptych__"] = True

    def missing(name: str) -> NoReturn:
        full = f"{qualified}.{name}"
        if full in removed.NAMES:
            raise AttributeError(f"{full} is not in NKI 0.6: {removed.NAMES[full]}")
        raise AttributeError(f"{full} is not a name of NKI 0.6")

    module.__dict__["__getattr__"] = missing
