"""Python's cyclic collector is off while many objects are made, and as it was afterwards."""

from __future__ import annotations

import gc

import pytest

from triptych.simulator.collector import without_collector


@pytest.fixture(params=[True, False], ids=["on", "off"])
def was_on(request):
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_it_is_off_within_and_as_it_was_behind(was_on):
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled() is was_on
    with pytest.raises(KeyError), without_collector():
        raise KeyError
    assert gc.isenabled() is was_on


def is_old(made):
    return any(one is made for one in gc.get_objects(generation=2))


def test_what_was_made_within_counts_as_old_where_it_is_on(was_on):
    with without_collector():
        made = [[]]
    assert is_old(made) is was_on


def test_what_somebody_has_frozen_stays_so():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with without_collector():
            made = [[]]
        assert 0 < gc.get_freeze_count() <= frozen and not is_old(made)
    finally:
        gc.unfreeze()
