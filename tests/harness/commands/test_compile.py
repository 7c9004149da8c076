"""`triptych compile` as a user types it: what is right, each way to be wrong, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triptych.harness.commands import cli
from triptych.harness.exit_codes import ExitCode

pytest.importorskip("triton")

HEAD = """
import triton
import triton.language as tl
from triptych import Op


def product(a, b):
    return a @ b
"""
KERNEL = """
@triton.jit
def kernel(a, b, out, N: tl.constexpr, PRECISION: tl.constexpr):
    i = tl.arange(0, N)
    at = i[:, None] * N + i[None, :]
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=PRECISION).to(out.dtype.element_ty))
"""
OP = """
def launch(a, b, out):
    kernel[(1,)](a, b, out, a.shape[0], PRECISION)


op = Op("square", {"a": ("N", "N"), "b": ("N", "N")}, product, [{"N": 64}], out=("N", "N"), triton=launch)
"""


def source(kernel: str = KERNEL, launch: str = OP, precision: str = "ieee") -> str:
    return HEAD + kernel + launch.replace("PRECISION", repr(precision))


@pytest.fixture
def compile_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """compile_("words", text) of square.py in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(words: str, text: str) -> tuple[int, str, str]:
        Path("square.py").write_text(text)
        code = cli.main(["compile", "square.py", *words.split()])
        return code, *capsys.readouterr()

    return call


def test_a_right_kernel_has_a_row_with_its_costs(compile_) -> None:
    code, out, err = compile_("--target sm_90", source())
    assert (code, err) == (ExitCode.OK, "")
    header, _, row, *_, last = out.splitlines()
    assert header.split()[:5] == ["op", "dtype", "case", "target", "kernel"]
    assert row.split()[:5] == ["square", "bfloat16", "64", "sm_90", "kernel"] and row.endswith(
        "bf16         wgmma.mma_async"
    )
    assert last == "1 of 1 kernels compile and fit their GPU"


def test_every_target_and_dtype_and_tf32_said_plainly(compile_) -> None:
    words = "--target sm_80,sm_100,gfx942 --dtype float32,float16 --json -"
    code, out, err = compile_(words, source(precision="tf32"))
    assert code == ExitCode.OK, err
    assert err == "6 of 6 kernels compile and fit their GPU\n"
    found = json.loads(out)["compiled"]
    assert [(one["target"], one["dtype"]) for one in found] == [
        (target, dtype) for target in ("sm_80", "sm_100", "gfx942") for dtype in ("float32", "float16")
    ]
    assert found[0]["kernel"]["dots"] == ["tf32"] and found[0]["kernel"]["matrix_instructions"] == ["mma.sync"]
    assert found[0]["kernel"]["occupancy"]["programs"] >= 1


def test_exact_float32_has_no_matrix_unit_to_miss(compile_) -> None:
    code, out, _ = compile_("--target sm_90 --dtype float32 -a N=32", source())
    assert code == ExitCode.OK and out.splitlines()[2].split()[-2:] == ["f32", "none"]


def test_each_configuration_of_an_autotuned_kernel_is_compiled(compile_) -> None:
    configs = "@triton.autotune([triton.Config({}, num_warps=w) for w in (4, 8)], key=['N'])"
    code, out, _ = compile_("--target sm_90", source(KERNEL.replace("@triton.jit", f"{configs}\n@triton.jit")))
    assert code == ExitCode.OK and [line.split()[5] for line in out.splitlines()[2:4]] == ["4", "8"]


def test_cases_that_compile_alike_share_a_row(compile_) -> None:
    two = OP.replace('[{"N": 64}]', '[{"N": 64}, {"N": 64, "name": "again"}, {"N": 32}]')
    code, out, _ = compile_("--target sm_90", source(launch=two))
    assert code == ExitCode.OK and out.splitlines()[-1] == "2 of 2 kernels compile and fit their GPU"


WRONG = {
    "the source": (
        KERNEL.replace("i[None, :]", "j[None, :]"),
        OP,
        "square 64 bfloat16 on sm_90: kernel does not compile for sm_90: NameError('j is not defined')",
    ),
    "shared memory": (
        KERNEL,
        OP.replace("64", "256").replace(", PRECISION)", ", PRECISION, num_warps=8)"),
        "kernel a program takes 262,144 bytes of shared memory, and 232,448 are the most",
    ),
    "spills": (
        KERNEL,
        OP.replace('out=("N"', 'dtypes=["float32"], out=("N"'),
        "bytes a thread spill from registers to memory; take smaller tiles or more warps",
    ),
    "the assembler": (
        KERNEL,
        OP.replace("64", "512").replace(", PRECISION)", ", PRECISION, num_warps=32)"),
        "kernel does not compile for sm_90: (C7602) Insufficient registers (64) to compile instruction",
    ),
    "the launcher": (
        KERNEL,
        OP.replace("a.shape[0]", "a.shape[2]"),
        "square 64 bfloat16 on sm_90: the launcher raised IndexError",
    ),
    "the signature": (KERNEL, OP.replace("launch(a, b, out)", "launch(a, c, out)"), "missing a required argument: 'c'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_kernel_is_told_in_one_sentence(compile_, what: str) -> None:
    kernel, launch, sentence = WRONG[what]
    code, out, err = compile_("--target sm_90", source(kernel, launch))
    assert (code, err) == (ExitCode.MISMATCH, "")
    assert sentence in out.splitlines()[-2] and "Traceback" not in out
    assert out.splitlines()[-1] == "0 of 1 kernels compile and fit their GPU"


def test_nothing_to_compile_and_unknown_names(compile_) -> None:
    code, _, err = compile_("--target sm_90", source(launch=OP.replace(", triton=launch", "")))
    assert code == ExitCode.NOTHING_RAN and "no selected op has a Triton kernel" in err
    code, _, err = compile_("--target sm_70", source())
    assert code == ExitCode.USAGE and "sm_70" in err and "sm_80, sm_90, sm_100, gfx942" in err
    code, _, err = compile_("--dtype int7", source())
    assert code == ExitCode.USAGE and "int7" in err


def test_every_row_that_a_launcher_offers_is_compiled_once(compile_) -> None:
    """The second launches what the first does, the third another kernel, and the fourth one that does not compile."""
    table = 'CONFIGURATIONS = {"sm_90": ({"N": 4}, {"N": 4}, {"N": 8}, {"N": 3})}\n'
    launch = OP.replace("PRECISION)", 'PRECISION, num_warps=CONFIGURATIONS["sm_90"][0]["N"])')
    code, out, _ = compile_("--target sm_90", HEAD + table + KERNEL + launch.replace("PRECISION", "'ieee'"))
    assert code == ExitCode.MISMATCH
    rows = [line.split()[5:7] for line in out.splitlines() if line.startswith("square  ")]
    assert rows[:2] == [["1", "4"], ["3", "8"]]  # with its warps
    assert "square 64 bfloat16 on sm_90: (row 4) " in out and "2 of 3 kernels compile" in out
