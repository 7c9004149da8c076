"""A small Llama on the kernels: it trains and answers as it does without them, and says what was left to PyTorch."""

from __future__ import annotations

import copy
import re
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import triptych.torch as tt  # noqa: E402
from triptych.harness.pytorch import recognition  # noqa: E402

nn, F = torch.nn, torch.nn.functional
VOCABULARY, WIDTH, HEADS, KV_HEADS, D, FFN = 40, 16, 4, 2, 4, 24


class SmallRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)
        self.variance_epsilon = 1e-5

    def forward(self, hidden: Any) -> Any:
        wide = hidden.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * wide.to(hidden.dtype)


class SmallMLP(nn.Module):
    def __init__(self, act: Any = F.silu, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(WIDTH, FFN, bias), nn.Linear(WIDTH, FFN, bias)
        self.down_proj = nn.Linear(FFN, WIDTH, bias)
        self.act = act

    def forward(self, x: Any) -> Any:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


def rotate_half(x: Any) -> Any:
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def apply_rotary_pos_emb(q: Any, k: Any, cos: Any, sin: Any, unsqueeze_dim: int = 1) -> Any:
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


OWN_ROTARY = apply_rotary_pos_emb


class SmallBlock(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = SmallRMSNorm(), SmallRMSNorm(), SmallMLP()
        self.qkv = nn.Linear(WIDTH, (HEADS + 2 * KV_HEADS) * D, bias=True)
        self.out = nn.Linear(HEADS * D, WIDTH, bias=False)
        self.dropout = dropout

    def forward(self, x: Any, cos: Any, sin: Any) -> Any:
        heads = self.qkv(self.norm1(x)).unflatten(-1, (-1, D)).transpose(1, 2)
        q, k, v = heads.split((HEADS, KV_HEADS, KV_HEADS), 1)
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        o = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout, is_causal=True, enable_gqa=True)
        x = x + self.out(o.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class SmallLlama(nn.Module):
    def __init__(self, layers: int = 1, dropout: float = 0.0, checkpoints: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(SmallBlock(dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(WIDTH, 1e-5)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.checkpoints = checkpoints

    def forward(self, tokens: Any, labels: Any = None) -> Any:
        x = self.embed(tokens)
        angles = torch.arange(tokens.shape[1])[None, :, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])
        tables = [t.expand(len(tokens), -1, -1).contiguous().to(x) for t in (angles.cos(), angles.sin())]
        for block in self.blocks:
            if self.checkpoints:
                x = torch.utils.checkpoint.checkpoint(block, x, *tables, use_reentrant=False)
            else:
                x = block(x, *tables)
        logits = self.head(self.norm(x))
        return logits if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def drawn(**options: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (2, 7))
    labels = torch.randint(0, VOCABULARY, (2, 7))
    labels[0, 0] = -100
    return SmallLlama(**options), tokens, labels


def train(model: Any, tokens: Any, labels: Any, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = model(tokens, labels)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("steps", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_it_trains_on_the_kernels_as_on_pytorch(steps: int) -> None:
    model, tokens, labels = drawn()
    right = train(copy.deepcopy(model), tokens, labels, steps)
    with tt.kernelize(model) as done, tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        losses = train(model, tokens, labels, steps)
    assert losses == pytest.approx(right, rel=1e-4) and losses[-1] < losses[0]
    assert done.served == {"SmallRMSNorm": 2, "SmallMLP": 1, "apply_rotary_pos_emb": 1}
    assert not made.left and made.count() == made.count(backend="nki-sim")
    per_step = {
        "rms_norm": 3,
        "rms_norm_backward": 3,
        "rope": 4,
        "attention_lse": 1,
        "attention_backward": 1,
        "gated_mlp": 1,
        "gate_backward": 1,
        "cross_entropy": 1,
        "cross_entropy_backward": 1,
    }
    assert {name: made.count(name) for name in per_step} == {name: steps * n for name, n in per_step.items()}


@pytest.mark.slow
def test_it_trains_in_tritons_interpreter_but_for_what_has_no_triton_kernel() -> None:
    pytest.importorskip("triton")
    model, tokens, labels = drawn()
    right = train(copy.deepcopy(model), tokens, labels, 2)
    with tt.kernelize(model), tt.on_cpu("triton-cpu"), tt.calls() as made:
        losses = train(model, tokens, labels, 2)
    assert losses == pytest.approx(right, rel=1e-4)
    assert all("no Triton kernel" in why or "no gradient on triton-cpu" in why for _, why in made.left)
    assert made.count() == made.count(backend="triton-cpu")


def test_what_it_holds_stays_as_it_was_and_removing_leaves_no_trace() -> None:
    model, tokens, _ = drawn()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    right = model(tokens)
    with tt.kernelize(model), tt.calls() as made:
        during = model(tokens)
        weight = model.head.weight
        assert weight.t().is_contiguous() and isinstance(weight, nn.Parameter)
        assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
        assert sys.modules[__name__].apply_rotary_pos_emb is not OWN_ROTARY  # type: ignore[attr-defined]
    assert torch.allclose(during, right, 1e-4, 1e-5) and made.count() > 0
    assert list(model.state_dict()) == list(before) and model.head.weight.is_contiguous()
    assert sys.modules[__name__].apply_rotary_pos_emb is OWN_ROTARY  # type: ignore[attr-defined]
    with tt.calls() as made:
        assert torch.equal(model(tokens), right)
    assert made.count() == 0
    assert not any("forward" in vars(module) for module in model.modules())


def test_two_models_share_a_file() -> None:
    (one, tokens, _), (other, _, _) = drawn(), drawn()
    first, second = tt.kernelize(one), tt.kernelize(other)
    first.remove()
    with tt.calls() as made:
        one(tokens)
        assert made.count() == 0
        other(tokens)
        assert made.count("rope") == 2
    second.remove()
    second.remove()
    assert sys.modules[__name__].apply_rotary_pos_emb is OWN_ROTARY  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch's compiler looks at it itself
def test_a_compiled_model_runs_on_the_kernels() -> None:
    model, tokens, labels = drawn()
    right = model(tokens, labels)
    with tt.kernelize(model), tt.calls() as made:
        loss = torch.compile(model, backend="aot_eager")(tokens, labels)
        loss.backward()
    torch._dynamo.reset()
    assert torch.allclose(loss, right, 1e-5) and not made.left
    for name in ("attention_lse", "attention_backward", "gated_mlp", "gate_backward", "cross_entropy_backward"):
        assert made.count(name) == 1


def test_a_copy_of_a_model_computes_with_its_own_weights() -> None:
    model, tokens, _ = drawn()
    with tt.kernelize(model):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        with tt.calls() as made:
            assert float(other(tokens).detach().abs().max()) > 0.1
        assert made.count("gated_mlp") == 1
        assert float(model(tokens).detach().abs().max()) == 0


def test_a_forward_that_somebody_else_has_set_is_kept() -> None:
    model, tokens, _ = drawn()
    own, seen = model.head.forward, []

    def watched(x: Any) -> Any:
        seen.append(x.shape)
        return own(x)

    model.head.forward = watched
    with tt.kernelize(model), tt.calls() as made:
        model(tokens)
    assert model.head.forward is watched and len(seen) == 1 and made.count("linear") == 3


def test_a_layer_that_is_computed_again_in_the_backward_pass_runs_on_the_kernels() -> None:
    model, tokens, labels = drawn(checkpoints=True)
    with tt.kernelize(model), tt.calls() as made:
        model(tokens, labels).backward()
    assert made.count("attention_lse") == 2 and made.count("gated_mlp") == 2 and not made.left


def test_what_no_kernel_does_is_left_to_pytorch_and_told() -> None:
    model, tokens, labels = drawn(dropout=0.5)
    with tt.kernelize(model), tt.calls() as made:
        model(tokens, labels).backward()
    ((name, why),) = made.left
    assert name == "scaled_dot_product_attention" and "no kernel drops out, got dropout_p=0.5" in why
    assert made.count("attention_lse") == 0 and made.count("gated_mlp") == 1


def test_under_autocast_products_run_in_its_dtype_and_the_rest_is_left() -> None:
    model, tokens, _ = drawn()
    with torch.autocast("cpu", torch.bfloat16):
        right = copy.deepcopy(model)(tokens)
        with tt.kernelize(model), tt.calls() as made:
            found = model(tokens)
    assert found.dtype == right.dtype == torch.bfloat16
    assert float((found - right).detach().norm() / right.detach().norm()) < 2 * 2**-8
    assert made.count("linear") == 6 and made.count("attention_lse") == 1 == made.count() - 6
    assert {dtype for call in made.made for _, dtype in call.arrays.values()} == {"bfloat16"}
    assert {name for name, _ in made.left} == {"SmallRMSNorm", "SmallMLP", "apply_rotary_pos_emb", "rms_norm"}
    found.float().sum().backward()
    assert model.head.weight.grad.dtype == torch.float32


def test_a_size_that_a_kernel_is_not_written_for_is_left() -> None:
    class Wide(nn.Module):
        def forward(self, x: Any) -> Any:
            return F.rms_norm(x, (9000,), torch.ones(9000))

    x = torch.ones(1, 9000)
    with tt.kernelize(Wide()) as done, tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        assert torch.equal(done.model(x), done.model(x))
    assert made.left == {("rms_norm", "rmsnorm: rmsnorm takes up to 8192 columns, got 9000"): 2}


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: F.rms_norm(x, (3, 4), torch.ones(3, 4)), "normalises the last axis"),
        (lambda x: F.rms_norm(x, (4,)), "has a weight"),
        (lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2]), label_smoothing=0.1), "nor label smoothing"),
        (lambda x: F.cross_entropy(x, x.softmax(-1)), r"takes logits\[M, V\] and labels\[M\]"),
        (lambda x: F.linear(x.int(), x.int()), "floating-point numbers, got torch.int32"),
        (lambda x: x @ x[0], "take no such shapes"),
    ],
)
def test_calls_that_are_none_of_the_kernels_give_what_pytorch_gives(call: Any, why: str) -> None:
    class Calling(nn.Module):
        def forward(self, x: Any) -> Any:
            return call(x)

    x = torch.arange(12.0).reshape(3, 4)
    with tt.kernelize(Calling()) as done, tt.calls() as made:
        assert torch.equal(done.model(x), call(x))
    ((_, told),) = made.left
    assert re.search(why, told) and made.count() == 0


def test_matrix_products_by_any_name_are_the_kernels() -> None:
    class Products(nn.Module):
        def forward(self, x: Any) -> Any:
            y = x @ x.transpose(1, 2)
            return torch.bmm(y, x).matmul(torch.ones(4, 2)) + torch.mm(x[0], torch.ones(4, 2))

    x = torch.arange(24.0).reshape(2, 3, 4)
    with tt.kernelize(Products()) as done, tt.calls() as made:
        found = done.model(x)
    assert torch.equal(found, Products()(x)) and made.count("matmul_batched") == made.count("matmul_mk") == 2


class GemmaRMSNorm(SmallRMSNorm):
    def forward(self, hidden: Any) -> Any:
        return super().forward(hidden) + hidden * 0.01


def test_what_only_looks_like_a_norm_or_an_mlp_is_left_as_it_is() -> None:
    assert recognition.is_norm(SmallRMSNorm()) and recognition.is_gated_mlp(SmallMLP())
    assert not recognition.is_norm(GemmaRMSNorm())
    assert not recognition.is_norm(nn.LayerNorm(4))
    for other in (SmallMLP(F.gelu), SmallMLP(bias=True), SmallLlama()):
        assert not recognition.is_gated_mlp(other)
    hooked = SmallMLP()
    hooked.up_proj.register_forward_hook(lambda *_: None)
    assert not recognition.is_gated_mlp(hooked)


def test_only_the_turn_of_halves_is_recognised() -> None:
    def in_turns(q: Any, k: Any, cos: Any, sin: Any) -> Any:
        def turn(x: Any) -> Any:
            other = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
            return x * cos[:, None] + other * sin[:, None]

        return turn(q), turn(k)

    assert recognition.rotary(OWN_ROTARY) is recognition.turned
    assert recognition.rotary(in_turns) is None and recognition.rotary(lambda q, k: q) is None


@pytest.mark.parametrize("unsqueeze_dim", [1, 2])
def test_the_turn_takes_heads_in_either_place_and_refuses_other_tables(unsqueeze_dim: int) -> None:
    torch.manual_seed(0)
    q, k, angles = torch.randn(2, 3, 5, 8), torch.randn(2, 1, 5, 8), torch.randn(2, 5, 4)
    if unsqueeze_dim == 2:
        q, k = q.transpose(1, 2), k.transpose(1, 2)
    cos, sin = angles.cos().repeat(1, 1, 2), angles.sin().repeat(1, 1, 2)
    for ours, theirs in zip(
        recognition.turned(q, k, cos, sin, unsqueeze_dim), OWN_ROTARY(q, k, cos, sin, unsqueeze_dim), strict=True
    ):
        assert torch.allclose(ours, theirs, 1e-5, 1e-6)
    with pytest.raises(tt.NoKernel, match="the halves of cos or sin differ"):
        recognition.turned(q, k, torch.randn(2, 5, 8), sin, unsqueeze_dim)
    with pytest.raises(tt.NoKernel, match="turns whole heads"):
        recognition.turned(q, k, cos[..., :4], sin, unsqueeze_dim)


def test_a_weight_that_an_embedding_shares_stays_where_it_lies() -> None:
    model, tokens, _ = drawn()
    model.head.weight = model.embed.weight
    with tt.kernelize(model), tt.calls() as made:
        model(tokens)
        assert model.head.weight.is_contiguous() and model.head.weight is model.embed.weight
    assert made.count("linear_transposed") == 1
