"""NKIObject: the base class of configuration objects in kernels.

A class is compiled alike with and without `@dataclass`: an initializer and an empty `__post_init__` are made where it
writes none, a field without a default may stay unset and is then None, and equality is structural
(nki/get-started/nki-language-guide.rst, Class Support). AWS's own kernels live on it: nki-library has classes whose
fields lack annotations, and one whose required field nobody gives.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from typing import Any

from triptych.simulator.errors import NkiValidationError

_NO_FIELD = (types.FunctionType, staticmethod, classmethod, property, type)


class NKIObject:
    """Base of kernel configuration objects (nki.language.NKIObject)."""

    __slots__ = ("__dict__",)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give the class NKI's initializer before `@dataclass` makes Python's, which it does only where none is."""
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__ and cls.__init__ in (NKIObject.__init__, NKIObject._set_fields):
            cls.__init__ = NKIObject._set_fields  # type: ignore[method-assign]

    def __init__(self, **kwargs: Any) -> None:
        self._set_fields(**kwargs)

    def _set_fields(self, *args: Any, **kwargs: Any) -> None:
        """Set each field: from an argument, from its default, else to None. A class without fields takes any."""
        fields = _fields(type(self))
        name = type(self).__name__
        if len(args) > len(fields):
            raise NkiValidationError(f"{name} has {len(fields)} fields, {', '.join(fields)}; got {len(args)} values")
        given = dict(zip(fields, args, strict=False))
        for key, value in kwargs.items():
            if key in given or (fields and key not in fields):
                what = "twice" if key in given else f"and has the fields {', '.join(fields)}"
                raise NkiValidationError(f"{name} is given {key}={value!r} {what}")
            given[key] = value
        for key in {**fields, **given}:
            # A frozen dataclass forbids setattr, also to its initializer.
            object.__setattr__(self, key, given[key] if key in given else _default(fields[key]))
        self.__post_init__()

    def __post_init__(self) -> None:
        """What a class does with its fields once they are set."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), frozenset(self.__dict__.items())))


def _fields(cls: type) -> dict[str, Any]:
    """The fields of a class in the order of an initializer, with their defaults: annotated ones, then others."""
    fields: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for base in reversed(cls.__mro__[: cls.__mro__.index(NKIObject)]):
        annotations = inspect.get_annotations(base)
        fields.update({n: base.__dict__.get(n) for n, a in annotations.items() if "ClassVar" not in str(a)})
        for name, value in base.__dict__.items():
            if name not in annotations and not name.startswith("__") and not isinstance(value, _NO_FIELD):
                others[name] = value
    if dataclasses.is_dataclass(cls):
        fields.update({f.name: f for f in dataclasses.fields(cls)})
    return {**fields, **{n: v for n, v in others.items() if n not in fields}}


def _default(value: Any) -> Any:
    """The value that a field starts with; a dataclass may have a function that makes it."""
    if not isinstance(value, dataclasses.Field):
        return value
    if value.default_factory is not dataclasses.MISSING:
        return value.default_factory()
    return None if value.default is dataclasses.MISSING else value.default
