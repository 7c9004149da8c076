"""Which Triton the correction of bfloat16 knows.

The correction replaces parts of `triton.runtime.interpreter`, which is private to Triton and changes between minor
versions. Every version named here was run through `tests/triton`. Another one is refused with a sentence: a stale
correction would be as silently wrong as none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

TESTED = ("3.6", "3.7", "3.8", "3.9")


def installed() -> str | None:
    """The version of the Triton that `import triton` finds, or None. Asks the metadata first: importing is slow."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # PyTorch's own builds go by other distribution names
        import triton

        return str(triton.__version__)


def version_support() -> str | None:
    """None where the installed Triton is one the correction was tested with; else a sentence that says what is."""
    version = installed()
    if version is None:
        return "Triton is not installed: it has wheels for Linux alone (pip install triton)"
    if ".".join(version.split(".")[:2]) in TESTED:
        return None
    return (
        f"Triton {version} is installed, and its interpreter was not tested with the correction of bfloat16, "
        f"which knows Triton {', '.join(TESTED)}"
    )
