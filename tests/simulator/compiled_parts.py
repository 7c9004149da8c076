"""Runs without what is compiled, beside those with it."""

from __future__ import annotations

import contextlib

import pytest

from triptych.simulator.compiled import in_place

needs_compiled = pytest.mark.skipif(
    not in_place.IS_COMPILED, reason="nothing is compiled: no C compiler was there, or TRIPTYCH_COMPILED=0"
)
PYTHON = dict(zip(in_place.REPLACED, in_place.IN_PYTHON, strict=True))  # by (owner, name)


@contextlib.contextmanager
def in_python():
    """Without what is compiled."""
    with pytest.MonkeyPatch.context() as m:
        for (owner, name), function in PYTHON.items():
            m.setattr(owner, name, function)
        yield
