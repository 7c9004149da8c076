"""What fits at first sight is not looked at closely: an instruction on ordinary tiles costs a few comparisons."""

import pytest

from triptych.simulator.analysis import regions
from triptych.simulator.analysis.regions import Rules, check_regions
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Event, Region

INT8 = TABLE["int8"]
STREAM = Rules(True, False, "stream")


def view(row=512, offset=0, buffer="sbuf", free=((512, 1),)):
    """Of a tensor of 128 rows of so many elements: sizes and strides of the free dimensions."""
    allocation = Allocation(0, "t", buffer, (128, row), INT8, ("k.py", 1))
    shape, strides = zip((128, row), *free, strict=True)
    return Region(allocation, offset, shape, strides, INT8)


@pytest.fixture
def closely(monkeypatch):
    """The regions that are looked at closely, by themselves or beside another."""
    found = []
    monkeypatch.setattr(regions, "_check_access", lambda event, region, own: found.append(region))
    monkeypatch.setattr(regions, "_check_overlap", lambda read, written, computes, order: found.append(written))
    return found


@pytest.mark.parametrize(
    ("region", "plain"),
    [
        (view(), True),
        (view(offset=511, free=((1, 1),)), True),  # within the first row
        (view(offset=512), False),
        (view(4096, buffer="psum"), True),
        (view(4097, buffer="psum"), False),
        (view(32767), True),
        (view(32768), False),
        (view(free=((2, 64), (2, 32), (2, 16), (2, 1))), True),
        (view(free=((2, 128), (2, 64), (2, 32), (2, 16), (2, 1))), False),
    ],
)
@pytest.mark.parametrize("reads", [True, False])
def test_which_views_may_break_a_rule(closely, region, plain, reads):
    sides = ((region,), ()) if reads else ((), (region,))
    check_regions(Event("tensor_copy", "vector", *sides, ("k.py", 1), 0, None, {}), STREAM)
    assert closely == ([] if plain else [region])


def test_dma_may_touch_anything(closely):
    far = view(40_000, offset=99_999)
    check_regions(Event("dma_copy", "dma", (far,), (), ("k.py", 1), 0, None, {}), Rules(False, True, "stream"))
    assert closely == []


@pytest.mark.parametrize("order", ["stream", "late", "mixed"])
def test_what_is_written_in_place_is_the_same_at_first_sight(closely, order):
    whole = view()
    event = Event("tensor_copy", "vector", (whole,), (whole,), ("k.py", 1), 0, None, {})
    check_regions(event, Rules(True, False, order))
    assert closely == ([whole] if order == "mixed" else [])
    event.reads = (view(free=((256, 2),)).of(whole.allocation),)
    check_regions(event, STREAM)
    assert closely[-1:] == [whole]
