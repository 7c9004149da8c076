"""Attention with PyTorch's signature against PyTorch's, what it refuses, and decoding into a cache."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import triptych  # noqa: E402
import triptych.torch as tt  # noqa: E402

SDPA = torch.nn.functional.scaled_dot_product_attention


def x(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


SEEN = torch.rand(1, 1, 5, 9, generator=torch.Generator().manual_seed(1)) > 0.4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": SEEN},
        {"attn_mask": torch.where(SEEN, 0.25, -1.5)[0, 0]},
        {"attn_mask": SEEN[0].expand(2, 4, 5, 9)},
    ],
    ids=["plain", "causal", "scale", "bool mask", "added mask", "mask of heads"],
)
def test_it_computes_what_pytorch_computes(options: dict[str, Any]) -> None:
    q, k, v = x(2, 4, 5, 8), x(2, 2, 9, 8), x(2, 2, 9, 8)
    with tt.on_cpu("nki-sim", target="trn2"), tt.calls() as made:
        out = tt.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)
    triptych.assert_agree(out, SDPA(q, k, v, enable_gqa=True, **options))
    assert made.count() == made.count("attention", "nki-sim") == 1


@pytest.mark.parametrize(
    ("q", "k", "options", "sentence"),
    [
        ((1, 2, 3, 8), (1, 2, 3, 8), {"dropout_p": 0.1}, "no kernel drops out, got dropout_p=0.1"),
        ((1, 4, 3, 8), (1, 2, 3, 8), {}, "which enable_gqa=True allows"),
        ((1, 3, 3, 8), (1, 2, 3, 8), {"enable_gqa": True}, "where one divides the other"),
        ((2, 3, 8), (2, 3, 8), {}, r"four axes \[B, H, L, E\]"),
        ((1, 2, 4, 8), (1, 2, 3, 8), {"is_causal": True}, "more queries than keys"),
        ((1, 2, 4, 8), (1, 2, 3, 16), {}, "one B and E"),
        ((1, 2, 3, 8), (1, 2, 3, 8), {"is_causal": True, "attn_mask": SEEN[..., :3, :3]}, "exclude each other"),
    ],
)
def test_what_no_kernel_does_is_refused(q: Any, k: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(tt.NoKernel, match=f"^scaled_dot_product_attention: .*{sentence}"):
        tt.scaled_dot_product_attention(x(*q), x(*k), x(*k), **options)


def test_a_gradient_that_has_no_kernel_is_refused_before_it_is_needed() -> None:
    q = x(1, 2, 3, 8).requires_grad_()
    with pytest.raises(tt.NoKernel, match="no backward kernel with a mask"):
        tt.scaled_dot_product_attention(q, q, q, SEEN[..., :3, :3])
    with pytest.raises(tt.NoKernel, match="no backward kernel with softcap, sinks"):
        tt.attention(q, q, q, softcap=3.0, sinks=torch.zeros(2))
    with torch.no_grad():
        assert tt.attention(q, q, q, softcap=3.0, sinks=torch.zeros(2)).shape == q.shape


def test_the_operator_itself_has_no_gradient_with_a_mask_either() -> None:
    from triptych.harness.pytorch.attention import forward_with_lse

    q = x(1, 2, 3, 8).requires_grad_()
    out, _ = forward_with_lse(q, q, q, False, None, 3.0)
    with pytest.raises(tt.NoKernel, match="attention_lse has no backward kernel with softcap"):
        out.sum().backward()


@pytest.mark.parametrize("backend", ["numpy", "nki-sim"])
def test_decoding_appends_to_the_caches(backend: str) -> None:
    q, new, cache = x(2, 4, 1, 8), x(2, 2, 1, 8), x(2, 2, 6, 8)
    lengths = torch.tensor([3, 5], dtype=torch.int32)
    k, v = cache.clone(), cache.clone() + 1
    with tt.on_cpu(backend):
        out = tt.attention_decode(q, new, new + 2, k, v, lengths)
    for b, length in enumerate(lengths):
        assert torch.equal(k[b, :, length], new[b, :, 0]) and torch.equal(v[b, :, length], new[b, :, 0] + 2)
        kept = [j for j in range(6) if j != length]
        assert torch.equal(k[b, :, kept], cache[b, :, kept]) and torch.equal(v[b, :, kept], cache[b, :, kept] + 1)
        seen = slice(0, int(length) + 1)
        right = SDPA(q[b : b + 1], k[b : b + 1, :, seen], v[b : b + 1, :, seen], enable_gqa=True)
        triptych.assert_agree(out[b : b + 1], right)


def test_wrong_arguments_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', got 'max'"):
        tt.cross_entropy(x(2, 3), torch.tensor([0, 1]), reduction="max")
    with pytest.raises(ValueError, match=r"takes logits\[.., V\] and target\[..\], got \(2, 3\) and \(3,\)"):
        tt.cross_entropy(x(2, 3), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="the same axes before, got shapes"):
        tt.matmul(x(2, 3, 4), x(3, 4, 5))


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_target_that_is_no_class_is_never_a_wrong_loss(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = x(2, 3), torch.tensor([0, wrong])
    with pytest.raises(ValueError, match=f"targets must be 0 to 2 or -100, got {wrong}"):
        tt.cross_entropy(logits, target)
    assert torch.isfinite(tt.cross_entropy(logits, target, ignore_index=wrong))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # where numbers cannot be looked at
    assert torch.isnan(tt.cross_entropy(logits, target))


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_losses_are_reduced_as_asked(reduction: str) -> None:
    logits, target = x(2, 3, 7), torch.tensor([[0, 6, 9], [9, 2, 1]])
    ours = tt.cross_entropy(logits, target, ignore_index=9, reduction=reduction)
    theirs = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=9, reduction=reduction
    )
    triptych.assert_agree(ours.reshape(theirs.shape), theirs)
