"""`nki.compiler`: how a kernel is specialized and compiled (NKI 0.7).

Pages of SDK 2.33: nki.jit, nki.compiler.CompileConfig, nki.compiler.SpecializationConfig. The members of
AddressRotation and most defaults were not seen: an unset field is None, which leaves it to the compiler. Nothing of it
changes a result; that nested kernels agree is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from triptych.simulator.errors import KernelError


class AddressRotation(Enum):
    """How addresses of a rotating buffer are given out. Its members were not seen, so that it has none here."""


@dataclass(frozen=True)
class CompileConfig:
    """What the compiler does with a kernel; a field that is None is the compiler's to choose."""

    address_rotation: AddressRotation | None = None
    non_ssa_legalization: bool | None = None
    dead_code_elim: bool | None = None
    barrier_check: bool | None = None
    nki_alloc_fallback: bool = True
    prefetch_auto: bool | None = None


@dataclass(frozen=True)
class SpecializationConfig:
    """How a kernel is traced."""

    allow_nested_config_override: bool = False  # warn, and do not raise, where a nested kernel's configuration differs


CONTENTS = {kind.__name__: kind for kind in (AddressRotation, CompileConfig, SpecializationConfig)}


def checked(**configs: Any) -> dict[str, Any]:
    """The configurations that nki.jit was given, each of its kind."""
    kinds = {"compile_config": CompileConfig, "specialization_config": SpecializationConfig}
    for name, value in configs.items():
        if value is not None and not isinstance(value, kinds[name]):
            raise KernelError(f"nki.jit takes {name}=nki.compiler.{kinds[name].__name__}(..), got {value!r}")
    return configs
