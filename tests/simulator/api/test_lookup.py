"""What is asked of a dotted name of NKI: its parts, its parameters, its engines and its first generation."""

from __future__ import annotations

import pytest

from triptych.simulator import enums
from triptych.simulator.api import lookup
from triptych.simulator.api.absent import absence
from triptych.simulator.api.modules import documented, modern
from triptych.simulator.api.older import contents

NAMES = {
    # name: parts, as kernels write it, parameters, engines, first generation
    "nki.isa.memset": (("nki.isa", "memset", ""), "nisa.memset", "dst value engine name", "vector gpsimd", 2),
    "nki.isa.memset.x": (("nki.isa", "memset", "x"), "nisa.memset.x", None, "", 2),
    "nki.isa.exponential.x": (("nki.isa", "exponential", "x"), "nisa.exponential.x", None, "", 2),
    "nki.isa.max8": (("nki.isa", "max8", ""), "nisa.max8", "dst src name", "vector", 2),
    "nki.isa.rand2": (("nki.isa", "rand2", ""), "nisa.rand2", "dst min max name", "vector", 4),
    "nki.language.rand2": (("nki.language", "rand2", ""), "nl.rand2", None, "", 2),
    "nki.isa.engine": (("nki.isa", "engine", ""), "nisa.engine", None, "", 2),
    "nki.isa.dge_mode.hwdge": (("nki.isa", "dge_mode", "hwdge"), "nisa.dge_mode.hwdge", None, "", 3),
    "nki.isa.a.b.c": (("nki.isa", "a", "b.c"), "nisa.a.b.c", None, "", 2),
    "nki.isa": (("", "", ""), "nki.isa", None, "", 2),
    "nki.language.abs_max": (("nki.language", "abs_max", ""), "nl.abs_max", "x y dtype", "", 4),
    "nki.language.abs_max.x": (("nki.language", "abs_max", "x"), "nl.abs_max.x", None, "", 2),
    "nki.isa.abs_max": (("nki.isa", "abs_max", ""), "nisa.abs_max", None, "", 2),
    "nki.language.square": (("nki.language", "square", ""), "nl.square", "x dtype", "", 2),
    "nki.language.add": (("nki.language", "add", ""), "nl.add", "x y dtype", "", 2),
    "nki.language.float32": (("nki.language", "float32", ""), "nl.float32", None, "", 2),
    "nki.language.nothing": (("nki.language", "nothing", ""), "nl.nothing", None, "", 2),
    "nki.collectives.all_gather.x": (
        ("nki.collectives", "all_gather", "x"),
        "nki.collectives.all_gather.x",
        None,
        "",
        2,
    ),
    "numpy.add": (("", "", ""), "numpy.add", None, "", 2),
    "memset": (("", "", ""), "memset", None, "", 2),
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items(), ids=NAMES)
def test_a_name(name, expected):
    parts, short, parameters, engines, since = expected
    assert lookup.split(name) == parts and lookup.short(name) == short
    found = lookup.signature(name)
    assert (found if found is None else " ".join(found.parameters)) == parameters
    assert " ".join(lookup.engines_of(name)) == engines
    assert lookup.since(name) == since


def test_an_instruction_has_some_engines_later():
    asked = [
        ("tensor_copy", "scalar"),
        ("tensor_scalar", "scalar"),
        ("tensor_copy", "vector"),
        ("activation", "scalar"),
    ]
    assert [lookup.engine_since(f"nki.isa.{name}", engine) for name, engine in asked] == [3, 3, 2, 2]


def test_a_module_of_awss_compiler_is_that_of_nki_where_there_is_one():
    names = ["neuronxcc.nki.isa", "neuronxcc.nki", "neuronxcc.nki.compiler", "neuronxcc.nki.other", "nki.language"]
    assert [modern(name) for name in names] == ["nki.isa", "nki", "nki", "nki", "nki.language"]


def test_the_simulators_own_modules_are_documented_as_nkis():
    names = ["triptych.nki", "triptych.nki.isa.memset", "nki.isa", "triptych.simulator", "triptych.nkis", "other.nki"]
    assert [documented(name) for name in names] == ["nki", "nki.isa.memset", "nki.isa", *names[3:]]


ABSENT = {
    "neuronxcc.nki.isa.memset": "neuronxcc.nki.isa.memset went with NKI 0.2; use nki.isa.memset",
    "neuronxcc.nki.__file__": "neuronxcc.nki.__file__ is not a name of NKI 0.7",
    "nki.neuronxcc.": "nki.neuronxcc. is not a name of NKI 0.7",
    "nki.language.arange": "nki.language.arange is not in NKI 0.7: use slices",
    "nki.language.relu6": "is not a name of NKI 0.7; write nl.minimum(nl.relu(x), 6.0)",
    "nki.isa.exp": "; write nisa.activation(dst=.., op=nl.exp, data=..)",
    "nki.isa.add": "; write nisa.tensor_tensor(.., op=nl.add)",
    "nki.isa.invert": "; write nisa.tensor_scalar(.., op0=nl.invert)",
    "nki.isa.memsett": "; did you mean memset?",
    "nki.language.memsett": "nki.language.memsett is not a name of NKI 0.7; did you mean memset?",
    "nki.isa.zzz": "nki.isa.zzz is not a name of NKI 0.7",
}


@pytest.mark.parametrize(("name", "told"), ABSENT.items(), ids=ABSENT)
def test_why_a_name_is_not_there(name, told):
    assert absence(name, ["memset", "iota"]).endswith(told)


def test_modules_of_nki_0_3_have_what_its_kernels_import():
    assert contents("nki.isa.constants")["engine"] is enums.engine and contents("nki.dtype")["float32"] == "float32"
    assert "engine" not in contents("nki.dtype") and contents("nki.collectives") == contents("nki.none") == {}
