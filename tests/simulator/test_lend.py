"""Who gets to be `nki`: the simulator where nothing real is installed, AWS's own where it is, never the placeholder.

Each installation is a folder on the path of a fresh interpreter, so that nothing leaks into this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import triptych
from triptych import simulator
from triptych.simulator import NkiValidationError, namespaces, removed
from triptych.simulator.lend import NAMES, simulated_nki

SOURCE = Path(triptych.__file__).parents[1]
KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl
from nki.language import float32

@nki.jit
def twice(a):
    tile = nl.ndarray(a.shape, float32)
    nisa.dma_copy(tile, a)
    nisa.tensor_tensor(tile, tile, tile, nl.add)
    out = nl.ndarray(a.shape, float32, nl.shared_hbm)
    nisa.dma_copy(out, tile)
    return out
"""


def python(code, *paths):
    """What a fresh interpreter prints, with `paths` before everything else on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), str(SOURCE)])}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def real_nki(folder):
    """A package that looks like AWS's."""
    package = folder / "nki"
    package.mkdir()
    (package / "__init__.py").write_text("REAL = True\ndef jit(f): return f\n")
    for name in ("isa", "language"):
        (package / f"{name}.py").write_text("float32 = 'real'\n")
    return folder


def placeholder(folder):
    """A package like the one of that name on the public registry: it raises when imported."""
    package = folder / "nki"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('install nki from the Neuron repository')\n")
    return folder


def test_nki_imports_after_triptych(tmp_path):
    (tmp_path / "kernel.py").write_text("import triptych" + KERNEL)
    code = (
        "import numpy as np, kernel, nki, nki.isa, nki.collectives, nki.typing\n"
        "print(nki.simulate(kernel.twice)(np.ones((2, 2), np.float32)).sum(), nki.__triptych__, nki.isa is kernel.nisa)"
    )
    assert python(code, tmp_path) == "8.0 True True"


def test_nothing_is_lent_before_triptych_is_imported():
    found = python("import importlib.util; print(importlib.util.find_spec('nki'))")
    assert found == "None" or "triptych" not in found


def test_importing_triptych_does_not_import_the_simulator():
    assert python("import sys, triptych; print([m for m in sys.modules if 'simulator' in m or m == 'nki'])") == "[]"


def test_a_real_nki_wins(tmp_path):
    code = "import triptych, nki, nki.isa; print(nki.REAL, nki.isa.float32, hasattr(nki, '__triptych__'))"
    assert python(code, real_nki(tmp_path)) == "True real False"


def test_a_real_nki_wins_whichever_is_imported_first(tmp_path):
    code = "import nki, triptych, triptych.simulator, nki.language; print(nki.REAL, nki.language.float32)"
    assert python(code, real_nki(tmp_path)) == "True real"


def test_the_placeholder_does_not_win(tmp_path):
    code = "import triptych, nki, nki.isa as nisa; print(nki.__triptych__, callable(nisa.nc_matmul))"
    assert python(code, placeholder(tmp_path)) == "True True"


@pytest.mark.parametrize("install", [real_nki, placeholder])
def test_load_takes_the_simulator_even_beside_a_real_nki(tmp_path, install):
    kernel = tmp_path / "kernel.py"
    kernel.write_text(KERNEL)
    (tmp_path / "site").mkdir()
    imported = "import nki; before = dict(sys.modules)" if install is real_nki else "before = dict(sys.modules)"
    code = (
        f"import sys, numpy as np\nfrom triptych import simulator\nimport triptych.simulator.namespaces\n{imported}\n"
        f"m = simulator.load({str(kernel)!r})\n"
        "nkis = lambda modules: {n: v for n, v in modules.items() if n.partition('.')[0] == 'nki'}\n"
        "print(m.nki.__triptych__, simulator.run(m.twice, np.ones((2, 2), np.float32)).outputs.sum(),"
        " nkis(before) == nkis(sys.modules), m.__name__ in sys.modules)"
    )
    assert python(code, install(tmp_path / "site")) == "True 8.0 True False"


def test_load_restores_the_modules_when_the_file_raises(tmp_path):
    kernel = tmp_path / "kernel.py"
    kernel.write_text("import nki.isa\nraise ValueError('mine')\n")
    before = {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "nki"}
    with pytest.raises(ValueError, match="mine"):
        simulator.load(kernel)
    assert before == {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "nki"}


def test_load_gives_each_file_a_module_of_its_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "kernel.py").write_text(f"import nki\nNAME = {folder!r}\n")
    first, second = (simulator.load(tmp_path / folder / "kernel.py") for folder in ("a", "b"))
    assert (first.NAME, second.NAME) == ("a", "b")
    with pytest.raises(FileNotFoundError):
        simulator.load(tmp_path / "missing.py")
    with pytest.raises(ImportError, match="is not a Python file"):
        simulator.load(tmp_path / "kernel.txt")


def test_load_runs_a_kernel(tmp_path):
    (tmp_path / "kernel.py").write_text(KERNEL)
    kernel = simulator.load(tmp_path / "kernel.py")
    np.testing.assert_array_equal(simulator.run(kernel.twice, np.ones((2, 2), np.float32)).outputs, [[2, 2]] * 2)


# What the modules hold

with simulated_nki():
    import nki
    import nki.collectives
    import nki.isa
    import nki.language
    import nki.typing

MODULES = dict(zip(NAMES, (nki, nki.isa, nki.language, nki.collectives, nki.typing), strict=True))


@pytest.mark.parametrize("name", [n for n in removed.NAMES if n.rpartition(".")[0] in namespaces.names()])
def test_a_removed_name_says_what_replaced_it(name):
    module, _, attribute = name.rpartition(".")
    with pytest.raises(AttributeError, match=f"{name} is not in NKI 0.6: ") as e:
        getattr(MODULES[module], attribute)
    assert removed.NAMES[name] in str(e.value)


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nki.isa.no_such_thing is not a name of NKI 0.6"):
        _ = nki.isa.no_such_thing
    assert not hasattr(nki.language, "also_missing")


def test_an_operator_that_is_no_function_says_so_when_it_is_called(core):
    with core(), pytest.raises(NkiValidationError, match="nl.prelu is an operator of instructions"):
        nki.language.prelu(1.0)


def test_typing_is_without_effect():
    def kernel(a: nki.typing.tensor[128, 512]):
        return a

    assert simulator.run(kernel, np.ones((2, 2), np.float32)).outputs.sum() == 4
