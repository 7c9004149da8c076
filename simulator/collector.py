"""Python's cyclic collector, kept out of the way of many small objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's cyclic collector off: a trace is many small objects without cycles, and walking them cost a third.

    Afterwards all that is alive counts as old, as if it had been walked.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_freeze_count() == 0:
                gc.freeze()
                gc.unfreeze()
            gc.enable()
