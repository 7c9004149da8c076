"""NKIObject: what the language guide says a kernel's classes do, and what AWS's own kernels need of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar

import numpy as np
import pytest

from triptych import simulator
from triptych.simulator import NkiValidationError
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

A = np.ones((2, 2), np.float32)


class Plain(nl.NKIObject):
    LIMIT: ClassVar[int] = 7
    x: int
    y: bool = False

    def toggle(self):
        self.y = not self.y


@dataclass
class Data(nl.NKIObject):
    x: int
    y: bool = False

    def toggle(self):
        self.y = not self.y


@pytest.mark.parametrize("cls", [Plain, Data])
def test_a_class_is_the_same_with_and_without_dataclass(cls):
    c = cls(1)
    c.toggle()
    assert (c.x, c.y) == (1, True) and c == cls(1, True) == cls(y=True, x=1) and c != cls(2, True)
    assert cls().x is None  # the default initializer's
    assert c != Plain(1, True) or c != Data(1, True)
    assert cls.LIMIT == 7 if cls is Plain else not hasattr(cls, "LIMIT")


@pytest.mark.parametrize("cls", [Plain, Data])
@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((1, True, 3), {}, "has 2 fields, x, y; got 3 values"),
        ((1,), {"x": 2}, "is given x=2 twice"),
        ((), {"z": 2}, "is given z=2 and has the fields x, y"),
    ],
)
def test_a_wrong_field_says_which_there_are(cls, args, kwargs, words):
    with pytest.raises(NkiValidationError, match=f"{cls.__name__} {words}"):
        cls(*args, **kwargs)


def test_fields_without_annotations_and_a_post_init():
    @dataclass
    class Section(nl.NKIObject):
        index = None
        offset = 4
        size__ = 6

        def __post_init__(self):
            self.end = self.offset + 1

    section = Section(index=3)
    assert (section.index, section.offset, section.size__, section.end) == (3, 4, 6, 5) and Section(index=3) == section
    assert Section.offset == 4


def test_a_class_without_fields_takes_any():
    class Anything(nl.NKIObject):
        pass

    assert Anything(a=1).a == 1 and Anything(a=1) == Anything(a=1) != Anything(a=2)


def test_frozen_and_default_factories():
    @dataclass(frozen=True, eq=True)
    class Frozen(nl.NKIObject):
        n: int
        twice: int = 0
        made: tuple[int, ...] = field(default_factory=lambda: (1, 2))

        def __post_init__(self):
            object.__setattr__(self, "twice", 2 * self.n)

    f = Frozen(3)
    assert (f.n, f.twice, f.made) == (3, 6, (1, 2)) and hash(f) == hash(Frozen(3)) and replace(f, n=4).twice == 8
    with pytest.raises(FrozenInstanceError):
        f.n = 4


def test_an_initializer_of_its_own_is_kept():
    class Own(nl.NKIObject):
        x: int = 1

        def __init__(self, y):
            super().__init__(x=y + 1)

    class Child(Own):
        z: int = 5

    assert Own(2).x == 3 and Child(3).x == 4
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        Own()


def test_plain_objects_hash_as_they_compare():
    assert len({Plain(1), Plain(1), Plain(2)}) == 2


class Mode(Enum):
    FAST = 1
    EXACT = 2


def test_objects_enums_and_functions_are_arguments_of_kernels():
    def doubled(tile):
        nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)

    def kernel(a: Any, config: Data, mode: Mode, function):
        tile = nl.ndarray(a.shape, a.dtype)
        nisa.dma_copy(tile, a)
        function(tile)
        if mode == Mode.EXACT and config.x != None:  # noqa: E711
            nisa.tensor_scalar(tile, tile, nl.add, float(config.x))
        out = nl.ndarray(a.shape, a.dtype, nl.shared_hbm)
        nisa.dma_copy(out, tile)
        return out

    np.testing.assert_array_equal(simulator.run(kernel, A, Data(3), Mode.EXACT, doubled).outputs, A * 5)
    np.testing.assert_array_equal(simulator.run(kernel, A, Data(3), Mode.FAST, doubled).outputs, A * 2)


def test_tensors_are_compared_with_none_and_kept_in_lists(core):
    with core() as c:
        a, b = c.empty((2, 2)), c.empty((2, 2))
        assert a != None and a == a and a != b  # noqa: E711
        assert [b, a].index(a) == 1 and {a: 1, b: 2}[b] == 2


def test_a_register_compares_with_none_and_with_no_number(core):
    with core():
        r = nisa.register_alloc(3)
        assert r != None and r == r and r != nisa.register_alloc(3)  # noqa: E711
        with pytest.raises(NkiValidationError, match="a register's value is not known while the kernel is built"):
            _ = r == 3
