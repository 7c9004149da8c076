"""Every documented method and attribute of NkiTensor, each on one tensor that NumPy mirrors.

What they refuse, and chains of them, are in test_tensor_views.py; indices known only when the kernel runs in
test_dynamic.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from triptych.harness.upkeep.pages import nki_names
from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory.storage import Storage
from triptych.simulator.tensors import slicing
from triptych.simulator.tensors.tensor import NkiTensor

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

SHAPE = (4, 6, 8)
X = np.arange(4 * 6 * 8, dtype=np.int32).reshape(SHAPE)

# method -> (arguments, what NumPy shows)
VIEWS = {
    "__getitem__": (((slice(1, 3), 2),), X[1:3, 2]),
    "permute": (((0, 2, 1),), X.transpose(0, 2, 1)),
    "reshape_dim": ((2, (2, 4)), X.reshape(4, 6, 2, 4)),
    "flatten_dims": ((1, 2), X.reshape(4, 48)),
    "reshape": (((4, 3, 16),), X.reshape(4, 3, 16)),
    "expand_dim": ((1,), X[:, None]),
    "rearrange": (
        (("p", ("a", "b"), "f"), ("p", "b", "a", "f"), {"a": 2}),
        X.reshape(4, 2, 3, 8).transpose(0, 2, 1, 3),
    ),
    "slice": ((1, 1, 6, 2), X[:, 1:6:2]),
    "select": ((2, 5), X[:, :, 5]),
    "ap": (([[48, 4], [-8, 3], [2, 4]], 40), X[:, 5:2:-1, ::2]),
    "view": (("uint16",), X.view(np.uint16)),
    "reinterpret_cast": (("uint16",), X.view(np.uint16)),
}


@pytest.mark.parametrize("method", VIEWS)
@pytest.mark.parametrize("buffer", ["sbuf", "psum", "shared_hbm"])
def test_a_view_is_numpys(core, method, buffer):
    arguments, expected = VIEWS[method]
    with core() as c:
        tensor = c.tile(X, buffer=buffer)
        view = getattr(tensor, method)(*arguments)
        assert view.shape == expected.shape and view.storage is tensor.storage and not c.trace.events
        np.testing.assert_array_equal(view.array, expected)


@pytest.mark.parametrize("method", ["broadcast", "squeeze_dim"])
def test_a_view_of_a_dimension_of_one(core, method):
    with core() as c:
        tensor = c.tile(X[:, :1])
        view = getattr(tensor, method)(*{"broadcast": (1, 5), "squeeze_dim": (1,)}[method])
        np.testing.assert_array_equal(
            view.array, {"broadcast": np.repeat(X[:, :1], 5, axis=1), "squeeze_dim": X[:, 0]}[method]
        )


@pytest.mark.parametrize("method", ["vector_select"])
def test_rows_chosen_by_a_tile(core, same, method):
    with core() as c:
        index = np.array([[3], [0], [3]], np.int32)
        dst = c.empty((3, 6, 8), "int32")
        nisa.dma_copy(dst, getattr(c.tile(X, buffer="shared_hbm"), method)(0, c.tile(index)))
        assert same(dst, X[index[:, 0]])


@pytest.mark.parametrize(
    ("method", "whole", "part"),
    [
        ("is_contiguous", True, False),
        ("is_indirect", False, False),
        ("get_pattern", [[48, 4], [8, 6], [1, 8]], [[48, 4], [16, 3], [1, 4]]),
    ],
)
def test_what_a_view_says_of_its_pattern(core, method, whole, part):
    with core() as c:
        tensor = c.tile(X)
        assert getattr(tensor, method)() == whole and getattr(tensor[:, ::2, :4], method)() == part


@pytest.mark.parametrize(
    ("attribute", "whole", "part"),
    [
        ("shape", SHAPE, (4, 3, 4)),
        ("strides", (48, 8, 1), (48, 16, 1)),
        ("offset", 0, 8),
        ("ndim", 3, 3),
        ("size", 192, 48),
        ("dtype", nl.bfloat16, nl.bfloat16),
        ("buffer", nl.psum, nl.psum),
        ("name", "weights", "weights"),
    ],
)
def test_attributes(core, attribute, whole, part):
    with core():
        tensor = nl.ndarray(SHAPE, nl.bfloat16, nl.psum, "weights")
        assert getattr(tensor, attribute) == whole and getattr(tensor[:, 1::2, :4], attribute) == part


def test_an_address_is_what_the_kernel_chose(core):
    """As the example of library/kernel-utils/allocator.rst prints it; a tensor that is not placed has none."""
    with core("trn3"):
        heap = nl.tile_size.total_available_sbuf_size - 512
        placed = nl.ndarray((128, 256), nl.bfloat16, nl.sbuf, address=(0, heap))
        assert placed.address == placed[:, 4:].address == (0, 261632)
        assert nl.ndarray((128, 256), nl.bfloat16, nl.sbuf).address is None


@pytest.mark.parametrize("method", ["__setitem__"])
@pytest.mark.parametrize("value", ["number", "HBM"])
def test_only_a_tile_is_assigned_to_a_tile(core, method, value):
    with core() as c:
        given = 1 if value == "number" else c.empty(X.shape, buffer="private_hbm")
        for target, what in ((c.tile(X), given), (c.empty(X.shape, buffer="private_hbm"), c.tile(X))):
            with pytest.raises(NkiValidationError, match="only a tile is assigned, and to a tile"):
                getattr(target, method)(slice(None), what)


@pytest.mark.parametrize("method", ["__init__"])
def test_a_tensor_made_over_storage_is_dense(core, method):
    """What `nl.ndarray` does; the constructor is documented, and its storage is nothing that a kernel could make."""
    with core() as c:
        storage = c.tile(X).storage
        tensor = NkiTensor.__new__(NkiTensor)
        getattr(tensor, method)((4, 48), nl.int32, storage)
        assert (tensor.shape, tensor.strides, tensor.buffer) == ((4, 48), (48, 1), nl.sbuf)
        np.testing.assert_array_equal(tensor.array, X.reshape(4, 48))


def test_what_was_put_off_is_carried_out_whenever_an_array_is_asked_for(core):
    class Pending:
        opened = 0

        def open(self, storage):
            self.opened += 1

    with core() as c:
        tensor, pending = c.tile(X), Pending()
        _ = tensor.array
        tensor.storage.pending = pending
        assert (tensor.array == X).all() and pending.opened == 1


def test_every_documented_method_says_what_it_does():
    methods = [n.name for n in nki_names.read() if n.name.startswith("NkiTensor.") and n.kind == "method"]
    assert len(methods) == 20
    assert not [m for m in methods if not getattr(NkiTensor, m.partition(".")[2]).__doc__]


def test_what_a_tensor_knows_of_itself_it_works_out_once(core, monkeypatch):
    with core() as c:
        wide, low = (c.tile(np.ones((4, 6), np.float32), dtype) for dtype in ("float32", "bfloat16"))
        assert wide.array is wide.array and wide.f32() is wide.array
        assert low.f32() is low.f32() is low[:, 0:6].f32() and low.reshape((4, 6)).layout is low.layout
        monkeypatch.setattr(Storage, "check_written", None)
        wide.check_written()


def test_slices_of_whole_numbers_are_asked_for_nothing_more(core, monkeypatch):
    with core() as c:
        x = c.tile(X)
        monkeypatch.setattr(slicing, "_index", None)
        monkeypatch.setattr(slicing, "_expanded", None)
        for key in (np.s_[1:3, :, -2:], np.s_[0, 1:, 3], np.s_[:, range(0, 4, 2), :5]):
            expected = X[key]
            np.testing.assert_array_equal(x[key].array.reshape(expected.shape), expected)
