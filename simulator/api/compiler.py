"""`nki.compiler`: how a kernel is specialized and compiled (NKI 0.7).

Pages of SDK 2.33: nki.jit, nki.compiler.CompileConfig, SpecializationConfig and AddressRotation. The defaults of three
fields were not seen: unset they are None, which leaves them to the compiler. Nothing of it changes a result; that
nested kernels agree is checked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from triptych.simulator.errors import KernelError


class AddressRotation(Enum):
    """Whether the compiler may move an allocation to another address for a better layout."""

    AUTO = "auto"  # not where the kernel, or NKI's own allocation, has fixed the address
    ENABLE = "enable"
    DISABLE = "disable"


@dataclass(frozen=True)
class CompileConfig:
    """What the compiler does with a kernel; a field that is None is the compiler's to choose."""

    address_rotation: AddressRotation = AddressRotation.AUTO
    non_ssa_legalization: bool | None = None
    dead_code_elim: bool | None = None
    barrier_check: bool | None = None
    nki_alloc_fallback: bool = True
    prefetch_auto: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.address_rotation, AddressRotation):
            raise KernelError(
                "CompileConfig takes address_rotation=nki.compiler.AddressRotation.AUTO, .ENABLE or .DISABLE, got "
                f"{self.address_rotation!r}"
            )
        _check_switches(self, but="address_rotation")


@dataclass(frozen=True)
class SpecializationConfig:
    """How a kernel is traced."""

    allow_nested_config_override: bool = False  # warn, and do not raise, where a nested kernel's configuration differs

    def __post_init__(self) -> None:
        _check_switches(self)


def _check_switches(config: Any, but: str = "") -> None:
    """Every field that is given is True or False."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name != but and not isinstance(value, bool) and value is not None:
            raise KernelError(f"{type(config).__name__} takes {field.name}=True or False, got {value!r}")


CONTENTS = {kind.__name__: kind for kind in (AddressRotation, CompileConfig, SpecializationConfig)}


def checked(**configs: Any) -> dict[str, Any]:
    """The configurations that nki.jit was given, each of its kind."""
    kinds = {"compile_config": CompileConfig, "specialization_config": SpecializationConfig}
    for name, value in configs.items():
        if value is not None and not isinstance(value, kinds[name]):
            raise KernelError(f"nki.jit takes {name}=nki.compiler.{kinds[name].__name__}(..), got {value!r}")
    return configs
