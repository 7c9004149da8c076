"""Who runs a kernel that host code calls directly."""

from __future__ import annotations

import threading

import pytest

from triptych.simulator.launch.host import launcher, launching


def first(kernel, args, kwargs):
    return "first"


def second(kernel, args, kwargs):
    return "second"


def test_the_innermost_that_asked_to_runs_it():
    assert launcher() is None
    with launching(first):
        assert launcher() is first
        with launching(second):
            assert launcher() is second
        assert launcher() is first
        with pytest.raises(KeyError), launching(second):
            raise KeyError
        assert launcher() is first
    assert launcher() is None


def test_another_thread_has_its_own():
    found = []
    with launching(first):
        thread = threading.Thread(target=lambda: found.append(launcher()))
        thread.start()
        thread.join()
    assert found == [None]
