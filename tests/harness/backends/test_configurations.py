"""What a launcher offers, and what one of it in force changes: the table of its file, and kernels that Triton tunes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton")

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from triptych.harness.backends.base import KernelFault
from triptych.harness.backends.configurations import kept, offers
from triptych.harness.backends.triton_launches import launches
from triptych.harness.emulators.compilation import launches_of

CONFIGURATIONS = {"sm_90": ({"BLOCK": 32}, {"BLOCK": 64}), "gfx942": ({"BLOCK": 128},)}


@triton.jit
def kernel(x, out, BLOCK: tl.constexpr, SHIFT: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at) + SHIFT)


tuned = triton.autotune([triton.Config({"SHIFT": 1}, num_warps=w) for w in (1, 2, 4)], key=[])(kernel)


def launch(x, out):
    tuned[(1,)](x, out, CONFIGURATIONS["sm_90"][0]["BLOCK"])


SHAPES = {"x": ((128,), "float32"), "out": ((128,), "float32")}


def would() -> list[tuple[int, int]]:
    """(block, warps) of every launch."""
    return [(one.arguments["BLOCK"], one.arguments["num_warps"]) for one in launches_of(launch, SHAPES, "sm_90")]


def test_each_row_is_offered_with_each_configuration_and_changes_what_is_launched():
    settings = list(offers.offered(launch, "sm_90", would))
    assert len(settings) == 6
    assert settings[0] == {
        "CONFIGURATIONS": {"BLOCK": 32},
        "kernel": {"SHIFT": 1, "num_warps": 1, "num_ctas": 1, "num_stages": 3},
    }
    launched = []
    for setting in settings:
        with offers.in_force(launch, "sm_90", setting):
            launched += would()
    assert launched == [(block, warps) for block in (32, 64) for warps in (1, 2, 4)]
    assert would() == [(32, 1), (32, 2), (32, 4)] and CONFIGURATIONS["sm_90"][0] == {"BLOCK": 32}


def test_on_a_gpu_triton_times_none_where_one_is_in_force(monkeypatch):
    """A GPU's launches, with nothing behind them; Triton's own way times all that it has."""
    made = []
    monkeypatch.setattr(JITFunction, "run", lambda self, *args, grid, warmup, **named: made.append(named["num_warps"]))
    monkeypatch.setattr(Autotuner, "run", lambda self, *args, **named: made.append("timed"))
    setting = {"CONFIGURATIONS": {"BLOCK": 64}, "kernel": {"SHIFT": 1, "num_warps": 2, "num_ctas": 1, "num_stages": 3}}
    with launches() as found, offers.in_force(launch, "sm_90", setting):
        launch(None, None)
    assert made == [2] and found == ["kernel BLOCK=64 SHIFT=1 num_warps=2 num_ctas=1 num_stages=3"]
    with offers.in_force(launch, "sm_90", {"kernel": {"SHIFT": 7}}):  # which it does not list
        launch(None, None)
    assert made == [2, "timed"]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (GPUTarget("cuda", 80, 32), "sm_80"),
        (GPUTarget("cuda", 89, 32), "sm_80"),
        (GPUTarget("cuda", 90, 32), "sm_90"),
        (GPUTarget("cuda", 103, 32), "sm_100"),
        (GPUTarget("cuda", 120, 32), "sm_80"),
        (GPUTarget("hip", "gfx950", 64), "gfx942"),
    ],
)
def test_the_rows_of_a_gpu_are_those_of_its_architecture(target, name):
    assert offers.architecture_of(target) == name


@pytest.mark.parametrize("table", [3, {"sm_90": ()}, {"sm_90": {"BLOCK": 3}}, {"sm_90": ({"BLOCK": [3]},)}])
def test_what_is_no_table_is_told(table, monkeypatch):
    monkeypatch.setitem(globals(), "CONFIGURATIONS", table)
    with pytest.raises(KernelFault, match=r"^CONFIGURATIONS must have rows of plain values by architecture.*; got "):
        offers.rows_of(launch, "sm_90")


def test_a_digest_is_of_what_a_kernel_imports_beside_it(tmp_path: Path):
    """Directly or through others, of its package too; not of other files there."""
    package = tmp_path / "package"
    package.mkdir()
    texts = {
        "__init__.py": "",
        "kernel.py": "import triton\nfrom .tiles import of\nfrom package import more\n",
        "tiles.py": "def of():\n    import far\n",
        "more.py": "",
        "far.py": "",
        "other.py": "",
    }
    for name, text in texts.items():
        (package / name).write_text(text)
    found = [path.name for path in kept.sources(package / "kernel.py")]
    assert found == ["__init__.py", "far.py", "kernel.py", "more.py", "tiles.py"]
    before = kept.digest(package / "kernel.py")
    (package / "other.py").write_text("changed = 1\n")
    assert kept.digest(package / "kernel.py") == before
    (package / "far.py").write_text("changed = 1\n")
    assert kept.digest(package / "kernel.py") != before
