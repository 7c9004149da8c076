"""Who gets to be `nki`: the simulator where nothing real is installed, AWS's own where it is, never the placeholder.

`triptych.nki` is the simulator's in all three. Each installation is a folder on the path of a fresh interpreter, so
that nothing leaks into this one.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import triptych
from triptych import simulator
from triptych.simulator import NkiValidationError, removed
from triptych.simulator.api.modules import CURRENT
from triptych.simulator.api.older import OLDER
from triptych.simulator.launch.import_hook import simulated_nki

with simulated_nki():
    import nki.isa as nisa
    import nki.language as nl

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
        "import sys, numpy as np\nfrom triptych import simulator\nimport triptych.simulator.api.namespaces\n"
        f"{imported}\n"
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


# triptych.nki

OWN = """
from triptych import nki
from triptych.nki import isa as nisa
from triptych.nki import language as nl
""" + KERNEL.partition("from nki.language import float32\n")[2].replace("float32", "nl.float32")


@pytest.mark.parametrize("install", [None, real_nki, placeholder])
def test_the_simulators_own_nki_is_there_whatever_is_installed(tmp_path, install):
    (tmp_path / "kernel.py").write_text(OWN)
    if install is not None:
        install(tmp_path)
    code = (
        "import sys, numpy as np, kernel\n"
        "print(kernel.nki.simulate(kernel.twice)(np.ones((2, 2), np.float32)).sum(), 'nki' in sys.modules)"
    )
    assert python(code, tmp_path) == "8.0 False"


def test_both_are_there_beside_a_real_nki(tmp_path):
    code = (
        "from triptych import nki as own; import nki, nki.isa; print(nki.REAL, nki.isa.float32, own.isa.__triptych__)"
    )
    assert python(code, real_nki(tmp_path)) == "True real True"


def test_the_simulators_own_nki_holds_what_nki_does():
    code = (
        "import triptych\nfrom triptych import nki as own\nimport nki, triptych.nki.collectives as ncc\n"
        "same = [m for m in ('isa', 'language', 'collectives', 'typing', 'dtype') for n, v in vars(getattr(nki, m))"
        ".items() if not n.startswith('__') and v is not getattr(getattr(own, m), n) and n != 'constants']\n"
        "print(own.jit is nki.jit, same, own is triptych.nki, ncc is own.collectives, own.isa.constants.dge_mode)"
    )
    assert python(code) == "True [] True True <enum 'dge_mode'>"


def test_only_nki_itself_makes_kernels():
    from triptych.nki import isa, language

    assert not [module for module in (isa, language) if hasattr(module, "jit")]


def test_a_name_that_it_lacks_is_called_as_aws_calls_it():
    from triptych import nki

    with pytest.raises(AttributeError, match="^nki.language.arange is not in NKI 0.7: use slices$"):
        _ = nki.language.arange
    with pytest.raises(ModuleNotFoundError, match="nki.nothing is not a name of NKI 0.7"):
        importlib.import_module("triptych.nki.nothing")


def test_an_import_sorter_leaves_it_working(tmp_path):
    """It sorts `import triptych, nki` into an order in which there is no nki yet."""
    file = tmp_path / "script.py"
    file.write_text(
        "import sys, numpy as np\n" + OWN.replace("from triptych import nki", "from triptych import simulator, nki")
    )
    sort = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "I", "--fix", "--quiet", str(file)]
    subprocess.run(sort, check=True)
    assert "from triptych import nki, simulator\n" in file.read_text()
    code = "import script as s; print(s.simulator.run(s.twice, s.np.ones((2, 2), s.np.float32)).outputs.sum())"
    assert python(code, tmp_path) == "8.0"


# What the modules hold

with simulated_nki():
    import nki

    MODULES = {name: importlib.import_module(name) for name in CURRENT}


@pytest.mark.parametrize("name", [n for n in removed.NAMES if n.rpartition(".")[0] in CURRENT])
def test_a_removed_name_says_what_replaced_it(name):
    module, _, attribute = name.rpartition(".")
    with pytest.raises(AttributeError, match=f"{name} is not in NKI 0.7: ") as e:
        getattr(MODULES[module], attribute)
    assert removed.NAMES[name] in str(e.value)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("from nki import simulate_kernel", r"nki.simulate_kernel is not in NKI 0.7: use nki.simulate\(kernel\)"),
        ("from nki.language import par_dim", "nki.language.par_dim is not in NKI 0.7: dimension 0 is the partition"),
        ("from nki.isa import rsqrt", r"nki.isa.rsqrt is not a name of NKI 0.7; write nisa.activation\(.*op=nl.rsqrt"),
        ("from nki.isa import subtract", r"write nisa.tensor_tensor\(.., op=nl.subtract\)"),
        ("from nki.language import cast", r"not a name of NKI 0.7; write nl.copy\(x, dtype=..\)"),
        ("from triptych.nki.language import laod", "nki.language.laod is not a name of NKI 0.7; did you mean load"),
        ("import nki.nothing", "nki.nothing is not a name of NKI 0.7"),
    ],
)
def test_an_import_of_what_is_not_there_says_so(statement, words):
    with simulated_nki(), pytest.raises(ImportError, match=words):
        exec(statement, {})


def test_what_python_and_its_tools_ask_of_every_module_is_no_misspelled_name():
    with pytest.raises(AttributeError) as e:
        nl.__wrapped__  # noqa: B018
    assert str(e.value) == f"module {nl.__name__!r} has no attribute '__wrapped__'"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: list(nl.affine_range(4, precise_schedule=[0])),
            r"no precise_schedule= any more: drop it, and write ran",
        ),
        (lambda: nl.add(1), "nl.add at .*cannot be called so: missing a required argument: 'y'; it is nl.add"),
        (lambda: nisa.nc_matmul(1, 2), "missing a required argument: 'moving'; an instruction takes dst first, writes"),
        (lambda: nisa.tensor_copy(1, src=2, dtype=3), "has no dtype= any more: the dtype of dst decides"),
        (lambda: nisa.memset(1, 2, val=3), "got an unexpected keyword argument 'val'; it is nisa.memset"),
    ],
)
def test_a_wrong_call_is_told_in_nkis_words(call, words):
    def kernel(x):
        call()
        return x

    with pytest.raises(NkiValidationError, match=words) as e:
        simulator.run(kernel, np.ones((2, 2), np.float32), options=simulator.Options(lint=False))
    assert isinstance(e.value, TypeError) and e.value.line[0] == __file__


@pytest.mark.parametrize("row", OLDER, ids=lambda row: row.name)
def test_a_name_kept_for_older_kernels_is_what_it_is_called_now(row):
    module, _, name = row.now.rpartition(".")
    modern = getattr(MODULES[module], name) if module else range
    assert row.value is modern
    assert row.gone and row.name != row.now


def test_names_kept_for_older_kernels_import_as_nki_library_imports_them(tmp_path):
    (tmp_path / "older.py").write_text(
        "import triptych, nki, nki.isa as nisa, nki.language as nl, nki.dtype as dt\n"
        "import neuronxcc.nki.typing as nt\n"
        "from typing import Optional, Tuple\n"
        "from nki.isa.constants import dge_mode, oob_mode\n"
        "from nki.isa import constants\n"
        "def f(x: nt.mutable_tensor, d: nki.dtype = nl.bfloat16, o: Optional[nl.ndarray] = None\n"
        ") -> nl.ndarray | Tuple[nl.ndarray, nl.ndarray]: ...\n"
        "@nki.jit(mode='auto', debug_kernel=True, show_compiler_tb=True, experimental_flags='x')\n"
        "def g(): ...\n"
        "print(constants.dge_mode is nisa.dge_mode, dt.bfloat16 is nl.bfloat16, list(nl.range(2)), nl.bool)"
    )
    assert python("import older", tmp_path) == "True True [0, 1] bool_"


def test_the_old_namespace_says_where_its_names_went():
    for code, words in (
        ("import neuronxcc.nki.language as nl", "a kernel's nki is nki.language since NKI 0.2"),
        ("import neuronxcc.nki.compiler", "a kernel's nki is nki since NKI 0.2"),
        ("import neuronxcc.nki as nki; nki.jit", "neuronxcc.nki.jit went with NKI 0.2; use nki.jit"),
    ):
        caught = f"import triptych\ntry:\n    {code}\nexcept (ImportError, AttributeError) as e:\n    print(e)"
        assert words in python(caught)


def test_a_real_compiler_wins(tmp_path):
    (tmp_path / "neuronxcc").mkdir()
    (tmp_path / "neuronxcc" / "__init__.py").write_text("REAL = True")
    assert python("import triptych, neuronxcc; print(neuronxcc.REAL)", tmp_path) == "True"
    caught = "import triptych\ntry:\n    import neuronxcc.nki\nexcept ImportError as e:\n    print(e)"
    assert python(caught, tmp_path) == "No module named 'neuronxcc.nki'"


def test_import_nki_alone_gives_its_modules():
    code = "import triptych, nki; print(nki.language.float32, nki.isa.engine.vector.name, nki.collectives.__name__)"
    assert python(code) == "float32 vector nki.collectives"


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nki.isa.no_such_thing is not a name of NKI 0.7"):
        _ = nki.isa.no_such_thing
    assert not hasattr(nki.language, "also_missing")


def test_an_operator_that_is_no_function_says_so_when_it_is_called(core):
    with core(), pytest.raises(NkiValidationError, match="nl.prelu is an operator of instructions"):
        nki.language.prelu(1.0)


def test_typing_is_without_effect():
    def kernel(a: nki.typing.tensor[128, 512]):
        return a

    assert simulator.run(kernel, np.ones((2, 2), np.float32)).outputs.sum() == 4
