"""Looking into a kernel that runs: print, nl.device_print, breakpoint, and assertions on what a tensor holds."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import triptych
from triptych.simulator import NkiValidationError, Uninitialized
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

F32 = np.float32


# print


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "int32", "uint8"])
def test_print_shows_the_tensor_and_its_values(core, dtype):
    with core() as c:
        stored = np.dtype(getattr(ml_dtypes, dtype, dtype))
        tile = c.tile(np.array([[1, 2], [3, 4]], F32).astype(stored), dtype)
        dot = "" if stored.kind in "iu" else "."
        expected = f"[[1{dot} 2{dot}]\n [3{dot} 4{dot}]]"
        assert str(tile) == f"{tile}" == f"NkiTensor('around', (2, 2), {dtype}, sbuf)\n{expected}"
        assert repr(tile) == f"NkiTensor('around', (2, 2), {dtype}, sbuf)"
        assert str(tile[:, 1:2]).endswith(f"\n[[2{dot}]\n [4{dot}]]")


def test_print_shows_what_nothing_has_written(core):
    with core() as c:
        tile = c.empty((2, 2), "int32")
        assert str(tile).endswith("\n[[-- --]\n [-- --]]")
        nisa.memset(tile[:, 0:1], 7)
        assert str(tile).endswith("\n[[7 --]\n [7 --]]")
        placed = nl.ndarray((2, 2), nl.bfloat16, address=(0, 64))
        nisa.memset(placed[0:1], 0.5)
        assert str(placed).endswith("\n[[0.5 0.5]\n [-- --]]")
        assert c.trace.notes == []


def test_print_shows_the_bits_of_packed_elements(core):
    with core("trn3") as c:
        tile = c.tile(np.array([[0x11223344]], np.uint32), "float8_e4m3fn_x4")
        half = c.tile(np.array([[0x1F]], np.uint16), "float4_e2m1fn_x4")
        assert str(tile).endswith("\n[['0x11223344']]") and str(half).endswith("\n[['0x001f']]")


def test_print_of_registers_and_of_views_with_an_index(core):
    with core() as c:
        register = nisa.register_alloc(3)
        assert str(register) == "VirtualRegister(3)"
        view = c.tile(np.ones((2, 4), F32)).ap([[4, 2], [1, 1]], scalar_offset=register)
        assert str(view).endswith("\n(an index chooses its elements when an instruction uses it)")


def test_an_error_names_a_tensor_without_its_values(core):
    with core() as c, pytest.raises(NkiValidationError) as e:
        _ = c.tile(np.full((2, 2), 3.25, F32))[5]
    assert "NkiTensor('around', (2, 2), float32, sbuf)" in str(e.value) and "3.25" not in str(e.value)


class Held:
    """What keeps a tile under a name."""


def made():
    return nl.ndarray((4, 8), nl.float32)


def handed_on():
    return made()


NAMES = {
    "a variable": (lambda: _variable(), "rows"),
    "one of two on a line": (lambda: _two(), "second"),
    "what a function returns": (lambda: _returned(), "rows"),
    "what several hand on": (lambda: _handed_on(), "rows"),
    "an attribute": (lambda: _attribute(), "tile"),
    "a name that the kernel gives": (lambda: nl.ndarray((4, 8), nl.float32, name="mine"), "mine"),
    "none": (lambda: [nl.ndarray((4, 8), nl.float32)][0], r"t0"),
}


def _variable():
    rows = nl.ndarray((4, 8), nl.float32)
    return rows


def _two():
    first, second = None, None
    first = nl.ndarray((2, 2), nl.float32)
    second = nl.ndarray((4, 8), nl.float32)
    return (first, second)[1]


def _returned():
    rows = made()
    return rows


def _handed_on():
    rows = handed_on()
    return rows


def _attribute():
    held = Held()
    held.tile = nl.ndarray((4, 8), nl.float32)
    return held.tile


@pytest.mark.parametrize(("make", "name"), NAMES.values(), ids=NAMES)
def test_a_tensor_is_called_as_the_kernel_calls_it(core, make, name):
    with core() as c:
        tile = make()
        assert [a.name for a in c.trace.allocations][-1] == name == tile.name
        with pytest.raises(NkiValidationError, match=f"outside dimension 1 of NkiTensor\\('{name}'"):
            _ = tile[:, 8]


def test_an_error_shows_the_kernels_lines(core, monkeypatch):
    monkeypatch.undo()  # errors have notes again (words_of_the_message_alone)
    with core(), pytest.raises(NkiValidationError) as e:
        tile = made()
        _ = tile[:, 8]
    number = e.value.line[1]
    assert e.value.excerpt == (
        f"test_debugging.py:{number}:\n  {number - 1:4} |         tile = made()\n> {number:4} |         _ = tile[:, 8]"
    )
    assert "".join(traceback.format_exception(e.value)).rstrip().endswith("_ = tile[:, 8]")


def test_device_print(core, capsys, refused):
    with core() as c:
        nl.device_print("my tile", c.tile(np.array([[1.5, 2.5]], F32)))
        nl.device_print(print_prefix="mine", tensor=c.tile(np.array([7], np.int32), buffer="shared_hbm"))
        assert capsys.readouterr().out == "my tile [[1.5 2.5]]\nmine [7]\n"
        with pytest.raises(Uninitialized, match="nl.device_print at"):
            nl.device_print("empty", c.empty((1, 1)))
    refused(lambda c: nl.device_print(3, c.tile(np.ones((1, 1), F32))), "must be a constant string")
    refused(lambda c: nl.device_print("", c.tile(np.ones((1, 1), F32), buffer="psum")), "must be in SBUF or HBM")
    refused(lambda c: nl.device_print("", np.ones((1, 1))), "must be in SBUF or HBM, got ndarray")


# Assertions


def test_an_assertion_on_a_comparison_holds_if_every_element_does(core):
    with core() as c:
        a, b = c.tile(np.array([[1, 2]], F32)), c.tile(np.array([[1, 3]], F32))
        assert nl.equal(a, a)
        assert nl.less_equal(a, b) and nl.equal(a, a)
        assert nl.logical_and(nl.equal(a, a), nl.less(a, 5.0))
        with pytest.raises(AssertionError):
            assert nl.equal(a, b)
        assert "an assertion on what a tensor holds is checked in simulation only" in c.trace.notes[0]
        assert c.trace.notes[0].startswith("test_debugging.py:")


def test_a_branch_on_a_comparison_is_an_error(core):
    with core() as c:
        a = c.tile(np.array([[1, 2]], F32))
        with pytest.raises(NkiValidationError, match="a branch on NkiTensor.*: what a tensor holds is not known while"):
            if nl.equal(a, a):
                pass
        with pytest.raises(NkiValidationError, match="a branch on NkiTensor"):
            _ = 1 if nl.less(a, 3.0) else 2


# breakpoint


@pytest.mark.parametrize("cores", [1, 2])
def test_breakpoint_stops_in_the_kernel(tmp_path, cores):
    (tmp_path / "script.py").write_text(
        "import triptych, nki, nki.language as nl, numpy as np\n"
        "@nki.jit\n"
        "def kernel(a):\n"
        "    tile = nl.load(a)\n"
        "    breakpoint()\n"
        "    doubled = nl.add(tile, tile)\n"
        "    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)\n"
        "    nl.store(out, doubled)\n"
        "    return out\n"
        f"print('result', nki.simulate(kernel[{cores}])(np.ones((2, 2), np.float32)).sum())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(triptych.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONBREAKPOINT", None)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        input="print(tile)\np tile.shape\nnext\nnext\nprint(doubled)\ncontinue\n" * cores,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("float32, sbuf)\n[[1. 1.]\n [1. 1.]]") == cores
    assert done.stdout.count("(2, 2)\n") == cores and done.stdout.count("[[2. 2.]\n [2. 2.]]") == cores
    assert done.stdout.strip().endswith("result 8.0")
