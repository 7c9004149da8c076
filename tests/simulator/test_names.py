"""Every documented name of NKI 0.6 is in the namespaces that a kernel imports, as docs/nki-names.txt has it."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from enum import Enum

import pytest

from triptych.harness import nki_names
from triptych.simulator.dtypes import DType
from triptych.simulator.lend import simulated_nki
from triptych.simulator.memory import MemoryRegion
from triptych.simulator.ops import Op

with simulated_nki():
    MODULES = {name: importlib.import_module(name) for name in nki_names.MODULES}

NAMES = nki_names.read()
LATER = {"nki.language.tile_size.psum_min_align", "nki.language.tile_size.sbuf_min_align", "nki.Kernel.with_schedule"}


def ids(names):
    return [n.qualified for n in names]


def found(name):
    """The object behind a name; of a tensor's attribute, the class's."""
    value = MODULES[name.module]
    for part in name.name.split("."):
        value = getattr(value, part)
    return value


def test_the_counts_are_the_documentations():
    count = Counter((n.module, n.kind) for n in NAMES)
    assert count["nki", "function"] == 2
    assert count["nki.isa", "function"] == 50 + 2  # and get_nc_version, get_nc_sub_version
    assert count["nki.isa", "enum"] == 7
    assert count["nki.language", "function"] == 103
    assert count["nki.collectives", "function"] == 11
    assert sum(n.name.startswith("NkiTensor.") and n.kind == "method" for n in NAMES) == 20
    assert sum(n.name.startswith("tile_size.") for n in NAMES) == 14
    assert len(set(ids(NAMES))) == len(NAMES)


@pytest.mark.parametrize("name", NAMES, ids=ids(NAMES))
def test_a_documented_name_is_there(name):
    if name.qualified in LATER:
        pytest.skip("not simulated yet")
    assert name.value is None or found(name).value == eval(name.value)
    assert found(name) is not None


CALLED = [n for n in NAMES if n.parameters is not None and n.qualified != "nki.isa.NkiInstruction.__init__"]


def shown(default):
    """A default as the stub writes it."""
    if isinstance(default, (DType, MemoryRegion)):
        return str(default) if isinstance(default, DType) else default.name
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    return default.name if isinstance(default, Op) else repr(default)


@pytest.mark.parametrize("name", CALLED, ids=ids(CALLED))
def test_a_function_takes_the_documented_parameters(name):
    """In their order and with their defaults; where the stub writes `...` for a default any will do."""
    function = found(name)
    function = function.wrapper if isinstance(function, Op) else function
    parameters = list(inspect.signature(function).parameters.values())[name.kind == "method" :]
    if str(inspect.signature(function)).startswith("(*args: 'Any', **kwargs"):
        pytest.skip("not simulated yet")
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    ours = [(stars.get(p.kind, "") + p.name, None if p.default is p.empty else shown(p.default)) for p in parameters]
    assert [n for n, _ in ours] == [n for n, _ in name.parameters]
    for (what, mine), (_, documented) in zip(ours, name.parameters, strict=True):
        assert mine == documented or documented == "...", what
    assert name.kind == "method" or (function.__name__ == name.name and function.__doc__)
