"""`triptych profile` of Triton kernels as a user types it: the user's own file, its document, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

pytest.importorskip("triton")

DOUBLED = '''
import triton
import triton.language as tl
from triptych import Op


def doubled(x):
    """out[N] = 2 x[N]."""
    return 2 * x


@triton.jit
def kernel(x, out, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, 2 * tl.load(x + at, mask=at < N), mask=at < N)


def launch(x, out):
    kernel[lambda given: (triton.cdiv(x.shape[0], given["BLOCK"]),)](x, out, x.shape[0], BLOCK=1024)


def wrong(x, out):
    kernel[(1,)](x, out, x.shape[1], BLOCK=1024)


op = Op("doubled", {"x": ("N",)}, doubled, [{"N": 1 << 20}], out=("N",), triton=LAUNCH, COUNTS)
'''
COUNTS = "flops=lambda axes, params: axes['N'], bytes=lambda axes, params, size: 2 * size * axes['N']"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """profile("words", counts, launch) of doubled.py in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(words: str, counts: str = COUNTS, launch: str = "launch") -> tuple[int, str, str]:
        Path("doubled.py").write_text(DOUBLED.replace("COUNTS", counts).replace("LAUNCH", launch))
        code = cli.main(["profile", "doubled.py", *words.split()])
        return code, *capsys.readouterr()

    return call


def test_the_targets_say_whose_kernel_is_meant(profile) -> None:
    code, out, err = profile("--target sm_90")
    assert (code, err) == (ExitCode.OK, "")
    lines = out.splitlines()
    assert lines[0] == "doubled 1048576 bfloat16: compiled, never run"
    assert lines[2] == "work  1.05 MFLOP, 4.19 MB, 0.25 FLOP a byte"
    assert lines[6].split() == ["H100", "SXM", "sm_90", "1.3", "memory", "295"]
    assert lines[-3].split()[:2] == ["sm_90", "kernel"] and "1,024" in lines[-3].split()
    assert lines[-1] == "sm_90 kernel: its 1,024 programs take 48.5 % of the GPU's places"


def test_every_target_in_a_document_and_nothing_else_on_stdout(profile) -> None:
    code, out, _ = profile("--backend triton --json -")
    (found,) = json.loads(out)["profiled"]
    assert code == ExitCode.OK and found["flops"] == 1 << 20
    assert [one["target"] for one in found["rooflines"]] == ["sm_80", "sm_90", "sm_90", "sm_100", "gfx942"]
    kernels = [one["compilation"] for one in found["launches"]]
    assert [one["target"] for one in kernels] == ["sm_80", "sm_90", "sm_100", "gfx942"]
    assert {one["launched"] for one in kernels} == {1024} and all(one["kernel"]["registers"] for one in kernels)


def test_an_op_without_counts_has_no_roofline(profile) -> None:
    code, out, _ = profile("--target gfx942", "summary='doubles'")
    assert code == ExitCode.OK and "not known: the op declares no flops and bytes" in out and "MI300X" not in out


def test_a_kernel_that_does_not_compile_is_told_beside_the_roofline(profile) -> None:
    code, out, _ = profile("--target sm_90", launch="wrong")
    assert code == ExitCode.MISMATCH and "the launcher raised" in out.splitlines()[-1] and "H100 SXM" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--backend triton --target trn2", "'trn2'"),
        ("--backend triton --trace x.json", "--trace is of a kernel that the simulator runs"),
        ("--target sm_90 --set dma_gb_per_s=1", "--set is of a kernel that the simulator runs"),
        ("--target sm_90,trn2", "'sm_90'"),
    ],
)
def test_what_has_no_meaning_here_is_refused(profile, words: str, says: str) -> None:
    code, out, err = profile(words)
    assert (code, out) == (ExitCode.USAGE, "") and says in err
