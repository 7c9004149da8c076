"""Memory of shape-only runs knows what memory with bytes knows of what was written, and by whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.simulator import KernelError, ShapeDtype, Uninitialized
from triptych.simulator.dtypes import dtype_of
from triptych.simulator.memory.layout import Layout
from triptych.simulator.memory.shapes import parts_of
from triptych.simulator.memory.storage import MemoryRegion

SHAPE = (4, 3, 6)
PLACES = [("psum", None), ("psum", (0, 2048)), ("sbuf", None), ("sbuf", (32, 64)), ("shared_hbm", None)]


def part(draw):
    """A key of a view, without steps over the partitions."""
    starts = [draw(st.integers(0, size - 1)) for size in SHAPE]
    ends = [draw(st.integers(start + 1, size)) for start, size in zip(starts, SHAPE, strict=True)]
    return tuple(map(slice, starts, ends, (1, draw(st.integers(1, 3)), draw(st.integers(1, 3)))))


@st.composite
def writes(draw):
    """The key of a view, which of its elements are written (None: all), and whether by a matmul."""
    key = (...,) if draw(st.booleans()) else part(draw)
    shape = np.empty(SHAPE)[key].shape
    chosen = None
    if draw(st.booleans()):
        seed = draw(st.integers(0, 1000))
        chosen = np.random.default_rng(seed).random(shape) < draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
        chosen[1:] = chosen[:1] if draw(st.booleans()) else chosen[1:]
    return key, chosen, draw(st.booleans())


def known(storage, view, psum):
    """Of a view: what was written, and what of it by a matmul, element by element."""
    found = [storage.written_at(view.layout)]
    if psum:
        found += [storage.started_at(view.layout), *storage.through_this(view.layout)]
    found = [np.broadcast_to(state, view.shape).tolist() for state in found]
    if psum:  # what was never written no matmul wrote
        found[2:] = [(np.array(found[0]) & state).tolist() for state in found[2:]]
    return found


def error_of(storage, view):
    try:
        storage.check_written(view.layout)
    except Uninitialized as error:
        return error.message.partition(" allocated at ")[0]
    return None


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_marks_are_those_of_memory_with_bytes(core, data):
    buffer, address = data.draw(st.sampled_from(PLACES))
    drawn = data.draw(st.lists(writes(), min_size=1, max_size=6))
    asked = [(...,), *[key for key, _, _ in drawn], part(data.draw)]
    psum, seen = buffer == "psum", []
    for has_data in (True, False):
        told = []
        with core(data=has_data) as c:
            tensor = c.machine.allocate(SHAPE, "bfloat16", MemoryRegion[buffer], "t", address)
            for key, chosen, by_matmul in drawn:
                view, writer = tensor[key], {"by_matmul": True} if by_matmul and psum else {}
                if chosen is None:
                    view.storage.wrote(view.layout, **writer)
                else:
                    view.storage.wrote_where(view.layout, chosen, **writer)
                views = [tensor[key] for key in asked]
                told.append([(known(v.storage, v, psum), error_of(v.storage, v)) for v in views])
                if address is None:
                    told.append(tensor.storage.first_missing() if tensor.storage.missing else 0)
        seen.append(told)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("density", [0.0, 0.3, 0.7, 1.0])
def test_parts_are_the_chosen_elements_each_once(density):
    rng = np.random.default_rng(1)
    at = Layout(7, (3, 4, 5), (40, 10, 2), dtype_of("bfloat16"))
    chosen = rng.random(at.shape) < density
    chosen[1] = chosen[0]
    flat = np.zeros(200, int)
    for one in parts_of(at, chosen):
        places = one.offset + sum(
            np.arange(n).reshape(-1, *(1,) * (len(one.shape) - d - 1)) * s
            for d, (n, s) in enumerate(zip(one.shape, one.strides, strict=True))
        )
        flat[places] += 1
    whole = np.ndarray(at.shape, int, flat, 8 * at.offset, tuple(8 * s for s in at.strides))
    np.testing.assert_array_equal(whole, chosen)
    assert flat.sum() == chosen.sum()


def test_what_is_computed_with_are_zeros(core):
    """Those of HBM, which may be gigabytes, take the room of one."""
    for rounds, kind in ((True, "bfloat16"), (False, "float32")):
        with core(data=False, round_low_precision=rounds) as c:
            for buffer in ("sbuf", "private_hbm"):
                tensor = c.empty((4, 6), "bfloat16", buffer)
                for array, name in ((tensor.array, kind), (tensor.f32(), "float32")):
                    assert array.shape == (4, 6) and array.dtype == dtype_of(name).np and not array.any()
                    assert (array.strides == (0, 0)) == (buffer == "private_hbm")
    with core(data=False) as c:
        assert c.empty((4, 6)).view("uint8").array.dtype == np.uint8


def test_a_view_of_a_tensors_shape_that_repeats_elements_is_not_all_of_it(core):
    for data in (True, False):
        with core(data=data) as c:
            tensor = c.empty((4, 6))
            tensor.ap([[6, 4], [0, 6]]).wrote()
            written = np.broadcast_to(tensor.storage.written_at(tensor.layout), (4, 6))
            np.testing.assert_array_equal(written, np.arange(6) == np.zeros((4, 1)))
            tensor.permute((0, 1)).wrote()
            assert tensor.storage.written_at(tensor.layout) is True


@pytest.mark.parametrize("data", [True, False])
def test_half_the_bytes_as_another_dtype_are_half_the_tensor(core, data):
    with core(data=data) as c:
        low, wide = c.empty((4, 6), "bfloat16"), c.empty((4, 6))
        low.view("uint8")[:, 0:6].wrote()
        assert low.storage.missing == 24
        np.testing.assert_array_equal(low.storage.written_at(low.layout), np.arange(6) < np.full((4, 1), 3))
        wide.view("bfloat16")[:, 0:6].wrote()
        assert wide.storage.missing == 48


def test_an_argument_of_which_only_the_form_is_known():
    one = ShapeDtype([np.int64(3), 5], "bfloat16")
    assert (one.shape, one.ndim, one.nbytes) == ((3, 5), 2, 30)
    assert type(one.shape[0]) is int
    with pytest.raises(KernelError, match=r"a shape is a sequence of integers, got \(3, 1.5\)"):
        ShapeDtype((3, 1.5), "float32")


@pytest.mark.parametrize("buffer", [MemoryRegion.sbuf, MemoryRegion.psum, MemoryRegion.private_hbm])
def test_what_tensors_of_one_form_know_is_each_ones_own(core, buffer):
    rng = np.random.default_rng(0)
    with core("trn2", data=False) as c:
        tensors = [c.machine.allocate((8, 6), "float32", buffer) for _ in range(3)]
        models = [np.zeros((8, 6), bool) for _ in tensors]
        for _ in range(60):
            one = rng.integers(3)
            (top, bottom), (left, right) = (sorted(rng.choice(n + 1, 2, replace=False)) for n in (8, 6))
            view = tensors[one][int(top) : int(bottom), int(left) : int(right)]
            view.wrote()
            models[one][top:bottom, left:right] = True
            for tensor, model in zip(tensors, models, strict=True):
                np.testing.assert_array_equal(np.broadcast_to(tensor.storage.written_at(tensor.layout), (8, 6)), model)
            if all(model.all() for model in models):
                break
        assert all(
            tensor.storage.missing == 4 * np.count_nonzero(~model)
            for tensor, model in zip(tensors, models, strict=True)
        )


@pytest.mark.parametrize("place", PLACES[::2])
def test_what_is_written_whole_has_no_cells(core, place):
    with core(data=False) as c:
        storage = c.machine.allocate(SHAPE, "float32", MemoryRegion[place[0]]).storage
        whole = Layout(0, SHAPE, (18, 6, 1), dtype_of("float32"))
        for by_matmul in (True, False):
            storage.wrote(whole, by_matmul)
            assert (storage._written, storage.started, storage.missing) == (None, by_matmul, 0)
        storage.missing = 1
        storage.wrote(Layout(0, (2, 3, 6), (18, 6, 1), dtype_of("float32")))
        assert storage.started is False and storage._written is not None
