"""What of `simulator/compiled/` is there.

C is built where the package is installed with a compiler at hand, for CPython with its global lock (setup.py). Without
it, or with TRIPTYCH_COMPILED=0 in the environment, all is Python, with the same results.
"""

from __future__ import annotations

import importlib
import os
from typing import Any


def built(name: str) -> Any:
    """The module that was compiled from the C of that name; None if all is to be Python."""
    if os.environ.get("TRIPTYCH_COMPILED") == "0":
        return None
    try:
        return importlib.import_module(f"triptych.simulator.compiled.{name}")
    except ImportError:
        return None
