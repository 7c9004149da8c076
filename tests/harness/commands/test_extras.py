"""Optional packages that are missing or broken: one sentence each, from `doctor` and from where they are needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import triptych
from triptych.harness import extras
from triptych.harness.backends import BACKENDS
from triptych.harness.commands import doctor
from triptych.harness.exit_codes import ExitCode
from triptych.harness.results import environment
from triptych.harness.results.status import Evidence

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
BROKEN = "raise OSError('lib.so: no such file')\n"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Packages of these names are found before any others, and fail at their import."""

    def plant(*names: str) -> None:
        for name in names:
            (tmp_path / f"{name}.py").write_text(BROKEN)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    return plant


def test_a_package_that_is_not_there_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert extras.why_not("ray") == "Ray is not installed: pip install 'triptych[cluster]'"
    with pytest.raises(ImportError, match="^Ray is not installed"):
        extras.load("ray")
    assert [one.broken for one in extras.lacking("cluster")] == [False] and extras.why_not("hypothesis") is None


def test_a_broken_package_says_what_its_import_raised(broken: Any) -> None:
    broken("ray")
    assert extras.why_not("ray") == (
        "Ray is installed and cannot be imported (OSError: lib.so: no such file): repair it, or pip install "
        "--force-reinstall 'triptych[cluster]'"
    )
    assert [one.broken for one in extras.lacking("cluster")] == [True]


def test_a_package_that_lacks_one_of_its_own_is_broken(broken: Any, tmp_path: Path) -> None:
    broken("ray")
    (tmp_path / "ray.py").write_text("import no_such_module\n")
    assert "cannot be imported (ModuleNotFoundError: No module named 'no_such_module')" in str(extras.why_not("ray"))


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_a_package_that_empties_tritons_cache_path_has_it_put_back(
    before: str | None, broken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    if before:
        monkeypatch.setenv("TRITON_CACHE_DIR", before)
    broken("jax_triton")
    (tmp_path / "jax_triton.py").write_text("import os\nos.environ['TRITON_CACHE_DIR'] = ''\n")
    extras.load("jax_triton")
    monkeypatch.delitem(sys.modules, "jax_triton")
    assert os.environ.get("TRITON_CACHE_DIR") == before


def test_doctor_has_a_line_for_each_extra(broken: Any) -> None:
    broken("ray")
    rows = {line.split()[0]: line.split(None, 2)[1:] for line in doctor.installed().splitlines()}
    assert list(rows) == [*extras.EXTRAS, "neuron"]
    assert rows["cluster"][0] == "broken" and rows["cluster"][1].startswith("Ray is installed and cannot be imported")
    assert rows["fuzz"] == ["here", "hypothesis"]
    assert rows["neuron"] == ["missing", "AWS's nki is not installed; AWS's compiler neuronx-cc is not installed"]


def test_every_extra_that_pip_knows_is_one_of_doctors() -> None:
    declared = PROJECT.read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    assert {*re.findall(r"^(\w+) = \[", declared, re.MULTILINE)} - {"test"} == {*extras.EXTRAS, "neuron"}


def test_a_gpu_without_a_pytorch_that_works_is_a_sentence(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from triptych.harness.backends import gpu, triton_device

    pytest.importorskip("triton")
    monkeypatch.setattr(triton_device, "find_spec", lambda name: name)
    for module in (gpu, triton_device):
        monkeypatch.setattr(module, "node_here", lambda: True)
    monkeypatch.setattr(extras, "load", missing_torch)
    assert BACKENDS["triton"].missing() == "PyTorch is broken" and BACKENDS["torch"].evidence is Evidence.HOST


def missing_torch(module: str) -> Any:
    raise extras.ExtraMissing("PyTorch is broken", broken=True)


def test_where_pytorch_is_broken_a_run_says_so_and_goes_on(tmp_path: Path) -> None:
    for name in ("torch", "hypothesis"):
        (tmp_path / f"{name}.py").write_text(BROKEN)
    source = Path(triptych.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(source)))}

    def run(words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "triptych", *words.split()]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    checked = run("check attention --cases smoke -k h2kv1-q64-k64-d32-causal --dtype float32 --backend nki-sim,torch")
    assert checked.returncode == ExitCode.OK and "1 passed" in checked.stdout, checked.stdout + checked.stderr
    assert "on torch: PyTorch is installed and cannot be imported (OSError: lib.so: no such file)" in checked.stdout
    fuzzed = run("check rmsnorm --backend nki-sim --fuzz 1")
    assert fuzzed.returncode == ExitCode.USAGE and "Traceback" not in fuzzed.stderr
    assert fuzzed.stderr.startswith("triptych: --fuzz searches with hypothesis, and hypothesis is installed and cannot")


@pytest.mark.parametrize(("is_compiled", "words"), [(True, "in C"), (False, "all in Python")])
def test_doctor_says_whether_the_simulator_is_compiled(
    is_compiled: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "IS_COMPILED", is_compiled)
    (line,) = [line for line in doctor.machine(environment.record()).splitlines() if line.startswith("simulator")]
    assert words in line
