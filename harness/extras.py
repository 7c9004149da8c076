"""What is installed on request, as `pip install triptych[torch]`: packages by extra, and a sentence where one fails.

An optional package is imported where it is needed, by `load`, or asked for by `why_not`. One that is installed and
fails at its import is told apart from one that is not installed.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from triptych.harness.errors import describe

EXTRAS = {  # the modules of each; `neuron` is not among them, because triptych lends `nki` where it is not installed
    "torch": ("torch",),
    "jax": ("jax",),
    "gpu": ("torch", "jax", "jax_triton"),
    "cluster": ("ray",),
    "fuzz": ("hypothesis",),
}
NAMES = {"torch": "PyTorch", "jax": "JAX", "jax_triton": "jax-triton", "ray": "Ray"}  # in words


class ExtraMissing(ImportError):
    """An optional package is not here, or `broken`; its text is one sentence."""

    def __init__(self, sentence: str, broken: bool) -> None:
        super().__init__(sentence)
        self.broken = broken


def load(module: str) -> Any:
    """The module; ExtraMissing where it is not installed or its import fails, in whichever way."""
    cache = os.environ.get("TRITON_CACHE_DIR")
    try:
        return importlib.import_module(module)
    except Exception as error:
        name, extra = NAMES.get(module, module), extra_of(module)
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise ExtraMissing(f"{name} is not installed: pip install 'triptych[{extra}]'", broken=False) from None
        raise ExtraMissing(
            f"{name} is installed and cannot be imported ({describe(error)}): repair it, or "
            f"pip install --force-reinstall 'triptych[{extra}]'",
            broken=True,
        ) from None
    finally:  # jax_triton leaves an empty path here, with which Triton compiles nothing more
        if cache is not None:
            os.environ["TRITON_CACHE_DIR"] = cache
        elif os.environ.get("TRITON_CACHE_DIR") == "":
            del os.environ["TRITON_CACHE_DIR"]


def why_not(module: str) -> str | None:
    """A sentence on why a module cannot be used, None if it can; imports it."""
    try:
        load(module)
    except ExtraMissing as error:
        return str(error)
    return None


def lacking(extra: str) -> list[ExtraMissing]:
    """What of an extra is not here, or broken; imports it."""
    found = []
    for module in EXTRAS[extra]:
        try:
            load(module)
        except ExtraMissing as error:
            found.append(error)
    return found


def extra_of(module: str) -> str:
    """The smallest extra that brings a module."""
    return min((extra for extra in EXTRAS if module in EXTRAS[extra]), key=lambda extra: len(EXTRAS[extra]))
