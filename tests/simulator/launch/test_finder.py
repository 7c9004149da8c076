"""What the finder of modules says of a name, whatever is installed beside the simulator."""

from __future__ import annotations

import importlib
import sys
import threading
import types

import pytest

from triptych.simulator.api import modules
from triptych.simulator.launch.import_hook import Finder, load, real_nki, simulated_nki, source_spec
from triptych.simulator.launch.kernel import simulate_kernel


def found(name):
    """Whether the finder lends a module of that name."""
    spec = Finder().find_spec(name, None)
    assert spec is None or (spec.name == name and spec.submodule_search_locations is not None)
    return spec is not None


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(name, files) puts a package of these files on the path."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name, *files):
        (tmp_path / name).mkdir()
        for file in ("__init__.py", *files):
            (tmp_path / name / file).write_text("")
        importlib.invalidate_caches()

    return put


@pytest.fixture
def imported(monkeypatch):
    """imported(name, ours) makes a module imported: one that the simulator lent, or another."""

    def make(name, ours):
        module = types.ModuleType(name)
        if ours:
            module.__triptych__ = True
        monkeypatch.setitem(sys.modules, name, module)

    return make


def test_the_simulators_own_modules_are_always_there():
    assert all(found(f"triptych.{name}") for name in modules.SIMULATED)
    assert not found("triptych.simulator") and not found("triptych.nkis")
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        found("triptych.nki.nothing")


@pytest.mark.parametrize("top", modules.TOPS)
def test_what_is_not_installed_is_lent(top):
    assert found(top) and not found("numpy") and not found("no_module_of_that_name")


@pytest.mark.parametrize("top", modules.TOPS)
def test_what_is_installed_is_lent_to_a_kernel_file_alone(install, top):
    install(top, *(["isa.py"] if top == "nki" else []))
    assert not found(top)
    with simulated_nki():
        assert found(top) is (top != "neuronxcc")
    assert not found(top)


def test_a_package_called_nki_is_real_if_it_has_instructions(install, tmp_path):
    assert real_nki() is None
    install("nki", "setup.py")
    assert real_nki() is None and found("nki")
    (tmp_path / "nki" / "isa").mkdir()
    importlib.invalidate_caches()
    assert real_nki().name == "nki" and not found("nki")


@pytest.mark.parametrize("name", [n for n in modules.SERVED if "." in n])
def test_a_module_below_one_that_is_lent_is_lent(imported, name):
    top = name.partition(".")[0]
    imported(top, ours=True)
    assert found(name)
    imported(top, ours=False)
    assert not found(name)


@pytest.mark.parametrize(("name", "words"), [
    ("neuronxcc.nki.isa", "compiler is not installed, and a kernel.s nki is nki.isa since"),
    ("neuronxcc.driver", "a kernel's nki is nki since"),
    ("nki.nothing", "nothing"),
])  # fmt: skip
def test_a_module_that_is_not_there_is_told_of(imported, name, words):
    imported(name.partition(".")[0], ours=True)
    with pytest.raises(ModuleNotFoundError, match=words) as error:
        found(name)
    assert (error.value.name == name) is name.startswith("neuronxcc")
    imported(name.partition(".")[0], ours=False)
    assert not found(name)


def test_afterwards_everything_is_as_before(imported):
    imported("nki", ours=False)
    imported("torch_neuronx", ours=False)
    before = dict(sys.modules)
    with simulated_nki():
        assert sys.modules["nki"] is not before["nki"] and sys.modules["nki"].__triptych__
        assert "torch_neuronx" not in sys.modules
        with simulated_nki():
            pass
        assert sys.modules["nki"].__triptych__
    assert all(sys.modules[name] is before[name] for name in ("nki", "torch_neuronx"))
    assert {n for n in sys.modules if n.startswith("nki.")} == {n for n in before if n.startswith("nki.")}


def test_a_file_is_executed_as_it_stands(tmp_path):
    """And known by its own name, in a package if one is given."""
    path = tmp_path / "one.py"
    for value in (1, 2):
        path.write_text(f"import nki\nVALUE = {value}\n")
        module = load(path)
        assert value == module.VALUE and module.__name__ == "triptych_kernel_one" and module.nki.__triptych__
    assert load(path, "some").__name__ == "some.triptych_kernel_one" and not (tmp_path / "__pycache__").exists()
    for other in ("one.txt", "one"):
        with pytest.raises(ImportError, match="is not a Python file"):
            source_spec("x", tmp_path / other)


def test_any_thread_may_load_once_another_has():
    done = []
    with simulated_nki():
        assert sys.modules["nki.simulator"].simulate_kernel is simulate_kernel
        del sys.modules["nki"].simulator  # as where nobody has imported it
        assert sys.modules["nki"].simulator is sys.modules["nki.simulator"]

    def load_too():
        with simulated_nki():
            done.append(True)

    thread = threading.Thread(target=load_too, daemon=True)
    thread.start()
    thread.join(30)
    assert done
