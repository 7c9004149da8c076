"""A kernel's file sees what `python FILE` sees, and leaves Python as it was."""

from __future__ import annotations

import os
import py_compile
import sys
from pathlib import Path

import numpy as np
import pytest

from triptych.harness.ops import loading
from triptych.harness.ops.case import Case
from triptych.harness.ops.op import Op

OP = """
from triptych import Op
op = Op(name="d", inputs={"x": ("N",)}, reference=lambda x: FACTOR * x, cases=[{"N": 4}], triton=launch)
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def factor_of(op: Op) -> float:
    return float(op.reference(x=np.ones(1))[0])


def run(op: Op) -> object:
    assert isinstance(op.triton, str)
    path, _, name = op.triton.rpartition(":")
    with loading.at_home(Path(path)):
        return getattr(loading.load(Path(path)), name)()


def test_two_folders_may_have_modules_of_the_same_name(tmp_path: Path) -> None:
    late = "from helper import FACTOR\ndef launch():\n    import helper_of_helper\n    return helper_of_helper.NAME\n"
    ops = []
    for name, factor in (("one", 2), ("two", 3)):
        write(
            tmp_path / name,
            op=late + OP,
            helper=f"import helper_of_helper\nFACTOR = {factor}",
            helper_of_helper=f"NAME = {name!r}",
        )
        ops.append(loading.from_file(tmp_path / name / "op.py")["d"])
    assert [factor_of(op) for op in ops] == [2, 3]
    assert [run(op) for op in ops] == ["one", "two"], "an import within the launcher is that of its own folder"


def test_python_is_as_before(tmp_path: Path) -> None:
    write(
        tmp_path,
        op="from helper import FACTOR\ndef launch(): pass\n" + OP,
        helper="FACTOR = 2",
        broken="import nothing",
    )
    path, modules = sys.path[:], dict(sys.modules)
    loading.from_file(tmp_path / "op.py")
    with pytest.raises(loading.OpFileError, match="No module named 'nothing'"):
        loading.from_file(tmp_path / "broken.py")
    assert sys.path == path and "helper" not in sys.modules
    assert {name: module for name, module in sys.modules.items() if name in modules} == modules


def test_relative_imports_start_at_the_files_package(tmp_path: Path) -> None:
    write(tmp_path / "pkg", __init__="ROOT = 'pkg'", constants="FACTOR = 5")
    text = "from ..constants import FACTOR\nfrom . import beside\nfrom pkg import ROOT\n"
    text += "def launch(): return beside.N, ROOT\n"
    write(tmp_path / "pkg" / "kernels", __init__="", beside="N = 7", op=text + OP)
    op = loading.from_file(tmp_path / "pkg" / "kernels" / "op.py")["d"]
    assert factor_of(op) == 5 and run(op) == (7, "pkg")


def test_a_relative_import_outside_a_package_is_told(tmp_path: Path) -> None:
    write(tmp_path, op="from .helper import FACTOR\n", helper="FACTOR = 2")
    with pytest.raises(loading.OpFileError, match="attempted relative import with no known parent package"):
        loading.from_file(tmp_path / "op.py")


def test_a_kernel_of_another_module_is_named_by_its_own_file(tmp_path: Path) -> None:
    text = "import helper\n" + OP.replace("=launch", "=helper.launch").replace("FACTOR", "2")
    write(tmp_path, op=text, helper="def launch(): return 'helped'")
    op = loading.from_file(tmp_path / "op.py")["d"]
    assert op.triton == f"{tmp_path / 'helper.py'}:launch" and run(op) == "helped"


def test_a_folder_named_as_an_installed_package_hides_nothing(tmp_path: Path) -> None:
    write(tmp_path / "numpy", notes="")
    write(tmp_path, op="import numpy as np\nFACTOR = float(np.ones(1)[0])\ndef launch(): pass\n" + OP)
    assert factor_of(loading.from_file(tmp_path / "op.py")["d"]) == 1
    assert Case is sys.modules["triptych.harness.ops.case"].Case


def test_a_file_saved_again_within_a_second_runs_as_it_stands(tmp_path: Path) -> None:
    package = write(tmp_path / "package", __init__="", deep="NUMBER = 2\n")
    files = [package / "deep.py"]
    write(
        tmp_path,
        op="from helper import FACTOR\ndef launch(): pass\n" + OP,
        helper="from package.deep import NUMBER\nFACTOR = 2 * NUMBER\n",
    )
    files += [tmp_path / "op.py", tmp_path / "helper.py"]
    for file in files:
        py_compile.compile(str(file))  # what Python would take while the second and the size are the same
        before = file.stat()
        file.write_text(file.read_text().replace("2", "3").replace("FACTOR * x", "FACTOR + x"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert factor_of(loading.from_file(tmp_path / "op.py")["d"]) == 10
