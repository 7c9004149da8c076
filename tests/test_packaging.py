"""The wheel: it holds every room, and works beside a package that is called `kernels`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.so")  # no part of the source


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel and somebody else's `kernels` in it, like a site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=LEFT)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (site / "kernels").mkdir()
    (site / "kernels" / "__init__.py").write_text("def get_kernel(name):\n    return name\n")
    return site


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, *arguments], cwd=site, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_the_wheel_holds_every_module_template_style_sheet_and_script(installed: Path) -> None:
    for room in ("kernels", "reference", "harness", "simulator"):
        for file in (ROOT / room).rglob("*.*"):
            if "__pycache__" not in file.parts and file.is_file() and file.suffix not in (".c", ".h", ".so"):
                inside = (installed / "triptych" / room / file.relative_to(ROOT / room)).exists()
                assert inside != ("upkeep" in file.parts), file


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_the_wheel_holds_what_is_compiled(installed: Path) -> None:
    code = "from triptych import simulator; from triptych.simulator.compiled import in_place as c; print(c.IS_COMPILED)"
    assert python(installed, "-c", code).stdout.strip() == str(os.environ.get("TRIPTYCH_COMPILED") != "0")


@pytest.mark.slow
def test_a_wheel_without_a_compiler_is_in_python(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=LEFT)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, env={**os.environ, "CC": "no-such-compiler"})
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "triptych/simulator/compiled/in_place.py" in names and not [name for name in names if "frequent" in name]


@pytest.mark.slow
def test_the_wheel_names_its_license(installed: Path) -> None:
    (about,) = installed.glob("*.dist-info/METADATA")
    assert "License-Expression: Apache-2.0" in about.read_text()
    assert [*installed.glob("*.dist-info/licenses/LICENSE")]


@pytest.mark.slow
def test_the_installed_package_writes_a_report(installed: Path) -> None:
    code = "from triptych.harness.reports.report.page import page; print(page([({}, [])]))"
    done = python(installed, "-c", code)
    assert done.returncode == 0 and "<h1>Nothing was compared</h1>" in done.stdout, done.stderr
    assert "--serif:" in done.stdout, "the style sheet is in the page"


@pytest.mark.slow
def test_both_packages_called_kernels_import(installed: Path) -> None:
    code = "import kernels, triptych.kernels; print(kernels.get_kernel('theirs'), triptych.kernels.__path__)"
    done = python(installed, "-c", code)
    assert done.returncode == 0 and done.stdout.startswith("theirs"), done.stderr


@pytest.mark.slow
def test_the_installed_command_checks_matmul(installed: Path) -> None:
    run = "import sys; from triptych.harness.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    done = python(installed, "-c", run, "check", "matmul", "--cases", "smoke", "--dtype", "bfloat16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nki-sim[trn2]" in done.stdout
