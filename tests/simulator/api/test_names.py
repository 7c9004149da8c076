"""Every documented name of NKI is where a kernel imports it from: 0.6's of docs/nki-names.txt, and newer ones."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from enum import Enum

import pytest

from triptych.harness.upkeep.pages import nki_names
from triptych.simulator.api import newer
from triptych.simulator.dtypes import DType
from triptych.simulator.launch.import_hook import simulated_nki
from triptych.simulator.memory.storage import MemoryRegion
from triptych.simulator.operands.operators import Op

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

    MODULES = {name: importlib.import_module(name) for name in nki_names.MODULES}

NAMES = nki_names.read()


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
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    ours = [(stars.get(p.kind, "") + p.name, None if p.default is p.empty else shown(p.default)) for p in parameters]
    ours = [(n, d) for n, d in ours if n not in newer.PARAMETERS.get(name.qualified, ())]
    assert [n for n, _ in ours] == [n for n, _ in name.parameters]
    for (what, mine), (_, documented) in zip(ours, name.parameters, strict=True):
        assert mine == documented or documented == "...", what
    assert name.kind == "method" or (function.__name__ == name.name and function.__doc__)


# Constants and classes: what each is


@pytest.mark.parametrize(
    ("name", "itemsize", "largest"),
    [
        ("bool_", 1, 255),  # stored as uint8
        ("int8", 1, 127),
        ("int16", 2, 32767),
        ("int32", 4, 2**31 - 1),
        ("uint8", 1, 255),
        ("uint16", 2, 65535),
        ("uint32", 4, 2**32 - 1),
        ("float16", 2, 65504),
        ("bfloat16", 2, (2 - 2**-7) * 2.0**127),
        ("float32", 4, (2 - 2**-23) * 2.0**127),
        ("tfloat32", 4, (2 - 2**-10) * 2.0**127),
        ("float8_e4m3", 1, 240),
        ("float8_e4m3fn", 1, 448),
        ("float8_e5m2", 1, 57344),
        ("float8_e8m0fnu", 1, 2.0**127),
        ("float8_e5m2_x4", 4, None),
        ("float8_e4m3fn_x4", 4, None),
        ("float4_e2m1fn_x4", 2, None),
    ],
)
def test_a_dtype_is_a_string_of_known_size_and_reach(core, name, itemsize, largest):
    """Its largest number is stored as it is."""
    dtype = getattr(nl, name)
    assert dtype == name and isinstance(dtype, nl.DType) and dtype.itemsize == itemsize
    with core() as c:
        tile = c.empty((1, 1), dtype)
        if largest is None:
            nisa.memset(tile, 0)
            with pytest.raises(nisa.NkiValidationError, match="can only be set to 0"):
                nisa.memset(tile, 1)
        else:
            nisa.memset(tile, largest)
            assert float(tile.array[0, 0]) == largest


@pytest.mark.parametrize("name", ["tensor_engine", "vector_engine", "scalar_engine", "gpsimd_engine", "unknown_engine"])
def test_an_engine_by_its_former_name(name):
    assert getattr(nisa, name) is nisa.engine[name.removesuffix("_engine")]


@pytest.mark.parametrize(("name", "on_chip"), [("sbuf", 1), ("psum", 1), ("private_hbm", 0), ("shared_hbm", 0)])
def test_a_buffer_is_a_memory_region(name, on_chip):
    assert getattr(nl, name) is nl.MemoryRegion(name)
    assert nl.is_on_chip(getattr(nl, name)) == bool(on_chip) == (not nl.is_hbm(getattr(nl, name)))
    assert not any(is_in(name) for is_in in (nl.is_on_chip, nl.is_hbm, nl.is_sbuf, nl.is_psum))


TILE_SIZE = {  # by generation; nki/get-started/about/tiling-overview.rst and the architecture guides
    "pmax": (128, 128, 128),
    "psum_fmax": (512, 512, 512),
    "psum_bank_fmax": (512, 512, 512),
    "psum_bank_fmax_bytes": (2048, 2048, 2048),
    "psum_num_banks": (8, 8, 8),
    "psum_min_align": (2048, 2048, 2048),
    "gemm_stationary_fmax": (128, 128, 128),
    "gemm_moving_fmax": (512, 512, 512),
    "bn_stats_fmax": (512, 512, 512),
    "sbuf_fmax": (48 << 10, 56 << 10, 64 << 10),
    "sbuf_fmax_bytes": (192 << 10, 224 << 10, 256 << 10),
    "total_available_sbuf_size": (192 << 10, 224 << 10, 256 << 10),
    "sbuf_size_bytes": (24 << 20, 28 << 20, 32 << 20),
    "sbuf_min_align": (1, 1, 1),
}


@pytest.mark.parametrize("name", TILE_SIZE)
def test_tile_size(core, name):
    for target, value in zip(("trn1", "trn2", "trn3"), TILE_SIZE[name], strict=True):
        with core(target):
            assert getattr(nl.tile_size, name) == value


def test_classes(core):
    class Config(nl.NKIObject):
        pass

    assert Config(a=1).a == 1
    with core() as c:
        tile = c.empty((2, 2))
        assert isinstance(tile, nl.NkiTensor) and isinstance(tile, nl.NKIObject)
        first, second = nisa.memset(tile, 0), nisa.memset(tile, 1)
        assert isinstance(first, nisa.NkiInstruction) and second.depends_on(first) is second
        register = nisa.VirtualRegister(3)
        assert not register.frozen and nisa.VirtualRegister(frozen=True).frozen
        nisa.register_move(register, 4)
        with pytest.raises(nisa.NkiValidationError, match="read only"):
            nisa.register_move(nisa.VirtualRegister(1, True), 4)
