"""Runs without what is compiled, beside those with it."""

from __future__ import annotations

import contextlib
import sys

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


def by_both(run):
    """What a run gives, and in Python, and the functions of Python that the first called."""
    called = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code) if event == "call" else None)
    try:
        found = run()
    finally:
        sys.setprofile(None)
    with in_python():
        return found, run(), called
