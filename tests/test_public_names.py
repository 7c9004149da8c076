"""The names that `triptych` shows: each is there, and importing the package loads none of them."""

from __future__ import annotations

import inspect
import types

import pytest

import triptych


def test_dir_shows_the_public_names_and_no_others() -> None:
    assert dir(triptych) == sorted(triptych.__all__)
    assert {"Alone", "Case", "Op", "assert_agree", "kernel_tests", "nki", "simulator"} <= set(dir(triptych))


@pytest.mark.parametrize("name", triptych.__all__)
def test_a_public_name_is_there(name: str) -> None:
    value = getattr(triptych, name)
    namespace: dict[str, object] = {}
    exec(f"from triptych import {name}", namespace)
    assert namespace[name] is value
    assert isinstance(value, (str, types.ModuleType)) or inspect.getdoc(value)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'triptych' has no attribute 'no_such_name'"):
        _ = triptych.no_such_name  # type: ignore[attr-defined]
