"""`--tune`: the fastest right configuration is chosen, kept, taken again, and forgotten when its sources change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from triptych.harness.backends import BACKENDS
from triptych.harness.backends.clocks import TimingBudget, summary
from triptych.harness.backends.configurations import kept
from triptych.harness.backends.configurations.offers import Setting
from triptych.harness.backends.triton_device import TritonDevice
from triptych.harness.backends.triton_interpreter import interpreted
from triptych.harness.backends.triton_launcher import launcher_of
from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.problem import Problem
from triptych.harness.ops import loading
from triptych.harness.results.status import Evidence
from triptych.harness.running import bench as bench_module
from triptych.harness.running.configurations.choosing import choose
from triptych.harness.running.runner import InThisProcess
from triptych.harness.running.session import Session

triton = pytest.importorskip("triton")

FILE = """
import triton
import triton.language as tl
from beside import FACTOR
from triptych import Op

CONFIGURATIONS = {"sm_90": ({"BLOCK": 64}, {"BLOCK": 32}, {"BLOCK": 16}, {"BLOCK": 128})}


@triton.jit
def _twice_kernel(x, out, N, FACTOR: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < N, other=0) * FACTOR, mask=at < N)


def twice(x, out):
    block = CONFIGURATIONS["sm_90"][0]["BLOCK"]
    grid = 1 if block == 16 else triton.cdiv(x.shape[0], block)
    _twice_kernel[(grid,)](x, out, x.shape[0], FACTOR, block)


op = Op("twice", {"x": ("N",)}, lambda x: 2 * x, {"model": [{"N": 100}]}, out=("N",), dtypes=["float32"], triton=twice)
"""


@dataclass
class StandIn(TritonDevice):
    """A Hopper whose kernels the interpreter runs, and whose calls take as long as the test says, by their block."""

    us: dict[int, float] = field(default_factory=lambda: {64: 100.0, 32: 50.0, 16: 10.0, 128: 99.9})
    name = "triton"
    called: str = "NVIDIA H200"
    ranks: bool = False  # by what the compiler says
    samples: int = 0

    def missing(self) -> str | None:
        return None

    def gpu(self) -> tuple[str, Any]:
        from triton.backends.compiler import GPUTarget

        return self.called, GPUTarget("cuda", 90, 32)

    def is_compiled_for(self) -> bool:
        return self.ranks

    def run(self, problem: Problem, target: str | None) -> Any:
        from triptych.harness.emulators import interpret

        with launcher_of(problem) as (launcher, _), self.configured(problem, launcher, tell=True):
            return interpreted(problem, interpret)

    def launches(self) -> Any:
        return BACKENDS["triton-cpu"].launches()

    @contextmanager
    def sampler(self, problem: Problem) -> Iterator[Callable[[Setting], float]]:
        def sample(setting: Setting) -> float:
            self.samples += 1
            return self.us[int(setting["CONFIGURATIONS"]["BLOCK"])] * (1 + self.samples % 7 / 100)

        yield sample

    def time(self, problem: Problem, target: str | None, budget: TimingBudget) -> Any:
        return summary([1.0, 2.0, 3.0], 0, Evidence.DEVICE, timer="made up", cache="none")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path / "cache"))
    Path("mine.py").write_text(FILE)
    Path("beside.py").write_text("FACTOR = 2\n")
    found = StandIn()
    monkeypatch.setitem(BACKENDS, "triton", found)
    monkeypatch.setattr(bench_module, "choose", partial(choose, clock=lambda: 0.0))  # however busy the machine is
    return found


def bench(*words: str) -> Mapping[str, Any]:
    """The one result of a run in this process."""
    ops = loading.from_file("mine.py")
    arguments = ["bench", "mine.py", "--backend", "triton", "--cases", "model", "--json", "out.json", *words]
    assert cli.main(arguments, Session(InThisProcess(ops))) == ExitCode.OK
    (found,) = json.loads(Path("out.json").read_text())["results"]
    assert found["status"] == "passed", found["reason"]
    return dict(found)


def block(result: Mapping[str, Any]) -> str:
    (launched,) = result["launched"]
    return str(launched.partition(" BLOCK=")[2].split()[0])


def cached() -> list[Path]:
    return sorted(Path("cache/configurations").glob("*")) if Path("cache").exists() else []


def test_the_fastest_right_one_is_chosen_kept_and_taken_again(gpu: StandIn) -> None:
    gpu.ranks = True
    assert block(bench()) == "64" and not cached()  # nothing is kept, and nothing asked for
    tuned = bench("--tune", "20")
    assert block(tuned) == "32" and gpu.samples > 0
    said = tuned["notes"][0]
    assert "--tune of 3 configurations took BLOCK=32, " in said and "shorter than the launcher's own" in said
    assert "refused BLOCK=16: " in said  # the fastest, and wrong
    (file,) = cached()
    assert json.loads(file.read_text())["setting"] == {"CONFIGURATIONS": {"BLOCK": 32}}
    for words in ((), ("--tune", "20")):
        gpu.samples = 0
        again = bench(*words)
        assert block(again) == "32" and gpu.samples == 0
        assert any("--tune kept this configuration on " in note for note in again["notes"])


def test_what_decides_it_forgets_it(gpu: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the file, of a module beside it, of Triton or of the GPU; not one of another file."""
    bench("--tune", "20")

    def runs() -> str:
        loading._modules_of.clear()
        return block(bench())

    Path("other.py").write_text("")
    assert runs() == "32"
    Path("mine.py").write_text(FILE + "# changed\n")
    assert runs() == "64"
    Path("mine.py").write_text(FILE)
    assert runs() == "32"
    Path("beside.py").write_text("FACTOR = 2  # changed\n")
    assert runs() == "64"
    Path("beside.py").write_text("FACTOR = 2\n")
    gpu.called = "NVIDIA H100"
    assert runs() == "64"
    gpu.called = "NVIDIA H200"
    assert runs() == "32"
    monkeypatch.setattr(triton, "__version__", "0.0")
    assert runs() == "64"


def test_a_file_that_is_none_is_left_out_of_account(gpu: StandIn) -> None:
    bench("--tune", "20")
    (file,) = cached()
    file.write_text("{")
    found = bench()
    assert block(found) == "64"
    assert any(note.endswith("left out of account: delete it") and file.name in note for note in found["notes"])
    assert block(bench("--tune", "20")) == "32"  # found anew, and the file is one again
    assert json.loads(file.read_text())["setting"]


@pytest.mark.parametrize("change", [{"key": {}}, {"setting": 1}, {"setting": {"a": {"b": []}}}, {"median_us": "?"}])
def test_a_foreign_file_is_nothing_kept(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRIPTYCH_CACHE", str(tmp_path))
    key = {"op": "twice"}
    path = kept.write(key, kept.Kept({"CONFIGURATIONS": {"BLOCK": 32}}, 1.0, 0.5, "2026-11-30"))
    assert kept.read(key)[0] is not None and kept.read({"op": "thrice"}) == (None, "")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    found, said = kept.read(key)
    assert found is None and said.startswith(str(path))


def test_one_that_is_not_surely_faster_does_not_take_the_place_of_the_first(gpu: StandIn) -> None:
    gpu.us[32] = 99.9
    assert block(bench("--tune", "20")) == "64"
    assert json.loads(cached()[0].read_text())["setting"] == {"CONFIGURATIONS": {"BLOCK": 64}}


def test_a_launcher_that_looks_at_its_numbers_runs_as_it_is(gpu: StandIn) -> None:
    """What it offers is seen by a call on tensors that have none."""
    pytest.importorskip("torch")
    Path("mine.py").write_text(FILE.replace("    grid =", "    assert float(x[0]) != 0.125\n    grid ="))
    found = bench("--tune", "20")
    assert block(found) == "64" and "--tune does not see what the launcher offers: " in found["notes"][0]


def test_a_file_that_cannot_be_kept_costs_no_result(gpu: StandIn) -> None:
    Path("cache").write_text("")
    found = bench("--tune", "20")
    assert "is not kept: cannot make cache/configurations" in found["notes"][0].replace(f"{Path.cwd()}/", "")
    assert block(found) == "64"


@pytest.mark.parametrize(("seconds", "took"), [("60", "32"), ("9", "64"), ("2", "64")])
def test_nothing_is_chosen_where_the_seconds_are_over(
    gpu: StandIn, monkeypatch: pytest.MonkeyPatch, seconds: str, took: str
) -> None:
    """By a clock of which a second passes whenever it is asked."""
    passed = count()
    monkeypatch.setattr(bench_module, "choose", partial(choose, clock=lambda: float(next(passed))))
    found = bench("--tune", seconds)
    assert block(found) == took and bool(cached()) == (took == "32")
    if seconds == "9":
        assert "--tune found no time for " in found["notes"][0]


def test_it_needs_a_gpu_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if BACKENDS["triton"].missing() is None:
        pytest.skip("there is a GPU")
    assert cli.main(["bench", "rmsnorm", "--tune", "10"]) == ExitCode.REQUIRED_MISSING
    assert capsys.readouterr().err.startswith("triptych: --tune times configurations of Triton kernels on a GPU: ")
    assert cli.main(["bench", "rmsnorm", "--tune", "10", "--backend", "numpy"]) == ExitCode.USAGE
    assert cli.main(["bench", "rmsnorm", "--tune", "10", "--timeout", "5"]) == ExitCode.USAGE


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in (("HOME", "/h/.cache/triptych"), ("XDG_CACHE_HOME", "/x/triptych"), ("TRIPTYCH_CACHE", "/t")):
        monkeypatch.delenv("TRIPTYCH_CACHE", raising=False)
        monkeypatch.setenv(name, "/" + name[0].lower())
        if name == "HOME":
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert kept.folder() == Path(place) / "configurations"
