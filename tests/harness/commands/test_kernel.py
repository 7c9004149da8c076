"""`triptych kernel`: a kernel as a file of its own, which is checked before it is written and can be checked again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from triptych import simulator
from triptych.harness.collection import builtin
from triptych.harness.commands import cli
from triptych.harness.commands.sharing import kernel, single_file
from triptych.harness.exit_codes import ExitCode


def test_the_file_says_what_it_is_and_computes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "heads.py"
    assert cli.main(["kernel", "heads_first", "--target", "trn2", "-o", str(file)]) == ExitCode.OK
    told = capsys.readouterr().out
    text = file.read_text()
    own = Path(str(builtin()["heads_first"].nki).rpartition(":")[0]).read_text()
    assert text.endswith(own) and text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    for words in (
        "From Triptych ",
        "kernels/nki/heads_first.py",
        "for NKI 0.7",
        "on nki-sim[trn2]",
        "bfloat16: 33x3x64",
    ):
        assert words in text.removesuffix(own)
    verify = "triptych kernel heads_first --target trn2 --verify heads.py"
    assert verify in told and f"#     {verify}" in text and max(map(len, text.splitlines())) <= 140
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    run = simulator.on("trn2").run(simulator.load(file).heads_first, x)
    np.testing.assert_array_equal(run.outputs, x.transpose(1, 0, 2))


def test_a_file_is_checked_again_and_a_wrong_one_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Path(str(builtin()["heads_first"].nki).rpartition(":")[0]).read_text()
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(own)
    bad.write_text(own.replace("src=x[s0 : s0 + s, :, :]", "src=x[0:s, :, :]").replace("ROWS = 512", "ROWS = 16"))
    assert cli.main(["kernel", "heads_first", "--verify", str(good)]) == ExitCode.OK
    assert "failed" not in capsys.readouterr().out.replace("0 failed", "")
    assert cli.main(["kernel", "heads_first", "--verify", str(bad)]) == ExitCode.MISMATCH


def test_a_triton_kernel_needs_triton_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(single_file, "check", partial(single_file.check, dtypes="float32", names="64x128x96"))
    file = tmp_path / "tiled.py"
    assert cli.main(["kernel", "matmul_tiled", "--target", "sm_90", "-o", str(file)]) == ExitCode.OK
    text = file.read_text()
    assert "on triton-cpu at" in text and "It imports triton, and of Triptych nothing." in text
    code = "import sys; sys.modules['triptych'] = None; import tiled; print(tiled.matmul_tiled.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout == "matmul_tiled\n", ran.stderr


def test_a_kernel_that_does_not_agree_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = builtin()["heads_first"]
    wrong = replace(heads, reference=lambda x: 2.0 * np.ascontiguousarray(x.transpose(1, 0, 2)))
    monkeypatch.setattr(kernel, "builtin", lambda: {"heads_first": wrong})
    assert cli.main(["kernel", "heads_first", "-o", str(tmp_path / "x.py")]) == ExitCode.MISMATCH
    assert "nothing was written" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["headsfirst"], "did you mean 'heads_first'"),
        (["heads_first", "--target", "trn9"], "unknown target 'trn9'"),
        (["heads_first", "--target", "sm_90"], "heads_first has no Triton kernel, which sm_90 needs."),
        (["heads_first", "-o", "nowhere/x.py"], "is in a folder that is not there"),
        (["heads_first", "-o", "here.py"], "here.py is there already"),
        (["heads_first", "--verify", "gone.py"], "gone.py is not there; --verify names"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.py").write_text("")
    monkeypatch.chdir(tmp_path)
    ops = builtin()
    monkeypatch.setattr(kernel, "builtin", lambda: {**ops, "heads_first": replace(ops["heads_first"], triton=None)})
    assert cli.main(["kernel", *words]) == ExitCode.USAGE
    assert sentence in capsys.readouterr().err


def test_a_kernel_of_several_files_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "parts.py"
    file.write_text("import math\nfrom triptych.kernels.nki.matmul import x\nfrom .other import y\n")
    with pytest.raises(kernel.UsageError, match="is no single file: it imports .other, triptych.kernels.nki.matmul"):
        kernel.chosen("matmul", "trn2").at(file).source()


def test_every_kernel_of_ours_is_a_single_file() -> None:
    for name, op in builtin().items():
        for target in ("trn2", "sm_90"):
            if (op.triton if target == "sm_90" else op.nki) is not None:
                kernel.chosen(name, target).source()


def test_the_gpus_are_those_that_kernels_are_compiled_for() -> None:
    pytest.importorskip("triton")
    from triptych.harness.emulators.devices import DEVICES

    assert tuple(DEVICES) == kernel.GPUS
