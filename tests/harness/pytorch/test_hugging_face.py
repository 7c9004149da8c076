"""Hugging Face's Llama on the kernels: it trains and generates with a cache as it does on PyTorch's own operations."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import triptych.torch as tt  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config)


TOKENS = torch.arange(24).reshape(2, 12) * 7 % 96


def train(model: Any) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_ten_steps_of_training_on_the_simulator(model: Any) -> None:
    right = train(copy.deepcopy(model))
    ours = copy.deepcopy(model)
    with tt.kernelize(ours) as done, tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        losses = train(ours)
    assert losses == pytest.approx(right, rel=1e-4) and losses[-1] < losses[0] / 2
    assert done.served == {"LlamaRMSNorm": 5, "LlamaMLP": 2, "apply_rotary_pos_emb": 1}
    assert not made.left and made.count() == made.count(backend="nki-sim")
    for name, count in {"attention_lse": 20, "attention_backward": 20, "gated_mlp": 20, "cross_entropy": 10}.items():
        assert made.count(name) == count


def test_it_generates_with_a_cache(model: Any) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "use_cache": True, "pad_token_id": 0}
    right = model.generate(TOKENS[:1, :4], **asked)
    with tt.kernelize(model), tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        tokens = model.generate(TOKENS[:1, :4], **asked)
    assert torch.equal(tokens, right)
    assert made.count("attention") == 2 * 6 and not made.left  # the prompt, and five tokens on their caches
    keys = [call.arrays["k"][0][2] for call in made.made if call.operator == "attention"]
    assert keys == [4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]


def test_its_profile_leaves_only_what_has_no_kernel(model: Any) -> None:
    found = tt.profile(model, {"input_ids": TOKENS, "labels": TOKENS}, target="trn2")
    assert {one.met.operator for one in found.served} == {
        "attention",
        "cross_entropy",
        "gated_mlp",
        "linear",
        "rms_norm",
        "rope",
    }
    assert not found.refused and not {"mm", "bmm", "silu", "_softmax", "rsqrt"} & {one.function for one in found.left}
