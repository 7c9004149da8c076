"""Where operators run: on the CPU as `on_cpu` asks, elsewhere by the device, and never on something else in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import triptych  # noqa: E402
import triptych.torch as tt  # noqa: E402
from triptych.harness.pytorch import places  # noqa: E402


def test_tensors_of_the_cpu_go_to_the_reference_unless_told() -> None:
    x, gain = torch.randn(3, 4), torch.randn(4)
    with tt.calls() as made:
        tt.rms_norm(x, gain)
        with tt.on_cpu("nki-sim", target="trn2"):
            tt.rms_norm(x, gain, 1e-6)
            with tt.on_cpu():
                tt.rms_norm(x, gain)
            tt.rms_norm(x, gain)
        tt.rms_norm(x, gain)
    simulated = tt.Place("nki-sim", "trn2")
    reference = tt.Place("numpy")
    assert [call.place for call in made.made] == [reference, simulated, reference, simulated, reference]
    assert made.made[1].params == {"eps": 1e-6} and made.made[0].params == {}
    assert made.made[0].arrays == {"x": ((3, 4), "float32"), "gain": ((4,), "float32")}
    assert made.made[0].row == "rmsnorm"


def test_a_backward_pass_runs_where_its_forward_pass_ran() -> None:
    x = torch.randn(3, 4).requires_grad_()
    with tt.on_cpu("nki-sim", target="trn2"):
        out = tt.rms_norm(x, torch.ones(4))
    with tt.calls() as made:
        out.sum().backward()
    assert [(call.operator, call.place.backend) for call in made.made] == [("rms_norm_backward", "nki-sim")]


def test_the_interpreter_runs_what_there_is_a_triton_kernel_for() -> None:
    pytest.importorskip("triton")
    q = torch.randn(1, 2, 17, 16)
    with tt.on_cpu("triton-cpu"), tt.calls() as made:
        out = tt.attention(q, q, q, causal=True)
    triptych.assert_agree(out, torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True))
    assert made.count("attention", "triton-cpu") == 1


def test_a_missing_triton_kernel_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from dataclasses import replace

    from triptych.harness.functions.rows import rows as collection

    rows = collection()
    monkeypatch.setitem(rows, "rmsnorm", replace(rows["rmsnorm"], triton=None))
    monkeypatch.setitem(rows, "attention_window", replace(rows["matmul"], name="attention_window"))
    q = torch.randn(1, 2, 17, 16)
    with tt.on_cpu("triton-cpu"):
        with pytest.raises(tt.NoKernel, match="^rmsnorm has no Triton kernel yet, which triton-cpu needs"):
            tt.rms_norm(torch.randn(2, 3), torch.randn(3))
        with pytest.raises(
            tt.NoKernel, match=r"^the Triton kernel of attention_window takes no q, k, v, causal, window"
        ):
            tt.attention(q, q, q, causal=True, window=3)


def test_a_missing_backward_kernel_is_an_error_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from triptych.harness.functions.rows import rows as collection

    rows = collection()
    monkeypatch.setitem(rows, "rmsnorm_backward", replace(rows["rmsnorm_backward"], nki=None))
    x, gain = torch.randn(3, 4), torch.randn(4, requires_grad=True)
    with tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        with pytest.raises(
            tt.NoKernel, match="^rms_norm has no gradient on nki-sim: .* no kernel of rmsnorm_backward$"
        ):
            tt.rms_norm(x, gain)
        assert made.count() == 0
        with torch.no_grad():
            tt.rms_norm(x, gain)
    tt.rms_norm(x, gain).sum().backward()


def test_a_missing_nki_kernel_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from triptych.harness.functions.rows import rows as collection
    from triptych.harness.functions.rows import simulated

    rows = collection()
    monkeypatch.setitem(rows, "rope", replace(rows["rope"], nki=None))
    simulated.cache_clear()
    with tt.on_cpu("nki-sim", target="trn2"), pytest.raises(tt.NoKernel, match="^rope has no NKI kernel"):
        tt.rope(torch.randn(3, 2, 4), torch.randn(3, 2), torch.randn(3, 2))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"backend": "cuda"}, "on_cpu takes 'numpy', 'nki-sim', 'triton-cpu', got 'cuda'"),
        ({"backend": "nki-sim", "target": "trn9"}, "trn9"),
        ({"target": "trn2"}, "a target is a chip for 'nki-sim' to simulate, and 'numpy' has none; got 'trn2'"),
    ],
)
def test_a_place_that_does_not_exist_is_an_error(arguments: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence), tt.on_cpu(**arguments):
        pass
    assert places.of_cpu() == tt.Place("numpy")


def test_tensors_of_two_devices_or_of_an_unknown_one_are_an_error() -> None:
    with pytest.raises(tt.NoKernel, match="on cpu, cuda and neuron, and these are on mps:0"):
        places.place_of(torch.device("mps:0"))
    from triptych.harness.pytorch.blocks import norm

    with pytest.raises(ValueError, match="rms_norm takes tensors on one device, got x on cpu, gain on meta"):
        norm.compute(torch.randn(3, 4), torch.randn(4, device="meta"))


def test_shapes_alone_run_nothing() -> None:
    with tt.calls() as made:
        out = tt.rms_norm(torch.randn(3, 4, device="meta"), torch.randn(4, device="meta"))
    assert out.shape == (3, 4) and out.device.type == "meta" and made.count() == 0


def python(code: str, path: Path) -> str:
    """What a fresh Python that finds modules of `path` first prints."""
    source = Path(triptych.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(path)!r}, {str(source)!r}]\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr.strip().rpartition("\n")[2]


def test_triptych_is_imported_without_pytorch(tmp_path: Path) -> None:
    assert python("import triptych; print('torch' in sys.modules)", tmp_path) == "False\n"


def test_a_broken_pytorch_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: no such file')\n")
    told = python("import triptych\ntriptych.torch", tmp_path)
    assert told == (
        "ImportError: triptych.torch needs PyTorch 2.6 or later (pip install 'triptych[torch]'), and importing it "
        "failed: OSError: libtorch.so: no such file"
    )
