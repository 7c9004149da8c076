"""Which results lie where an operand or another result may, by hand."""

import contextlib

import pytest

from triptych.simulator import NkiValidationError
from triptych.simulator.analysis.regions import Rules, check_regions
from triptych.simulator.dtypes import TABLE
from triptych.simulator.trace import Allocation, Event, IndirectRegion, Region


def part(first, n, step=1, number=0, buffer="sbuf", address=None, rows=(0, 128)):
    """n elements of each of some rows of 16, `step` apart."""
    allocation = Allocation(number, "t", buffer, (128, 16), TABLE["int8"], ("k.py", 1), address)
    return Region(allocation, 16 * rows[0] + first, (rows[1] - rows[0], n), (16, step), TABLE["int8"])


def few(*offsets):
    """Those elements of each row."""
    region = IndirectRegion(*part(0, 16))
    region.offsets = offsets
    return region


@pytest.mark.parametrize(
    ("read", "written", "computes", "allowed"),
    [
        (part(0, 4), part(4, 4), True, True),
        (part(0, 4), part(3, 4), True, False),  # by one element
        (part(4, 4), part(0, 4), True, True),
        (part(3, 4), part(0, 4), True, False),
        (part(0, 4, 2), part(1, 4, 2), True, True),  # between
        (part(0, 4, 2), part(6, 4, 2), True, False),
        (part(0, 4, 2), part(8, 4, 2), True, True),
        (part(0, 4), part(0, 4), True, True),
        (part(0, 4), part(2, 1), True, True),  # a number a partition is written when all has been read
        (part(0, 4), part(2, 1), False, False),  # but not by DMA
        (part(0, 4, address=(0, 8)), part(0, 4, number=1, address=(0, 8)), True, True),
        (part(0, 4, address=(0, 8)), part(0, 4, number=1, address=(0, 10)), True, False),
        (part(0, 4, buffer="psum", address=(0, 8)), part(0, 4, number=1, address=(0, 10)), True, True),
        (part(0, 4), part(1, 4, number=1, address=(0, 0)), True, True),  # where the first lies is not known
        (part(1, 4, number=1, address=(0, 0)), part(0, 4), True, True),  # or the second
        (part(0, 4), part(0, 4, rows=(64, 128)), True, True),  # each partition by itself goes in one order
        (part(0, 4, rows=(64, 128)), part(0, 4), True, True),
        (part(0, 4, rows=(0, 32)), part(1, 4, rows=(32, 64)), True, True),
        (part(0, 4, rows=(32, 64)), part(1, 4, rows=(0, 32)), True, True),
        (part(0, 4, rows=(0, 64)), part(1, 4, rows=(32, 64)), True, False),
        (few(1, 3), part(4, 4), True, True),
        (few(1, 5), part(4, 4), True, False),
        (few(1, 5), part(0, 2), True, False),
        (part(4, 4), few(1, 3), True, True),
        (part(4, 4), few(1, 5), True, False),
        (few(1, 3), few(3, 1), True, False),
        (few(1, 3), few(1, 3), True, True),
        (few(0, 1, 2, 3), part(0, 4), True, True),  # the same elements in the same order
        (part(0, 4), few(0, 1, 2, 3), True, True),
        (few(0, 1, 3, 2), part(0, 4), True, False),
        (part(0, 4, buffer="private_hbm"), part(0, 4), True, True),
        (part(99, 4, buffer="private_hbm"), part(0, 4), True, True),
    ],
)
def test_parts_of_rows(read, written, computes, allowed):
    if read.allocation == written.allocation:
        read = read.of(written.allocation)
    event = Event("tensor_copy", "vector", (read,), (written,), ("k.py", 1), 0, None, {})
    with contextlib.nullcontext() if allowed else pytest.raises(NkiValidationError, match="overlaps"):
        check_regions(event, Rules(computes, False, "stream"))


@pytest.mark.parametrize(
    ("second", "allowed"),
    [
        (part(0, 4, number=1, address=(0, 12)), True),
        (part(0, 4, number=1, address=(0, 11)), False),
        (part(0, 1, number=1, address=(0, 11)), True),  # a column of sums
        (part(0, 2, number=1, address=(0, 11)), False),
        (part(0, 4, number=1, buffer="psum", address=(0, 11)), True),
        (part(8, 4, number=1), True),
    ],
)
def test_results_at_addresses(second, allowed):
    event = Event("select_reduce", "vector", (), (part(0, 4, address=(0, 8)), second), ("k.py", 1), 0, None, {})
    with contextlib.nullcontext() if allowed else pytest.raises(NkiValidationError, match="two results overlap"):
        check_regions(event, Rules(True, False, "stream"))


def test_an_instruction_that_reads_in_another_order_has_no_result_in_place():
    whole = part(0, 4)
    event = Event("transpose", "vector", (whole,), (whole,), ("k.py", 1), 0, None, {})
    check_regions(event, Rules(True, False, "stream"))
    with pytest.raises(NkiValidationError, match="overlaps"):
        check_regions(event, Rules(True, False, "mixed"))


def test_a_column_may_lie_in_what_is_read_only_where_that_is_read_in_its_order():
    event = Event("gather", "vector", (part(0, 4),), (part(2, 1),), ("k.py", 1), 0, None, {})
    event.writes = (event.writes[0].of(event.reads[0].allocation),)
    check_regions(event, Rules(True, False, "stream"))
    with pytest.raises(NkiValidationError, match="overlaps"):
        check_regions(event, Rules(True, False, "mixed"))


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    ("first", "n", "allowed"), [(0, 4, True), (1, 3, True), (1, 4, False), (7, 4, False), (8, 4, True)]
)
def test_elements_of_hbm(dtype, first, n, allowed):
    """Four elements are written, from the fifth on."""
    tensor = Allocation(0, "t", "private_hbm", (64,), TABLE[dtype], ("k.py", 1))
    read, written = (Region(tensor, at, (count,), (1,), TABLE[dtype]) for at, count in ((first, n), (4, 4)))
    event = Event("dma_copy", "dma", (read,), (written,), ("k.py", 1), 0, None, {})
    with contextlib.nullcontext() if allowed else pytest.raises(NkiValidationError, match="overlaps"):
        check_regions(event, Rules(False, True, "stream"))


def test_rows_that_have_an_index_each_may_lie_anywhere():
    row = part(0, 4)
    moved = row._replace(offset=2)
    event = Event("dma_copy", "dma", (row,), (moved,), ("k.py", 1), 0, None, {"scattered": True})
    check_regions(event, Rules(False, True, "mixed"))
    event.attributes = {}
    with pytest.raises(NkiValidationError, match="overlaps"):
        check_regions(event, Rules(False, True, "mixed"))
