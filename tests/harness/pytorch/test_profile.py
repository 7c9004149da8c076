"""The profile of a model: which kernels would run, how long, and what is left; from shapes alone."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import triptych.torch as tt  # noqa: E402
from triptych import simulator  # noqa: E402
from triptych.harness.functions.rows import simulated  # noqa: E402
from triptych.simulator import ShapeDtype  # noqa: E402

nn, F = torch.nn, torch.nn.functional


class Layer(nn.Module):
    """Two linear layers of one size, a norm, attention, and an activation that no kernel knows."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(32, 1e-5)
        self.one, self.other = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)

    def forward(self, x: Any, dropout: float = 0.0) -> Any:
        heads = self.one(self.norm(x)).unflatten(-1, (2, 16)).transpose(1, 2)
        o = F.scaled_dot_product_attention(heads, heads, heads, dropout_p=dropout)
        return torch.tanh(self.other(o.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_runs_is_told_with_its_predicted_time(device: str) -> None:
    with torch.device(device):
        model, x = Layer(), torch.ones(1, 40, 32)
    with tt.calls() as made:
        found = tt.profile(model, x, target="trn2")
    assert made.count() == 0 and not found.refused  # no kernel ran
    by_name = {one.met.operator: one for one in found.served}
    assert {name: one.calls for name, one in by_name.items()} == {"linear": 2, "rms_norm": 1, "attention": 1}
    kernel = simulated("rmsnorm")
    alone = simulator.on("trn2").predict(kernel, ShapeDtype((40, 32), "float32"), ShapeDtype((32,), "float32"))
    assert by_name["rms_norm"].us == pytest.approx(alone.total_us - found.launch_us)
    assert found.total_us == pytest.approx(found.launch_us + sum(one.calls * (one.us or 0) for one in found.served))
    left = {one.function: one for one in found.left}
    assert left["tanh"].calls == 1 and left["tanh"].bytes == 2 * 4 * 40 * 32
    assert not {"linear", "mm", "bmm", "transpose", "view"} & left.keys()
    assert model.one.weight.is_contiguous() and "forward" not in vars(model.one)


def test_it_is_printed_as_two_tables() -> None:
    found = tt.profile(Layer(), (torch.ones(1, 40, 32), 0.5), target="trn3")
    lines = str(found).splitlines()
    assert lines[0].startswith("on trn3, predicted: ") and lines[1].split() == [
        "kernel",
        "calls",
        "us",
        "each",
        "us",
        "share",
        "arrays",
    ]
    assert any(line.startswith("linear") and "x[40, 32], w[32, 32] float32" in line for line in lines)
    assert any(line.startswith("tanh") for line in lines[lines.index("left to PyTorch") :])
    assert lines[-1].startswith("scaled_dot_product_attention, 1 x: ") and "dropout_p=0.5" in lines[-1]


def test_arguments_by_name_and_models_without_kernels() -> None:
    class Plain(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 1

    found = tt.profile(Plain(), {"x": torch.ones(3)})
    assert not found.served and [one.function for one in found.left] == ["add"]
    assert "no operation has a kernel" in str(found) and found.total_us == found.launch_us


def test_a_kernel_that_refuses_says_so_and_has_no_time() -> None:
    class Wide(nn.Module):
        def forward(self, x: Any) -> Any:
            return F.rms_norm(x, (9000,), torch.ones(9000))

    found = tt.profile(Wide(), torch.ones(1, 9000))
    assert found.served[0].us is None and "rms_norm: rmsnorm takes up to 8192 columns, got 9000" in str(found)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_backward_pass_is_part_of_it_on_request(device: str) -> None:
    class Loss(Layer):
        def forward(self, x: Any, dropout: float = 0.0) -> Any:
            return super().forward(x, dropout).square().mean()

    with torch.device(device):
        model, x = Loss(), torch.ones(1, 40, 32)
    found = tt.profile(model, x, target="trn2", backward=True)
    counted = {one.met.operator: one.calls for one in found.served}
    assert counted == {
        "linear": 2,
        "rms_norm": 1,
        "attention_lse": 1,
        "attention_backward": 1,
        "rms_norm_backward": 1,
        "matmul": 2,
        "linear_transposed": 2,
    }
    assert all(one.us is not None for one in found.served) and "tanh_backward" in {one.function for one in found.left}
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match=r"needs a model that returns a loss, .*: \(1, 40, 32\)"):
        tt.profile(Layer(), torch.ones(1, 40, 32), backward=True)


def test_a_chip_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no target 'trn9'; there is trn1"):
        tt.profile(nn.Linear(2, 2), torch.ones(1, 2), target="trn9")
