"""`triptych kernel --folder`: Hugging Face's `kernels` loads both variants, which agree with the reference."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import triptych
from triptych.harness.commands import cli
from triptych.harness.commands.sharing import allocating, hub_folder, kernel, single_file
from triptych.harness.errors import UsageError
from triptych.harness.exit_codes import ExitCode
from triptych.harness.judge.problem import Problem
from triptych.harness.ops.cases import cases_of
from triptych.harness.ops.op import Op
from triptych.reference.rmsnorm import rmsnorm

VARIANTS = ("build/torch-neuron", "build/torch-cuda")
X = np.random.default_rng(0).standard_normal((130, 96), dtype=np.float32)
GAIN = np.linspace(0.5, 2.0, 96, dtype=np.float32)

# What a program does that has the folder: how PyTorch says what it is built for, and which variant it wants.
LOADED = """
import sys
from pathlib import Path

import numpy as np
import torch

{device}
from kernels import get_loaded_kernels, get_local_kernel

module = get_local_kernel(Path("made"))
print([str(loaded.metadata.name) for loaded in get_loaded_kernels()], module.__all__, Path(module.__file__).parent.name)
out = module.rmsnorm(torch.from_numpy(np.load("x.npy")), torch.from_numpy(np.load("gain.npy")), eps=0.25)
np.save("out.npy", out.numpy())
"""
# The cuda variant needs nothing of this project; PyTorch's wheel for CPUs answers as the one for CUDA does.
CUDA = "sys.modules['triptych'] = None; torch.version.cuda = '12.8'"
NEURON = "import triptych, torch_neuronx"  # which is lent, as nki is


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rmsnorm, checked at one case."""
    folder = tmp_path_factory.mktemp("hub") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_file, "check", partial(single_file.check, dtypes="float32", names="64x96"))
        assert cli.main(["kernel", "rmsnorm", "--folder", str(folder)]) == ExitCode.OK
    return folder


@pytest.mark.parametrize(("variant", "set_up"), [(VARIANTS[0], NEURON), (VARIANTS[1], CUDA)], ids=["neuron", "cuda"])
def test_kernels_loads_a_variant_and_it_computes_the_reference(
    variant: str, set_up: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    home = made.parent
    np.save(home / "x.npy", X)
    np.save(home / "gain.npy", GAIN)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("NKI_SIMULATOR", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(triptych.__file__).parents[1]))
    ran = subprocess.run(
        [sys.executable, "-B", "-c", LOADED.format(device=set_up)],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"['rmsnorm'] ['rmsnorm'] {Path(variant).name}\n"
    np.testing.assert_allclose(np.load(home / "out.npy"), rmsnorm(X, GAIN, eps=0.25), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_kernels_reads_who_it_is_and_its_digest_holds(variant: str, made: Path) -> None:
    from kernels import Metadata  # noqa: TID251  # Hugging Face's package is meant
    from kernels._rust import Digest, DigestAlgorithm  # noqa: TID251

    metadata = Metadata.read_from_file(made / variant / "metadata.json")
    assert str(metadata.name) == "rmsnorm" and metadata.id.isidentifier() and metadata.license == "apache-2.0"
    device = variant.rpartition("-")[2]
    assert str(metadata.backend.backend_type).lower() == device
    assert metadata.python_depends == (["nki"] if device == "neuron" else [])
    digest = Digest.hash_variant(DigestAlgorithm.SHA256, made / variant)
    metadata.digest.validate(digest)
    assert set(digest.files) == {"__init__.py", "kernel.py"}


def test_the_folder_says_what_it_is(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = (made / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: kernels\nlicense: apache-2.0\n---\n")
    for words in (
        "`rmsnorm(x, gain, eps=1e-05)` in build/torch-cuda, on triton-cpu",
        "float32: 64x96",
        "on nki-sim[trn2]",
    ):
        assert words in card
    for variant in VARIANTS:
        assert "SPDX-License-Identifier: Apache-2.0" in (made / variant / "kernel.py").read_text()
    command = "triptych kernel rmsnorm --target trn2 --verify made"
    assert command in card and f"#     {command}" in (made / VARIANTS[1] / "kernel.py").read_text()


@pytest.mark.parametrize("planted", ["", *VARIANTS])
def test_a_folder_is_checked_again(
    planted: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(single_file, "check", partial(single_file.check, dtypes="float32", names="64x96"))
    copy = tmp_path / "copy"
    for file in made.rglob("*.*"):
        if file.is_file() and "__pycache__" not in file.parts:
            (copy / file.relative_to(made)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(made)).write_text(file.read_text())
    if planted:
        file = copy / planted / ("__init__.py" if planted.endswith("cuda") else "kernel.py")
        text = file.read_text()
        file.write_text(text.replace("gain=gain", "gain=gain * 2").replace("op1=nl.multiply", "op1=nl.add"))
        assert file.read_text() != text
    wanted = ExitCode.MISMATCH if planted else ExitCode.OK
    assert cli.main(["kernel", "rmsnorm", "--verify", str(copy)]) == wanted
    told = capsys.readouterr().out
    assert "triton-cpu" in told and "nki-sim[trn2]" in told


def test_a_wrong_function_around_the_launcher_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_file, "check", partial(single_file.check, dtypes="float32", names="64x96"))
    right = allocating.function
    monkeypatch.setattr(allocating, "function", lambda *args: right(*args).replace("eps=eps", "eps=1.0"))
    assert cli.main(["kernel", "rmsnorm", "--folder", str(tmp_path / "x")]) == ExitCode.MISMATCH
    assert "nothing was written" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("op", "lines"),
    [
        ("matmul_batched", ["out = lhsT.new_empty([lhsT.shape[0], lhsT.shape[2], rhs.shape[2]])"]),
        ("rmsnorm_backward", ["dx = x.new_empty(x.shape)", "dgain = gain.new_empty(gain.shape)", "return dx, dgain"]),
        ("cross_entropy", ["import torch", "loss = logits.new_empty(labels.shape, dtype=torch.float32)"]),
        ("attention_decode", ["k_cache=k_cache", "out = q.new_empty(q.shape)", "return out"]),
        ("attention_lse", ["lse = q.new_empty([q.shape[0], q.shape[1], q.shape[2]], dtype=torch.float32)"]),
        ("attention", ["with_lse=False):"]),
    ],
)
def test_memory_follows_the_inputs(op: str, lines: list[str]) -> None:
    pytest.importorskip("triton")
    text = hub_folder.module(kernel.of_both(op, "trn2")[1])
    for line in lines:
        assert line in text
    assert "lse=None" not in text, "memory for outputs is no parameter"


def test_what_torch_cannot_hold_or_no_input_tells_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    with pytest.raises(UsageError, match="PyTorch has no dtype float8_e4m3, which quantize_fp8 takes or gives"):
        hub_folder.module(kernel.of_both("quantize_fp8", "trn2")[1])
    file = tmp_path / "launcher.py"
    file.write_text("def doubled(x, out):\n    pass\n")
    sizes = {"smoke": [{"M": 8, "N": 3}, {"M": 5, "N": 4}]}
    op = Op("doubled", {"x": ("M", "N")}, lambda x: np.repeat(x, 2, axis=0), sizes, triton=f"{file}:doubled")
    problems = [Problem.of(op, case) for case in cases_of(op, ["smoke"], None, {}, 0)]
    with pytest.raises(UsageError, match="doubled gives an output whose dimension 0 is that of no input"):
        allocating.function(op, problems)
    op = replace(op, dtypes=("float32", "float16"), reference=lambda x: x[0] > 0)
    problems = [Problem.of(op, case) for case in cases_of(op, ["smoke"], None, {}, 0)]
    assert "out = x.new_empty([x.shape[1]], dtype=torch.bool)" in allocating.function(op, problems)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rmsnorm", "--folder", "here"], "here is there already; --folder names a folder that is to be made."),
        (["rmsnorm", "--folder", "x", "-o", "y"], "-o, --folder and --verify ask for different things"),
        (["rmsnorm", "--folder", "x", "--target", "sm_90"], "--target names the Neuron chip"),
        (["rmsnrm", "--folder", "x"], "did you mean 'rmsnorm'"),
        (["rmsnorm", "--verify", "here"], "here has no build/torch-neuron or build/torch-cuda"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["kernel", *words]) == ExitCode.USAGE
    assert sentence in capsys.readouterr().err
